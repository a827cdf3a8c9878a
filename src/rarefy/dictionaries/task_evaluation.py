"""Judge a dictionary on a task: whether it is enough, whether it is needed, whether it steers.

    sufficiency = LD(a^) / LD(a)
    necessity   = 1 - |LD(mean) - LD(mean + a - a^)| / |LD(mean) - LD(a)|
    recovered   = |LD(a^) - LD(mean)| / |LD(a) - LD(mean)|

with LD the mean difference between the logits of the right and of the wrong answer when all sites
of the task hold these activations at once. Control is how often an edit gives the answer that the
activations of a prompt with another attribute give.

Source: "Towards Principled Evaluations of Sparse Autoencoders" (2405.08366), sections 3 and 4.
Departures: none; ablation is by the mean, never by zero.

Axis letters: n prompts, s sites, d width, m features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries.editing import feature_weights, greedy_edit

_LEAST_DROP = 0.2


class Approximation(NamedTuple):
    """How well reconstructions do the task, by the formulas at the head of the module."""

    sufficiency: float
    necessity: float
    recovered: float


class Control(NamedTuple):
    """What edits achieve, and how large they are.

    Parameters
    ----------
    agreement : float
        Share of prompts whose answer is that of the ground-truth patch.
    weight : float
        Mean share of the source's reconstruction that the changed features are.
    """

    agreement: float
    weight: float


# Compared as an object: fields are tensors.
@dataclass(frozen=True, eq=False)
class Task:
    """Prompts, the activations at the sites that matter for them, and what the model answers.

    Parameters
    ----------
    activations : Tensor, shape (n, s, d)
        Of the prompts, at all sites.
    readout : callable
        From activations (n, s, d), put in place of these, to logits (n, answers).
    right, wrong : Tensor of int64, shape (n,)
        The columns of the logits whose difference measures the task.

    Raises
    ------
    ValueError
        If the mean activation does the task nearly as well, so that these sites say nothing of it.
    """

    activations: Tensor
    readout: Callable[[Tensor], Tensor]
    right: Tensor
    wrong: Tensor

    def __post_init__(self) -> None:
        drop = abs(self.clean - self.ablated)
        if not drop >= _LEAST_DROP * abs(self.clean):
            raise ValueError(
                f"the mean logit difference is {self.clean:.3g}, and {self.ablated:.3g} with the "
                "mean activation in place of each: the task does not depend on these sites"
            )

    @cached_property
    def mean(self) -> Tensor:
        """Mean activations, (n, s, d)."""
        return self.activations.mean(0).expand_as(self.activations)

    @cached_property
    def clean(self) -> float:
        """Logit difference of the activations as they are."""
        return self.logit_difference(self.activations)

    @cached_property
    def ablated(self) -> float:
        """Logit difference with the mean in place of every activation."""
        return self.logit_difference(self.mean)

    def logit_difference(self, activations: Tensor) -> float:
        """Mean logit of the right answer minus that of the wrong one."""
        logits = self.readout(activations)
        rows = torch.arange(len(logits))
        return float((logits[rows, self.right] - logits[rows, self.wrong]).mean())

    def approximation(self, reconstruction: Tensor) -> Approximation:
        """Judge reconstructions (n, s, d) of the activations."""
        sufficient = self.logit_difference(reconstruction)
        without = self.logit_difference(self.mean + self.activations - reconstruction)
        drop = abs(self.clean - self.ablated)
        return Approximation(
            sufficient / self.clean,
            1 - abs(self.ablated - without) / drop,
            abs(sufficient - self.ablated) / drop,
        )

    def agreement(self, edited: Tensor, target: Tensor) -> float:
        """Share of prompts to which edited activations and the target's give the same answer.

        Both have shape (n, s, d); ``target`` holds activations of prompts that differ from these
        in one attribute.
        """
        answers = self.readout(edited).argmax(-1)
        return float((answers == self.readout(target).argmax(-1)).float().mean())

    def control(
        self,
        target: Tensor,
        source_codes: Sequence[Tensor],
        target_codes: Sequence[Tensor],
        decoders: Sequence[Tensor],
        *,
        k: int,
    ) -> Control:
        """Edit towards the target by k features at every site, and compare with the target.

        Parameters
        ----------
        target : Tensor, shape (n, s, d)
        source_codes, target_codes : sequence of s Tensors, shape (n, m)
            Codes of the activations and of the target, by each site's dictionary.
        decoders : sequence of s Tensors, shape (m, d)
        k : int

        Returns
        -------
        Control
        """
        edited, weights = [], []
        for site, (old, new, decoder) in enumerate(
            zip(source_codes, target_codes, decoders, strict=True)
        ):
            edit = greedy_edit(self.activations[:, site], target[:, site], old, new, decoder, k=k)
            edited.append(edit.activations)
            weights.append((feature_weights(old, decoder) * edit.changed).sum(1))
        agreement = self.agreement(torch.stack(edited, dim=1), target)
        return Control(agreement, float(torch.stack(weights).mean()))
