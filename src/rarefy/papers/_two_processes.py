"""Two trainings at a time, each in a process of its own on one of torch's threads.

A loop over a small policy spends its time in Python, so that threads would wait for each other. The
processes start once (some seconds) and stay for the next call.
"""

from __future__ import annotations

import atexit
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

_pool: ProcessPoolExecutor | None = None


def in_two_processes(
    function: Callable[..., Result], arguments: Sequence[dict[str, Any]]
) -> list[Result]:
    """``function(**arguments)`` for each, in order; what raises there raises here.

    Parameters
    ----------
    function : callable
        At the top of a module, so that it can be sent.
    arguments : sequence of dict
        Keyword arguments that can be sent; the longest work first.
    """
    global _pool  # noqa: PLW0603
    if len(arguments) == 1:
        return [function(**arguments[0])]
    if _pool is None:
        # Not forked: a copy of a process with torch's threads in it may never come to run.
        _pool = ProcessPoolExecutor(
            2, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        )
        atexit.register(_pool.shutdown, wait=False, cancel_futures=True)
    futures = [_pool.submit(function, **given) for given in arguments]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
