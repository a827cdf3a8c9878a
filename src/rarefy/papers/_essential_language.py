"""What the language-model arms of paper 39 share at one seed: model, text, masks and readings."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rarefy.budget import ErdosRenyiKernel, Uniform
from rarefy.data import encode, sample_windows
from rarefy.models import LanguageModel, open_model
from rarefy.operators import NM
from rarefy.papers._essential_lines import Lines, file_lines
from rarefy.papers._labelled_text import (
    KINDS,
    Questions,
    documents,
    labelled,
    next_lines,
    predictions,
)
from rarefy.papers._recipe import Progress, Trial
from rarefy.weights import (
    Masks,
    SparsityCurve,
    block_weights,
    finetune,
    global_magnitude_mask,
    input_axes,
    magnitude,
    mask_from_scores,
    prune_lm,
    random_masks,
)

TOLERANCE = 0.05
"""Relative rise of perplexity that still counts as free."""

TOLERANCE_ACCURACY = 0.01
"""Relative loss of accuracy that still counts as free."""

PATTERNS = {"1:2": NM(1, 2), "2:4": NM(2, 4), "4:8": NM(4, 8)}


class Reading(NamedTuple):
    """A model on the held-out windows: mean loss of each window, and accuracy by kind of token."""

    losses: Tensor
    accuracies: Tensor

    @property
    def log_perplexity(self) -> float:
        """Mean loss over all windows."""
        return float(self.losses.mean())


class Stream(NamedTuple):
    """Evaluation tokens with their kinds, and tokens to fine-tune on."""

    tokens: Tensor
    kinds: Tensor
    tuning: Tensor


@cache
def opened(model: str | None, device: str) -> LanguageModel:
    """Open a model once for all seeds; nobody trains or prunes it but on copies."""
    return open_model(model, device=device)


@cache
def stream(model: str | None, device: str, text: Path | None, files: int | None) -> Stream:
    """Tokenize the first files (or all) of the evaluation and of the fine-tuning text, once."""
    tokenizer = opened(model, device).tokenizer
    evaluation, tuning = documents(text)
    tokens, kinds = labelled(tokenizer, evaluation[:files])
    return Stream(tokens, kinds, encode(tokenizer, tuning[:files]))


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything a scale takes.

    Attributes
    ----------
    files : int, optional
        First files of the text that are read; ``None`` for all.
    windows, length : int
        Held-out windows, and tokens of each.
    steps, batch, step_length : int
        Fine-tuning: steps, windows a step, and tokens of each.
    questions, lines : int
        Next-line questions, and lines of each file for the head that names it.
    grid, coarse : sequence of float
        Sparsities of the magnitude curve (finer near its turn) and of the other one-shot curves.
    rounds : int
        Rounds of a lottery ticket, each of which takes a fifth of what is left.
    beyond : sequence of float
        Sparsities of the fine-tuned curve after the last ticket's.
    """

    files: int | None
    windows: int
    length: int
    steps: int
    batch: int = 4
    step_length: int
    questions: int
    lines: int
    grid: Sequence[float]
    coarse: Sequence[float]
    rounds: int
    beyond: Sequence[float]

    @property
    def tickets(self) -> tuple[float, ...]:
        """Sparsity after each round."""
        return tuple(1 - 0.8**r for r in range(1, self.rounds + 1))


SMOKE = Size(
    files=1,
    windows=2,
    length=48,
    steps=1,
    step_length=32,
    questions=4,
    lines=6,
    grid=(0.0, 0.3, 0.6, 0.8, 0.9),
    coarse=(0.0, 0.5, 0.9),
    rounds=2,
    beyond=(0.9,),
)
DEFAULT = Size(
    files=None,
    windows=10,
    length=160,
    steps=6,
    step_length=96,
    questions=64,
    lines=64,
    grid=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9),
    coarse=(0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
    rounds=5,
    beyond=(0.8,),
)
FULL = Size(
    files=None,
    windows=64,
    length=512,
    steps=200,
    step_length=512,
    questions=1000,
    lines=1000,
    grid=tuple(i / 20 for i in range(20)),
    coarse=tuple(i / 20 for i in range(20)),
    rounds=5,
    beyond=(0.8, 0.9),
)


def size_of(trial: Trial) -> Size:
    """Pick the trial's size."""
    return trial.pick(smoke=SMOKE, default=DEFAULT, full=FULL)


