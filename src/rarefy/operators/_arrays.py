"""Between the caller's array and the torch tensor every operator computes on.

``to_tensor`` opens a torch tensor or a NumPy array of a floating dtype as a tensor; ``like`` closes
the result as the kind, dtype and device the caller gave. Operators thus write each formula once.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

Array = TypeVar("Array", torch.Tensor, np.ndarray)

_HALF = (torch.float16, torch.bfloat16)


def to_tensor(x: Any) -> torch.Tensor:
    """The same entries as a torch tensor; NumPy memory is shared where torch can read it."""
    if isinstance(x, torch.Tensor) and x.is_floating_point():
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        # torch reads neither negative strides, nor foreign byte order, nor read-only memory
        native = x.dtype.newbyteorder("=")
        return torch.from_numpy(np.require(x, dtype=native, requirements=["C", "W"]))
    known = isinstance(x, (torch.Tensor, np.ndarray))
    got = f"{type(x).__name__} of {x.dtype}" if known else type(x).__name__
    raise TypeError(f"x must be a floating torch tensor or NumPy array (16 to 64 bits), got {got}")


def like(result: torch.Tensor, x: Array) -> Array:
    """``result`` as x's kind: a tensor stays one, an array comes back as an array.

    A bool result (a mask) stays bool; any other takes x's dtype.
    """
    if isinstance(x, torch.Tensor):
        return result if result.dtype == torch.bool else result.to(x.dtype)
    array = result.numpy()
    return array if array.dtype == bool else array.astype(x.dtype, copy=False)


def widen(x: torch.Tensor) -> torch.Tensor:
    """Half precision as float32, so that a formula of several terms is rounded once."""
    return x.float() if x.dtype in _HALF else x


def has_nan(x: torch.Tensor) -> bool:
    """Whether any entry is NaN; one cheap reduction unless the sum is not finite."""
    # a finite sum cannot hide a NaN, and a sum is several times cheaper than a test per entry
    x = x.detach()
    return not bool(torch.isfinite(x.sum())) and bool(torch.isnan(x).any())
