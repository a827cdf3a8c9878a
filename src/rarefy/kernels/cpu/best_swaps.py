"""The best swaps of a kept and a pruned entry, row by row, by the exact change of a squared error.

With d the weights of a row's pruned entries (zeros elsewhere) and u = d G, reviving entry r and
dropping entry s changes the error d G d' by

    w_s (2 u_s + w_s G_ss) - w_r (2 u_r - w_r G_rr) - 2 w_r w_s G_rs

Every pair is tried, the best is swapped, and so on until none helps or the cycles are spent.

Source: the 1-swap of SparseSwaps (Zimmer et al. 2025, arXiv 2512.10922). Departures: none.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from rarefy.kernels.cpu._threads import side_by_side, thread_count
from rarefy.kernels.cpu.swaps import Floats, Quadratic, swap_pull


class Improved(NamedTuple):
    """Masks after the swaps, and how many there were.

    Attributes
    ----------
    mask : bool array, shape (rows, columns)
    swaps : int64 array, shape (rows,)
    """

    mask: NDArray[np.bool_]
    swaps: NDArray[np.int64]


def best_swaps(
    error: Quadratic,
    mask: NDArray[np.bool_],
    *,
    cycles: int,
    group: int = 0,
    threads: int | None = None,
) -> Improved:
    """Swap entries of every row as long as its squared error falls; rows are independent.

    Parameters
    ----------
    error : Quadratic
    mask : bool array, shape (rows, columns)
        True is kept. Not changed.
    cycles : int
        Most swaps of a row.
    group : int, default 0
        0: any two entries of a row may change places. m: only two of one group of m columns.
    threads : int, optional
        1 by default.

    Returns
    -------
    Improved
    """
    rows = len(mask)
    result = Improved(mask.copy(), np.zeros(rows, np.int64))
    pull = error.pull(mask)

    def part(start: int, stop: int) -> None:
        _best_swaps(
            error.weight, error.gram, pull, cycles, group, start, stop, result.mask, result.swaps
        )

    parts = thread_count(threads, 1)
    cuts = [rows * i // parts for i in range(parts + 1)]
    side_by_side([partial(part, *cut) for cut in pairwise(cuts)])
    return result


def best_swaps_reference(
    error: Quadratic, mask: NDArray[np.bool_], *, cycles: int, group: int = 0
) -> Improved:
    """Plain twin of :func:`best_swaps`: the table of all changes, by the formula above."""
    result = Improved(mask.copy(), np.zeros(len(mask), np.int64))
    gram = error.gram.astype(np.float64)
    columns = np.arange(mask.shape[1])
    near = columns[:, None] // group == columns // group if group else True
    for row, w in enumerate(error.weight.astype(np.float64)):
        kept = result.mask[row]
        for _ in range(cycles):
            u = np.where(kept, 0.0, w) @ gram
            change = -(w * (2 * u - w * gram.diagonal()))[:, None]
            change = change + w * (2 * u + w * gram.diagonal()) - 2 * np.outer(w, w) * gram
            change = np.where(near & ~kept[:, None] & kept, change, np.inf)
            revived, dropped = np.unravel_index(change.argmin(), change.shape)
            if not change[revived, dropped] < 0:
                break
            kept[revived], kept[dropped] = True, False
            result.swaps[row] += 1
    return result


@numba.njit(nogil=True, cache=True)
def _best_swaps(
    weight: Floats,
    gram: Floats,
    pull: NDArray[np.float64],
    cycles: int,
    group: int,
    start: int,
    stop: int,
    mask: NDArray[np.bool_],
    swaps: NDArray[np.int64],
) -> None:
    columns = mask.shape[1]
    # Kept entries side by side: their places, weights, and what dropping each alone would add.
    places = np.empty(columns, np.int64)
    weights, added = np.empty(columns), np.empty(columns)
    for row in range(start, stop):
        w, u, kept = weight[row], pull[row], mask[row]
        for _ in range(cycles):
            n = 0
            for s in range(columns):
                if kept[s]:
                    places[n], weights[n] = s, w[s]
                    added[n] = weights[n] * (2 * u[s] + weights[n] * gram[s, s])
                    n += 1
            revived = dropped = -1
            best, first, last = 0.0, 0, n
            for r in range(columns):
                if kept[r]:
                    continue
                if group:
                    begin = r - r % group
                    first = int(np.searchsorted(places[:n], begin))
                    last = int(np.searchsorted(places[:n], begin + group))
                back = np.float64(w[r])
                saved = back * (2 * u[r] - back * gram[r, r])
                for k in range(first, last):
                    change = added[k] - saved - 2 * back * weights[k] * gram[r, places[k]]
                    if change < best:
                        revived, dropped, best = r, places[k], change
            if revived < 0:
                break
            swap_pull(w, u, gram, revived, dropped)
            kept[revived], kept[dropped] = True, False
            swaps[row] += 1
