r"""Entries of every row whose norm, taken from the largest on, is nearest to a target.

The cut is found by selection, not by sorting: partition what is left of the row around a pivot,
and go on in the part in which the sum of squares

.. math:: s_1^2 + s_2^2 + \dots

passes the target's square. Rows of a batch are alike, so only what is not far below the last row's
cut is looked at first; it is nearly always enough, and then a row is passed over once.

Source: weighted selection (Johnson and Mizoguchi 1978) on the rule of Lee et al. 2025 (arXiv
2503.24277). Departures: none. Plain twin: :class:`rarefy.operators.NormMatched`.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from rarefy.kernels.cpu._threads import side_by_side, thread_count
from rarefy.operators import NormMatched

_SMALL = 16
_BELOW = 0.8
"""What share of the last row's cut a score must exceed to be looked at first."""


def norm_matched(
    u: Tensor,
    target: Tensor,
    *,
    scale: Tensor | None = None,
    nearest: bool = True,
    k_min: int = 1,
    k_max: int | None = None,
    threads: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Columns that :class:`rarefy.operators.NormMatched` keeps by positive parts.

    Parameters
    ----------
    u : Tensor, float32 on the CPU, shape (b, f)
    target : Tensor, shape (b,)
        Finite, at least 0.
    scale : Tensor, shape (f,), optional
    nearest, k_min, k_max
        As for the operator.
    threads : int, optional
        Default: torch's number of threads.

    Returns
    -------
    indices : Tensor of int64, shape (e,)
        Row after row, ascending in each.
    offsets : Tensor of int64, shape (b + 1,)

    Examples
    --------
    >>> norm_matched(torch.tensor([[4.0, 1.0, 3.0]]), torch.tensor([5.0]))[0].tolist()
    [0, 2]
    """
    scores = u.detach().contiguous().numpy()
    rows, width = scores.shape
    goal = target.detach().double().numpy()
    factors = np.ones(0, np.float32) if scale is None else scale.detach().float().numpy()
    cuts = np.empty(rows, np.float32)
    ties = np.empty(rows, np.int64)
    offsets = np.zeros(rows + 1, np.int64)
    parts = thread_count(threads, torch.get_num_threads())
    ends = [rows * i // parts for i in range(parts + 1)]
    limits = (nearest, k_min, width if k_max is None else min(k_max, width))
    side_by_side(
        [
            partial(_cut, scores, factors, goal, *limits, *part, cuts, ties, offsets)
            for part in pairwise(ends)
        ]
    )
    np.cumsum(offsets, out=offsets)
    found = np.empty(offsets[-1], np.int64)
    side_by_side(
        [
            partial(_gather, scores, factors, cuts, ties, offsets, *part, found)
            for part in pairwise(ends)
        ]
    )
    return torch.from_numpy(found), torch.from_numpy(offsets)


def norm_matched_reference(
    u: Tensor,
    target: Tensor,
    *,
    scale: Tensor | None = None,
    nearest: bool = True,
    k_min: int = 1,
    k_max: int | None = None,
) -> tuple[Tensor, Tensor]:
    """``norm_matched`` by the operator, which sorts every row."""
    rule = NormMatched(
        target, scale=scale, nearest=nearest, k_min=k_min, k_max=k_max, by="positive"
    )
    mask = rule.mask(u)
    offsets = torch.zeros(len(u) + 1, dtype=torch.int64)
    torch.cumsum(mask.sum(1), 0, out=offsets[1:])
    return mask.nonzero()[:, 1], offsets


@njit(nogil=True, cache=True)
def _cut(
    u: NDArray[np.float32],
    scale: NDArray[np.float32],
    target: NDArray[np.float64],
    nearest: bool,
    k_min: int,
    k_max: int,
    first: int,
    stop: int,
    cuts: NDArray[np.float32],
    ties: NDArray[np.int64],
    offsets: NDArray[np.int64],
) -> None:
    """For every row the smallest score kept, how many equal it, and how many are kept."""
    work = np.empty(u.shape[1], np.float32)
    floor = 0.0
    for i in range(first, stop):
        m = _above(u[i], scale, floor, work)
        if floor > 0 and (m < k_min or not _surely_reaches(work[:m], target[i])):
            m = _above(u[i], scale, 0.0, work)
        cuts[i], ties[i], offsets[i + 1] = np.float32(np.inf), 0, 0
        if target[i] == 0 or m == 0:
            continue
        count = _count(work[:m], target[i], nearest)
        count = min(max(count, k_min), k_max, m)
        if count == 0:
            continue
        cut = _kth_largest(work[:m], count)
        above = 0
        for j in range(m):
            above += work[j] > cut
        cuts[i], ties[i], offsets[i + 1] = cut, count - above, count
        floor = _BELOW * float(cut)


@njit(nogil=True, cache=True)
def _above(
    row: NDArray[np.float32], scale: NDArray[np.float32], floor: float, work: NDArray[np.float32]
) -> int:
    """Gather the scores above a floor; how many."""
    m = 0
    for j in range(row.size):
        score = row[j] * scale[j] if scale.size else row[j]
        work[m] = score
        m += score > floor
    return m


@njit(nogil=True, cache=True)
def _surely_reaches(scores: NDArray[np.float32], target: float) -> bool:
    """Whether their norm is at least the target in whatever order it is summed."""
    energy = 0.0
    for score in scores:
        energy += np.float64(score) * score
    return energy >= target * target * (1 + 1e-9)


@njit(nogil=True, cache=True)
def _partition(work: NDArray[np.float32], low: int, high: int) -> tuple[int, int]:
    """Put what is larger than a pivot first, then its equals; the ends of the two parts."""
    a, b, c = work[low], work[(low + high) // 2], work[high - 1]
    pivot = max(min(a, b), min(max(a, b), c))
    i, j, k = low, low, high
    while j < k:
        value = work[j]
        if value > pivot:
            work[j] = work[i]
            work[i] = value
            i += 1
            j += 1
        elif value < pivot:
            k -= 1
            work[j] = work[k]
            work[k] = value
        else:
            j += 1
    return i, j


@njit(nogil=True, cache=True)
def _count(work: NDArray[np.float32], target: float, nearest: bool) -> int:
    """How many of the largest positive scores have the norm wanted; reorders them."""
    goal = target * target
    low, high = 0, work.size
    energy = 0.0  # of the scores before ``low``, which are larger than the others
    while high - low > _SMALL:
        i, j = _partition(work, low, high)
        larger = 0.0
        for p in range(low, i):
            larger += np.float64(work[p]) * work[p]
        if energy + larger >= goal and i > low:
            high = i
            continue
        equal = np.float64(work[i]) * work[i] * (j - i)
        if energy + larger + equal >= goal:
            # the answer is among the equals, which need no order
            energy += larger
            low, high = i, j
            break
        energy += larger + equal
        low = j
    rest = np.sort(work[low:high])[::-1] if high - low <= _SMALL else work[low:high]
    before = np.sqrt(energy)
    for p in range(rest.size):
        energy += np.float64(rest[p]) * rest[p]
        now = np.sqrt(energy)
        if now >= target:
            # the first that reaches it, unless the one before is no farther
            stay = nearest and low + p > 0 and target - before <= now - target
            return low + p + (0 if stay else 1)
        before = now
    return low + rest.size


@njit(nogil=True, cache=True)
def _kth_largest(work: NDArray[np.float32], k: int) -> np.float32:
    low, high = 0, work.size
    while True:
        i, j = _partition(work, low, high)
        if k <= i:
            high = i
        elif k <= j:
            return work[i]
        else:
            low = j


@njit(nogil=True, cache=True)
def _gather(
    u: NDArray[np.float32],
    scale: NDArray[np.float32],
    cuts: NDArray[np.float32],
    ties: NDArray[np.int64],
    offsets: NDArray[np.int64],
    first: int,
    stop: int,
    found: NDArray[np.int64],
) -> None:
    """Columns above the cut, and the first of those that equal it."""
    for i in range(first, stop):
        place, end, left, cut = offsets[i], offsets[i + 1], ties[i], cuts[i]
        for j in range(u.shape[1]):
            if place == end:
                break
            score = u[i, j] * scale[j] if scale.size else u[i, j]
            if score > cut:
                found[place] = j
                place += 1
            elif score == cut and left > 0:
                found[place] = j
                place += 1
                left -= 1
