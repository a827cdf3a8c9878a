"""Accuracy against length: what a policy buys for its tokens.

    accuracy at a budget   share of completions that are right and fit it
    parallel thinking      k completions cost k times the mean length, and solve pass@k

Source: DLER (arXiv 2510.15110), figures 1, 8 and 9. Departures: tokens stand for seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarefy.policy.metrics import pass_at_k


def pareto_front(accuracy: Sequence[float], length: Sequence[float]) -> list[int]:
    """Which points no other point beats: none as short is more accurate, none as accurate shorter.

    Parameters
    ----------
    accuracy, length : sequence of float
        Of each point.

    Returns
    -------
    list of int
        Their places, shortest first; of equal points the first.

    Raises
    ------
    ValueError
        If there are not as many of one as of the other, or one is no number.

    Examples
    --------
    >>> pareto_front([0.5, 0.9, 0.8], [10, 30, 40])
    [0, 1]
    """
    points = np.array([accuracy, length], dtype=float) if len(accuracy) == len(length) else None
    if points is None or not np.isfinite(points).all():
        raise ValueError(
            f"accuracy is {list(accuracy)} and length {list(length)}; as many finite numbers of "
            "one as of the other are wanted"
        )
    best, front = -np.inf, []
    for place in np.lexsort((-points[0], points[1])):
        if points[0, place] > best:
            best = points[0, place]
            front.append(int(place))
    return front


def accuracy_at_budget(correct: ArrayLike, lengths: ArrayLike, budget: float) -> float:
    """Share of completions that are right within a budget of tokens each.

    Parameters
    ----------
    correct : bool array
    lengths : int array of the same shape
    budget : float

    Raises
    ------
    ValueError
        If the shapes differ or are empty.

    Examples
    --------
    >>> accuracy_at_budget([True, True, False], [5, 50, 5], 10)
    0.3333333333333333
    """
    right, tokens = _checked(correct, lengths)
    return float((right & (tokens <= budget)).mean())


class ParallelCurve(NamedTuple):
    """What k = 1, 2, ... completions of each problem cost and solve."""

    tokens: NDArray[np.float64]
    """Mean tokens of k completions of a problem, shape (n,)."""
    passed: NDArray[np.float64]
    """Mean pass@k, shape (n,)."""

    def at(self, tokens: float) -> float:
        """Pass rate for so many tokens a problem, between the k on either side.

        Below the cost of one completion it falls in proportion; beyond n it stays.
        """
        return float(np.interp(tokens, [0.0, *self.tokens], [0.0, *self.passed]))


def parallel_curve(correct: ArrayLike, lengths: ArrayLike) -> ParallelCurve:
    """Pass@k against the tokens that k completions take.

    Parameters
    ----------
    correct : bool array, shape (problems, n)
    lengths : int array of the same shape

    Returns
    -------
    ParallelCurve

    Raises
    ------
    ValueError
        If the shapes differ, are empty or have no two axes.

    Examples
    --------
    >>> curve = parallel_curve([[True, False]], [[10, 20]])
    >>> curve.tokens.tolist(), curve.passed.tolist()
    ([15.0, 30.0], [0.5, 1.0])
    """
    right, tokens = _checked(correct, lengths)
    if right.ndim != 2:
        raise ValueError(f"correct has shape {right.shape}; (problems, completions) is wanted")
    n = right.shape[1]
    counts = right.sum(1)
    return ParallelCurve(
        tokens.mean() * np.arange(1, n + 1),
        np.array([np.mean([pass_at_k(n, int(c), k) for c in counts]) for k in range(1, n + 1)]),
    )


def _checked(
    correct: ArrayLike, lengths: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    right, tokens = np.asarray(correct, dtype=bool), np.asarray(lengths, dtype=float)
    if right.shape != tokens.shape or not right.size:
        raise ValueError(
            f"correct has shape {right.shape} and lengths {tokens.shape}; one length for each "
            "completion is wanted"
        )
    return right, tokens
