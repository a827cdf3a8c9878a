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

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rarefy.data.files import written_whole
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
    ever : list of int
        Positions that were active at some time so far.
    numel : dict of str to int
        Size of each tensor.

    Examples
    --------
    >>> import torch
    >>> trace = SparsityTrace()
    >>> for step in (0, 100):
    ...     trace.record(step, Masks({"w": torch.arange(8) == step // 25}))
    >>> trace.classify().topology, trace.coverage
    ('dynamic', 0.25)
    """

    pretrained_steps: int = 0
    steps: list[int] = field(default_factory=list)
    densities: list[float] = field(default_factory=list)
    flips: list[int] = field(default_factory=list)
    kept: list[dict[str, int]] = field(default_factory=list)
    ever: list[int] = field(default_factory=list)
    numel: dict[str, int] = field(default_factory=dict)
    _last: Masks | None = field(default=None, repr=False)
    _union: Masks | None = field(default=None, repr=False)

    def record(self, step: int, masks: Masks) -> None:
        """Note the masks in force from ``step`` on; also to be called at the last step.

        Raises
        ------
        ValueError
            If steps do not rise, the masks are of other tensors than before, or the trace was read
            from a file, which holds no masks to compare with.
        """
        if self.steps and step < self.steps[-1]:
            raise ValueError(f"steps must rise: {step} comes after {self.steps[-1]}")
        if self.steps and self._last is None:
            raise ValueError("a trace that was read from a file cannot go on: begin a new one")
        if self._last is not None and self._union is not None:
            self.flips.append(sum(masks.difference(self._last).values()))
            self._union = self._union | masks
        else:
            self.flips.append(0)
            self._union = masks
        self._last = Masks({name: mask.clone() for name, mask in masks.items()})
        self.numel = {name: mask.numel() for name, mask in masks.items()}
        self.ever.append(self._union.nnz)
        self.steps.append(step)
        self.densities.append(masks.density())
        self.kept.append({row.name: row.nnz for row in masks.summary()})

    @property
    def coverage(self) -> float:
        """Share of the positions that were active at some time."""
        self._refuse_empty()
        return self.ever[-1] / max(sum(self.numel.values()), 1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the trace as JSON lines: what the run began with, then a line for each record.

        A line is ``{"step", "layers": {name: [kept, size]}, "flips", "ever"}``, so that a training
        loop without rarefy can write it too.

        Parameters
        ----------
        path : path
            Appears whole or not at all.
        """
        lines: list[dict[str, Any]] = [{"pretrained_steps": self.pretrained_steps}]
        for step, kept, flips, ever in zip(
            self.steps, self.kept, self.flips, self.ever, strict=True
        ):
            layers = {name: [count, self.numel[name]] for name, count in kept.items()}
            lines.append({"step": step, "layers": layers, "flips": flips, "ever": ever})
        with written_whole(path) as sibling:
            sibling.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparsityTrace:
        """Read what :meth:`save` wrote; it can be examined, but not go on.

        Parameters
        ----------
        path : path

        Returns
        -------
        SparsityTrace

        Raises
        ------
        ValueError
            Naming the first line that is no record.
        """
        trace = cls()
        for number, text in enumerate(Path(path).read_text("utf-8", "replace").splitlines(), 1):
            try:
                line = json.loads(text)
                if "pretrained_steps" in line:
                    trace.pretrained_steps = int(line["pretrained_steps"])
                else:
                    trace._read(line)
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                why = f"it lacks {error}" if isinstance(error, KeyError) else error
                raise ValueError(
                    f"line {number} of {os.fspath(path)} is no record of a trace, which has step, "
                    f"layers as name: [kept, size], flips and ever: {why}"
                ) from error
        trace._refuse_empty()
        return trace

    def _read(self, line: dict[str, Any]) -> None:
        step, flips, ever = (int(line[key]) for key in ("step", "flips", "ever"))
        kept = {name: int(count) for name, (count, _) in line["layers"].items()}
        numel = {name: int(size) for name, (_, size) in line["layers"].items()}
        if not all(0 <= kept[name] <= numel[name] for name in kept) or not sum(numel.values()):
            raise ValueError("a layer keeps from 0 to all of its weights, and there must be some")
        if self.numel and numel != self.numel:
            raise ValueError("its layers are not those of the lines before")
        if self.steps and step < self.steps[-1]:
            raise ValueError(f"steps must rise: {step} comes after {self.steps[-1]}")
        if not sum(kept.values()) <= ever <= sum(numel.values()) or flips < 0:
            raise ValueError(f"flips {flips} or ever {ever} cannot be, with {kept} of {numel} kept")
        self.numel = numel
        self.steps.append(step)
        self.densities.append(sum(kept.values()) / sum(numel.values()))
        self.flips.append(flips)
        self.kept.append(kept)
        self.ever.append(ever)

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
        each = {name: (cost or {}).get(name, 1.0) for name in self.numel}
        shares = np.array([sum(each[n] * k for n, k in kept.items()) for kept in self.kept])
        shares = shares / sum(each[name] * size for name, size in self.numel.items())
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
        shares = [k / self.numel[name] for name, k in last.items() if self.numel[name]]
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
