r"""Work on the kept entries of a matrix, in compressed rows: what sparse codes need.

A support is a row's columns after the last row's (``indices``) and where each row starts
(``offsets``). Here a matrix is compared with a threshold and turned into one, values are gathered
from it, inner products are taken at it, and it is transposed:

.. math:: v_e = \langle x_{i(e)}, W_{j(e)} \rangle

Source: counting sort by column is Gustavson 1978 (ACM Transactions on Mathematical Software 4(3)).
Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.kernels.cpu._threads import side_by_side, thread_count

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Entries compared at a time: a vector loop asks whether any of them is kept at all.
_BLOCK = 64


def count_above(
    u: Tensor, threshold: Tensor, *, magnitude: bool = False, threads: int | None = None
) -> Tensor:
    """Where the rows of :func:`above` would start, int64, shape (b + 1,); the last is their number.

    Parameters
    ----------
    u, threshold, magnitude, threads
        As for :func:`above`.
    """
    offsets = np.zeros(len(u) + 1, np.int64)
    task = partial(_count_above, *_compared(u, threshold), magnitude, offsets[1:])
    _by_rows(task, len(u), threads)
    return torch.from_numpy(np.cumsum(offsets, out=offsets))


def count_above_reference(u: Tensor, threshold: Tensor, *, magnitude: bool = False) -> Tensor:
    """``count_above`` through a mask: its plain twin."""
    offsets = torch.zeros(len(u) + 1, dtype=torch.int64, device=u.device)
    torch.cumsum((~((u.abs() if magnitude else u) <= threshold)).sum(-1), 0, out=offsets[1:])
    return offsets


def above(
    u: Tensor,
    threshold: Tensor,
    *,
    magnitude: bool = False,
    offsets: Tensor | None = None,
    threads: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Entries above a threshold, strictly; NaN is above everything.

    Parameters
    ----------
    u : Tensor, float32 on the CPU, shape (b, f)
    threshold : Tensor, shape (f,) or a single number
    magnitude : bool, default False
        Compare ``|u|``.
    offsets : Tensor of int64, shape (b + 1,), optional
        What :func:`count_above` gave for the same arguments.
    threads : int, optional
        Default: torch's number of threads.

    Returns
    -------
    indices : Tensor of int64, shape (e,)
        Ascending in every row.
    offsets : Tensor of int64, shape (b + 1,)
    """
    if offsets is None:
        offsets = count_above(u, threshold, magnitude=magnitude, threads=threads)
    indices = np.empty(int(offsets[-1]), np.int64)
    compared = _compared(u, threshold)
    _by_rows(partial(_find_above, *compared, magnitude, offsets.numpy(), indices), len(u), threads)
    return torch.from_numpy(indices), offsets


