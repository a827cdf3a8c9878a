"""What DSnoT costs, for paper 33: one large layer beside Wanda, SparseGPT and full row sorts."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor

from rarefy.papers._recipe import Trial
from rarefy.weights import LayerStats, dsnot, sparsegpt, wanda
from rarefy.weights.from_scores import row_mask


def measure_layer(arm: str, trial: Trial) -> dict[str, float]:
    """Time one pass over a large layer of random weights; medians of a few."""
    width = trial.pick(smoke=256, default=2048, full=4096)
    draw = trial.generator()
    spread = torch.rand(width, generator=draw) + 0.1
    inputs = torch.randn(32, 128, width, generator=draw) * spread + 0.1
    stats = LayerStats(width, gram=arm == "layer: sparsegpt")
    stats.update(inputs)
    weight = torch.randn(width, width, generator=draw)
    mask = row_mask(wanda(weight, stats.norm), density=0.4)
    contribution = weight * stats.mean_sum

    def sort_rows() -> None:
        # Two rankings of the pruned and two of the kept, as the released code orders them.
        for ranking in (contribution, -contribution, weight.abs(), -weight.abs()):
            ranking.sort(dim=1)

    work, repeats = {
        "layer: wanda": (lambda: row_mask(wanda(weight, stats.norm), density=0.4), 5),
        "layer: dsnot": (lambda: dsnot(weight, mask, stats), 5),
        "layer: row sorts": (sort_rows, 1),
        "layer: sparsegpt": (lambda: sparsegpt(weight, stats.gram, density=0.4), 1),
    }[arm]
    if repeats > 1:
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    values = {"clock_layer_seconds": statistics.median(seconds)}
    if arm == "layer: dsnot":
        values["differences_from_full_sort"] = _differences(weight, mask, stats)
    return values


def _differences(weight: Tensor, mask: Tensor, stats: LayerStats) -> int:
    """Mask entries in which DSnoT differs from the same swaps by full sorts, on some rows."""
    from rarefy.kernels.cpu.swaps import swap_rows_reference

    rows = slice(0, 256)
    contribution = weight[rows] * stats.mean_sum
    plain = swap_rows_reference(
        contribution.numpy(),
        (contribution * stats.variance.pow(-1.0)).numpy(),
        wanda(weight[rows], stats.norm).numpy(),
        mask[rows].numpy(),
        torch.full((256,), 0.1, dtype=torch.float64).numpy(),
        cycles=50,
        same_sign=False,
    )
    swapped = dsnot(
        weight[rows],
        mask[rows],
        stats,
        max_cycles=50,
        same_sign=False,
        threshold_mode="released",
    )
    return int((swapped.mask != torch.from_numpy(plain.mask)).sum())
