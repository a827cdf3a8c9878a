"""Sparse recommendation: moving the mask of a large table, and scoring items from a sparse one.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the method card asks for. Both use all
of torch's threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from _timing import interleaved, row
from rarefy.weights import DSL, Gather, Masks, SparseEmbedding, random_mask
from rarefy.weights.dense_gradients import DenseGradients

ROWS, DIM = 1_000_000, 64
LIMIT = 1.5
"""Seconds that the card allows an update on two cores."""


def rows() -> list[dict[str, Any]]:
    """Every comparison of sparse recommendation."""
    return [*update_rows(), gathering_row(), scoring_row(256), scoring_row(16)]


def update_rows(entries: int = ROWS) -> list[dict[str, Any]]:
    """One update of a table of a million rows at 20 %, beside the released full sorts."""
    g = torch.Generator().manual_seed(0)
    mask = random_mask((entries, DIM), entries * DIM // 5, generator=g)
    weight = torch.randn(entries, DIM, generator=g) * mask
    gradient = torch.randn(entries, DIM, generator=g)
    rule = DSL()
    masks = Masks({"table": mask})

    def ours() -> Tensor:
        return rule(
            {"table": weight}, masks, progress=0.3, gradients={"table": gradient}, generator=g
        )["table"]

    share = 0.005 + 0.495 / 2 * (1 + math.cos(math.pi * 0.3))

    def full_sort() -> Tensor:
        kept = int(mask.sum())
        count = math.ceil(share * kept)
        order = torch.sort(weight.abs().view(-1))
        after = weight.abs() > order.values[mask.numel() - kept + count - 1]
        outside = gradient.abs() * ~after
        ranked = torch.sort(outside.view(-1), descending=True)
        after.view(-1)[ranked.indices[:count]] = True
        return after

    if not torch.equal(ours(), full_sort()):
        raise RuntimeError("the update and its full-sort twin disagree")
    quick, slow = interleaved(ours, full_sort, repeats=2, warmup=0)
    return [
        row("dsl.update", "full sorts, as released", quick, slow, goal=5.0),
        row("dsl.update.limit", "the card's limit", quick, LIMIT, goal=1.0),
    ]


def gathering_row(entries: int = ROWS // 4) -> dict[str, Any]:
    """What a step of an interval costs a table in gathering: a tenth of its rows, and all."""
    g = torch.Generator().manual_seed(0)
    pruned = ~random_mask((entries, DIM), entries * DIM // 5, generator=g)
    gradient = torch.randn(entries, DIM, generator=g)

    def step(rows: float) -> Callable[[], None]:
        kept = DenseGradients(Gather("interval", rows=rows), {"table": gradient}, g)

        def gather() -> None:
            kept.add("table", gradient, pruned)
            kept.end_step()
            kept.clear()

        return gather

    sampled, whole = interleaved(step(0.1), step(1.0))
    return row("dsl.gather.sampled", "gradients of all rows", sampled, whole, goal=4.0)


def scoring_row(users: int, items: int = 100_000) -> dict[str, Any]:
    """Scores of all items for a block of users, the item table at 10 %."""
    g = torch.Generator().manual_seed(0)
    mask = random_mask((items, DIM), items * DIM // 10, generator=g)
    weight = torch.randn(items, DIM, generator=g) * mask
    table = SparseEmbedding.from_masked(weight, mask)
    queries = torch.randn(users, DIM, generator=g)
    sparse, dense = interleaved(lambda: table.score(queries), lambda: queries @ weight.T)
    return row(f"dsl.score.{users}-users", "torch dense product", sparse, dense, goal=1.0)
