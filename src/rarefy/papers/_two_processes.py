"""Two trainings at a time, each in a process of its own on one of torch's threads.

A loop over a small policy spends its time in Python, so that threads would wait for each other.
joblib's processes start once (some seconds) and stay for the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

Result = TypeVar("Result")


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
    with parallel_config(backend="loky", n_jobs=2, inner_max_num_threads=1):
        return list(Parallel(batch_size=1)(delayed(function)(**given) for given in arguments))
