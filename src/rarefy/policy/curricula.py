"""Which difficulty to draw the next prompts from.

A curriculum answers ``sample(n)`` with n levels, is told afterwards how they went with
``update(levels, rewards)``, and its ``state_dict`` holds all that the next answer depends on, the
random stream included: a run that is killed and restarted goes on with the same levels.

    Uniform      every level alike
    Staged       the levels of the present stage; ``advance`` is called by hand
    SuccessBand  levels whose smoothed success s lies in a band:  s <- d s + (1 - d) r

Sources: a staged, manually switched curriculum is GHPO's baseline (arXiv 2507.10628); keeping tasks
of middling success is common (WebRL, arXiv 2411.02337, filters by it). Departures: levels outside
the band keep a small share of the prompts, since their success is otherwise never measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Curriculum(Protocol):
    """What a trainer asks for levels."""

    def sample(self, n: int) -> list[int]:
        """Levels of the next n prompts."""

    def update(self, levels: Sequence[int], rewards: Tensor) -> None:
        """Hear the reward of each prompt, a mean over its completions."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next answers depend on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""


class Uniform:
    """Every level alike.

    Parameters
    ----------
    levels : sequence of int
    generator : torch.Generator
        On the CPU.

    Examples
    --------
    >>> Uniform([1, 2], generator=torch.Generator().manual_seed(0)).sample(4)
    [2, 2, 1, 2]
    """

    def __init__(self, levels: Sequence[int], *, generator: torch.Generator) -> None:
        self.levels = _checked(levels)
        self._generator = generator

    def sample(self, n: int) -> list[int]:
        """Levels of the next n prompts."""
        return _draw(self.levels, torch.ones(len(self.levels)), n, self._generator)

    def update(self, levels: Sequence[int], rewards: Tensor) -> None:
        """Nothing: every level stays alike."""

    def state_dict(self) -> dict[str, Any]:
        """State of the random stream."""
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._generator.set_state(state["generator"])


class Staged:
    """From easy to hard by hand.

    Parameters
    ----------
    stages : sequence of sequences of int
        Levels of each stage, drawn from alike.
    generator : torch.Generator
        On the CPU.

    Attributes
    ----------
    stage : int
        The present one, from 0.

    Examples
    --------
    >>> staged = Staged([[1], [4]], generator=torch.Generator().manual_seed(0))
    >>> staged.sample(2)
    [1, 1]
    >>> staged.advance()
    >>> staged.sample(2)
    [4, 4]
    """

    def __init__(self, stages: Sequence[Sequence[int]], *, generator: torch.Generator) -> None:
        if not len(stages):
            raise ValueError("stages is empty: a curriculum needs at least one")
        self.stages = [_checked(stage) for stage in stages]
        self.stage = 0
        self._generator = generator

    def advance(self) -> None:
        """Go to the next stage; the last one stays."""
        self.stage = min(self.stage + 1, len(self.stages) - 1)

    def sample(self, n: int) -> list[int]:
        """Levels of the next n prompts."""
        levels = self.stages[self.stage]
        return _draw(levels, torch.ones(len(levels)), n, self._generator)

    def update(self, levels: Sequence[int], rewards: Tensor) -> None:
        """Nothing: stages change by hand."""

    def state_dict(self) -> dict[str, Any]:
        """The stage and the random stream."""
        return {"stage": self.stage, "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.stage = state["stage"]
        self._generator.set_state(state["generator"])


class SuccessBand:
    """Levels that are neither hopeless nor mastered.

    Parameters
    ----------
    levels : sequence of int
    generator : torch.Generator
        On the CPU.
    low, high : float, default 0.2 and 0.8
        The band, bounds included.
    decay : float, default 0.9
        Of the running mean of rewards, per prompt.
    explore : float, default 0.1
        Share of the prompts drawn from all levels alike.

    Attributes
    ----------
    success : dict of int to float
        Running mean reward of each level that has been seen; it starts in the middle of the band,
        so that one unlucky prompt does not close a level.
    """

    def __init__(
        self,
        levels: Sequence[int],
        *,
        generator: torch.Generator,
        low: float = 0.2,
        high: float = 0.8,
        decay: float = 0.9,
        explore: float = 0.1,
    ) -> None:
        if not 0 <= low < high <= 1:
            raise ValueError(f"expected 0 <= low < high <= 1, got low = {low}, high = {high}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}, expected 0 <= decay < 1")
        if not 0 < explore <= 1:
            raise ValueError(
                f"explore is {explore}, expected 0 < explore <= 1: a level that is never drawn "
                "cannot come back into the band"
            )
        self.levels = _checked(levels)
        self.low, self.high = low, high
        self.decay = decay
        self.explore = explore
        self.success: dict[int, float] = {}
        self._generator = generator

    @property
    def band(self) -> list[int]:
        """Levels in the band and those not seen yet; where there are none, the nearest to it."""
        distance = {level: self._distance(level) for level in self.levels}
        nearest = min(distance.values())
        return [level for level in self.levels if distance[level] == nearest]

    def sample(self, n: int) -> list[int]:
        """Levels of the next n prompts."""
        band = set(self.band)
        inside = torch.tensor([float(level in band) for level in self.levels])
        weights = (1 - self.explore) * inside / len(band) + self.explore / len(self.levels)
        return _draw(self.levels, weights, n, self._generator)

    def update(self, levels: Sequence[int], rewards: Tensor) -> None:
        """Hear the reward of each prompt, a mean over its completions.

        Parameters
        ----------
        levels : sequence of int
        rewards : Tensor, shape (len(levels),)

        Raises
        ------
        ValueError
            Where there are more of one than of the other.
        """
        if len(levels) != len(rewards):
            raise ValueError(
                f"{len(levels)} levels came with {len(rewards)} rewards; each prompt has both"
            )
        for level, reward in zip(levels, rewards.tolist(), strict=True):
            before = self.success.get(level, self._middle)
            self.success[level] = self.decay * before + (1 - self.decay) * reward

    def state_dict(self) -> dict[str, Any]:
        """The running means and the random stream."""
        return {"success": dict(self.success), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.success = dict(state["success"])
        self._generator.set_state(state["generator"])

    @property
    def _middle(self) -> float:
        return (self.low + self.high) / 2

    def _distance(self, level: int) -> float:
        success = self.success.get(level, self._middle)
        return max(self.low - success, success - self.high, 0.0)


def _checked(levels: Sequence[int]) -> list[int]:
    if not len(levels):
        raise ValueError("levels is empty: a curriculum needs at least one")
    return list(levels)


def _draw(levels: Sequence[int], weights: Tensor, n: int, generator: torch.Generator) -> list[int]:
    rows = torch.multinomial(weights, n, replacement=True, generator=generator)
    return [levels[row] for row in rows.tolist()]
