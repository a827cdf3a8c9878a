"""N:M training: a step beside the dense one, and beside the code of the public repositories.

The step is that of a feed-forward pair of 512 and 2,048 on 1,024 tokens, AdamW, one thread. A ratio
over 1 means ours is faster; beside the dense step it is below 1 and the goal is how much of its
speed must be left: 1 / 1.15 at 2:4 and 1:8, 1 / 1.3 at 1:32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from _timing import interleaved, row
from rarefy.operators import NM
from rarefy.weights import MdGf, NMTraining, sr_ste

TOKENS, WIDTH = 1024, 512


class ArgsortSTE(torch.autograd.Function):
    """How the N:M repositories train: sort groups in every forward pass, SR-STE backwards."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, n: int, m: int) -> Tensor:
        groups = weight.detach().abs().reshape(-1, m)
        smallest = torch.argsort(groups, dim=1)[:, : m - n]
        mask = torch.ones_like(groups).scatter_(1, smallest, 0).reshape(weight.shape)
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        weight, mask = ctx.saved_tensors
        return grad + 2e-4 * (1 - mask) * weight, None, None


class ArgsortLinear(nn.Linear):
    """A linear layer that trains so."""

    n, m = 2, 4

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, ArgsortSTE.apply(self.weight, self.n, self.m), self.bias)


def rows() -> list[dict[str, Any]]:
    """Steps and masks at every pattern of the card, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [row for n, m in ((2, 4), (1, 8), (1, 32)) for row in _rows(n, m)]
    finally:
        torch.set_num_threads(threads)


def _rows(n: int, m: int) -> list[dict[str, Any]]:
    dense = _pair(nn.Linear)
    soft, hard = _pair(nn.Linear), _pair(nn.Linear)
    theirs = _pair(type("Linear", (ArgsortLinear,), {"n": n, "m": m}))
    steps = [
        _step(dense, None, n, m),
        _step(soft, MdGf(), n, m),  # soft in every step that is timed: the dearest moment
        _step(hard, sr_ste(), n, m),
        _step(theirs, None, n, m),
    ]
    plain, mdgf, srste, argsort = interleaved(*steps, repeats=4, warmup=1)
    name = f"nm_training.{n}:{m}"
    goal = 1 / 1.3 if m == 32 else 1 / 1.15
    return [
        row(f"{name}.mdgf-step", "dense step", mdgf, plain, goal),
        row(f"{name}.sr-ste-step", "dense step", srste, plain, goal),
        row(f"{name}.sr-ste-step", "argsort in each forward (public N:M code)", srste, argsort, 1),
        _mask_row(name, n, m),
    ]


def _mask_row(name: str, n: int, m: int) -> dict[str, Any]:
    weight = torch.randn(4 * WIDTH, WIDTH, generator=torch.Generator().manual_seed(0))
    pattern = NM(n, m)

    def argsort() -> Tensor:
        groups = weight.detach().abs().reshape(-1, m)
        smallest = torch.argsort(groups, dim=1)[:, : m - n]
        return torch.ones_like(groups).scatter_(1, smallest, 0).reshape(weight.shape)

    if not pattern.mask(weight).equal(argsort().bool()):
        raise RuntimeError(f"the two masks at {n}:{m} disagree")
    ours, theirs = interleaved(lambda: pattern.mask(weight), argsort, repeats=10, warmup=1)
    return row(f"{name}.mask", "argsort and scatter (public N:M code)", ours, theirs, 1.5)


def _pair(linear: Callable[..., nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(linear(WIDTH, 4 * WIDTH), nn.GELU(), linear(4 * WIDTH, WIDTH))


def _step(pair: nn.Module, rule: Any, n: int, m: int) -> Callable[[], None]:
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(pair.parameters(), lr=1e-4)
    if rule is not None:
        NMTraining(pair, NM(n, m), optimizer, rule=rule, steps=1000)

    def step() -> None:
        optimizer.zero_grad()
        pair(x).square().mean().backward()
        optimizer.step()

    return step
