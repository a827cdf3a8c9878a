"""What the recipe of paper 26 measures: dictionaries at several sparsities, and their fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from rarefy.data.photographs import sample_patches, whiten_retina
from rarefy.dictionaries import (
    CodeReport,
    DictionaryLearner,
    ReceptiveFields,
    SparseCoder,
    code_report,
    receptive_field_report,
    tune_penalty,
)
from rarefy.operators import CEL0, L0, L1, Lq, Penalty
from rarefy.papers._recipe import Trial
from rarefy.papers._threads import side_by_side

ATOMS = 128
ERROR = 0.05
"""Relative error at which the methods' sparsity is compared."""
SPARSE = 5.0
"""Active units at which kinds of fields are many."""


class Method(NamedTuple):
    """A penalty, and strengths that lie near the sparsities compared (found on other seeds).

    ``small`` are for 4.5, 7 and 10 active units on patches of 8 x 8; the others on 12 x 12: where
    fields are oriented, at about 5 active units, and at about 20.
    """

    penalty: Callable[[float], Penalty]
    small: tuple[float, float, float]
    oriented: float
    sparse: float | None = None
    dense: float | None = None


METHODS = {
    "soft": Method(L1, (0.4, 0.25, 0.14), 0.7, 0.7),
    "hard": Method(L0, (0.05, 0.03, 0.018), 0.3),
    "cel0": Method(CEL0, (0.05, 0.025, 0.013), 0.3, 0.17, 0.018),
    "half": Method(Lq, (0.09, 0.045, 0.025), 0.4, 0.22, 0.033),
}


# Compared and hashed as an object: it holds tensors.
@dataclass(frozen=True, eq=False)
class Shared:
    """Patches of one seed: small ones for errors, large ones for fields."""

    train: Tensor
    test: Tensor
    large_train: Tensor
    large_test: Tensor
    patch: int
    units: int


def draw(images: list[Tensor], trial: Trial, *, f0: float, patch: int, units: int) -> Shared:
    """Whiten, and draw patches: to learn from on the left halves, to judge on the right."""
    white = whiten_retina(images, f0=f0)
    left = [image[:, : image.shape[1] // 2] for image in white]
    right = [image[:, image.shape[1] // 2 :] for image in white]
    g = trial.generator()
    count = trial.pick(smoke=4000, default=77_000, full=77_000)
    test = trial.pick(smoke=100, default=600, full=4000)
    return Shared(
        sample_patches(left, 8, count, generator=g),
        sample_patches(right, 8, test, generator=g),
        sample_patches(left, patch, count, generator=g),
        sample_patches(right, patch, test, generator=g),
        patch,
        units,
    )


class Learned(NamedTuple):
    """A dictionary (m, d), and the penalty it was learned under."""

    dictionary: Tensor
    penalty: Penalty


def learn(x: Tensor, penalty: Penalty, atoms: int, steps: int, trial: Trial) -> Learned:
    """Learn a dictionary of patches."""
    learner = DictionaryLearner(atoms, penalty, max_steps=steps, random_state=trial.seed)
    # A user's device does the learning; reports are made here.
    learner.fit(x.to(trial.device))
    return Learned(torch.from_numpy(learner.components_), penalty)


def tuned(
    learned: Learned,
    test: Tensor,
    trial: Trial,
    *,
    l0: float | None = None,
    error: float | None = None,
) -> CodeReport:
    """Judge codes of test patches at the strength that gives a sparsity, or an error, exactly."""
    # Codes that have not converged are denser: at 1e-2 part of the gap between penalties is hidden.
    tol = trial.pick(smoke=1e-2, default=1e-3, full=1e-3)
    coder = SparseCoder(learned.dictionary, learned.penalty, tol=tol, max_iter=5000)
    found = tune_penalty(coder, test.numpy(), target_l0=l0, target_error=error, rtol=0.005).learner
    return code_report(test, learned.dictionary, found.transform(test))


def errors(arm: str, shared: Shared, trial: Trial, levels: Sequence[str]) -> dict[str, float]:
    """Errors at given numbers of active units, and the number of units at a given error."""
    method = METHODS[arm]
    steps = trial.pick(smoke=4, default=80, full=1000)

    def at(i: int) -> tuple[Learned, CodeReport]:
        learned = learn(shared.train, method.penalty(method.small[i]), ATOMS, steps, trial)
        return learned, tuned(learned, shared.test, trial, l0=float(levels[i]))

    found = side_by_side([partial(at, i) for i in range(len(levels))])
    values = {}
    for level, (_, report) in zip(levels, found, strict=True):
        values[f"l0_{level}"] = report.l0
        values[f"error_{level}"] = report.error
        values[f"debiased_{level}"] = report.debiased_error
        values[f"lifetime_{level}"] = report.lifetime_sparseness
    nearest, _ = min(found, key=lambda pair: abs(pair[1].error - ERROR))
    return values | {"units_at_error": tuned(nearest, shared.test, trial, error=ERROR).l0}


def larger(atoms: int, level: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Error of soft thresholding in a larger dictionary."""
    steps = trial.pick(smoke=1, default=100, full=1000)

    def task() -> CodeReport:
        penalty = L1(1.2 * METHODS["soft"].small[0])
        return tuned(
            learn(shared.train, penalty, atoms, steps, trial), shared.test, trial, l0=float(level)
        )

    (report,) = side_by_side([task])
    return {f"error_{level}": report.error, f"debiased_{level}": report.debiased_error}


class Fields(NamedTuple):
    """What a dictionary of large patches is made of, and its error at 5 active units."""

    report: ReceptiveFields
    dictionary: Tensor
    error: float


def fields(
    arm: str, strengths: Sequence[float], steps: int, shared: Shared, trial: Trial
) -> list[Fields]:
    """Learn from large patches at each strength and look at the units."""

    def one(strength: float) -> Fields:
        penalty = METHODS[arm].penalty(strength)
        # Kinds are told apart sooner than fields are smooth.
        enough = steps if strength == METHODS[arm].oriented else steps // 2
        learned = learn(shared.large_train, penalty, shared.units, enough, trial)
        error = float("nan")
        if strength == METHODS[arm].sparse:
            error = tuned(learned, shared.large_test, trial, l0=SPARSE).error
        return Fields(look(learned.dictionary, shared), learned.dictionary, error)

    return side_by_side([partial(one, s) for s in strengths])


def random_atoms(shared: Shared, trial: Trial) -> ReceptiveFields:
    """Look at atoms of noise."""
    noise = torch.randn(shared.units, shared.patch**2, generator=trial.generator())
    (report,) = side_by_side([lambda: look(noise, shared)])
    return report


def look(dictionary: Tensor, shared: Shared) -> ReceptiveFields:
    """Report on the units of a dictionary of large patches."""
    return receptive_field_report(dictionary.view(-1, shared.patch, shared.patch))


T = TypeVar("T")
