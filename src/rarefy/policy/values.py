"""A curriculum by task value: prompts whose value was high come again sooner.

    V_k <- ema V_k + (1 - ema) (R_max - mean) sigma,      p_k in proportion to V_k

Source: rarefy's own, after the value of VSPO (arXiv 2512.07478), which looks at one batch only.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from rarefy.policy.tasks import Problem

UNSEEN_VALUE = 0.325
"""Of problems not seen yet: the largest value of many rewards of 0 or 1."""


class TaskValueStore:
    """Problems of a pool, drawn by the running mean of their values.

    It is a source of problems for a trainer; :class:`rarefy.policy.vspo.ValueRefill` tells it the
    values.

    Parameters
    ----------
    pool : sequence of Problem
    seed : int
    ema : float, default 0.7
        What is kept of a problem's value when it is seen again.
    explore : float, default 0.1
        Share of the draws from the whole pool alike, so that a value of 0 is measured again.

    Attributes
    ----------
    values : dict of str to float
        By prompt, of those seen.

    Raises
    ------
    ValueError
        If the pool is empty, holds a prompt twice, or a number is out of range.
    """

    def __init__(
        self, pool: Sequence[Problem], *, seed: int, ema: float = 0.7, explore: float = 0.1
    ) -> None:
        prompts = {problem.prompt for problem in pool}
        if not pool or len(prompts) < len(pool):
            raise ValueError(
                f"pool has {len(pool)} problems of {len(prompts)} prompts; at least one problem, "
                "and each prompt once, is wanted"
            )
        if not 0 <= ema < 1:
            raise ValueError(f"ema is {ema}, expected 0 <= ema < 1")
        if not 0 < explore <= 1:
            raise ValueError(f"explore is {explore}, expected 0 < explore <= 1")
        self.pool = list(pool)
        self.seed = seed
        self.ema, self.explore = ema, explore
        self.values: dict[str, float] = {}
        self._draws = 0

    def draw(self, n: int) -> list[Problem]:
        """Return n problems, none of them twice unless the pool is smaller than n."""
        rng = random.Random(f"{self.seed} draw {self._draws}")
        self._draws += 1
        weights = self.weights()
        if n >= len(self.pool):
            return rng.choices(self.pool, weights, k=n)
        # The n largest u^(1/w) are a draw without replacement, one by one in proportion to w
        # (Efraimidis and Spirakis 2006).
        keys = [rng.random() ** (1 / weight) for weight in weights]
        order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
        return [self.pool[row] for row in order[:n]]

    def weights(self) -> list[float]:
        """Chance of each problem of the pool at the next single draw, in any unit."""
        values = [self.values.get(problem.prompt, UNSEEN_VALUE) for problem in self.pool]
        mean = sum(values) / len(values) or 1.0
        return [(1 - self.explore) * value / mean + self.explore for value in values]

    def update(self, problems: Sequence[Problem], values: Tensor) -> None:
        """Hear the value of each problem of a batch, shape (len(problems),)."""
        for problem, value in zip(problems, values.tolist(), strict=True):
            before = self.values.get(problem.prompt, value)
            self.values[problem.prompt] = self.ema * before + (1 - self.ema) * value

    def state_dict(self) -> dict[str, Any]:
        """The values and how often was drawn."""
        return {"values": dict(self.values), "draws": self._draws}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.values = dict(state["values"])
        self._draws = state["draws"]
