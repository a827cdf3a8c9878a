r"""Water filling: one budget spread over groups in given proportions, within limits, exactly.

.. math:: k_l = \operatorname{clip}(\epsilon\, r_l,\ \mathrm{low}_l,\ \mathrm{high}_l), \qquad
          \sum_l c_l k_l = B

The left side grows with :math:`\epsilon`, piecewise linearly, with a breakpoint wherever a group
meets one of its limits; sorting the breakpoints finds :math:`\epsilon` in one pass. Whole counts
follow by largest remainder (Hamilton's method). With no lower limits this is where the loop "make
the layers above density 1 dense, rescale the others, repeat" of the public Erdos-Renyi codes ends.

Departures: none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill(
    proportions: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    budget: float,
    cost: NDArray[np.float64] | NDArray[np.int64],
) -> NDArray[np.int64]:
    """Counts within [low, high] that cost ``budget`` in all, as near the proportions as they go.

    With unit costs and a whole budget the total is the budget; otherwise it falls short of it by
    less than the largest cost. Assumes ``cost @ low <= budget <= cost @ high``, and proportions
    that are positive wherever low < high.
    """
    if np.array_equal(low, high):
        return low.copy()
    level = np.clip(_level(proportions, low, high, budget, cost) * proportions, low, high)
    # a level that rounding lifted onto a whole number would overdraw the budget; limits are exact
    counts = np.where(level < high, np.floor(level - 1e-12 * level), high).astype(np.int64)
    counts = np.maximum(counts, low)
    # Rounding of the sum, not of what is left, must not cost the last entry: a budget that equals
    # the cost of every entry buys every entry.
    left = budget - cost @ counts + 1e-14 * budget
    for group in np.argsort(counts - level, kind="stable"):
        if counts[group] < high[group] and cost[group] <= left:
            counts[group] += 1
            left -= cost[group]
        if left <= 0:
            break
    return counts


def _level(
    proportions: NDArray[np.float64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    budget: float,
    cost: NDArray[np.float64] | NDArray[np.int64],
) -> float:
    """Water level epsilon at which the clipped, still fractional counts cost the budget."""
    free = low < high
    rate = (proportions * cost)[free]
    # each group starts to grow where it leaves its lower limit and stops at its upper one
    starts, stops = low[free] / proportions[free], high[free] / proportions[free]
    at = np.concatenate([starts, stops])
    order = np.argsort(at, kind="stable")
    at = at[order]
    slope = np.cumsum(np.concatenate([rate, -rate])[order])
    spent = float(cost @ low) + np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(at))])
    reached = int(np.searchsorted(spent, budget, side="right")) - 1
    if reached < 0:
        return 0.0
    if reached == len(at) - 1 or slope[reached] <= 0:
        return float(at[reached])
    # the next breakpoint bounds what a slope of pure rounding error would overshoot
    return float(min(at[reached] + (budget - spent[reached]) / slope[reached], at[reached + 1]))
