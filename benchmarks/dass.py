"""The supernet of DASS: a search step with masks on and off, beside ordinary convolutions.

``ratio`` is theirs over ours, so 1 is parity; masks on may cost 1.6 times (0.625), and off 1.15
times (0.87).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from _timing import interleaved
from rarefy.weights import CellSpace, LearnedMasks


def rows() -> list[dict[str, Any]]:
    """Every comparison of this part, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return step_rows()
    finally:
        torch.set_num_threads(threads)


def step_rows(channels: int = 16) -> list[dict[str, Any]]:
    """A forward and a backward pass of a small supernet on a batch of 32 x 32 images."""
    space = CellSpace(nodes=2, cells=2, channels=channels)
    plain, learning, frozen, off = (_step(space, masks) for masks in (None, "on", "frozen", "off"))
    seconds = interleaved(learning, frozen, off, plain, repeats=9, warmup=2)
    *ours, theirs = seconds
    names = (
        ("masks-learning", 0.625),
        ("masks-frozen", 0.625),
        ("masks-off", 0.87),
    )
    return [
        {
            "name": f"weights.dass.step.{name}",
            "peer": "the supernet of ordinary convolutions",
            "ours": each,
            "theirs": theirs,
            "unit": "s",
            "ratio": theirs / each,
            "goal": goal,
        }
        for (name, goal), each in zip(names, ours, strict=True)
    ]


def _step(space: CellSpace, masks: str | None) -> Callable[[], object]:
    g = torch.Generator().manual_seed(0)
    net = space.supernet(classes=10, generator=g)
    x, y = torch.randn(16, 3, 32, 32, generator=g), torch.arange(16) % 10
    alphas = [torch.zeros(space.edges, len(space.ops)) for _ in range(2)]
    trained = list(net.parameters())
    held = LearnedMasks(net, density=0.1) if masks else None
    if held is not None and masks == "on":
        trained = list(held.scores)
    elif held is not None:
        for scores in held.scores:
            scores.requires_grad_(False)

    def step() -> object:
        loss = cross_entropy(net(x, space.mixture(alphas)), y)
        return torch.autograd.grad(loss, trained, allow_unused=True)

    def step_off() -> object:
        assert held is not None
        with held.off():
            return step()

    return step_off if masks == "off" else step
