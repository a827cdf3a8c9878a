"""Operators against what one would write or call without them; fp32, one thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.ao.pruning import WeightNormSparsifier

from _timing import median_ratio
from rarefy.operators import MCP, NM, Lq, TopK


def rows() -> list[dict[str, Any]]:
    """One row per operator, pattern and peer; milliseconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_nm_rows(), *_topk_rows(), *_prox_rows()]
    finally:
        torch.set_num_threads(threads)


def _row(name: str, peer: str, ours: Callable, theirs: Callable, goal: float, n: int) -> dict:
    our_seconds, their_seconds, ratio = median_ratio(ours, theirs, repeats=n, warmup=1)
    return {
        "name": f"operators.{name}",
        "peer": peer,
        "ours": our_seconds * 1e3,
        "theirs": their_seconds * 1e3,
        "unit": "ms",
        "ratio": ratio,
        "goal": goal,
    }


def _nm_rows() -> list[dict]:
    layer = torch.nn.Linear(2048, 2048, bias=False)
    weight = layer.weight.detach().clone()
    sparsifier = WeightNormSparsifier(
        sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2
    )
    sparsifier.prepare(layer, [{"tensor_fqn": "weight"}])
    found = [
        _row(
            "nm-mask.2:4",
            "torch.ao.pruning.WeightNormSparsifier",
            lambda: NM(2, 4).mask(weight),
            sparsifier.step,
            3.0,
            10,
        )
    ]
    for n, m in ((2, 4), (1, 8), (2, 16), (4, 32)):
        found.append(
            _row(
                f"nm-mask.{n}:{m}",
                "argsort and scatter (public N:M code)",
                lambda n=n, m=m: NM(n, m).mask(weight),
                lambda n=n, m=m: _argsort_mask(weight, n, m),
                1.5,
                10,
            )
        )
    return found


def _argsort_mask(weight: Tensor, n: int, m: int) -> Tensor:
    """How the N:M training repositories build a mask: sort groups, zero the smallest."""
    groups = weight.detach().abs().reshape(-1, m)
    smallest = torch.argsort(groups, dim=1)[:, : m - n]
    return torch.ones_like(groups).scatter_(1, smallest, 0).reshape(weight.shape)


def _topk_rows() -> list[dict]:
    u = torch.randn(1024, 4096, generator=torch.Generator().manual_seed(0))
    ours = TopK(32, by="positive")
    return [
        _row(
            "topk.32-of-4096",
            "stable torch.sort and scatter (the same ties)",
            lambda: ours(u),
            lambda: _sort_and_scatter(u, 32),
            1.5,
            10,
        ),
        # below 1: the peer neither breaks ties by index nor looks for NaN
        _row(
            "topk.32-of-4096-any-ties",
            "torch.topk and scatter",
            lambda: ours(u),
            lambda: _topk_and_scatter(u, 32),
            0.5,
            10,
        ),
    ]


def _sort_and_scatter(u: Tensor, k: int) -> Tensor:
    ranked = u.sort(dim=-1, descending=True, stable=True)
    best = ranked.values[:, :k].relu()
    return torch.zeros_like(u).scatter_(-1, ranked.indices[:, :k], best)


def _topk_and_scatter(u: Tensor, k: int) -> Tensor:
    best = u.topk(k, dim=-1, sorted=False)
    return torch.zeros_like(u).scatter_(-1, best.indices, best.values.relu())


def _prox_rows() -> list[dict]:
    z = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    return [
        _row(
            "prox.half",
            "arc cosine at every entry",
            lambda: Lq(0.7, 0.5).prox(z),
            lambda: _half_everywhere(z, 0.7),
            1.0,
            10,
        ),
        _row(
            "prox.mcp",
            "three-branch torch.where",
            lambda: MCP(0.7, 3.0).prox(z),
            lambda: _mcp_branches(z, 0.7, 3.0),
            1.0,
            10,
        ),
    ]


def _half_everywhere(z: Tensor, mu: float) -> Tensor:
    """Half thresholding as its papers' codes have it: evaluate, then select."""
    u = 2 * mu
    angle = torch.arccos((u / 8 * (z.abs() / 3) ** -1.5).clamp(max=1))
    root = 2 / 3 * z * (1 + torch.cos(2 * torch.pi / 3 - 2 / 3 * angle))
    return torch.where(z.abs() > 54 ** (1 / 3) / 4 * u ** (2 / 3), root, 0.0)


def _mcp_branches(z: Tensor, lam: float, gamma: float) -> Tensor:
    m = z.abs()
    inner = torch.where(m <= lam, 0.0, z.sign() * (m - lam) / (1 - 1 / gamma))
    return torch.where(m <= gamma * lam, inner, z)
