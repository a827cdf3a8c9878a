"""One thread for small work, and two pieces of small work at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and NumPy's linear algebra use one thread, and what they used before behind it.

    Handing products this small to a second thread costs more than it saves, and many times more
    where other processes want that core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(tasks: Sequence[Callable[[], Result]]) -> list[Result]:
    """Result of each task, in order; two at a time, each on one of torch's threads.

    Torch releases the interpreter's lock inside its operations, so that threads suffice. A single
    task keeps all of torch's threads.
    """
    if len(tasks) == 1:
        return [tasks[0]()]
    with one_thread(), ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as p:
        return list(p.map(lambda task: task(), tasks))
