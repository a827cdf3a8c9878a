"""Dense gradients for the rules that grow by them: of one step or of many, of all rows or a sample.

    step      g_t
    interval  sum of |g_t| since the last update
    momentum  h <- 0.9 h + 0.1 g_t

Gradients of pruned entries are zeroed as they arrive; what a rule wants to see of them is put aside
here first. A sample of rows, drawn anew behind every update, cuts what is put aside to its share.

Source: Evci et al. 2020 (RigL) for one step; SparseRec (2024) for an interval and for samples.
Departures: SparseRec samples rows by importance, here all have the same chance; torch computes the
dense gradient of a step in any case, so that only what is kept of it shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gather:
    """Which gradients a rule wants.

    Parameters
    ----------
    over : {"step", "interval", "momentum"}, default "step"
        Those of the update's own step; the magnitudes of all steps since the last update, summed;
        or a running mean, nine tenths of it the past.
    rows : float in (0, 1], default 1.0
        Share of each tensor's rows that is sampled; gradients of the others read as zero. A running
        mean begins anew with every sample.

    Raises
    ------
    ValueError
        If ``rows`` is out of range.
    """

    over: Literal["step", "interval", "momentum"] = "step"
    rows: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rows <= 1:  # also true for NaN
            raise ValueError(f"the sampled share of rows must be in (0, 1], got {self.rows}")


class DenseGradients:
    """What is put aside for one rule; an empty one where ``how`` is False."""

    def __init__(
        self, how: bool | Gather, weights: Mapping[str, Tensor], generator: torch.Generator
    ) -> None:
        self._how = how if isinstance(how, Gather) else Gather()
        self._wanted = bool(how)
        self._weights, self._generator = weights, generator
        self._now: dict[str, Tensor] = {}
        self._past: dict[str, Tensor] = {}
        self._rows: dict[str, Tensor] = {}
        self._draw()

    @property
    def _many(self) -> bool:
        return self._how.over != "step"

    def wants(self, due: bool) -> bool:
        """Whether this step's gradients are read, now or at a later update."""
        return self._wanted and (due or self._many)

    def add(self, name: str, gradient: Tensor, pruned: Tensor) -> None:
        """Put aside the gradient of a backward pass, on top of those before it, which are masked.

        Parameters
        ----------
        name : str
        gradient : Tensor
            As accumulated so far: dense of this pass, masked of those before.
        pruned : bool Tensor
        """
        rows = self._rows.get(name)
        part = gradient.clone() if rows is None else gradient[rows]
        if (before := self._now.get(name)) is not None:
            kept = ~pruned if rows is None else ~pruned[rows]
            part += before.masked_fill(kept, 0)
        self._now[name] = part

    def end_step(self) -> None:
        """Add this step's gradients to those of many steps, where the rule wants many."""
        if not self._many:
            return
        for name, gradient in self._now.items():
            past = self._past.get(name, torch.zeros_like(gradient))
            self._past[name] = (
                past + gradient.abs() if self._how.over == "interval" else past.lerp(gradient, 0.1)
            )

    def read(self) -> dict[str, Tensor]:
        """Look up what the rule wants, each in the shape of its weight."""
        found = self._past if self._many else self._now
        return {name: self._spread(name, part) for name, part in found.items()}

    def clear(self) -> None:
        """Forget this step's gradients."""
        self._now.clear()

    def end_interval(self) -> None:
        """Begin anew behind an update: another sample, another sum."""
        if self._how.over == "interval" or self._rows:
            self._past.clear()
        self._draw()

    def state_dict(self) -> dict[str, Any]:
        """Collect what a checkpoint needs."""
        return {
            "past": {name: gradient.clone() for name, gradient in self._past.items()},
            "rows": {name: rows.clone() for name, rows in self._rows.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was."""
        self._past, self._rows = dict(state["past"]), dict(state["rows"])

    def _draw(self) -> None:
        if not self._wanted or self._how.rows == 1:
            return
        for name, weight in self._weights.items():
            size = math.ceil(self._how.rows * len(weight) - 1e-9)
            # Drawn on the generator's device, so that a seed means the same on any other.
            order = torch.randperm(
                len(weight), generator=self._generator, device=self._generator.device
            )
            self._rows[name] = order[:size].to(weight.device)

    def _spread(self, name: str, part: Tensor) -> Tensor:
        rows = self._rows.get(name)
        if rows is None:
            return part
        weight = self._weights[name]
        return torch.zeros(weight.shape, dtype=part.dtype, device=part.device).index_copy_(
            0, rows, part
        )
