"""The bench of paper 24: residual networks on small pictures, sparse from the start, then static.

SGD with Nesterov momentum 0.9, weight decay 5e-4, the rate 0.1 falling tenfold at half and at three
quarters, batches of 64, weights from He's normal rule. Nothing differs between arms but the masks.

Networks of one size train side by side, as the groups of one network: each as if alone, at a
fraction of the time, most of which is the cost of calling torch.

Axis letters: n images, c channels, h height, w width, g networks side by side, k classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
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
from rarefy.data.images import Images
from rarefy.papers._sparse_ift_digits import seeded
from rarefy.papers._threads import one_thread
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

    It has ``6 depth + 2`` layers; a shortcut that changes shape is a 1 x 1 convolution. With
    ``copies`` it is that many networks, which meet in nothing but the images they read.
    """

    def __init__(self, images: Images, width: int, depth: int = 1, copies: int = 1) -> None:
        super().__init__()
        self.copies = copies
        self.stem = nn.Conv2d(images.x.shape[1], copies * width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(copies * width)
        blocks = []
        inputs = width
        for outputs in (width, 2 * width, 4 * width):
            for _ in range(depth):
                blocks.append(_Block(inputs, outputs, copies))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, copies * images.classes)
        for weight in select(self).values():
            nn.init.kaiming_normal_(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (n, k), or (n, g, k) of several copies."""
        features = self.blocks(self.norm(self.stem(x)).relu()).mean((2, 3))
        if self.copies == 1:
            return self.head(features)
        apart = features.unflatten(1, (self.copies, -1))
        weight = self.head.weight.unflatten(0, (self.copies, -1))
        return torch.einsum("ngc,gkc->ngk", apart, weight) + self.head.bias.view(self.copies, -1)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, copies: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        read, written = copies * inputs, copies * outputs
        self.first = nn.Conv2d(read, written, 3, stride, 1, bias=False, groups=copies)
        self.first_norm = nn.BatchNorm2d(written)
        self.second = nn.Conv2d(written, written, 3, 1, 1, bias=False, groups=copies)
        self.second_norm = nn.BatchNorm2d(written)
        self.skip = (
            nn.Identity()
            if stride == 1
            else nn.Conv2d(read, written, 1, stride, bias=False, groups=copies)
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


@one_thread()
def train(
    networks: Sequence[nn.Module],
    masks: Sequence[Masks],
    images: Images,
    *,
    size: tuple[int, int],
    epochs: int,
    generator: torch.Generator,
    device: str,
) -> list[Outcome]:
    """Train networks in place, side by side, each under its static masks, and test them.

    Parameters
    ----------
    networks : sequence of nn.Module
        A :class:`ResNet` each, of one size.
    masks : sequence of Masks
        A network's each; all ones for a dense one.
    images : Images
    size : tuple of int
        Width and depth.
    epochs : int
    generator : torch.Generator
        Of the order of the images, which all networks see alike.
    device : str
    """
    copies = len(networks)
    stack = seeded(lambda: ResNet(images, *size, copies=copies), 0)
    stack.load_state_dict(_joined([network.state_dict() for network in networks]))
    stack.to(device).train()
    stack.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    held = Masks(_joined(masks)).to(device)
    own = [_alone(held, i, copies) for i in range(copies)]
    optimizer = torch.optim.SGD(
        stack.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
    )
    flow: list[list[float]] = []
    with attach(stack, held, mode="project", optimizer=optimizer):
        steps = math.ceil(len(images.x) / _BATCH)
        for epoch in range(epochs):
            rate = 0.1 ** (1 + (epoch >= epochs / 2) + (epoch >= 3 * epochs / 4))
            optimizer.param_groups[0]["lr"] = rate
            order = torch.randperm(len(images.x), generator=generator)
            # Without a last batch of a few images, whose statistics would be noise.
            for drawn in order.tensor_split(steps):
                optimizer.zero_grad()
                logits = stack(images.x[drawn].to(device)).reshape(-1, images.classes)
                labels = images.y[drawn].to(device).repeat_interleave(copies)
                # The sum of the networks' losses: each has the gradient it has alone.
                (copies * cross_entropy(logits, labels)).backward()
                if epoch == 0:
                    flow.append([gradient_norm(stack, one) for one in own])
                optimizer.step()
        states = [
            {key: _part(tensor, i, copies) for key, tensor in stack.state_dict().items()}
            for i in range(copies)
        ]
    for network, state in zip(networks, states, strict=True):
        network.load_state_dict(state)
        network.to(device).eval()
    return [
        Outcome(
            _accuracy(network, images, device),
            sum(norms) / len(flow),
            violations(network, one.to(device)),
        )
        for network, one, norms in zip(networks, masks, zip(*flow, strict=True), strict=True)
    ]


def violations(network: nn.Module, masks: Masks) -> int:
    """Count pruned weights that are not zero."""
    weights = dict(network.named_parameters())
    return sum(int(weights[name][~mask].count_nonzero()) for name, mask in masks.items())


@torch.no_grad()
def _accuracy(network: nn.Module, images: Images, device: str) -> float:
    right = network(images.test_x.to(device)).argmax(1).cpu() == images.test_y
    return float(right.float().mean())


def _joined(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put tensors of several networks behind one another; of a counter, one is enough."""
    return {
        key: torch.cat([state[key] for state in states]) if tensor.ndim else tensor
        for key, tensor in states[0].items()
    }


def _part(tensor: Tensor, which: int, copies: int) -> Tensor:
    return tensor.chunk(copies)[which] if tensor.ndim else tensor


def _alone(held: Masks, which: int, copies: int) -> Masks:
    """Keep what one of the copies keeps."""
    alone = {}
    for name, mask in held.items():
        alone[name] = torch.zeros_like(mask)
        _part(alone[name], which, copies).copy_(_part(mask, which, copies))
    return Masks(alone)


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