def above_reference(
    u: Tensor, threshold: Tensor, *, magnitude: bool = False, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``above`` through a mask: its plain twin."""
    if offsets is None:
        offsets = count_above_reference(u, threshold, magnitude=magnitude)
    return (~((u.abs() if magnitude else u) <= threshold)).nonzero()[:, 1], offsets


def gather(u: Tensor, indices: Tensor, offsets: Tensor, *, threads: int | None = None) -> Tensor:
    """Values of a float32 matrix, shape (b, f), at the kept entries, shape (e,)."""
    values = np.empty(len(indices), np.float32)
    matrix = u.detach().contiguous().numpy()
    task = partial(_gather, matrix, indices.numpy(), offsets.numpy(), values)
    _by_rows(task, len(u), threads)
    return torch.from_numpy(values)


def gather_reference(u: Tensor, indices: Tensor, offsets: Tensor) -> Tensor:
    """``gather`` by torch's indexing: its plain twin."""
    return u[_rows_of(offsets, len(indices)), indices]


def sampled_product(
    x: Tensor, weight: Tensor, indices: Tensor, offsets: Tensor, *, threads: int | None = None
) -> Tensor:
    """Inner products of rows of x, shape (b, d), and of the weight, shape (f, d), both float32.

    Parameters
    ----------
    x, weight : Tensor, float32 on the CPU
    indices, offsets : Tensor of int64, shapes (e,), (b + 1,)
    threads : int, optional
        Default: torch's number of threads.

    Returns
    -------
    Tensor, shape (e,)
    """
    values = np.empty(len(indices), np.float32)
    left, right = (tensor.detach().contiguous().numpy() for tensor in (x, weight))
    task = partial(_sampled_product, left, right, indices.numpy(), offsets.numpy(), values)
    _by_rows(task, len(x), threads)
    return torch.from_numpy(values)


def sampled_product_reference(
    x: Tensor, weight: Tensor, indices: Tensor, offsets: Tensor, *, chunk: int = 1 << 15
) -> Tensor:
    """``sampled_product`` by torch's indexing, so many entries at a time: its plain twin."""
    rows = _rows_of(offsets, len(indices))
    parts = [
        (x[rows[start : start + chunk]] * weight[indices[start : start + chunk]]).sum(-1)
        for start in range(0, len(indices), chunk)
    ]
    return torch.cat(parts) if parts else x.new_zeros(0)


def transpose(indices: Tensor, offsets: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The support of the transpose.

    Parameters
    ----------
    indices, offsets : Tensor of int64, shapes (e,), (b + 1,)
    width : int
        Number of columns f.

    Returns
    -------
    rows : Tensor of int64, shape (e,)
        Column after column, ascending in each.
    starts : Tensor of int64, shape (f + 1,)
    order : Tensor of int64, shape (e,)
        Place of each of these entries among the first.
    """
    rows, order = np.empty(len(indices), np.int64), np.empty(len(indices), np.int64)
    starts = np.zeros(width + 1, np.int64)
    _transpose(indices.numpy(), offsets.numpy(), rows, starts, order)
    return torch.from_numpy(rows), torch.from_numpy(starts), torch.from_numpy(order)


def transpose_reference(
    indices: Tensor, offsets: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """``transpose`` by a stable sort: its plain twin."""
    order = torch.argsort(indices, stable=True)
    starts = torch.zeros(width + 1, dtype=torch.int64, device=indices.device)
    torch.cumsum(torch.bincount(indices, minlength=width), 0, out=starts[1:])
    return _rows_of(offsets, len(indices))[order], starts, order


def _compared(u: Tensor, threshold: Tensor) -> tuple[Floats, Floats]:
    tau = threshold.detach().float().expand(u.shape[1]).contiguous()
    return u.detach().contiguous().numpy(), tau.numpy()


def _rows_of(offsets: Tensor, entries: int) -> Tensor:
    rows = torch.arange(len(offsets) - 1, device=offsets.device)
    return torch.repeat_interleave(rows, offsets.diff(), output_size=entries)


def _by_rows(task: Callable[[int, int], Any], rows: int, threads: int | None) -> None:
    parts = thread_count(threads, torch.get_num_threads())
    cuts = [rows * i // parts for i in range(parts + 1)]
    side_by_side([partial(task, *cut) for cut in pairwise(cuts)])


@numba.njit(nogil=True, cache=True)
def _count_above(
    u: Floats, tau: Floats, magnitude: bool, counts: Places, first: int, stop: int
) -> None:
    for i in range(first, stop):
        row = u[i]
        count = np.int32(0)
        if magnitude:
            for j in range(row.size):
                count += np.int32(not abs(row[j]) <= tau[j])
        else:
            for j in range(row.size):
                count += np.int32(not row[j] <= tau[j])
        counts[i] = count


@numba.njit(nogil=True, cache=True)
def _find_above(
    u: Floats,
    tau: Floats,
    magnitude: bool,
    offsets: Places,
    indices: Places,
    first: int,
    stop: int,
) -> None:
    width = u.shape[1]
    for i in range(first, stop):
        row, place, last = u[i], offsets[i], offsets[i + 1]
        start = 0
        while place < last:
            end = min(start + _BLOCK, width)
            part, cut = row[start:end], tau[start:end]
            some = np.int32(0)
            if magnitude:
                for j in range(part.size):
                    some |= np.int32(not abs(part[j]) <= cut[j])
            else:
                for j in range(part.size):
                    some |= np.int32(not part[j] <= cut[j])
            if some:
                for j in range(part.size):
                    value = abs(part[j]) if magnitude else part[j]
                    if not value <= cut[j]:
                        indices[place] = start + j
                        place += 1
            start = end


@numba.njit(nogil=True, cache=True)
def _gather(
    u: Floats, indices: Places, offsets: Places, values: Floats, first: int, stop: int
) -> None:
    for i in range(first, stop):
        row = u[i]
        for e in range(offsets[i], offsets[i + 1]):
            values[e] = row[indices[e]]


# sums in vector lanes, so in another order than one by one
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract", "nsz"})
def _sampled_product(
    x: Floats,
    weight: Floats,
    indices: Places,
    offsets: Places,
    values: Floats,
    first: int,
    stop: int,
) -> None:
    for i in range(first, stop):
        row = x[i]
        for e in range(offsets[i], offsets[i + 1]):
            other = weight[indices[e]]
            total = np.float32(0.0)
            for d in range(row.size):
                total += row[d] * other[d]
            values[e] = total


@numba.njit(nogil=True, cache=True)
def _transpose(
    indices: Places, offsets: Places, rows: Places, starts: Places, order: Places
) -> None:
    for j in indices:
        starts[j + 1] += 1
    for j in range(1, starts.size):
        starts[j] += starts[j - 1]
    place = starts.copy()
    for i in range(offsets.size - 1):
        for e in range(offsets[i], offsets[i + 1]):
            at = place[indices[e]]
            place[indices[e]] = at + 1
            rows[at] = i
            order[at] = e
