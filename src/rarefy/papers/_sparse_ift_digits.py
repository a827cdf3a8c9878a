"""The vision side of paper 40: small networks on small images, every arm trained the same way.

SGD with Nesterov momentum 0.9, weight decay 5e-4, a cosine from 0.1 to 0, batches of 64; the narrow
network with noise of 0.1 on its pixels. No arm has a setting of its own but those that its name
states.

Axis letters: n images, c channels, h height, w width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.data.images import Images
from rarefy.weights import DynamicMasks, IsoFlop, Masks, Rule

_BATCH = 64
RATE = 0.1


class Outcome(NamedTuple):
    """What a trained network reached, and whether its masks were what they should be."""

    accuracy: float
    violations: int


def mlp(images: Images, width: int) -> nn.Module:
    """Four narrow layers with batch norm, and a head: too narrow for its task on purpose."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = images.x[0].numel()
    for _ in range(4):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(width, images.classes))


class ResNet(nn.Module):
    """A stem, one residual block for each width, and a head on the mean over the picture."""

    def __init__(self, images: Images, widths: tuple[int, ...]) -> None:
        super().__init__()
        first = widths[0]
        self.stem = nn.Conv2d(images.x.shape[1], first, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        ins = (first, *widths[:-1])
        self.blocks = nn.Sequential(*map(_Block, ins, widths))
        self.head = nn.Linear(widths[-1], images.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (n, classes)."""
        return self.head(self.blocks(self.norm(self.stem(x)).relu()).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.second_norm.weight)
        self.skip = (
            nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first_norm(self.first(x)).relu()
        return (self.skip(x) + self.second_norm(self.second(inner))).relu()


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a network; the seed is scoped, the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def train(
    network: nn.Module | IsoFlop,
    images: Images,
    *,
    steps: int,
    generator: torch.Generator,
    device: str,
    rule: Rule | None = None,
    every: int,
    rate: float = RATE,
    noise: float = 0.0,
    masks: Masks | None = None,
) -> Outcome:
    """Train a network, its masks moving by ``rule``, and test it.

    Parameters
    ----------
    network : nn.Module or IsoFlop
        Trained in place.
    images : Images
    steps : int
    generator : torch.Generator
        Of the batches and their noise; masks draw from a generator of their own.
    device : str
    rule : Rule, optional
        ``None`` trains a dense network.
    every : int
        Steps between updates of the masks.
    rate : float, default 0.1
        At the first step.
    noise : float, default 0.0
        Standard deviation of what is added to the pixels in training.
    masks : Masks, optional
        Those of an :class:`IsoFlop` by default.
    """
    if isinstance(network, IsoFlop):
        masks = network.masks
        network = network.model
    network.to(device).train()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    dynamic = None
    if rule is not None and masks is not None:
        dynamic = DynamicMasks(
            network,
            masks.to(device),
            optimizer,
            rule=rule,
            steps=steps,
            every=every,
            generator=torch.Generator().manual_seed(generator.initial_seed()),
        )
    counts = {name: int(mask.sum()) for name, mask in dynamic.masks.items()} if dynamic else {}
    violations = 0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate / 2 * (1 + math.cos(math.pi * step / steps))
        drawn = torch.randint(len(images.x), (_BATCH,), generator=generator)
        x = images.x[drawn]
        if noise:
            x = x + noise * torch.randn(x.shape, generator=generator)
        optimizer.zero_grad()
        cross_entropy(network(x.to(device)), images.y[drawn].to(device)).backward()
        # Without it a few starved branches at 90 % can diverge, and their run says nothing.
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if dynamic and (step + 1) % every == 0:
            violations += _violations(network, dynamic.masks, counts)
    network.eval()
    with torch.no_grad():
        right = network(images.test_x.to(device)).argmax(1).cpu() == images.test_y
    return Outcome(float(right.float().mean()), violations)


def _violations(network: nn.Module, masks: Masks, counts: dict[str, int]) -> int:
    """Tensors whose mask has lost its count, and pruned weights that are not zero."""
    weights = dict(network.named_parameters())
    return sum(
        int(int(mask.sum()) != counts[name]) + int(weights[name][~mask].count_nonzero())
        for name, mask in masks.items()
    )
