"""What is measured of a dictionary in the linear IOI: approximation, control, interpretability."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import torch
from torch import Tensor

from rarefy.data.ioi import NAMES, Attribute, IOIPrompts
from rarefy.dictionaries import (
    AttributeDictionary,
    feature_f1,
    guided_edit,
    interpret_features,
    subtract_features,
)
from rarefy.papers._sae_evals_saes import Learned
from rarefy.papers._sae_evals_simulator import LinearIOI
from rarefy.papers._sae_evals_transformer import supervised

KS = (1, 2, 4, 6)
GUIDED = 2
# Below this, what an edit could gain is too little to divide by.
LEAST_GAIN = 0.05
INTERPRETABLE, CAUSAL = 0.8, 0.6


@dataclass(frozen=True, eq=False)
class Skyline:
    """The supervised dictionary of a seed, beside which the others are judged."""

    simulator: LinearIOI

    @cached_property
    def dictionary(self) -> AttributeDictionary:
        """Least squares on IO, S and Pos."""
        return supervised(self.simulator.train_activations, self.simulator.train.attributes)

    def agreement(self, name: Attribute, *, edited: bool) -> float:
        """How often the supervised edit of one attribute, or none, gives the patch's answer."""
        task = self.simulator.tasks[name]
        prompts, target = self.simulator.targets[name]
        source = task.activations
        if edited:
            old, new = self.simulator.test.attributes[name], prompts.attributes[name]
            source = self.dictionary.edit(source[:, 0], name, old, new)[:, None]
        return task.agreement(source, target)

    @cached_property
    def bounds(self) -> dict[Attribute, tuple[float, float]]:
        """Agreement of no edit and of the supervised one, where there is something to gain."""
        found = {
            name: (self.agreement(name, edited=False), self.agreement(name, edited=True))
            for name in self.simulator.tasks
        }
        return {name: (low, high) for name, (low, high) in found.items() if high > low + LEAST_GAIN}

    @property
    def metrics(self) -> dict[str, float]:
        """Control of the supervised dictionary: one edit, whose weight is that of its vectors."""
        values = self.simulator.test.attributes
        parts = torch.stack([self.dictionary.vector(name, values[name]) for name in values], dim=1)
        total = parts.sum(1)
        weight = (parts @ total[:, :, None])[..., 0] / total.square().sum(1, keepdim=True)
        found = {"weight": float(weight.mean()), "control": 1.0}
        return {f"{metric}_{k}": value for metric, value in found.items() for k in KS}

    def normalised(self, agreements: dict[Attribute, float]) -> float:
        """Mean over attributes: 0 for no edit, 1 for the supervised one."""
        return fmean(
            (agreements[name] - low) / (high - low) for name, (low, high) in self.bounds.items()
        )


def measure_learned(learned: Learned, skyline: Skyline) -> dict[str, float]:
    """Put an unsupervised dictionary through all three tests."""
    simulator = skyline.simulator
    task = simulator.task
    activations = task.activations[:, 0]
    codes = learned.codes(activations)
    found = task.approximation(learned.reconstruct(codes)[:, None])._asdict()
    found["l0"] = float((codes != 0).sum(1).float().mean())
    return (
        found
        | _control(learned, codes, skyline)
        | _interpretability(learned, codes, simulator)
        | {"guided": _guided(learned, codes, skyline)}
    )


def _control(learned: Learned, codes: Tensor, skyline: Skyline) -> dict[str, float]:
    simulator = skyline.simulator
    metrics = {}
    targets = {n: learned.codes(a[:, 0]) for n, (_, a) in simulator.targets.items()}
    for k in KS:
        edits = {
            name: task.control(
                simulator.targets[name][1], [codes], [targets[name]], [learned.decoder], k=k
            )
            for name, task in simulator.tasks.items()
        }
        metrics[f"control_{k}"] = skyline.normalised({n: e.agreement for n, e in edits.items()})
        metrics[f"weight_{k}"] = fmean(edit.weight for edit in edits.values())
        metrics |= {f"agreement_{k}_{n}": edit.agreement for n, edit in edits.items()}
    return metrics


def _guided(learned: Learned, codes: Tensor, skyline: Skyline) -> float:
    """Edit by what features speak of, as learned from the training prompts."""
    simulator = skyline.simulator
    train = learned.codes(simulator.train_activations) != 0
    agreements = {}
    for name, task in simulator.tasks.items():
        prompts, target = simulator.targets[name]
        scores = feature_f1(train, simulator.train.attributes[name]).f1.T
        edited = guided_edit(
            task.activations[:, 0],
            codes,
            learned.codes(target[:, 0]),
            learned.decoder,
            remove=scores[simulator.test.attributes[name]],
            add=scores[prompts.attributes[name]],
            k=GUIDED,
        )
        agreements[name] = task.agreement(edited[:, None], target)
    return skyline.normalised(agreements)


def _interpretability(learned: Learned, codes: Tensor, simulator: LinearIOI) -> dict[str, float]:
    """Label features on the training prompts; keep, or take out, those with a label."""
    train = learned.codes(simulator.train_activations) != 0
    scores = interpret_features(train, properties(simulator.train)).scores
    f1, alive = scores.f1, train.any(0)
    # A feature that is always on has F1 of 2/3 for one bit: both parts of the score count.
    both = (scores.precision >= CAUSAL) & (scores.recall >= CAUSAL)
    means = (f1 >= CAUSAL) & both
    activations, decoder = simulator.task.activations[:, 0], learned.decoder
    task = simulator.task

    def difference(which: Tensor) -> float:
        left = subtract_features(activations, codes, decoder, which)
        return task.logit_difference(left[:, None])

    return {
        "alive": float(alive.sum()),
        "interpretable": float((f1 >= INTERPRETABLE).sum() / alive.sum().clamp_min(1)),
        "kept": difference(~means) / task.clean,
        "lost": (task.clean - difference(means)) / (task.clean - task.ablated),
    }


def properties(prompts: IOIPrompts) -> dict[str, Tensor]:
    """Families of properties that a feature may speak of."""
    io, s, pos = prompts.io, prompts.s, prompts.pos
    one_hot = torch.nn.functional.one_hot
    women = len(NAMES) // 2
    return {
        "IO": io,
        "S": s,
        "Pos": pos,
        "IO and Pos": 2 * io + pos,
        "S and Pos": 2 * s + pos,
        "named": (one_hot(io, len(NAMES)) + one_hot(s, len(NAMES))).bool(),
        "first name": torch.where(pos == 0, io, s),
        "second name": torch.where(pos == 0, s, io),
        "gender of IO": (io < women).long(),
        "gender of S": (s < women).long(),
    }
