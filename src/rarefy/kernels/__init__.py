"""Fast paths: what the plain torch or NumPy formula is too slow for.

``cpu/`` is Numba. The rules of this folder:

1. Every fast path has a plain twin in torch or NumPy, named ``*_reference``, in the same module,
   and a test that holds the two together.
2. A fast path is here because a benchmark in ``benchmarks/kernels.py`` shows it beating what a
   user would otherwise call, as a ratio.
3. Nothing is compiled at installation or import: kernels compile at their first use and are
   cached on disk for the processes after.
4. Importing this package imports none of its kernels; import the module you need.
"""
