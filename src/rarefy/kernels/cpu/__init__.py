"""Fast paths for the CPU, compiled by Numba at first use."""
