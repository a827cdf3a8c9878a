"""Greedy swaps of kept and pruned entries, row by row, until a row's error is small.

Each row has an error e = sum over pruned entries of c. While |e| is above a threshold, revive the
pruned entry and drop the kept entry that bring e towards zero by the caller's two rankings:

    e <- e + c[dropped] - c[revived]

A swap may also be asked to lower a squared error d G d', d the pruned entries' weights; one that
does not is passed over. This is the inner loop of DSnoT (Zhang et al. 2024, section 3). Only the
first ``cycles`` entries of each ranking can ever be used, so they are found in one scan with a
short sorted list, where the plain twin sorts whole rows. Ties in a ranking go to the lowest index
in both.

Departures: none from the method; lists end instead of wrapping round (a row then stops).
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from rarefy.kernels.cpu._threads import side_by_side, thread_count

Floats = NDArray[np.float32]


class Swapped(NamedTuple):
    """Masks and errors after the swaps.

    Attributes
    ----------
    mask : bool array, shape (rows, columns)
    before, after : float64 array, shape (rows,)
        The signed error with the mask given and with the mask returned.
    swaps : int64 array, shape (rows,)
    """

    mask: NDArray[np.bool_]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    swaps: NDArray[np.int64]


class Quadratic(NamedTuple):
    """A squared error ``d G d'`` of each row; d holds the weights of pruned entries, else zeros.

    Attributes
    ----------
    weight : float32 array, shape (rows, columns)
    gram : float32 array, shape (columns, columns)
        Symmetric and positive semi-definite.
    """

    weight: Floats
    gram: Floats

    def pull(self, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Half the gradient of every row's error, ``d G``."""
        lost = np.where(mask, np.float32(0), self.weight)
        return lost.astype(np.float64) @ self.gram.astype(np.float64)