@dataclass(frozen=True)
class Language:
    """One seed's model, windows and questions.

    Attributes
    ----------
    model : nn.Module
        Never changed; every reading is of a pruned copy.
    windows, kinds : Tensor of int64, shape (n, l)
    batches : Tensor of int64, shape (steps, b, l)
        What fine-tuning reads.
    questions : Questions
    lines : Lines
    size : Size
    seed : int
    progress : Progress
    """

    model: nn.Module
    windows: Tensor
    kinds: Tensor
    batches: Tensor
    questions: Questions
    lines: Lines
    size: Size
    seed: int
    progress: Progress

    def masks(self, method: str, sparsity: float) -> Masks:
        """Prune the block weights at once: by magnitude (of all, or by layer) or at random."""
        weights = block_weights(self.model)
        if method in PATTERNS:
            axes = input_axes(self.model)
            return mask_from_scores(magnitude(weights), pattern=PATTERNS[method], input_axes=axes)
        if method == "magnitude":
            return global_magnitude_mask(weights, sparsity=sparsity)
        if method == "magnitude by layer":
            return mask_from_scores(magnitude(weights), sparsity=sparsity, scope="layer")
        rule = {"random": Uniform(), "random (ERK)": ErdosRenyiKernel()}[method]
        generator = torch.Generator().manual_seed(self.seed)
        return random_masks(weights, sparsity=sparsity, rule=rule, generator=generator)

    def pruned(self, masks: Masks) -> nn.Module:
        """Copy the model and prune the copy."""
        twin = copy.deepcopy(self.model)
        masks.apply_(twin)
        return twin

    def tune(self, model: nn.Module, masks: Masks) -> None:
        """Fine-tune a model in place with its masks held: the same batches for every model."""

        def loss(model: nn.Module, batch: Tensor) -> Tensor:
            return model(input_ids=batch, labels=batch, use_cache=False).loss

        finetune(model, list(self.batches), loss, masks=masks)

    def read(self, model: nn.Module) -> Reading:
        """Measure a model on the held-out windows."""
        losses, hits = predictions(model, self.windows)
        kinds = self.kinds[:, 1:]
        return Reading(
            losses.mean(1),
            torch.stack([hits[kinds == kind].float().mean() for kind in range(len(KINDS))]),
        )

    def one_shot(self, method: str, grid: Sequence[float]) -> dict[float, Reading]:
        """Read the model at each sparsity, without any training."""
        return {
            s: self.read(self.pruned(self.masks(method, s)))
            for s in self._watched(f"{method}, one shot", grid)
        }

    def wanda(self, grid: Sequence[float]) -> dict[float, Reading]:
        """Read the model pruned by Wanda, calibrated on what fine-tuning reads."""
        return {s: self._by_wanda(s) for s in self._watched("Wanda, one shot", grid)}

    def _by_wanda(self, sparsity: float) -> Reading:
        twin = copy.deepcopy(self.model)
        windows = self.batches.flatten(0, 1)
        prune_lm(twin, windows, method="wanda", sparsity=sparsity, gram=False, batch=len(windows))
        return self.read(twin)

    def after_tuning(self, method: str, grid: Sequence[float]) -> dict[float, Reading]:
        """Read the model at each sparsity after fine-tuning with the mask held."""
        return {
            s: self.dense_tuned if s == 0 else self._tuned(self.masks(method, s))
            for s in self._watched(f"{method}, fine-tuned", grid)
        }

    # Both are the same whenever computed, so a run that goes on ends with the same numbers.

    @cached_property
    def dense_tuned(self) -> Reading:
        """The dense model after the same fine-tuning: where every fine-tuned curve begins."""
        return self._tuned(Masks.ones(block_weights(self.model)))

    @cached_property
    def magnitude_tuned(self) -> dict[float, Reading]:
        """The fine-tuned magnitude curve."""
        return self.after_tuning("magnitude", (0.0, *self.size.tickets, *self.size.beyond))

    def _tuned(self, masks: Masks) -> Reading:
        twin = self.pruned(masks)
        self.tune(twin, masks)
        return self.read(twin)

    def _watched(self, what: str, grid: Sequence[float]) -> Iterator[float]:
        for i, s in enumerate(grid):
            self.progress(f"{what} at {s:.0%}", i / len(grid))
            yield s


def language(trial: Trial, *, model: str | None, text: Path | None) -> Language:
    """Draw one seed's windows and questions from the text."""
    size = size_of(trial)
    pair = opened(model, trial.device)
    tokens, kinds, tuning = stream(model, trial.device, text, size.files)
    generator = trial.generator()
    at = sample_windows(torch.arange(len(tokens)), size.length, size.windows, generator=generator)
    batches = sample_windows(tuning, size.step_length, size.steps * size.batch, generator=generator)
    evaluation = documents(text)[0][: size.files]
    return Language(
        model=pair.model,
        windows=tokens[at],
        kinds=kinds[at],
        batches=batches.view(size.steps, size.batch, -1).to(trial.device),
        lines=file_lines(
            pair.tokenizer, sum(documents(text), ()), count=size.lines, seed=trial.seed
        ),
        questions=next_lines(pair.tokenizer, evaluation, count=size.questions, seed=trial.seed),
        size=size,
        seed=trial.seed,
        progress=trial.progress,
    )


def perplexity_curve(readings: dict[float, Reading]) -> SparsityCurve:
    """Perplexity of all windows together against sparsity."""
    values = [np.exp(r.log_perplexity) for r in readings.values()]
    return SparsityCurve(tuple(readings), [values], greater_is_better=False, log=True)


def window_curves(readings: dict[float, Reading]) -> SparsityCurve:
    """Perplexity against sparsity, one row for each window: what a bootstrap resamples."""
    losses = torch.stack([r.losses for r in readings.values()], dim=1).double().exp()
    return SparsityCurve(tuple(readings), losses.tolist(), greater_is_better=False, log=True)


def task_ranges(readings: dict[float, Reading]) -> dict[str, tuple[float, float]]:
    """Dense error and essential range of each kind of token that the dense model gets right at all.

    Returns
    -------
    dict of str to (float, float)
    """
    accuracies = torch.stack([r.accuracies for r in readings.values()]).double().T.tolist()
    found = {}
    for kind, row in zip(KINDS, accuracies, strict=True):
        if row[0] > 0:  # also false where the text has no such token
            curve = SparsityCurve(tuple(readings), [row], greater_is_better=True)
            found[kind] = (1 - row[0], curve.essential(delta=TOLERANCE_ACCURACY, smooth=True))
    return found
