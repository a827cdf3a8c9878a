r"""Allocation from scores: groups compete, and the counts are a result.

.. math:: k_l = \max\big(\mathrm{low}_l,\ \#\{i \in l : s_i > t\}\big), \qquad
          \sum_l k_l = \mathrm{round}(d\,N)

One threshold t for all groups (GlobalBudget; with :func:`lamp_scores` it is LAMP, Lee et al. 2021);
the same with a floor for each group, as adaptive head budgets use it (PerHead: Ada-KV, Feng et al.
2024, in the form of arXiv 2504.17768); the counts of one threshold, for masks then drawn at random
(ScoreRatios: Liu et al. 2022, arXiv 2202.02643); or, with no total at all, the fewest entries that
hold a share of each group's mass (TopP: FlexPrefill, Lai et al. 2025).

Departures: totals are exact, of equal scores the first (group order, then flat index) wins, and no
group falls below ``min_per_group`` unless that is set to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rarefy.budget.rules import Group, check_density, check_floor, check_reachable, shape_of

Scores = Mapping[str, torch.Tensor | np.ndarray]


@dataclass(frozen=True)
class GlobalBudget:
    """The best entries of all groups together: one threshold, densities as a result.

    Parameters
    ----------
    min_per_group : int, default 1
        No group keeps fewer entries than this (or than it has).

    Examples
    --------
    >>> GlobalBudget()({"a": np.array([9.0, 8.0, 7.0]), "b": np.array([1.0, 2.0])}, density=0.8)
    {'a': 3, 'b': 1}
    """

    _: KW_ONLY
    min_per_group: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_per_group)

    def __call__(self, scores: Scores, *, density: float) -> dict[str, int]:
        """Count of entries each group keeps.

        Parameters
        ----------
        scores : mapping of name to Tensor or ndarray, any shapes
            The larger the better; without NaN.
        density : float
            Share of all entries that survives, in [0, 1].

        Returns
        -------
        dict of str to int
            Adds up to exactly ``round(density * N)``.

        Raises
        ------
        ValueError
            If a score is NaN, density is out of range, or the groups' least counts exceed it.
        """
        flat = _flatten(scores)
        low = [min(self.min_per_group, len(values)) for values in flat]
        return _compete(scores, flat, low, density)


@dataclass(frozen=True)
class ScoreRatios:
    """What ``GlobalBudget`` gives each group, as a rule that is called with shapes.

    So scores can say *how many* weights a layer keeps where something else, such as chance, says
    *which*.

    Parameters
    ----------
    scores : mapping of name to Tensor or ndarray, any shapes
        The larger the better; without NaN.
    min_per_group : int, default 1
        No group keeps fewer entries than this (or than it has).

    Examples
    --------
    >>> rule = ScoreRatios({"a": np.array([9.0, 8.0, 7.0]), "b": np.array([1.0, 2.0])})
    >>> rule({"a": (3,), "b": (2,)}, density=0.8)
    {'a': 3, 'b': 1}
    """

    scores: Scores
    _: KW_ONLY
    min_per_group: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_per_group)

    def __call__(self, groups: Mapping[str, Group], *, density: float) -> dict[str, int]:
        """Count of entries each group keeps.

        Parameters
        ----------
        groups : mapping of name to shape
            Those that were scored. Arrays and tensors stand for their shapes.
        density : float
            Share of all entries that survives, in [0, 1].

        Returns
        -------
        dict of str to int
            Adds up to exactly ``round(density * N)``.

        Raises
        ------
        ValueError
            If names or shapes are not those of the scores; else as ``GlobalBudget``.
        """
        asked = {name: shape_of(group) for name, group in groups.items()}
        scored = {name: shape_of(score) for name, score in self.scores.items()}
        if asked != scored:
            wrong = sorted(n for n in {*asked, *scored} if asked.get(n) != scored.get(n))
            raise ValueError(
                f"scores and groups differ in {', '.join(wrong)}: score what is to be pruned"
            )
        counts = GlobalBudget(min_per_group=self.min_per_group)(self.scores, density=density)
        return {name: counts[name] for name in asked}


@dataclass(frozen=True)
class PerHead:
    """Adaptive budgets across heads: a floor for each, the rest to the best entries anywhere.

    Parameters
    ----------
    floor : float, default 0.2
        Share of the uniform capacity (budget over number of heads) that every head keeps.
    min_per_group : int, default 1
        Every head keeps at least this many entries. Ada-SnapKV has 132: 4 sinks and the last 128.
    """

    floor: float = 0.2
    _: KW_ONLY
    min_per_group: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_per_group)
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor must be in [0, 1], got {self.floor}")

    def __call__(self, scores: Scores, *, density: float) -> dict[str, int]:
        """Count of entries each head keeps; arguments and errors as in ``GlobalBudget``."""
        check_density(density)
        flat = _flatten(scores)
        capacity = round(density * sum(map(len, flat))) / max(len(flat), 1)
        least = max(int(self.floor * capacity), self.min_per_group)
        return _compete(scores, flat, [min(least, len(values)) for values in flat], density)


@dataclass(frozen=True)
class TopP:
    """In each group the fewest best entries whose mass exceeds a share p of the group's mass.

    The one rule whose total is a result, so it takes no density.

    Parameters
    ----------
    p : float
        In [0, 1]; 1 keeps every entry.
    min_per_group : int, default 1

    Examples
    --------
    >>> TopP(0.65)({"flat": np.ones(10), "peaked": np.array([0.9, 0.05, 0.05])})
    {'flat': 7, 'peaked': 1}
    """

    p: float
    _: KW_ONLY
    min_per_group: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_per_group)
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be in [0, 1], got {self.p}")

    def __call__(self, scores: Scores) -> dict[str, int]:
        """Count of entries each group keeps.

        Parameters
        ----------
        scores : mapping of name to Tensor or ndarray, any shapes
            Masses: at least 0, finite; a group without mass keeps ``min_per_group``.

        Returns
        -------
        dict of str to int

        Raises
        ------
        ValueError
            If a mass is negative, infinite or NaN.
        """
        return {
            name: self._count(name, values)
            for name, values in zip(scores, _flatten(scores), strict=True)
        }

    def _count(self, name: str, mass: NDArray[np.floating]) -> int:
        if mass.size and not (mass.min() >= 0 and np.isfinite(mass.max())):
            raise ValueError(f"masses must be finite and at least 0, which {name!r} is not")
        held = np.cumsum(np.sort(mass)[::-1], dtype=np.float64)
        enough = 1 + int(np.sum(held <= self.p * held[-1])) if mass.size and held[-1] > 0 else 0
        return min(max(enough, self.min_per_group), mass.size)


def lamp_scores(weights: Scores) -> dict[str, np.ndarray]:
    r"""Layer-adaptive magnitude scores, for ``GlobalBudget``.

    .. math:: s_i = w_i^2 \Big/ \sum_{j : |w_j| \ge |w_i|} w_j^2

    the relative squared error of removing entry i from what pruning in order of magnitude has left
    of its layer. The largest entry of every layer scores 1, so no layer collapses.

    Parameters
    ----------
    weights : mapping of name to Tensor or ndarray, any shapes

    Returns
    -------
    dict of str to ndarray of float64
        Of the weights' shapes. Of equal magnitudes the last comes first in the order, so that the
        earlier one scores higher.
    """
    scores = {}
    for (name, weight), flat in zip(weights.items(), _flatten(weights), strict=True):
        square = flat.astype(np.float64) ** 2
        descending = np.argsort(-square, kind="stable")
        left = np.cumsum(square[descending])
        score = np.empty_like(square)
        # an all-zero layer has nothing to lose
        score[descending] = square[descending] / np.where(left > 0, left, 1.0)
        scores[name] = score.reshape(tuple(weight.shape))
    return scores


def _flatten(scores: Scores) -> list[NDArray[np.floating]]:
    """Every group as a flat float array; half precision widened, NaN refused."""
    flat = []
    for name, values in scores.items():
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        values = np.asarray(values).reshape(-1)
        if np.isnan(values).any():
            raise ValueError(f"scores of {name!r} hold NaN, which has no rank")
        flat.append(values)
    return flat


def _compete(
    names: Scores, flat: list[NDArray[np.floating]], low: list[int], density: float
) -> dict[str, int]:
    """Best entries overall, with the best ``low[l]`` of every group taken first."""
    check_density(density)
    total = sum(map(len, flat))
    budget = round(density * total)
    check_reachable(budget, sum(low), total, density)
    secured: set[int] = set()
    while True:
        counts = _winners(flat, budget)
        short = {i for i, count in enumerate(counts) if count < low[i]} - secured
        if not short:
            return dict(zip(names, counts, strict=True))
        # only groups that lose need their floor secured; that may push others below theirs
        for i in short:
            best = np.argsort(-flat[i], kind="stable")[: low[i]]
            flat[i] = flat[i].astype(np.result_type(flat[i], np.float32))
            flat[i][best] = np.inf
        secured |= short


def _winners(flat: list[NDArray[np.floating]], budget: int) -> list[int]:
    """How many of the ``budget`` best entries overall lie in each group."""
    if budget == 0:
        return [0] * len(flat)
    joined = np.concatenate(flat)
    cut = np.partition(joined, len(joined) - budget)[len(joined) - budget]
    won = joined > cut
    tied = np.flatnonzero(joined == cut)
    won[tied[: budget - int(won.sum())]] = True
    ends = np.cumsum([len(values) for values in flat])
    upto = np.concatenate([[0], np.cumsum(won)])[np.concatenate([[0], ends])]
    return np.diff(upto).tolist()
