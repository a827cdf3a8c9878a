"""The record of a sparse run, and what kind of run it was.

    path      post-training    pruned once the dense network had been trained
              sparse to sparse peak density <= d_T (1 + tol) + tol
              dense to sparse  otherwise
    topology  static if no mask changed after the density last did, densifying if the density ever
              rose by more than tol, dynamic otherwise
    coverage  R = |union of all masks| / numel

with d_T the density at the end and tol = 0.02.

Source: the classes of Liu and Wang 2023, lessons 3 to 6; coverage is the in-time
over-parameterisation of Liu et al. 2021 (ITOP, arXiv 2102.02887). Departures: the rules are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from rarefy.weights.masks import Masks

_TOLERANCE = 0.02
_AFTERWARDS = 0.02
"""Share of the dense training up to which the steps after pruning count as none."""


@dataclass(frozen=True)
class Taxonomy:
    """Where a run stands among sparse methods."""

    when: Literal["before", "during", "after"]
    path: Literal["dense to sparse", "sparse to sparse", "post-training"]
    topology: Literal["static", "dynamic", "densifying"]
    layers: Literal["uniform", "uneven"]


@dataclass
class SparsityTrace:
    """Masks as they were, step by step; only counts and the union are kept.

    Parameters
    ----------
    pretrained_steps : int, default 0
        Steps that the dense network the run began with had been trained for.

    Attributes
    ----------
    steps : list of int
    densities : list of float
    flips : list of int
        Positions that changed since the record before.
    kept : list of dict of str to int
        Weights kept by tensor.
    """

    pretrained_steps: int = 0
    steps: list[int] = field(default_factory=list)
    densities: list[float] = field(default_factory=list)
    flips: list[int] = field(default_factory=list)
    kept: list[dict[str, int]] = field(default_factory=list)
    _numel: dict[str, int] = field(default_factory=dict, repr=False)
    _last: Masks | None = field(default=None, repr=False)
    _union: Masks | None = field(default=None, repr=False)

    def record(self, step: int, masks: Masks) -> None:
        """Note the masks in force from ``step`` on; also to be called at the last step.

        Raises
        ------
        ValueError
            If steps do not rise, or the masks are of other tensors than before.
        """
        if self.steps and step < self.steps[-1]:
            raise ValueError(f"steps must rise: {step} comes after {self.steps[-1]}")
        if self._last is not None and self._union is not None:
            self.flips.append(sum(masks.difference(self._last).values()))
            self._union = self._union | masks
        else:
            self.flips.append(0)
            self._union = masks
        self._last = Masks({name: mask.clone() for name, mask in masks.items()})
        self._numel = {name: mask.numel() for name, mask in masks.items()}
        self.steps.append(step)
        self.densities.append(masks.density())
        self.kept.append({row.name: row.nnz for row in masks.summary()})

    @property
    def coverage(self) -> float:
        """Share of the positions that were active at some time."""
        self._refuse_empty()
        return 0.0 if self._union is None else self._union.density()

    def training_share(self, cost: Mapping[str, float] | None = None) -> float:
        """Multiply-accumulates of the run over those of as many dense steps.

        Parameters
        ----------
        cost : mapping of str to float, optional
            Multiply-accumulates a weight; 1 by default, right for linear layers.

        Returns
        -------
        float
            A weight costs the same forward and backward. The dense gradients that some methods
            take at their updates are not counted.
        """
        self._refuse_empty()
        each = {name: (cost or {}).get(name, 1.0) for name in self._numel}
        shares = np.array([sum(each[n] * k for n, k in kept.items()) for kept in self.kept])
        shares = shares / sum(each[name] * size for name, size in self._numel.items())
        lasting = np.diff(self.steps)
        # A single record stands for the whole run.
        return float(lasting @ shares[:-1] / lasting.sum()) if lasting.sum() else float(shares[-1])

    def classify(self) -> Taxonomy:
        """Say what kind of run it was, by the rules at the head of this module.

        Returns
        -------
        Taxonomy

        Raises
        ------
        ValueError
            If nothing was recorded.
        """
        self._refuse_empty()
        final, densities = self.densities[-1], np.array(self.densities)
        bar = final * (1 + _TOLERANCE) + _TOLERANCE
        pruned_at = self.steps[int(np.argmax(densities <= bar))]
        path: Literal["dense to sparse", "sparse to sparse", "post-training"]
        afterwards = self.steps[-1] - pruned_at
        if self.pretrained_steps and afterwards <= _AFTERWARDS * self.pretrained_steps:
            path = "post-training"
        elif densities.max() <= bar:
            path = "sparse to sparse"
        else:
            path = "dense to sparse"
        rises = densities.max() > densities[0] + _TOLERANCE
        changes = np.flatnonzero(np.diff(densities))
        settled = int(changes[-1]) + 2 if len(changes) else 1
        moved = any(self.flips[settled:])
        last = self.kept[-1]
        shares = [k / self._numel[name] for name, k in last.items() if self._numel[name]]
        return Taxonomy(
            when="after"
            if path == "post-training"
            else "before"
            if densities[0] <= bar
            else "during",
            path=path,
            topology="densifying" if rises else "dynamic" if moved else "static",
            layers="uniform" if max(shares) - min(shares) <= _TOLERANCE else "uneven",
        )

    def _refuse_empty(self) -> None:
        if not self.steps:
            raise ValueError("the trace is empty: call record(step, masks) while the run goes on")
