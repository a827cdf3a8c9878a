"""Sparse convolutional networks against dense ones, and block 1 against block 4, on one thread.

ONNX Runtime is timed where it is installed (``onnx`` exports to it); its rows are
left out elsewhere.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from operator import itemgetter
from statistics import geometric_mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from _timing import interleaved
from rarefy.kernels.cpu.spmm import pack, spmm
from rarefy.models.mobilenet import efficientnet_lite0, mobilenet_v1, mobilenet_v2
from rarefy.weights import magnitude, mask_from_scores, select, sparsify_for_inference

# MobileNet's pointwise convolutions: (C_in, C_out, side of the square image)
SHAPES = ((64, 128, 56), (128, 256, 28), (256, 512, 14), (512, 512, 14), (1024, 1024, 7))

NETWORKS = {
    "mobilenet-v1.90": (mobilenet_v1, 0.90),
    "mobilenet-v2.85": (mobilenet_v2, 0.85),
    "mobilenet-v2-cache-aware.85": (partial(mobilenet_v2, cache_aware=True), 0.85),
    "efficientnet-lite0.80": (efficientnet_lite0, 0.80),
}
GOALS = {("mobilenet-v1.90", "dense torch"): 2.0, ("mobilenet-v1.90", "ONNX Runtime"): 1.0}


def rows() -> list[dict[str, Any]]:
    """Every comparison; a ratio above 1 means ours is better."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            networks = [row for name in NETWORKS for row in _network_rows(name)]
            return [*networks, *_fallback_rows(), *_block_rows()]
    finally:
        torch.set_num_threads(threads)


def _network_rows(name: str) -> Iterator[dict[str, Any]]:
    """One image of 224 x 224, weights at random and pruned by magnitude."""
    build, sparsity = NETWORKS[name]
    model, image = _pruned(build, sparsity), _image()
    fast = sparsify_for_inference(model, image)
    _same(fast(image), model(image), name)
    for peer, calls in _peers(model, image).items():
        ours, theirs = min((_seconds(fast, image, call) for call in calls), key=itemgetter(1))
        yield _row(f"convnets.{name}", peer, ours, theirs, goal=GOALS.get((name, peer)))


def _fallback_rows() -> Iterator[dict[str, Any]]:
    """Networks that are not sparse enough to gain: how much is lost by asking."""
    for percent in (0, 50):
        model, image = _pruned(mobilenet_v1, percent / 100), _image()
        fast = sparsify_for_inference(model, image, min_sparsity=0.0)
        calls = _peers(model, image)["dense torch"]
        ours, theirs = min((_seconds(fast, image, call) for call in calls), key=itemgetter(1))
        yield _row(f"convnets.mobilenet-v1.{percent}", "dense torch", ours, theirs, goal=0.95)


def _block_rows() -> Iterator[dict[str, Any]]:
    """Blocks of 1, 2 and 4 output channels at one number of weights; geometric means of shapes."""
    for percent in (70, 80, 90, 95):
        for block in (1, 2, 4):
            pairs = [_block_seconds(*shape, percent / 100, block) for shape in SHAPES]
            ours, theirs = (geometric_mean(pair[i] for pair in pairs) for i in (0, 1))
            name = f"convnets.spmm.{percent}.block-{block}"
            yield _row(name, "dense torch", ours, theirs, goal=None)
            if block == 4 and percent == 90:
                ours, theirs = (geometric_mean(pair[i] for pair in pairs) for i in (0, 2))
                yield _row(name, "block 1", ours, theirs, goal=1.3)


def _block_seconds(
    c_in: int, c_out: int, side: int, sparsity: float, block: int
) -> tuple[float, float, float]:
    """Seconds of ours, of the best dense call, and of block 1 at as many weights."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(c_in, side * side, generator=g)
    weight = _blocks(c_out, c_in, sparsity, block, g)
    packed, single = pack(weight, block=block), pack(_blocks(c_out, c_in, sparsity, 1, g), block=1)
    image, filters = x.view(1, c_in, side, side), weight.view(c_out, c_in, 1, 1)
    last_image = image.contiguous(memory_format=torch.channels_last)
    last_filters = filters.contiguous(memory_format=torch.channels_last)
    ours = partial(spmm, packed, x, threads=1)
    _same(ours(), weight @ x, f"{c_in}->{c_out}")
    dense = (
        partial(torch.mm, weight, x),
        partial(conv2d, image, filters),
        partial(conv2d, last_image, last_filters),
    )
    seconds, theirs = min((interleaved(ours, call) for call in dense), key=itemgetter(1))
    return seconds, theirs, interleaved(ours, partial(spmm, single, x, threads=1))[1]


def _blocks(rows: int, columns: int, sparsity: float, block: int, g: torch.Generator) -> Tensor:
    kept = torch.rand(rows // block, columns, generator=g) >= sparsity
    return torch.randn(rows, columns, generator=g) * kept.repeat_interleave(block, 0)


def _pruned(build: Callable[[], nn.Module], sparsity: float) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
    chosen = select(model, include=lambda _name, m, _w: getattr(m, "kernel_size", ()) == (1, 1))
    mask_from_scores(magnitude(chosen), sparsity=sparsity, scope="layer").apply_(model)
    return model


def _image() -> Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def _peers(model: nn.Module, image: Tensor) -> dict[str, list[Callable[[], Any]]]:
    """Dense torch as it is and with batch norms folded, in both layouts; ONNX Runtime."""
    last = image.contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is announced as deprecated
        frozen = torch.jit.freeze(torch.jit.trace(model, image))
        frozen_last = torch.jit.freeze(
            torch.jit.trace(model.to(memory_format=torch.channels_last), last)
        )
        for _ in range(3):  # torch.jit optimizes in its first runs
            frozen(image), frozen_last(last)
    found: dict[str, list[Callable[[], Any]]] = {
        "dense torch": [
            partial(model, image),
            partial(model, last),
            partial(frozen, image),
            partial(frozen_last, last),
        ]
    }
    if find_spec("onnxruntime") and find_spec("onnx"):
        found["ONNX Runtime"] = [_onnx_runtime(model, image)]
    return found


def _onnx_runtime(model: nn.Module, image: Tensor) -> Callable[[], Any]:
    import onnxruntime

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is announced as old
        torch.onnx.export(model, (image,), file, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feed = {session.get_inputs()[0].name: image.numpy()}
    _same(torch.from_numpy(session.run(None, feed)[0]), model(image), "ONNX Runtime")
    return lambda: session.run(None, feed)


def _seconds(fast: nn.Module, image: Tensor, call: Callable[[], Any]) -> tuple[float, float]:
    ours, theirs = interleaved(partial(fast, image), call)
    return ours, theirs


def _same(ours: Tensor, theirs: Tensor, name: str) -> None:
    error = float((ours - theirs).abs().max())
    if error > 1e-4 * float(theirs.abs().max()):
        raise RuntimeError(f"{name} is off by {error}")


def _row(name: str, peer: str, ours: float, theirs: float, *, goal: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "ours": 1e3 * ours,
        "theirs": 1e3 * theirs,
        "unit": "ms",
        "ratio": theirs / ours,
        "goal": goal,
    }
