"""Kernels against their peers, on one thread."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from statistics import geometric_mean
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch.nn.functional import conv2d
from torch.nn.utils.prune import L1Unstructured, global_unstructured, remove

from _timing import interleaved
from rarefy.kernels.cpu.best_swaps import best_swaps, best_swaps_reference
from rarefy.kernels.cpu.select import kth_largest, mask_at_least
from rarefy.kernels.cpu.spmm import pack, spmm
from rarefy.kernels.cpu.swaps import Quadratic

# MobileNet's pointwise convolutions: (C_in, C_out, side of the square image)
SHAPES = ((64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 512, 14), (1024, 1024, 7))
GOALS = {("dense torch", 80): 2.0, ("dense torch", 90): 4.0} | {
    (peer, percent): 2.5 for peer in ("scipy CSR", "torch CSR") for percent in (80, 90, 95)
}


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is better."""
    with _one_thread(), torch.inference_mode():
        return [*_spmm_rows(), *_select_rows(), _best_swaps_row()]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _row(
    name: str, peer: str, ours: float, theirs: float, *, goal: float | None = None, unit: str = "ms"
) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
        "ratio": theirs / ours,
        "goal": goal,
    }


def _spmm_rows() -> Iterator[dict[str, Any]]:
    """Unstructured random masks, block 1; milliseconds are geometric means over the shapes."""
    for percent in (70, 80, 90, 95):
        seconds = [_spmm_seconds(*shape, percent / 100) for shape in SHAPES]
        for (c_in, c_out, side), layer in zip(SHAPES, seconds, strict=True):
            name = f"kernels.spmm.{percent}-{c_in}-{c_out}-{side}px"
            yield _row(name, "dense torch", *(1e3 * value for value in layer["dense torch"]))
        for peer in seconds[0]:
            ours, theirs = (
                1e3 * geometric_mean(layer[peer][which] for layer in seconds) for which in (0, 1)
            )
            goal = GOALS.get((peer, percent))
            yield _row(f"kernels.spmm.{percent}", peer, ours, theirs, goal=goal)


def _spmm_seconds(c_in: int, c_out: int, side: int, sparsity: float) -> dict[str, list[float]]:
    """Median seconds of ours and of each peer (the best of several) on one layer."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(c_out, c_in, generator=generator)
    weight *= torch.rand(c_out, c_in, generator=generator) >= sparsity
    x = torch.randn(c_in, side * side, generator=generator)
    image, filters = x.view(1, c_in, side, side), weight.view(c_out, c_in, 1, 1)
    last_image = image.contiguous(memory_format=torch.channels_last)
    last_filters = filters.contiguous(memory_format=torch.channels_last)
    packed = pack(weight, block=1)
    scipy_csr = scipy.sparse.csr_matrix(weight.numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that its CSR is in beta
        torch_csr = weight.to_sparse_csr()
    ours = partial(spmm, packed, x, threads=1)
    peers = {
        "dense torch": [
            partial(torch.mm, weight, x),
            partial(conv2d, image, filters),
            partial(conv2d, last_image, last_filters),
        ],
        "scipy CSR": [partial(scipy_csr.__matmul__, x.numpy())],
        "torch CSR": [partial(torch.mm, torch_csr, x)],
    }
    expected = weight.numpy() @ x.numpy()
    error = np.abs(ours().numpy() - expected).max()
    if error > 1e-4 * np.abs(expected).max():
        raise RuntimeError(f"spmm is off by {error} on {c_in}->{c_out} at {side}x{side}")
    # Each function runs against ours in rounds of their own, or ours would inherit the caches and
    # the allocator's state of whichever peer comes before it.
    return {
        peer: min((interleaved(ours, function) for function in functions), key=itemgetter(1))
        for peer, functions in peers.items()
    }


def _select_rows() -> Iterator[dict[str, Any]]:
    """The masks of global magnitude pruning at 90 %, on 20 million weights in four layers."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Module() for _ in range(4)]
    for layer in layers:
        layer.weight = torch.nn.Parameter(torch.randn(2500, 2000, generator=generator))
    weights = [layer.weight for layer in layers]
    keep = sum(weight.numel() for weight in weights) // 10

    def ours() -> list[torch.Tensor]:
        return mask_at_least(weights, kth_largest(weights, keep))

    def theirs() -> list[torch.Tensor]:
        parameters = [(layer, "weight") for layer in layers]
        global_unstructured(parameters, L1Unstructured, amount=0.9)
        masks = [layer.weight_mask for layer in layers]
        for layer in layers:  # back to the dense weight, for the next round
            original = layer.weight_orig
            remove(layer, "weight")
            layer.weight = original
        return masks

    if sum(int(mask.sum()) for mask in ours()) != keep:
        raise RuntimeError("kth_largest and mask_at_least do not keep as many as asked")
    seconds = interleaved(ours, theirs, repeats=3, warmup=1)
    yield _row("kernels.select.2e7", "torch prune", *seconds, goal=5.0, unit="s")


def _best_swaps_row() -> dict[str, Any]:
    """Three best swaps in each of 64 rows of 768 entries, 80 % of them pruned."""
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((1024, 768), np.float32) + 0.1
    error = Quadratic(draw.standard_normal((64, 768), np.float32), inputs.T @ inputs)
    mask = draw.random((64, 768)) < 0.2

    def ours() -> np.ndarray:
        return best_swaps(error, mask, cycles=3).mask

    def theirs() -> np.ndarray:
        return best_swaps_reference(error, mask, cycles=3).mask

    if not np.array_equal(ours(), theirs()):
        raise RuntimeError("best_swaps and its plain twin disagree")
    seconds = interleaved(ours, theirs, repeats=3, warmup=0)
    peer = "table of all changes in NumPy"
    return _row("kernels.best-swaps.64x768", peer, *seconds, goal=5.0, unit="s")
