"""What a measurement ran on: versions, processor, threads, and the memory it took."""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import rarefy

_LIBRARIES = ("torch", "numpy", "scipy", "scikit-learn", "numba", "transformers")


def environment() -> dict[str, str | int]:
    """Versions, processor, cores and threads of this process; nothing that names a person or host.

    Returns
    -------
    dict
        ``rarefy``, ``python``, the libraries that are installed, ``platform``, ``cpu``, ``cores``,
        ``threads`` (of torch where it is loaded) and ``gpu`` where torch sees one.
    """
    found: dict[str, str | int] = {
        "rarefy": rarefy.__version__,
        "python": platform.python_version(),
    }
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    found["platform"] = f"{platform.system()} {platform.machine()}"
    found["cpu"] = _cpu_model()
    found["cores"] = os.cpu_count() or 1
    # Loading torch only to describe it would cost more than many a measurement.
    torch = sys.modules.get("torch")
    if torch is None:
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        found["threads"] = int(wanted) if wanted.isdecimal() else found["cores"]
    else:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu_model() -> str:
    with suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def reset_peak_memory() -> None:
    """Start counting peak memory anew, where the system can (Linux); elsewhere do nothing."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mb() -> float:
    """Largest resident memory since `reset_peak_memory`, in MiB; 0 where it cannot be known."""
    with suppress(OSError):
        match = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.M)
        if match:
            return round(int(match.group(1)) / 1024, 1)
    try:
        import resource
    except ImportError:  # not a Unix
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
