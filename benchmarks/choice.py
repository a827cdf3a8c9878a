"""Who picks whom: selections of Mutual and Feature Choice against straightforward torch.

Pre-codes of a batch as dictionaries have them, and the codes they give: ours with the projections,
theirs as one would write it with ``torch.topk`` and a scatter; on one thread. That both select the
same is checked first. Goals below 1 stand where the peer leaves ties as they fall, which the
projections break by index.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved
from rarefy.dictionaries import BatchCoupled, ZipfLaw
from rarefy.dictionaries.activations import select
from rarefy.operators import BatchTopK, FeatureTopK, MutualTopK, TopK

ROWS, F, K = 1024, 4096, 32


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*_selections(), _threshold()]
    finally:
        torch.set_num_threads(threads)


def _selections() -> list[dict[str, Any]]:
    u = torch.randn(ROWS, F, generator=torch.Generator().manual_seed(0))
    each = K * ROWS // F
    by_rank = torch.from_numpy(ZipfLaw().counts(F, ROWS, total=K * ROWS))
    contenders: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[], Tensor], str, float]] = {
        "mutual": (
            MutualTopK(K * ROWS, by="positive"),
            lambda: _flat(u, K * ROWS),
            "flat torch.topk and scatter",
            0.8,
        ),
        "feature": (
            FeatureTopK(each, by="positive"),
            lambda: _columns(u, each),
            "torch.topk along rows and scatter",
            0.5,
        ),
        "feature.zipf": (
            FeatureTopK(by_rank.tolist(), by="positive"),
            lambda: _ranked_columns(u, by_rank),
            "torch.sort along rows and scatter",
            2.0,
        ),
    }
    found = []
    for name, (ours, theirs, peer, goal) in contenders.items():
        if not torch.equal(ours(u), theirs()):
            raise RuntimeError(f"{name}: {peer} and ours select different entries")
        seconds = interleaved(lambda ours=ours: ours(u), theirs, repeats=7, warmup=1)
        found.append(_row(f"select.{name}", peer, *seconds, goal=goal))
    return found


def _threshold() -> dict[str, Any]:
    """Mutual Choice in evaluation keeps what is above one threshold: no ranking at all."""
    u = torch.randn(ROWS, F, generator=torch.Generator().manual_seed(0))
    coupled = BatchCoupled(BatchTopK(K, by="positive"), F)
    coupled.select(u)
    coupled.eval()
    row_wise = TopK(K, by="positive")
    seconds = interleaved(
        lambda: coupled.select(u), lambda: select(row_wise, u), repeats=7, warmup=1
    )
    return _row("select.mutual-threshold", "our TopK, row by row", *seconds, goal=1 / 1.15)


def _row(name: str, peer: str, ours: float, theirs: float, *, goal: float) -> dict[str, Any]:
    return {
        "name": f"choice.{name}",
        "peer": peer,
        "ours": ours * 1e3,
        "theirs": theirs * 1e3,
        "unit": "ms",
        "ratio": theirs / ours,
        "goal": goal,
    }


def _flat(u: Tensor, total: int) -> Tensor:
    best = u.flatten().topk(total, sorted=False)
    codes = torch.zeros(u.numel()).scatter_(0, best.indices, best.values.relu())
    return codes.view_as(u)


def _columns(u: Tensor, count: int) -> Tensor:
    best = u.topk(count, dim=0, sorted=False)
    return torch.zeros_like(u).scatter_(0, best.indices, best.values.relu())


def _ranked_columns(u: Tensor, counts: Tensor) -> Tensor:
    ranked = u.sort(dim=0, descending=True)
    kept = ranked.values.relu() * (torch.arange(len(u))[:, None] < counts)
    return torch.zeros_like(u).scatter_(0, ranked.indices, kept)
