r"""The k best entries of every row of a matrix, in about one pass over it.

Split a row into more than k groups. The k-th largest of the groups' maxima is then a bound that at
least k entries reach,

.. math:: t = \mathrm{kth}\bigl(\max_{j \in G_1} u_j, \max_{j \in G_2} u_j, \dots\bigr)
    \le \mathrm{kth}(u),

and with eight groups for every entry wanted few others do. One pass over the row takes the maxima
(entry j is in group j mod G, so that the pass is a vector loop), a bisection finds a bound nearly
as high as t, only the groups that reach it are read again, and an ordinary selection ends it.

Source: the bound is the "two-stage" top-k of approximate nearest-neighbour search (Chern et al.
2022, arXiv 2206.14286), where it is not made exact. Departures: exact, ties to the lowest index.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.kernels.cpu._threads import side_by_side, thread_count

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

# Groups per entry wanted: fewer leave more candidates, more make the bisection longer.
_GROUPS = 8


def top_k(
    u: Tensor,
    k: int | Tensor,
    *,
    magnitude: bool = False,
    threads: int | None = None,
) -> Tensor:
    """Columns of the k best entries of every row.

    Parameters
    ----------
    u : Tensor, float32 on the CPU, shape (b, f)
    k : int or Tensor of int64, shape (b,)
        From 0 to f; one count, or one for every row.
    magnitude : bool, default False
        Rank ``|u|`` instead of ``u``.
    threads : int, optional
        Default: torch's number of threads.

    Returns
    -------
    Tensor of int64, shape (b * k,) or (sum of k,)
        Row after row, within a row in no order that means anything, but always the same. Of equal
        entries the lowest columns are kept; NaN ranks above everything, as in torch.

    Examples
    --------
    >>> top_k(torch.tensor([[1.0, 3.0, 2.0, 0.0], [5.0, 5.0, 5.0, 5.0]]), 2).tolist()
    [1, 2, 0, 1]
    """
    rows, width = u.shape
    scores = u.detach().contiguous().numpy()
    offsets = np.zeros(rows + 1, np.int64)
    counts = np.full(rows, k, np.int64) if isinstance(k, int) else k.numpy()
    np.cumsum(counts, out=offsets[1:])
    found = np.empty(offsets[-1], np.int64)
    most = int(counts.max(initial=0))
    groups = max(1, min(width, -(-_GROUPS * most // 16) * 16))
    parts = thread_count(threads, torch.get_num_threads())
    cuts = [rows * i // parts for i in range(parts + 1)]
    side_by_side(
        [partial(_top_k, scores, offsets, groups, magnitude, *cut, found) for cut in pairwise(cuts)]
    )
    return torch.from_numpy(found)


def top_k_reference(u: Tensor, k: int | Tensor, *, magnitude: bool = False) -> Tensor:
    """``top_k`` by a stable sort of every row, best first: its plain twin."""
    order = (u.abs() if magnitude else u).sort(dim=-1, descending=True, stable=True).indices
    counts = torch.as_tensor(k, device=u.device).expand(len(u))
    places = torch.arange(u.shape[1], device=u.device)
    return order[places < counts[:, None]]


@numba.njit(nogil=True, cache=True)
def _score(value: np.float32, magnitude: bool) -> np.float32:
    return abs(value) if magnitude else value


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _top_k(
    u: Floats,
    offsets: Places,
    groups: int,
    magnitude: bool,
    first: int,
    stop: int,
    found: Places,
) -> None:
    width = u.shape[1]
    maxima = np.empty(groups, np.float32)
    columns = np.empty(width, np.int64)
    values = np.empty(width, np.float32)
    work = np.empty(width, np.float32)
    for i in range(first, stop):
        row, chosen = u[i], found[offsets[i] : offsets[i + 1]]
        k = chosen.size
        if k == 0:
            continue
        ordered = _group_maxima_abs(row, maxima) if magnitude else _group_maxima(row, maxima)
        n = 0
        if ordered:
            bound = _bound(maxima, k)
            for g in range(groups):
                if maxima[g] >= bound:
                    for j in range(g, width, groups):
                        value = _score(row[j], magnitude)
                        columns[n] = j
                        values[n] = value
                        n += not value < bound
        if n < k:
            # a NaN may hide its group's maximum, or there are fewer groups than k
            for j in range(width):
                columns[j] = j
                values[j] = _score(row[j], magnitude)
            n = width
        for c in range(n):
            if np.isnan(values[c]):
                values[c] = np.inf
            work[c] = values[c]
        cut = _kth_largest(work[:n], k)
        above = 0
        ties = 0
        for c in range(n):
            if values[c] > cut:
                chosen[above] = columns[c]
                above += 1
            ties += values[c] == cut
        if ties == k - above:
            for c in range(n):
                if values[c] == cut:
                    chosen[above] = columns[c]
                    above += 1
            continue
        for j in range(width):
            value = _score(row[j], magnitude)
            if above < k and (value == cut or (np.isnan(value) and cut == np.inf)):
                chosen[above] = j
                above += 1


@numba.njit(nogil=True, cache=True)
def _group_maxima(row: Floats, maxima: Floats) -> bool:
    """Largest entry of every group; whether no entry is a NaN."""
    groups = maxima.size
    unordered = np.int32(0)
    for j in range(groups):
        maxima[j] = row[j]
        unordered |= np.int32(row[j] != row[j])
    for start in range(groups, row.size, groups):
        part = row[start : start + groups]
        for j in range(part.size):
            maxima[j] = maxima[j] if maxima[j] > part[j] else part[j]
            unordered |= np.int32(part[j] != part[j])
    return unordered == 0


@numba.njit(nogil=True, cache=True)
def _group_maxima_abs(row: Floats, maxima: Floats) -> bool:
    groups = maxima.size
    unordered = np.int32(0)
    for j in range(groups):
        maxima[j] = abs(row[j])
        unordered |= np.int32(row[j] != row[j])
    for start in range(groups, row.size, groups):
        part = row[start : start + groups]
        for j in range(part.size):
            value = abs(part[j])
            maxima[j] = maxima[j] if maxima[j] > value else value
            unordered |= np.int32(value != value)
    return unordered == 0


@numba.njit(nogil=True, cache=True)
def _count_at_least(values: Floats, bound: np.float32) -> np.int32:
    count = np.int32(0)
    for value in values:
        count += np.int32(value >= bound)
    return count


@numba.njit(nogil=True, cache=True)
def _bound(maxima: Floats, k: int) -> np.float32:
    """A number that at least k maxima reach, and few more; minus infinity where none is known."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for value in maxima:
        low = low if low < value else value
        high = high if high > value else value
    if not _count_at_least(maxima, low) >= k:
        return np.float32(-np.inf)
    for _ in range(24):
        middle = np.float32(0.5) * low + np.float32(0.5) * high
        if not low < middle < high:
            break
        count = _count_at_least(maxima, middle)
        if count < k:
            high = middle
        else:
            low = middle
            if count <= k + k // 8:
                break
    return low


@numba.njit(nogil=True, cache=True)
def _kth_largest(values: Floats, k: int) -> np.float32:
    """Quickselect (Hoare), in place."""
    left, right, place = 0, values.size - 1, k - 1
    while left < right:
        pivot = values[(left + right) >> 1]
        i, j = left, right
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if place <= j:
            right = j
        elif place >= i:
            left = i
        else:
            break
    return values[place]
