"""Weights: DSnoT beside the pruners it repairs, and a global mask beside torch's, memory too.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the method cards ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from _timing import interleaved, row
from rarefy.evidence.environment import peak_memory_mb, reset_peak_memory
from rarefy.kernels.cpu.swaps import swap_rows_reference
from rarefy.weights import LayerStats, dsnot, global_magnitude_mask, sparsegpt, wanda
from rarefy.weights.from_scores import row_mask

TOKENS = 4096
WIDTH = 4096
"""Of the matrices of a global mask."""


def rows() -> list[dict[str, Any]]:
    """Every comparison of this domain, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*dsnot_rows(2048), *dsnot_rows(4096), *global_mask_rows()]
    finally:
        torch.set_num_threads(threads)


def dsnot_rows(width: int) -> list[dict[str, Any]]:
    """A width x width layer at 60 % sparsity, two sequences of 2,048 tokens."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, TOKENS // 2, width, generator=g) * torch.rand(width, generator=g) + 0.1
    stats = LayerStats(width, gram=True)
    stats.update(x)
    weight = torch.randn(width, width, generator=g) / width**0.5
    mask = row_mask(wanda(weight, stats.norm), density=0.4)

    def refine() -> torch.Tensor:
        return dsnot(weight, mask, stats).mask

    def full_sort() -> torch.Tensor:
        contribution = weight * stats.mean_sum
        spread = stats.variance.clamp_min(1e-4 * float(stats.variance.median()))
        swapped = swap_rows_reference(
            contribution.numpy(),
            (contribution * spread.pow(-1.0)).numpy(),
            wanda(weight, stats.norm).numpy(),
            mask.numpy(),
            torch.full((width,), 0.1, dtype=torch.float64).numpy(),
            cycles=50,
            same_sign=False,
        )
        return torch.from_numpy(swapped.mask)

    quick, masking = interleaved(
        refine, lambda: row_mask(wanda(weight, stats.norm), density=0.4), repeats=5, warmup=1
    )
    sorted_masks = []
    slow, sorting = interleaved(
        lambda: sparsegpt(weight, stats.gram, sparsity=0.6),
        lambda: sorted_masks.append(full_sort()),
        repeats=1,
        warmup=0,
    )
    if not torch.equal(refine(), sorted_masks[0]):
        raise RuntimeError("the top-k DSnoT and its full-sort twin disagree")
    name = f"weights.dsnot.{width}"
    return [
        row(f"{name}.wanda", "rarefy Wanda mask", quick, masking, goal=0.5),
        row(f"{name}.sparsegpt", "rarefy SparseGPT", quick, slow, goal=5.0),
        row(f"{name}.full-sort", "DSnoT by full sorts", quick, sorting, goal=3.0),
    ]


def global_mask_rows() -> list[dict[str, Any]]:
    """Global magnitude masks at 60 %: one square matrix, and six with 1e8 weights in all."""
    ours, theirs = _global_masks(layers=1)
    peer = "torch prune.global_unstructured"
    rows = [
        row("weights.global-mask.17M", peer, *interleaved(ours, theirs, repeats=3, warmup=1), 5.0)
    ]

    # Once each: torch takes most of a minute, and twelve times the weights.
    (quick, our_memory), (slow, their_memory) = map(_cost, _global_masks(layers=6))
    name, scale = "weights.global-mask.1e8", 4 * 6 * WIDTH**2
    memory = our_memory / scale, their_memory / scale
    in_weights = [
        row(f"{name}.memory", peer, *memory),
        row(f"{name}.memory", "a bound of 1.1 times the weights", memory[0], 1.1, 1.0),
    ]
    return [
        *rows,
        row(name, peer, quick, slow, 5.0),
        row(name, "a bound of 5 s", quick, 5.0, 1.0),
        *(line | {"unit": "x weights"} for line in in_weights),
    ]


def _global_masks(*, layers: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Ours and torch's, over so many square matrices."""
    g = torch.Generator().manual_seed(0)
    weights = {f"{i}": torch.randn(WIDTH, WIDTH, generator=g) for i in range(layers)}

    def ours() -> None:
        global_magnitude_mask(weights, sparsity=0.6)

    def theirs() -> None:
        modules = [nn.Linear(WIDTH, WIDTH, bias=False, device="meta") for _ in weights]
        for module, weight in zip(modules, weights.values(), strict=True):
            module.weight = nn.Parameter(weight)  # torch puts its hooks on fresh modules each time
        prune.global_unstructured(
            [(module, "weight") for module in modules], prune.L1Unstructured, amount=0.6
        )

    return ours, theirs


def _cost(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of one run, and bytes by which the process grows at most while it runs."""
    reset_peak_memory()
    before, start = peak_memory_mb(), perf_counter()  # a peak begun anew is what is held now
    work()
    return perf_counter() - start, (peak_memory_mb() - before) * 2**20
