"""Name the structure of one mask: rows, columns, N:M, blocks, or none.

Each is recognised by what only it explains: whole empty rows hold nearly all zeros, every group of
m inputs keeps at most n, or nearly all kept weights fill whole blocks.

Source: the granularities of Liu and Wang 2023, lesson 2. Departures: thresholds are ours.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from rarefy.operators import NM
from rarefy.weights.nm import is_nm

_PATTERNS = ((2, 4), (4, 8), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32))
_BLOCKS = (32, 16, 8, 4)
_ROWS = 0.95
_FULL = 0.99


def granularity(mask: Tensor, *, axis: int = 1) -> str:
    """Name a mask's structure.

    Parameters
    ----------
    mask : bool Tensor of two or more axes
    axis : int, default 1
        The axis over the inputs (:func:`rarefy.weights.input_axis`).

    Returns
    -------
    str
        ``"dense"``, ``"empty"``, ``"output units"`` (whole rows, or channels of a convolution),
        ``"input units"``, ``"2:4"`` and other patterns, ``"16x16 blocks"`` and other sizes, or
        ``"unstructured"``; the first that fits, in this order.

    Examples
    --------
    >>> import torch
    >>> granularity(torch.tensor([[True, False, False, True], [False, False, True, True]]))
    '2:4'
    """
    kept, numel = int(mask.count_nonzero()), mask.numel()
    if kept == numel:
        return "dense"
    if not kept:
        return "empty"
    matrix = mask.movedim(axis, 1)  # (outputs, inputs, ...)
    for name, dim in (("output units", 0), ("input units", 1)):
        units = matrix.movedim(dim, 0).flatten(1)
        if int((~units.any(1)).sum()) * units.shape[1] >= _ROWS * (numel - kept):
            return name
    for n, m in _PATTERNS:
        fits = abs(kept / numel - n / m) < 0.02 * n / m and matrix.shape[1] % m == 0
        if fits and is_nm(matrix, NM(n, m, axis=1)):
            return f"{n}:{m}"
    flat = matrix.flatten(1)
    for side in _BLOCKS:
        if flat.shape[0] % side or flat.shape[1] % side:
            continue
        share = F.avg_pool2d(flat[None].float(), side)
        if float((share == 1).sum()) * side * side >= _FULL * kept:
            return f"{side}x{side} blocks"
    return "unstructured"


def dead_units(mask: Tensor, *, axis: int = 1) -> tuple[int, int]:
    """Count the output units that keep no weight, and the inputs that no unit reads.

    Parameters
    ----------
    mask : bool Tensor of two or more axes
    axis : int, default 1
        The axis over the inputs.

    Returns
    -------
    tuple of int
        ``(outputs, inputs)``.
    """
    matrix = mask.movedim(axis, 1)
    outputs = ~matrix.flatten(1).any(1)
    inputs = ~matrix.movedim(1, 0).flatten(1).any(1)
    return int(outputs.sum()), int(inputs.sum())
