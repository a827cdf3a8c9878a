"""Large arrays that are used again instead of being asked from the system every step.

Fresh memory is handed out page by page as it is first written, which for a matrix of tens of
megabytes takes longer than most things one does with it: a ReLU into fresh memory costs five times
what it costs into memory that was used before. Inside :func:`recycling` an array goes out again
once nobody holds it; outside, and after it, :func:`empty` is ``torch.empty``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_POOL: ContextVar[list[NDArray[np.float32]] | None] = ContextVar("_POOL", default=None)


def _references(arrays: list[NDArray[np.float32]]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


# What an array counts that only a list holds; every tensor over it adds one.
_UNUSED = _references([np.empty(0, np.float32)])[0]


@contextmanager
def recycling() -> Iterator[None]:
    """Keep the memory of :func:`empty` for the next that asks, until the block ends."""
    token = _POOL.set([])
    try:
        yield
    finally:
        _POOL.reset(token)


def empty(*shape: int) -> Tensor:
    """Uninitialised float32 tensor on the CPU.

    Examples
    --------
    >>> with recycling():
    ...     first = empty(2, 3).data_ptr()  # nobody holds this tensor
    ...     empty(3, 2).data_ptr() == first
    True
    """
    pool = _POOL.get()
    if pool is None:
        return torch.empty(*shape)
    size = int(np.prod(shape))
    held = [count > _UNUSED for count in _references(pool)]
    for array, taken in zip(pool, held, strict=True):
        if not taken and array.size == size:
            return torch.from_numpy(array).view(shape)
    # Sizes have changed, or all are held: what lies idle would only add up.
    pool[:] = [array for array, taken in zip(pool, held, strict=True) if taken]
    pool.append(np.empty(size, np.float32))
    return torch.from_numpy(pool[-1]).view(shape)
