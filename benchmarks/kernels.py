"""Kernels against their peers, on one thread."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from statistics import geometric_mean
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch.nn.functional import conv2d

from _timing import interleaved
from rarefy.kernels.cpu.spmm import pack, spmm

# MobileNet's pointwise convolutions: (C_in, C_out, side of the square image)
SHAPES = ((64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 512, 14), (1024, 1024, 7))
GOALS = {
    "dense torch": {80: 2.0, 90: 4.0},
    "scipy CSR": {80: 2.5, 90: 2.5, 95: 2.5},
    "torch CSR": {80: 2.5, 90: 2.5, 95: 2.5},
}


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is better."""
    with _one_thread(), torch.inference_mode():
        return [*_spmm_rows(), *_select_rows()]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _row(
    name: str, peer: str, ours: float, theirs: float, goal: float | None, unit: str = "ms"
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
        milliseconds: dict[str, list[float]] = defaultdict(list)
        for shape in SHAPES:
            seconds = _spmm_seconds(*shape, percent / 100)
            dense = min(seconds.pop(name) for name in ("mm", "conv2d", "conv2d channels_last"))
            for peer, value in {**seconds, "dense torch": dense}.items():
                milliseconds[peer].append(1e3 * value)
            case = f"{shape[0]}-{shape[1]}-{shape[2]}px"
            yield _row(
                f"kernels.spmm.{percent}-{case}",
                "dense torch",
                milliseconds["ours"][-1],
                milliseconds["dense torch"][-1],
                None,
            )
        mean = {peer: geometric_mean(values) for peer, values in milliseconds.items()}
        for peer, goals in GOALS.items():
            yield _row(
                f"kernels.spmm.{percent}", peer, mean["ours"], mean[peer], goals.get(percent)
            )


def _spmm_seconds(c_in: int, c_out: int, side: int, sparsity: float) -> dict[str, float]:
    """Median seconds of each contender on one layer."""
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
    contenders: dict[str, Callable[[], Any]] = {
        "ours": partial(spmm, packed, x, threads=1),
        "mm": partial(torch.mm, weight, x),
        "conv2d": partial(conv2d, image, filters),
        "conv2d channels_last": partial(conv2d, last_image, last_filters),
        "scipy CSR": partial(scipy_csr.__matmul__, x.numpy()),
        "torch CSR": partial(torch.mm, torch_csr, x),
    }
    expected = weight.numpy() @ x.numpy()
    error = np.abs(spmm(packed, x, threads=1).numpy() - expected).max()
    if error > 1e-4 * np.abs(expected).max():
        raise RuntimeError(f"spmm is off by {error} on {c_in}->{c_out} at {side}x{side}")
    return dict(zip(contenders, interleaved(*contenders.values()), strict=True))


def _select_rows() -> Iterator[dict[str, Any]]:
    yield from ()
