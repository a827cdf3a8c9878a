r"""Schedules: the density, or a mask's softness, as a function of training progress.

.. math:: d(p) = w(u)\, d_0 + (1 - w(u))\, d_1, \qquad u = \operatorname{clip}\left(
          \frac{p - \mathrm{begin}}{\mathrm{end} - \mathrm{begin}}, 0, 1\right)

with w falling from 1 to 0 in the manner that names the schedule. Progress is the share of training
done, in [0, 1]; what lies outside is clamped. Plain picklable objects without state: the same
progress gives the same density in every process and after every restart.

Sources: cubic (Zhu and Gupta 2017); mask decay (Kao et al. 2022; Bambhaniya et al. 2024, arXiv
2402.04744). Departures: the mask decay's rate is stated as the share of training it lasts, not per
step, so that it survives a change of the number of steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Literal


@dataclass(frozen=True)
class OneShot:
    """Dense until ``at``, then ``final`` at once.

    Parameters
    ----------
    final : float
        Density from ``at`` on.
    at : float, default 0.0
        Progress of the cut.
    """

    final: float
    at: float = 0.0

    def __post_init__(self) -> None:
        _check_shares(final=self.final, at=self.at)

    def __call__(self, progress: float) -> float:
        """Density at a progress in [0, 1]."""
        return self.final if _clamp(progress) >= self.at else 1.0


@dataclass(frozen=True)
class Ramp(ABC):
    """From one density to another between two points of progress.

    Parameters
    ----------
    final : float
        Density from ``end`` on.
    initial : float, default 1.0
        Density up to ``begin``.
    begin, end : float, default 0.0 and 1.0
        Progress at which the density starts and stops to change; begin < end.
    """

    final: float
    _: KW_ONLY
    initial: float = 1.0
    begin: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        _check_shares(final=self.final, initial=self.initial, begin=self.begin, end=self.end)
        if not self.begin < self.end:
            raise ValueError(f"begin must come before end, got {self.begin} and {self.end}")

    def __call__(self, progress: float) -> float:
        """Density at a progress in [0, 1]."""
        done = (_clamp(progress) - self.begin) / (self.end - self.begin)
        return self._blend(self._left(min(max(done, 0.0), 1.0)))

    @abstractmethod
    def _left(self, done: float) -> float:
        """Share of the way that is left when a share ``done`` of the time has passed."""

    def _blend(self, left: float) -> float:
        return left * self.initial + (1 - left) * self.final


@dataclass(frozen=True)
class Linear(Ramp):
    """The density falls at a constant rate."""

    def _left(self, done: float) -> float:
        return 1 - done


@dataclass(frozen=True)
class Cubic(Ramp):
    """Fast while there is much to prune, slow near the end: what is left goes as (1 - u)**3.

    Examples
    --------
    >>> [Cubic(0.0, end=0.5)(progress) for progress in (0.0, 0.25, 1.0)]
    [1.0, 0.125, 0.0]
    """

    def _left(self, done: float) -> float:
        return (1 - done) ** 3


@dataclass(frozen=True)
class Cosine(Ramp):
    """Slow at both ends: half a cosine wave."""

    def _left(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Exponential(Ramp):
    """The same share of what remains is removed in equal times, as in iterative pruning.

    ``initial * (final / initial)**u``; both must be above 0.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.final, self.initial) <= 0:
            raise ValueError(
                f"final and initial must be above 0, got {self.final} and {self.initial}"
            )

    def _left(self, done: float) -> float:
        return 1 - done

    def _blend(self, left: float) -> float:
        return self.initial**left * self.final ** (1 - left)


@dataclass(frozen=True)
class Step:
    """Constant between given points of progress.

    Parameters
    ----------
    points : sequence of (progress, density)
        Each density holds from its progress on; in order of progress.
    initial : float, default 1.0
        Density before the first point.
    """

    points: tuple[tuple[float, float], ...]
    initial: float = 1.0

    def __post_init__(self) -> None:
        points = tuple((float(at), float(density)) for at, density in self.points)
        object.__setattr__(self, "points", points)
        _check_shares(initial=self.initial)
        for at, density in points:
            _check_shares(progress=at, density=density)
        if any(later[0] <= earlier[0] for earlier, later in zip(points, points[1:], strict=False)):
            raise ValueError(f"points must be in order of progress, got {points}")

    def __call__(self, progress: float) -> float:
        """Density at a progress in [0, 1]."""
        progress = _clamp(progress)
        reached = [density for at, density in self.points if at <= progress]
        return reached[-1] if reached else self.initial


@dataclass(frozen=True)
class MaskDecay:
    """Softness of a mask: the factor, from 1 down to 0, of the weights outside it.

    ``linear`` is 1 - u and ``cosine`` half a wave, both 0 from ``over`` on; ``exponential`` is
    0.02**u, which reaches 0.02 at ``over`` and goes on falling until ``off``.

    Parameters
    ----------
    kind : {"linear", "exponential", "cosine"}, default "linear"
    over : float, default 0.3
        Progress at which the decay is done; u is the share of it that has passed.
    off : float, default 0.9
        From here on the mask is hard, whatever the kind.
    """

    kind: Literal["linear", "exponential", "cosine"] = "linear"
    over: float = 0.3
    off: float = 0.9

    def __post_init__(self) -> None:
        _check_shares(over=self.over, off=self.off)
        if self.kind not in ("linear", "exponential", "cosine"):
            raise ValueError(f"kind must be 'linear', 'exponential' or 'cosine', got {self.kind!r}")
        if self.over == 0:
            raise ValueError("over must be above 0, got 0; a mask without softness needs no decay")

    def __call__(self, progress: float) -> float:
        """Softness at a progress in [0, 1]."""
        progress = _clamp(progress)
        passed = progress / self.over
        if progress >= self.off:
            return 0.0
        if self.kind == "exponential":
            return 0.02**passed
        passed = min(passed, 1.0)
        return 1 - passed if self.kind == "linear" else (1 + math.cos(math.pi * passed)) / 2


def _clamp(progress: float) -> float:
    if math.isnan(progress):
        raise ValueError("progress must be a number, got NaN")
    return min(max(float(progress), 0.0), 1.0)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {share}")
