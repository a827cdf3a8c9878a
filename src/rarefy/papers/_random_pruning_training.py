"""The bench of paper 24: residual networks on small pictures, sparse from the start, then static.

SGD with Nesterov momentum 0.9, weight decay 5e-4, the rate 0.1 falling tenfold at half and at three
quarters, batches of 64, weights from He's normal rule. Nothing differs between arms but the masks.

Axis letters: n images, c channels, h height, w width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.budget import (
    ErdosRenyi,
    ErdosRenyiKernel,
    ErdosRenyiKernelPlus,
    ShapeRule,
    Uniform,
    UniformPlus,
)
from rarefy.papers._sparse_ift_digits import Images
from rarefy.weights import (
    Masks,
    attach,
    gradient_norm,
    grasp,
    mask_from_scores,
    random_masks,
    score_ratios,
    select,
    snip,
)

_BATCH = 64
_SNIP_BATCH = 128
_GRASP_PER_CLASS = 25
_GRASP_TEMPERATURE = 200.0

RULES: dict[str, ShapeRule] = {
    "uniform": Uniform(),
    "uniform+": UniformPlus(),
    "ER": ErdosRenyi(),
    "ERK": ErdosRenyiKernel(),
    "ERK+": ErdosRenyiKernelPlus(),
}


class Outcome(NamedTuple):
    """What a trained network reached.

    ``gradient_norm`` is the mean over the steps of the first epoch; ``violations`` counts pruned
    weights that are not zero after the last step.
    """

    accuracy: float
    gradient_norm: float
    violations: int


class ResNet(nn.Module):
    """A stem, three stages of ``depth`` residual blocks with 1, 2 and 4 widths, and a head.

    It has ``6 depth + 2`` layers; a shortcut that changes shape is a 1 x 1 convolution.
    """

    def __init__(self, images: Images, width: int, depth: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(images.x.shape[1], width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks = []
        inputs = width
        for outputs in (width, 2 * width, 4 * width):
            for _ in range(depth):
                blocks.append(_Block(inputs, outputs))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, images.classes)
        for weight in select(self).values():
            nn.init.kaiming_normal_(weight)

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
        self.skip = (
            nn.Identity() if stride == 1 else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first_norm(self.first(x)).relu()
        return (self.skip(x) + self.second_norm(self.second(inner))).relu()


def standardised(images: Images) -> Images:
    """Centre and scale each channel by the training images."""
    mean = images.x.mean((0, 2, 3), keepdim=True)
    std = images.x.std((0, 2, 3), keepdim=True)
    return images._replace(x=(images.x - mean) / std, test_x=(images.test_x - mean) / std)


def allocate(
    method: str, network: nn.Module, images: Images, *, density: float, generator: torch.Generator
) -> Masks:
    """Make the masks of a method; ``"SNIP mask"`` alone says which weights, all others how many."""
    if method in RULES:
        return random_masks(network, density=density, rule=RULES[method], generator=generator)
    if method == "SNIP mask":
        batch = _random_batch(images, generator)
        return mask_from_scores(snip(network, [batch], _loss), density=density)
    if method == "SNIP ratios":
        batch = _random_batch(images, generator)
        rule = score_ratios(snip, network, [batch], _loss, generator=generator)
    else:
        halves = _halves(images, generator)
        rule = score_ratios(grasp, network, halves, _tempered_loss, generator=generator)
    return random_masks(network, density=density, rule=rule, generator=generator)


def train(
    network: nn.Module,
    images: Images,
    *,
    masks: Masks | None,
    epochs: int,
    generator: torch.Generator,
    device: str,
) -> Outcome:
    """Train a network in place under static masks, and test it.

    Parameters
    ----------
    network : nn.Module
    images : Images
    masks : Masks, optional
        ``None`` trains a dense network.
    epochs : int
    generator : torch.Generator
        Of the order of the images.
    device : str
    """
    network.to(device).train()
    masks = (Masks.ones(select(network)) if masks is None else masks).to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    flow = []
    with attach(network, masks, mode="project", optimizer=optimizer):
        steps = math.ceil(len(images.x) / _BATCH)
        for epoch in range(epochs):
            rate = 0.1 ** (1 + (epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))
            optimizer.param_groups[0]["lr"] = rate
            order = torch.randperm(len(images.x), generator=generator)
            # Without a last batch of a few images, whose statistics would be noise.
            for drawn in order.tensor_split(steps):
                optimizer.zero_grad()
                _loss(network, (images.x[drawn].to(device), images.y[drawn].to(device))).backward()
                if epoch == 0:
                    flow.append(gradient_norm(network, masks))
                optimizer.step()
        strayed = violations(network, masks)
    network.eval()
    with torch.no_grad():
        right = network(images.test_x.to(device)).argmax(1).cpu() == images.test_y
    return Outcome(float(right.float().mean()), sum(flow) / len(flow), strayed)


def violations(network: nn.Module, masks: Masks) -> int:
    """Count pruned weights that are not zero."""
    weights = dict(network.named_parameters())
    return sum(int(weights[name][~mask].count_nonzero()) for name, mask in masks.items())


def _loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(network(x), y)


def _tempered_loss(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, y = batch
    return cross_entropy(network(x) / _GRASP_TEMPERATURE, y)


def _random_batch(images: Images, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    drawn = torch.randperm(len(images.x), generator=generator)[:_SNIP_BATCH]
    return images.x[drawn], images.y[drawn]


def _halves(images: Images, generator: torch.Generator) -> Iterable[tuple[Tensor, Tensor]]:
    """Draw 25 images of each class, or all there are, in two halves with every class in both."""
    order = torch.randperm(len(images.x), generator=generator)
    drawn = [order[images.y[order] == label][:_GRASP_PER_CLASS] for label in range(images.classes)]
    for half in (0, 1):
        chosen = torch.cat([indices[half::2] for indices in drawn])
        yield images.x[chosen], images.y[chosen]
