"""Follow how weights become negligible while a model trains, and find out whether at once.

    fraction_tau(t) = |{|w| < tau}| / numel

for fixed ``tau`` and for ``tau`` relative to each tensor's root mean square at the start, with
whatever else is asked for (free sparsity of the checkpoint, the learning rate). The change point
of a series splits its increments where two means explain them best; the series is *abrupt* if its
largest increment is at least 3 times the median absolute one.

Source: Jaiswal et al. 2023, section 5, who show curves. Departures: thresholds and test are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ABRUPT = 3.0
"""Largest increment over the median absolute increment from which a series counts as abrupt."""


@dataclass(frozen=True)
class ChangePoint:
    """Where a series changes pace.

    Attributes
    ----------
    step : int
        Step at which the second pace begins.
    jump_ratio : float
        Largest increment over the median absolute increment.
    abrupt : bool
        ``jump_ratio >= 3``.
    gain : float
        Log-likelihood that the second mean adds, with normal increments.
    """

    step: int
    jump_ratio: float
    abrupt: bool
    gain: float


class SparsificationMonitor:
    """Record the fraction of negligible weights every so many steps.

    Parameters
    ----------
    weights : mapping of str to Tensor
        The live parameters, for example :func:`rarefy.weights.block_weights`.
    every : int, default 50
        Steps between records; the paper takes 1,000 for BERT.
    absolute : sequence of float, default (1e-3,)
        Fixed thresholds.
    relative : sequence of float, default (1e-2,)
        Thresholds in units of each tensor's root mean square now.
    also : mapping of str to callable ``() -> float``, optional
        More to record at the same steps: the free sparsity of the checkpoint, the learning rate.

    Attributes
    ----------
    steps : list of int
    series : dict of str to list of float
        ``"below 0.001"``, ``"below 0.01 rms"``, ... and the names in ``also``.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        *,
        every: int = 50,
        absolute: Sequence[float] = (1e-3,),
        relative: Sequence[float] = (1e-2,),
        also: Mapping[str, Callable[[], float]] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self._weights = dict(weights)
        self._every = every
        self._also = dict(also or {})
        unit = {name: 1.0 for name in self._weights}
        rms = {name: float(_rms(weight)) for name, weight in self._weights.items()}
        self._limits = {f"below {tau:g}": (tau, unit) for tau in absolute}
        self._limits |= {f"below {tau:g} rms": (tau, rms) for tau in relative}
        self.steps: list[int] = []
        self.series: dict[str, list[float]] = {name: [] for name in (*self._limits, *self._also)}

    def step(self, step: int) -> None:
        """Record, if ``step`` is a multiple of ``every``."""
        if step % self._every:
            return
        self.steps.append(step)
        for name, (tau, scale) in self._limits.items():
            self.series[name].append(self._fraction(tau, scale))
        for name, measure in self._also.items():
            self.series[name].append(measure())

    def change_point(self, name: str) -> ChangePoint:
        """Find the :func:`change_point` of one of the series."""
        if name not in self.series:
            raise ValueError(f"no series {name!r}; there are {', '.join(self.series)}")
        return change_point(self.steps, self.series[name])

    @torch.no_grad()
    def _fraction(self, tau: float, scale: Mapping[str, float]) -> float:
        below = sum(
            int((weight.abs() < tau * scale[name]).count_nonzero())
            for name, weight in self._weights.items()
        )
        return below / max(sum(weight.numel() for weight in self._weights.values()), 1)


def change_point(steps: Sequence[int], values: Sequence[float]) -> ChangePoint:
    """Split a series' increments in two where that explains them best.

    Parameters
    ----------
    steps : sequence of int
    values : sequence of float
        At least four.

    Returns
    -------
    ChangePoint

    Raises
    ------
    ValueError
        If lengths differ, there are fewer than four values or one is not finite.

    Examples
    --------
    >>> change_point(range(6), [0, 0.01, 0.02, 0.03, 0.93, 0.94]).abrupt
    True
    """
    if not np.isfinite(np.asarray(values, float)).all():
        raise ValueError("values must be finite: where a series breaks off, nothing emerges")
    if len(steps) != len(values) or len(values) < 4:
        raise ValueError(
            f"a change point needs four values or more and a step for each, got {len(values)} "
            f"values and {len(steps)} steps"
        )
    increments = np.diff(np.asarray(values, float))
    n = len(increments)
    left = np.cumsum(increments)[:-1]
    first = np.arange(1, n)
    # Scatter that two means explain beyond one, for a split after each increment but the last.
    explained = left**2 / first + (left[-1] + increments[-1] - left) ** 2 / (n - first)
    explained -= increments.sum() ** 2 / n
    split = int(explained.argmax())
    scatter = float(((increments - increments.mean()) ** 2).sum())
    rest = max(scatter - float(explained[split]), 1e-12 * scatter)
    typical = float(np.median(np.abs(increments)))
    largest = float(increments.max())
    ratio = largest / typical if typical > 0 else (np.inf if largest > 0 else 0.0)
    return ChangePoint(
        step=int(steps[split + 1]),
        jump_ratio=ratio,
        abrupt=ratio >= ABRUPT,
        gain=n / 2 * float(np.log(scatter / rest)) if scatter > 0 else 0.0,
    )


def _rms(weight: Tensor) -> Tensor:
    return weight.detach().float().square().mean().sqrt()
