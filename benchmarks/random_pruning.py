"""Random pruning: masks for 25 million weights, and what holding them costs a training step.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the method card and issue ask for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from _timing import interleaved
from rarefy.papers._random_pruning_training import ResNet
from rarefy.papers._sparse_ift_digits import digits
from rarefy.weights import attach, random_masks

DENSITY = 0.05


def rows() -> list[dict[str, Any]]:
    """Every comparison, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*mask_rows(), *step_rows()]
    finally:
        torch.set_num_threads(threads)


def mask_rows() -> list[dict[str, Any]]:
    """Masks for a ResNet-50: 54 tensors, 25.5 million weights."""
    shapes = resnet50_shapes()
    # Shapes are all that is read: one number stands for all of them.
    weights = {f"{i}": torch.zeros(()).expand(shape) for i, shape in enumerate(shapes)}
    generator = torch.Generator().manual_seed(0)

    def theirs() -> None:
        for shape in shapes:
            layer = nn.Module()
            layer.weight = nn.Parameter(torch.zeros(()).expand(shape), requires_grad=False)
            prune.RandomUnstructured(1 - DENSITY).compute_mask(layer.weight, torch.ones(shape))

    ours, peer = interleaved(
        lambda: random_masks(weights, density=DENSITY, generator=generator),
        theirs,
        repeats=3,
        warmup=1,
    )
    return [
        _row("masks.25M", "torch prune.RandomUnstructured, a layer at a time", ours, peer, 1.0),
        _row("masks.25M.limit", "1.5 s", ours, 1.5, 1.0),
    ]


def step_rows(width: int = 16) -> list[dict[str, Any]]:
    """A training step of a small ResNet: dense, with masks held, and with torch's masks."""
    images = digits(torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    dense = ResNet(images, width)
    masks = random_masks(dense, density=DENSITY, generator=torch.Generator().manual_seed(0))
    held, hooked = copy.deepcopy(dense), copy.deepcopy(dense)
    steps, optimizers = [], []
    for network in (dense, held, hooked):
        if network is hooked:
            for name in masks:
                module = network.get_submodule(name.rpartition(".")[0])
                prune.custom_from_mask(module, "weight", masks[name].float())
        step, optimizer = _stepper(network, images.x[:64], images.y[:64])
        steps.append(step)
        optimizers.append(optimizer)

    def attach_and_detach() -> None:
        attach(dense, masks, mode="project", optimizer=optimizers[0]).detach()

    with attach(held, masks, mode="project", optimizer=optimizers[1]):
        plain, ours, theirs = interleaved(*steps, repeats=60, warmup=5)
    (once,) = interleaved(attach_and_detach, repeats=20)
    return [
        _row("step.dense", "the same step without masks", ours, plain, 1 / 1.03),
        _row("step.torch", "the same step with torch.nn.utils.prune", ours, theirs, 1.0),
        _row(
            "attach-detach",
            "one step; attaching and detaching is once a training",
            once,
            plain,
            10.0,
        ),
    ]


def resnet50_shapes() -> list[tuple[int, ...]]:
    """Shapes of the weights that may be pruned, in order."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7)]
    inputs = 64
    for blocks, inner in ((3, 64), (4, 128), (6, 256), (3, 512)):
        for block in range(blocks):
            shapes += [(inner, inputs, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1)]
            if block == 0:
                shapes.append((4 * inner, inputs, 1, 1))
            inputs = 4 * inner
    return [*shapes, (1000, inputs)]


def _stepper(
    network: nn.Module, x: torch.Tensor, y: torch.Tensor
) -> tuple[Callable[[], None], torch.optim.Optimizer]:
    optimizer = torch.optim.SGD(
        network.parameters(), lr=0.01, momentum=0.9, nesterov=True, fused=True
    )

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step, optimizer


def _row(name: str, peer: str, ours: float, theirs: float, goal: float) -> dict[str, Any]:
    return {
        "name": f"random_pruning.{name}",
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": theirs / ours,
        "goal": goal,
    }