def swap_rows(
    contribution: Floats,
    grow: Floats,
    score: Floats,
    mask: NDArray[np.bool_],
    threshold: NDArray[np.float64],
    *,
    cycles: int,
    same_sign: bool,
    signed: bool = True,
    group: int = 0,
    falling: Quadratic | None = None,
    threads: int | None = None,
) -> Swapped:
    """Swap entries of every row; rows are independent.

    Parameters
    ----------
    contribution : float32 array, shape (rows, columns)
        What each entry adds to its row's error when it is pruned.
    grow : float32 array, shape (rows, columns)
        Ranking of pruned entries: largest first where the error is positive; where it is
        negative smallest first if ``signed``, else largest first too.
    score : float32 array, shape (rows, columns)
        Ranking of kept entries, smallest is dropped first.
    mask : bool array, shape (rows, columns)
        True is kept. Not changed.
    threshold : float64 array, shape (rows,)
    cycles : int
        Most swaps of a row.
    same_sign : bool
        Stop a row before a swap that turns its error to another sign than it began with.
    signed : bool, default True
    group : int, default 0
        0: drop a kept entry whose contribution has the sign opposite to the error. m: drop one in
        the revived entry's own group of m columns, whatever its sign, so N:M patterns stay valid.
    falling : Quadratic, optional
        Pass over swaps that do not lower this error: both entries are spent (in a group only the
        one to revive), and the cycle counts.
    threads : int, optional
        1 by default.

    Returns
    -------
    Swapped
    """
    rows = len(contribution)
    result = Swapped(mask.copy(), np.empty(rows), np.empty(rows), np.zeros(rows, np.int64))
    # Empty arrays stand for no quadratic: compiled code wants one type.
    if falling is None:
        falling, pull = Quadratic(contribution[:, :0], contribution[:0]), np.empty((rows, 0))
    else:
        pull = falling.pull(mask)

    def part(start: int, stop: int) -> None:
        _swap_rows(
            contribution,
            grow,
            score,
            mask,
            threshold,
            cycles,
            same_sign,
            signed,
            group,
            falling.weight,
            falling.gram,
            pull,
            start,
            stop,
            result.mask,
            result.before,
            result.after,
            result.swaps,
        )

    parts = thread_count(threads, 1)
    cuts = [rows * i // parts for i in range(parts + 1)]
    side_by_side([partial(part, *cut) for cut in pairwise(cuts)])
    return result


def swap_rows_reference(
    contribution: Floats,
    grow: Floats,
    score: Floats,
    mask: NDArray[np.bool_],
    threshold: NDArray[np.float64],
    *,
    cycles: int,
    same_sign: bool,
    signed: bool = True,
    group: int = 0,
    falling: Quadratic | None = None,
) -> Swapped:
    """Plain twin of :func:`swap_rows`: sort every row in full, then follow the algorithm box."""
    rows, columns = contribution.shape
    largest = np.argsort(np.where(mask, np.inf, -grow), axis=1, kind="stable")
    smallest = np.argsort(np.where(mask, np.inf, grow), axis=1, kind="stable")
    orders = (largest, smallest if signed else largest)
    droppable = [
        np.argsort(np.where(mask & side, score, np.inf), axis=1, kind="stable")
        for side in (contribution < 0, contribution > 0)
    ]
    available = [(mask & side).sum(1) for side in (contribution < 0, contribution > 0)]
    pruned = columns - mask.sum(1)
    # Added up from the left like the fast path, so that both agree to the last bit.
    before = np.add.accumulate(np.where(mask, 0.0, contribution), axis=1, dtype=np.float64)[:, -1]
    result = Swapped(mask.copy(), before, before.copy(), np.zeros(rows, np.int64))
    for row in range(rows):
        kept, error, revive, drop = result.mask[row], before[row], [0, 0], [0, 0]
        for _ in range(cycles):
            if abs(error) <= threshold[row]:
                break
            side = 0 if error > 0 else 1
            order = orders[side][row]
            while revive[side] < pruned[row] and kept[order[revive[side]]]:
                revive[side] += 1
            if revive[side] >= pruned[row]:
                break
            revived = order[revive[side]]
            if group:
                start = revived - revived % group
                members = [
                    j for j in range(start, start + group) if mask[row, j] and result.mask[row, j]
                ]
                if not members:
                    break
                dropped = min(members, key=lambda j: (score[row, j], j))
            else:
                if drop[side] >= available[side][row]:
                    break
                dropped = droppable[side][row, drop[side]]
                drop[side] += 1
            after = error + np.float64(contribution[row, dropped]) - contribution[row, revived]
            if same_sign and np.sign(after) != np.sign(before[row]):
                break
            if falling is not None and not _falls(falling, row, kept, revived, dropped):
                revive[side] += 1
                continue
            kept[revived], kept[dropped] = True, False
            error = after
            result.swaps[row] += 1
        result.after[row] = error
    return result


def _falls(
    falling: Quadratic, row: int, kept: NDArray[np.bool_], revived: int, dropped: int
) -> bool:
    now = np.where(kept, 0.0, falling.weight[row])
    then = now.copy()
    then[revived], then[dropped] = 0.0, falling.weight[row, dropped]
    gram = falling.gram.astype(np.float64)
    return bool(then @ gram @ then < now @ gram @ now)


@numba.njit(nogil=True, cache=True)
def swap_change(w: Floats, pull: Floats, gram: Floats, revived: int, dropped: int) -> float:
    """How much a row's ``d G d'`` changes by a swap, from ``pull = d G`` before it."""
    back, out = np.float64(w[revived]), np.float64(w[dropped])
    alone = out * (2 * pull[dropped] + out * gram[dropped, dropped])
    alone -= back * (2 * pull[revived] - back * gram[revived, revived])
    return alone - 2 * out * back * gram[revived, dropped]


@numba.njit(nogil=True, cache=True)
def swap_pull(w: Floats, pull: Floats, gram: Floats, revived: int, dropped: int) -> None:
    """Bring ``pull = d G`` up to date after a swap, in place."""
    for j in range(len(pull)):
        pull[j] += np.float64(w[dropped]) * gram[dropped, j]
        pull[j] -= np.float64(w[revived]) * gram[revived, j]


@numba.njit(nogil=True, cache=True)
def _smallest(
    keys: Floats,
    places: NDArray[np.int32],
    n: int,
    sign: np.float32,
    best: Floats,
    best_places: NDArray[np.int32],
) -> int:
    """Sort the smallest of ``sign * keys[:n]`` into ``best``; of equal ones the earlier leads."""
    count = 0
    bound = np.float32(np.inf)
    for j in range(n):
        value = sign * keys[j]
        if not value < bound:
            continue
        if count < len(best):
            count += 1
        i = count - 1
        while i > 0 and best[i - 1] > value:
            best[i] = best[i - 1]
            best_places[i] = best_places[i - 1]
            i -= 1
        best[i] = value
        best_places[i] = places[j]
        if count == len(best):
            bound = best[count - 1]
    return count


@numba.njit(nogil=True, cache=True)
def _swap_rows(
    contribution: Floats,
    grow: Floats,
    score: Floats,
    mask: NDArray[np.bool_],
    threshold: NDArray[np.float64],
    cycles: int,
    same_sign: bool,
    signed: bool,
    group: int,
    weight: Floats,
    gram: Floats,
    pull: NDArray[np.float64],
    start: int,
    stop: int,
    new_mask: NDArray[np.bool_],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    swaps: NDArray[np.int64],
) -> None:
    columns = contribution.shape[1]
    pruned = np.empty(columns, np.float32)
    pruned_places = np.empty(columns, np.int32)
    # Side 0 serves a positive error, side 1 a negative one.
    kept = np.empty((2, columns), np.float32)
    kept_places = np.empty((2, columns), np.int32)
    grow_values = np.empty((2, cycles), np.float32)
    grow_places = np.empty((2, cycles), np.int32)
    drop_values = np.empty((2, cycles), np.float32)
    drop_places = np.empty((2, cycles), np.int32)
    grow_count = np.zeros(2, np.int64)
    drop_count = np.zeros(2, np.int64)
    grow_next = np.zeros(2, np.int64)
    drop_next = np.zeros(2, np.int64)
    for row in range(start, stop):
        c, g, s, was, now = contribution[row], grow[row], score[row], mask[row], new_mask[row]
        error = 0.0
        for j in range(columns):
            error += np.float64(0.0 if was[j] else c[j])
        before[row] = error
        after[row] = error
        if cycles == 0 or abs(error) <= threshold[row]:
            continue
        # Masks look random to a branch predictor: write always, advance where it counts.
        n_pruned = n_negative = n_positive = 0
        for j in range(columns):
            pruned[n_pruned] = g[j]
            pruned_places[n_pruned] = j
            n_pruned += not was[j]
            kept[0, n_negative] = s[j]
            kept_places[0, n_negative] = j
            n_negative += was[j] & (c[j] < 0)
            kept[1, n_positive] = s[j]
            kept_places[1, n_positive] = j
            n_positive += was[j] & (c[j] > 0)
        first = 0 if error > 0 else 1
        for side in range(2):
            grow_count[side] = drop_count[side] = grow_next[side] = drop_next[side] = 0
            # With the guard the error never changes sign: the other side's lists are not needed.
            if same_sign and side != first:
                continue
            sign = np.float32(-1.0 if side == 0 or not signed else 1.0)
            grow_count[side] = _smallest(
                pruned, pruned_places, n_pruned, sign, grow_values[side], grow_places[side]
            )
            if group == 0:
                drop_count[side] = _smallest(
                    kept[side],
                    kept_places[side],
                    n_positive if side else n_negative,
                    np.float32(1.0),
                    drop_values[side],
                    drop_places[side],
                )
        for _ in range(cycles):
            if abs(error) <= threshold[row]:
                break
            side = 0 if error > 0 else 1
            # The two growing lists hold the same entries from both ends: skip what was revived.
            while grow_next[side] < grow_count[side] and now[grow_places[side, grow_next[side]]]:
                grow_next[side] += 1
            if grow_next[side] >= grow_count[side]:
                break
            revived = grow_places[side, grow_next[side]]
            dropped = -1
            if group:
                begin = revived - revived % group
                for j in range(begin, begin + group):
                    if was[j] and now[j] and (dropped < 0 or s[j] < s[dropped]):
                        dropped = j
            elif drop_next[side] < drop_count[side]:
                dropped = drop_places[side, drop_next[side]]
                drop_next[side] += 1
            if dropped < 0:
                break
            changed = error + np.float64(c[dropped]) - np.float64(c[revived])
            if same_sign and np.sign(changed) != np.sign(before[row]):
                break
            if len(gram):
                if swap_change(weight[row], pull[row], gram, revived, dropped) >= 0:
                    grow_next[side] += 1
                    continue
                swap_pull(weight[row], pull[row], gram, revived, dropped)
            now[revived] = True
            now[dropped] = False
            error = changed
            swaps[row] += 1
        after[row] = error
