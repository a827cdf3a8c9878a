"""Run a few compiled functions side by side.

Kernels here release the GIL, so plain threads suffice. Numba's own parallel loops would add
seconds of compilation, and one of its threading layers aborts the process when two Python
threads enter it at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Result = TypeVar("Result")


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="rarefy-kernels")


# Threads do not survive a fork: the child must start its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


def side_by_side(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Result of each task, in order; the first runs in the calling thread."""
    if len(tasks) == 1:
        return [tasks[0]()]
    pool = _pool(len(tasks) - 1)
    others = [pool.submit(task) for task in tasks[1:]]
    return [tasks[0](), *(other.result() for other in others)]


def thread_count(threads: int | None, default: int) -> int:
    """``threads`` checked, or ``default`` for None."""
    if threads is None:
        return default
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be a positive integer or None, got {threads!r}")
    return threads
