"""IOI in a transformer: sites that carry the answer, and a supervised dictionary of them.

The sites are z of all heads at the last token, of as few of the last layers as will do: their
joint patch must give the counterfactual answer on nine prompts of ten. Prompts to judge with have
objects, places and a template that the dictionary was not fitted on; the names are shared, because
a supervised dictionary has no vector for a name that it never saw.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from rarefy.data.ioi import (
    OBJECTS,
    PLACES,
    IOIEncoder,
    IOIPrompts,
    counterfactual,
    ioi_prompts,
)
from rarefy.dictionaries import Site, Task, attribute_dictionary, collect, patch
from rarefy.dictionaries.attributes import AttributeDictionary, Method
from rarefy.models import SHIPPED, LanguageModel, open_model

FLIPPED = 0.9
KNOWS_THE_TASK = 0.9


@dataclass(frozen=True, eq=False)
class Transformer:
    """A model, its prompts of one seed, and the activations at the sites that were found."""

    opened: LanguageModel
    train: IOIPrompts
    test: IOIPrompts
    generator: torch.Generator

    @classmethod
    def open(
        cls, path: str | Path | None, n_train: int, n_test: int, *, generator: torch.Generator
    ) -> Transformer:
        """Open a model and draw prompts; refuses one that does not know the task."""
        half = len(OBJECTS) // 2, len(PLACES) // 2
        train = ioi_prompts(
            n_train,
            templates=(0, 1),
            objects=tuple(range(half[0])),
            places=tuple(range(half[1])),
            generator=generator,
        )
        test = ioi_prompts(
            n_test,
            templates=(2,),
            objects=tuple(range(half[0], len(OBJECTS))),
            places=tuple(range(half[1], len(PLACES))),
            generator=generator,
        )
        opened = open_model(SHIPPED / "ioi" if path is None else path)
        found = cls(opened, train, test, generator)
        if found.accuracy < KNOWS_THE_TASK:
            raise ValueError(
                f"the model answers {found.accuracy:.0%} of the prompts with the right name, and "
                f"at least {KNOWS_THE_TASK:.0%} is wanted: there is no task to judge with"
            )
        return found

    @cached_property
    def encoder(self) -> IOIEncoder:
        """Token ids of prompts."""
        return IOIEncoder(self.opened.tokenizer)

    def logits(self, prompts: IOIPrompts, values: dict[Site, Tensor]) -> Tensor:
        """Logits (n, names) with activations replaced."""
        logits = patch(
            self.opened.model, self.encoder(prompts), values, positions=prompts.positions
        )
        return logits[:, self.encoder.names]

    def collect(self, prompts: IOIPrompts, sites: list[Site]) -> Tensor:
        """Activations (n, s, d)."""
        return collect(self.opened.model, self.encoder(prompts), sites, positions=prompts.positions)

    @cached_property
    def accuracy(self) -> float:
        """How often IO is the likeliest of all names."""
        answers = self.logits(self.test, {}).argmax(-1)
        return float((answers == self.test.io).float().mean())

    @cached_property
    def target(self) -> IOIPrompts:
        """Test prompts with another IO."""
        return counterfactual(self.test, "io", generator=self.generator)

    @cached_property
    def sites(self) -> list[Site]:
        """The cross-section, by the rule at the head of the module."""
        config = self.opened.model.config
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        sites: list[Site] = []
        for layer in reversed(range(layers)):
            sites = [Site(layer, head, "z", "end") for head in range(heads)] + sites
            moved = self.collect(self.target, sites)
            values = dict(zip(sites, moved.unbind(1), strict=True))
            answers = self.logits(self.test, values).argmax(-1)
            if float((answers == self.target.io).float().mean()) >= FLIPPED:
                break
        return sites

    @cached_property
    def task(self) -> Task:
        """The test prompts at the sites."""

        def readout(activations: Tensor) -> Tensor:
            return self.logits(self.test, dict(zip(self.sites, activations.unbind(1), strict=True)))

        return Task(self.collect(self.test, self.sites), readout, self.test.io, self.test.s)

    @cached_property
    def target_activations(self) -> Tensor:
        """Of the prompts with another IO, (n, s, d)."""
        return self.collect(self.target, self.sites)

    @cached_property
    def train_activations(self) -> Tensor:
        """What dictionaries are fitted on, (n, s, d)."""
        return self.collect(self.train, self.sites)


def supervised(
    activations: Tensor, attributes: dict[str, Tensor], *, method: Method = "mse"
) -> AttributeDictionary:
    """Fit, silent about attributes that are dependent: here that is the experiment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return attribute_dictionary(activations, attributes, method=method)


def names_in_order(prompts: IOIPrompts) -> dict[str, Tensor]:
    """The bad choice of attributes: the names by where they stand."""
    io_first = prompts.pos == 0
    return {
        "first": torch.where(io_first, prompts.io, prompts.s),
        "second": torch.where(io_first, prompts.s, prompts.io),
        "third": prompts.s,
    }
