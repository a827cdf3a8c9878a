"""Weights of dimensions by a grid: the ones that most often put the better completion first.

    maximise over the simplex, step 0.1:   share of pairs (better, worse) of one group
                                           with sum_d w_d z_d(better) > sum_d w_d z_d(worse)

Source: DRM (arXiv 2510.11457) fixes its weights by a grid search once, for all tasks. What it
searches by is not known; the share of pairs is card 19's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rarefy.rewards.dimensions import Floats, standardise


class WeightSearch(NamedTuple):
    """What :func:`grid_search_weights` found."""

    weights: dict[str, float]
    accuracy: float
    """Share of pairs that the weights put in order; equal scores count half."""
    uniform: float
    """The same with equal weights."""
    n_pairs: int


def grid_search_weights(
    scores: Mapping[str, ArrayLike],
    labels: Sequence[float] | ArrayLike,
    groups: ArrayLike,
    *,
    step: float = 0.1,
) -> WeightSearch:
    """Find the weights of dimensions.

    Parameters
    ----------
    scores : mapping of str to array, shape (B,)
        Of each dimension, such as :attr:`rarefy.rewards.DimensionReward.scores`; standardised here.
    labels : array, shape (B,)
        Higher is better: right or wrong, or a valid trace.
    groups : array of int, shape (B,)
        Which completions are of one prompt.
    step : float, default 0.1
        Of the grid; a divisor of 1.

    Returns
    -------
    WeightSearch
        Of weights that are equally good, those nearest to equal ones.

    Raises
    ------
    ValueError
        If lengths differ, or no group has completions of different labels.

    Examples
    --------
    >>> scores = {"good": [1.0, 0.0, 1.0, 0.0], "noise": [0.0, 1.0, 1.0, 0.0]}
    >>> grid_search_weights(scores, [1, 0, 1, 0], [0, 0, 1, 1]).weights
    {'good': 0.6, 'noise': 0.4}
    """
    parts = round(1 / step) if step > 0 else 0
    if parts < 1 or abs(parts * step - 1) > 1e-9:
        raise ValueError(f"step is {step}; a number that divides 1 is wanted")
    _, numbers = np.unique(np.asarray(groups), return_inverse=True)
    wanted = np.asarray(labels, dtype=np.float64)
    columns = [np.asarray(values, dtype=np.float64) for values in scores.values()]
    if not columns or any(len(column) != len(wanted) for column in (*columns, numbers)):
        raise ValueError(
            f"labels has {len(wanted)} rows, groups {len(numbers)} and the dimensions "
            f"{[len(column) for column in columns]}; equal numbers are wanted"
        )
    z = np.stack([standardise(column, numbers) for column in columns], axis=1)
    gaps = pair_gaps(z, wanted, numbers)
    if not len(gaps):
        raise ValueError("no group has completions of different labels, so that nothing is ordered")
    grid = np.array(
        [row for row in product(range(parts + 1), repeat=z.shape[1]) if sum(row) == parts]
    )
    accuracies = np.array([_ordered(gaps @ row) for row in grid])
    best = np.flatnonzero(accuracies >= accuracies.max() - 1e-12)
    uniform = np.full(z.shape[1], parts / z.shape[1])
    chosen = best[np.argmin(((grid[best] - uniform) ** 2).sum(1))]
    return WeightSearch(
        {name: float(n) / parts for name, n in zip(scores, grid[chosen], strict=True)},
        float(accuracies[chosen]),
        _ordered(gaps @ uniform),
        len(gaps),
    )


def pair_gaps(z: Floats, labels: Floats, groups: np.ndarray) -> Floats:
    """Score of the better completion less that of the worse, (pairs, ...), within groups."""
    gaps = [np.empty((0, *z.shape[1:]))]
    for number in np.unique(groups):
        rows = np.flatnonzero(groups == number)
        better, worse = np.nonzero(labels[rows][:, None] > labels[rows][None, :])
        gaps.append(z[rows[better]] - z[rows[worse]])
    return np.concatenate(gaps)


def pair_accuracy(scores: Floats, labels: Floats, groups: np.ndarray) -> float:
    """Share of pairs of a group that scores put in the order of their labels; NaN without pairs."""
    return _ordered(pair_gaps(scores, labels, groups))


def _ordered(gaps: Floats) -> float:
    # Sums of the same weights in another order differ in their last bits.
    near = np.abs(gaps) < 1e-9
    return float(np.where(near, 0.5, gaps > 0).mean()) if len(gaps) else float("nan")
