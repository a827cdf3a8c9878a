"""The accuracy side of paper 38: small MobileNets on digits somewhere in a noisy picture.

Every digit is enlarged to 12 x 12 pixels and stands at random places of a picture of 16 x 16; noise
is added to every picture anew. SGD with Nesterov momentum, a cosine to 0, batches of 32. Sparse
networks prune their 1 x 1 convolutions by magnitude from a tenth to six tenths of the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from rarefy.budget import Cubic
from rarefy.data.images import Images
from rarefy.models.mobilenet import MobileNet, Stage, mobilenet_v1, mobilenet_v2
from rarefy.papers._threads import one_thread
from rarefy.weights import DynamicMasks, GradualMagnitude, Masks, select

_BATCH = 32
_RATE = 0.1
_NOISE = 0.3
_SIDE, _DIGIT = 16, 12
_PLACES = 4

# Five pairs of depthwise and 1 x 1 convolutions, on 8 x 8 and then 4 x 4 pixels.
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 1), (256, 1))
EARLY, LATE = (0, 1, 2), (3, 4)

# The end of MobileNet v2, where expansions outgrow the cache; two blocks of 512 for one of 960.
_V2 = (Stage(1, 16, 1, 1), Stage(6, 24, 1, 2), Stage(6, 160, 2, 2))
_V2_CACHE_AWARE = (*_V2[:2], Stage(6, 160, 3, 2))


class Pruning(NamedTuple):
    """How the 1 x 1 convolutions of a network are pruned in training."""

    sparsity: float
    block: int | Mapping[str, int] = 1
    block_axis: int = 0


def scattered(images: Images, generator: torch.Generator) -> Images:
    """Put each digit at four places in larger pictures."""
    x, test_x = (_scatter(half, generator) for half in (images.x, images.test_x))
    noise = _NOISE * torch.randn(test_x.shape, generator=generator)
    return Images(x, images.y.repeat(_PLACES), test_x + noise, images.test_y.repeat(_PLACES))


def _scatter(x: Tensor, generator: torch.Generator) -> Tensor:
    large = interpolate(x, (_DIGIT, _DIGIT), mode="bilinear").repeat(_PLACES, 1, 1, 1)
    canvas = torch.zeros(*large.shape[:2], _SIDE, _SIDE)
    corners = torch.randint(_SIDE - _DIGIT + 1, (len(large), 2), generator=generator).tolist()
    for picture, digit, (top, left) in zip(canvas, large, corners, strict=True):
        picture[:, top : top + _DIGIT, left : left + _DIGIT] = digit
    return canvas


def small_v1(images: Images, width: float, seed: int) -> MobileNet:
    """MobileNet v1 of five pairs."""
    return _seeded(
        lambda: mobilenet_v1(
            width, classes=images.classes, channels=images.x.shape[1], pairs=_PAIRS
        ),
        seed,
    )


def small_v2(images: Images, seed: int, *, cache_aware: bool) -> MobileNet:
    """MobileNet v2 of three stages, of which the last is wide."""
    stages = _V2_CACHE_AWARE if cache_aware else _V2
    return _seeded(
        lambda: mobilenet_v2(
            cache_aware=cache_aware,
            classes=images.classes,
            channels=images.x.shape[1],
            stages=stages,
        ),
        seed,
    )


def pointwise(model: nn.Module) -> dict[str, nn.Parameter]:
    """Find the weights of the 1 x 1 convolutions, which are all that is pruned."""
    return select(model, include=lambda _name, m, _w: getattr(m, "kernel_size", ()) == (1, 1))


def blocks_at(model: nn.Module, pairs: tuple[int, ...], block: int) -> dict[str, int]:
    """Blocks in the 1 x 1 convolutions of some pairs of :func:`small_v1`, and in no other."""
    names = list(pointwise(model))
    return {names[pair]: block for pair in pairs}


def train(
    model: nn.Module,
    images: Images,
    *,
    steps: int,
    pruning: Pruning | None,
    generator: torch.Generator,
    device: str,
) -> float:
    """Train a network in place, pruning as it goes, and return its accuracy on the test images."""
    # In this layout torch trains depthwise convolutions in half the time.
    lay_out(model.to(device).train(), torch.channels_last)
    sgd = torch.optim.SGD(
        model.parameters(), lr=_RATE, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True
    )
    if pruning is not None:
        rule = GradualMagnitude(
            Cubic(1 - pruning.sparsity, begin=0.1, end=0.6),
            scope="layer",
            block=pruning.block,
            block_axis=pruning.block_axis,
        )
        masks = Masks.ones(pointwise(model))
        DynamicMasks(
            model,
            masks,
            sgd,
            rule=rule,
            steps=steps,
            every=max(1, steps // 50),
            generator=generator,
        )
    # Networks this small lose more than they gain by sharing a step between threads.
    with one_thread():
        for step in range(steps):
            warm = min(1.0, (step + 1) / 10)
            for group in sgd.param_groups:
                group["lr"] = warm * _RATE / 2 * (1 + math.cos(math.pi * step / steps))
            drawn = torch.randint(len(images.x), (_BATCH,), generator=generator)
            x = images.x[drawn]
            x = x + _NOISE * torch.randn(x.shape, generator=generator)
            sgd.zero_grad()
            logits = model(x.to(device, memory_format=torch.channels_last))
            cross_entropy(logits, images.y[drawn].to(device)).backward()
            sgd.step()
    model.eval()
    with torch.no_grad():
        right = model(images.test_x.to(device)).argmax(1).cpu() == images.test_y
    lay_out(model.to("cpu"), torch.contiguous_format)
    return float(right.float().mean())


def lay_out(model: nn.Module, layout: torch.memory_format) -> None:
    """Put the weights of convolutions in a memory format."""
    for weight in model.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=layout)


def _seeded(build: Callable[[], MobileNet], seed: int) -> MobileNet:
    """Build a network; the seed is scoped, the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    # It would draw from the global generator, and short trainings do without.
    model.classifier[0] = nn.Identity()
    return model
