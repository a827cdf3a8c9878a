"""A linear IOI: activations that are sums of attribute vectors, and heads that read them.

    a = mean + io_u + s_v + pos_w + sigma e         in 64 dimensions
    logit of name n = <io_n, a> - <s_n, a>          the answer, for IO
    <s_n, a>,  <pos_w, a>                           what S and Pos are, for the other two

Everything is known here: which features there are, how large, and what an edit should do. In the
argmax over names S and Pos hardly count, so that each has a readout of its own; in a transformer
these are other heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from rarefy.data.ioi import NAMES, Attribute, IOIPrompts, counterfactual, ioi_prompts
from rarefy.dictionaries import Task

WIDTH = 64
NORMS = {"io": 1.0, "s": 0.8, "pos": 0.7}
# A norm of 0.24. At 0.1 it is as large as S's own vector, and an L1 dictionary fits the noise.
NOISE = 0.03
# Directions that other text would use, and how many of all of them are in one activation of it.
BACKGROUND = 400
BACKGROUND_ACTIVE = 8


@dataclass(frozen=True, eq=False)
class LinearIOI:
    """The simulator of one seed: its vectors, and prompts for training and evaluation."""

    mean: Tensor
    vectors: dict[Attribute, Tensor]
    train: IOIPrompts
    test: IOIPrompts
    noise: dict[str, Tensor]
    dictionary_seed: int

    @classmethod
    def draw(cls, n_train: int, n_test: int, *, generator: torch.Generator) -> LinearIOI:
        """Draw everything that is random."""

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        sizes: dict[Attribute, int] = {"io": len(NAMES), "s": len(NAMES), "pos": 2}
        vectors: dict[Attribute, Tensor] = {}
        for name, size in sizes.items():
            rows = normal(size, WIDTH)
            vectors[name] = rows * NORMS[name] / rows.norm(dim=1).mean()
        # Prompts to judge with have objects, places and a template that no dictionary was fitted
        # on; in the simulator these leave no trace, in the transformer they do.
        return cls(
            0.5 * normal(WIDTH) / WIDTH**0.5,
            vectors,
            ioi_prompts(n_train, templates=(0, 1), generator=generator),
            ioi_prompts(n_test, templates=(2,), generator=generator),
            {"train": NOISE * normal(n_train, WIDTH), "test": NOISE * normal(n_test, WIDTH)},
            # Not the trial's seed: from it a dictionary would draw these very vectors.
            int(torch.randint(1 << 30, (), generator=generator)),
        )

    def activations(self, prompts: IOIPrompts, noise: Tensor, *, io_scale: float = 1.0) -> Tensor:
        """Sum the vectors; ``io_scale`` shrinks that of IO."""
        total = self.mean + noise
        for name, table in self.vectors.items():
            scale = io_scale if name == "io" else 1.0
            total = total + scale * table[prompts.attributes[name]]
        return total

    @cached_property
    def train_activations(self) -> Tensor:
        """What dictionaries are fitted on, (n, d)."""
        return self.activations(self.train, self.noise["train"])

    @cached_property
    def background(self) -> Tensor:
        """Activations of "other text", (n, d): a few of many directions, the task's among them."""
        # A stream of its own, so that the numbers do not depend on what was asked for before.
        g = torch.Generator().manual_seed(self.dictionary_seed + 1)
        n = len(self.train)
        rows = torch.randn(BACKGROUND, WIDTH, generator=g)
        table = torch.cat([rows / rows.norm(dim=1, keepdim=True), *self.vectors.values()])
        chosen = torch.rand(n, len(table), generator=g).topk(BACKGROUND_ACTIVE, dim=1).indices
        noise = NOISE * torch.randn(n, WIDTH, generator=g)
        return self.mean + noise + torch.nn.functional.embedding_bag(chosen, table, mode="sum")

    @cached_property
    def task(self) -> Task:
        """The test prompts and the answer, one site."""
        a = self.activations(self.test, self.noise["test"])
        return Task(a[:, None], self.readouts["io"], self.test.io, self.test.s)

    @cached_property
    def targets(self) -> dict[Attribute, tuple[IOIPrompts, Tensor]]:
        """For each attribute: prompts that differ in it, and their activations (n, 1, d)."""
        found: dict[Attribute, tuple[IOIPrompts, Tensor]] = {}
        g = torch.Generator().manual_seed(self.dictionary_seed + 2)
        for name in self.vectors:
            prompts = counterfactual(self.test, name, generator=g)
            # The same prompt but for one attribute: what else there is in it stays.
            found[name] = prompts, self.activations(prompts, self.noise["test"])[:, None]
        return found

    @cached_property
    def readouts(self) -> dict[Attribute, Callable[[Tensor], Tensor]]:
        """Logits (n, values) that depend on each attribute."""
        io, s, pos = (self.vectors[name] for name in ("io", "s", "pos"))
        return {
            "io": lambda a: (a[:, 0] - self.mean) @ (io - s).T,
            "s": lambda a: (a[:, 0] - self.mean) @ s.T,
            "pos": lambda a: (a[:, 0] - self.mean) @ pos.T,
        }

    @cached_property
    def tasks(self) -> dict[Attribute, Task]:
        """The task with each attribute's readout, whose control is measured."""
        return {
            name: Task(self.task.activations, readout, self._right(name), self._wrong(name))
            for name, readout in self.readouts.items()
        }

    def _right(self, name: Attribute) -> Tensor:
        return self.test.attributes[name]

    def _wrong(self, name: Attribute) -> Tensor:
        return {"io": self.test.s, "s": self.test.io, "pos": 1 - self.test.pos}[name]
