"""The clock side of paper 38: products, and whole networks, sparse beside dense, on one thread.

Contenders take turns, and every number is a ratio of medians of one sequence of turns.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from itertools import chain, product
from operator import itemgetter
from statistics import geometric_mean, median
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from rarefy.papers._fast_convnets_digits import pointwise
from rarefy.papers._recipe import Trial
from rarefy.papers._threads import one_thread
from rarefy.weights import block_mask, magnitude, sparsify_for_inference
from rarefy.weights.conv_graph import network
from rarefy.weights.conv_plan import DensePlan

SPARSITIES = (70, 80, 90, 95)
BLOCKS: tuple[Literal[1, 2, 4], ...] = (1, 2, 4)

# 1 x 1 convolutions of MobileNet v1: (C_in, C_out, side of the square image)
_LAYERS = ((64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 512, 14), (1024, 1024, 7))


def product_ratios(trial: Trial) -> dict[str, float]:
    """Sparse products beside dense ones, SciPy's and torch's CSR, over MobileNet's layers."""
    layers = trial.pick(smoke=_LAYERS[2:3], default=_LAYERS, full=_LAYERS)
    found: dict[str, list[float]] = {}
    with one_thread(), torch.no_grad():
        for i, layer in enumerate(layers):
            trial.progress(f"1 x 1 convolution, {layer[0]} to {layer[1]}", i / len(layers))
            for percent, block in product(SPARSITIES, BLOCKS):
                for peer, ratio in _product(*layer, percent, block, trial).items():
                    found.setdefault(f"{peer}_{percent}_block_{block}", []).append(ratio)
    values = {}
    for percent, block in product(SPARSITIES, BLOCKS):
        which = f"{percent}_block_{block}"
        values[f"clock_speedup_{which}"] = geometric_mean(found[f"dense_{which}"])
    for peer in ("scipy", "torch_csr"):
        ratios = [found[f"{peer}_{percent}_block_1"] for percent in (80, 90, 95)]
        values[f"clock_over_{peer}"] = min(chain(*ratios))
    values["clock_block_4_over_1"] = geometric_mean(found["single_90_block_4"])
    return values


def network_ratios(
    build: Callable[[], nn.Module],
    sparsity: float,
    trial: Trial,
    *,
    beside: Callable[[], nn.Module] | None = None,
) -> dict[str, float]:
    """A network at a sparsity beside itself run dense by torch, as it is and with norms folded.

    With ``beside``, another network at that sparsity takes its turns too.
    """
    side = trial.pick(smoke=32, default=224, full=224)
    turns = trial.pick(smoke=2, default=10, full=40)
    x = torch.randn(1, 3, side, side, generator=trial.generator())
    model = pruned(build, sparsity, trial.seed)
    with one_thread(), torch.no_grad():
        fast = sparsify_for_inference(model, x, min_sparsity=min(sparsity, 2 / 3))
        calls: list[Callable[[], Any]] = [partial(fast, x), *dense_calls(model, x)]
        if beside is not None:
            other = sparsify_for_inference(pruned(beside, sparsity, trial.seed), x)
            calls.append(partial(other, x))
        error = (fast(x) - model(x)).abs().max() / model(x).abs().max()
        ours, *others = interleaved(calls, turns)
    values = {"clock_speedup": min(others[:3]) / ours, "off": float(error)}
    if beside is not None:
        values["clock_over_plain"] = others[3] / ours
    return values


def relative_latency(model: nn.Module, reference: nn.Module, x: Tensor, turns: int) -> float:
    """Time of one image through a network over that through another, each at its fastest."""
    with one_thread(), torch.no_grad():
        contenders: list[Callable[[], Any]] = [
            partial(sparsify_for_inference(net, x), x) for net in (model, reference)
        ]
        ours, theirs = interleaved(contenders, turns)
    return ours / theirs


def pruned(build: Callable[[], nn.Module], sparsity: float, seed: int) -> nn.Module:
    """Build a network and prune its 1 x 1 convolutions by magnitude."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build().eval()
    block_mask(magnitude(pointwise(model)), block=1, sparsity=sparsity).apply_(model)
    return model


def dense_calls(model: nn.Module, x: Tensor) -> list[Callable[[], Any]]:
    """Dense torch three ways: as it is, and with batch norms folded in both layouts."""
    folded = network(model, x)
    layouts = torch.contiguous_format, torch.channels_last
    return [partial(model, x), *(partial(DensePlan(folded, to).run, x) for to in layouts)]


def interleaved(functions: list[Callable[[], Any]], turns: int) -> list[float]:
    """Median seconds of each function; they take turns, each round beginning with the next."""
    for function in functions:
        function()
    seconds: list[list[float]] = [[] for _ in functions]
    for turn in range(turns):
        for place in range(len(functions)):
            which = (turn + place) % len(functions)
            start = time.perf_counter()
            functions[which]()
            seconds[which].append(time.perf_counter() - start)
    return [median(runs) for runs in seconds]


def _product(
    inputs: int,
    outputs: int,
    side: int,
    percent: int,
    block: Literal[1, 2, 4],
    trial: Trial,
) -> dict[str, float]:
    """Time of each peer over ours; the dense peer is the fastest of three."""
    import scipy.sparse

    from rarefy.kernels.cpu.spmm import pack, spmm

    generator = trial.generator()
    x = torch.randn(inputs, side * side, generator=generator)

    def weight(size: int) -> Tensor:
        kept = torch.rand(outputs // size, inputs, generator=generator) >= percent / 100
        kept = kept.repeat_interleave(size, 0)
        return torch.randn(outputs, inputs, generator=generator) * kept

    ours = weight(block)
    image, filters = x.view(1, inputs, side, side), ours.view(outputs, inputs, 1, 1)
    last = torch.channels_last
    peers: dict[str, list[Callable[[], Any]]] = {
        "dense": [
            partial(torch.mm, ours, x),
            partial(conv2d, image, filters),
            partial(conv2d, image.contiguous(memory_format=last), filters.to(memory_format=last)),
        ]
    }
    if block == 1:
        csr = scipy.sparse.csr_matrix(ours.numpy())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that its CSR is in beta
            torch_csr = ours.to_sparse_csr()
        peers["scipy"] = [partial(csr.__matmul__, x.numpy())]
        peers["torch_csr"] = [partial(torch.mm, torch_csr, x)]
    else:
        peers["single"] = [partial(spmm, pack(weight(1), block=1), x, threads=1)]
    call = partial(spmm, pack(ours, block=block), x, threads=1)
    turns = trial.pick(smoke=3, default=9, full=40)
    ratios = {}
    for peer, calls in peers.items():
        # Two at a time: in a longer round ours would find its weights gone from the cache.
        pairs = [interleaved([call, other], turns) for other in calls]
        seconds, theirs = min(pairs, key=itemgetter(1))
        ratios[peer] = theirs / seconds
    return ratios
