"""Depthwise convolutions and the global mean of a channels-first image, on the CPU.

    Y[c] = clamp(W[c] * X[c] + b[c], lo, hi),      mean[c] = 1/P sum_p X[c, p]

``W[c]`` is a K x K window of its own for each channel, K odd, with K // 2 zeros around the image
and a stride of 1 or 2. A channel is copied band by band to a scratch plane with its border of
zeros, small enough for the first cache; four output rows at a time are then summed in registers.
Rows narrower than a vector go through a scratch plane on both sides, where a vector may run over
the end of its row. Nothing but the last 15 pixels of an image of fewer than 16 is scalar.

Source: the supporting operators of Elsen et al. 2020, "Fast Sparse ConvNets" (arXiv 1911.09723),
section 3. Departures: none in what is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numba import njit

from rarefy.kernels.cpu._microkernel import LANES, add, clamp, keep_alive, load, store
from rarefy.kernels.cpu._threads import side_by_side, thread_count
from rarefy.kernels.cpu._windows import keep, peek, poke, slide, total

Unbounded = (float("-inf"), float("inf"))

# Floats of a scratch plane: half of a first cache of 32 KB.
_BAND = 4096

# Below this many multiply-adds (about 500 us of work) a second thread gains nothing: waking it
# costs 60 to 200 us on a virtual machine, as measured.
_WORTH_A_THREAD = 10_000_000


@dataclass(frozen=True, eq=False)
class PackedDepthwise:
    """Windows of a depthwise convolution, each behind its bias.

    Attributes
    ----------
    values
        float32, ``(C, 1 + size * size)``.
    size
        K, of a window of K x K.
    stride
        1 or 2.
    """

    values: np.ndarray
    size: int
    stride: int

    def out_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Shape of the output for an input of ``(C, H, W)``."""
        channels, height, width = shape
        return channels, -(-height // self.stride), -(-width // self.stride)


def pack_depthwise(
    weight: torch.Tensor, *, bias: torch.Tensor | None = None, stride: int = 1
) -> PackedDepthwise:
    """Pack the windows of a depthwise convolution; a copy that carries no gradient.

    Parameters
    ----------
    weight
        ``(C, 1, K, K)`` as ``nn.Conv2d`` holds it, float32, K 3 or 5.
    bias
        ``(C,)``, float32.
    stride
        1 or 2, in both directions.

    Raises
    ------
    TypeError
        If weight or bias is not float32.
    ValueError
        If a shape or the stride does not fit.
    """
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and tensor.dtype != torch.float32:
            raise TypeError(f"{name} must be float32, got {tensor.dtype}")
    if weight.ndim != 4 or weight.shape[1] != 1 or tuple(weight.shape[2:]) not in ((3, 3), (5, 5)):
        raise ValueError(
            f"weight must have shape (C, 1, 3, 3) or (C, 1, 5, 5), got {tuple(weight.shape)}"
        )
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride!r}")
    channels, size = weight.shape[0], weight.shape[2]
    if bias is None:
        bias = torch.zeros(channels)
    if bias.shape != (channels,):
        raise ValueError(f"bias must have shape ({channels},), got {tuple(bias.shape)}")
    values = torch.cat([bias.detach()[:, None], weight.detach().flatten(1)], 1)
    return PackedDepthwise(values.cpu().numpy().copy(), size, stride)


def depthwise(
    packed: PackedDepthwise,
    x: torch.Tensor,
    *,
    clamp: tuple[float, float] | None = None,
    threads: int | None = None,
) -> torch.Tensor:
    """Depthwise convolution of one image, with bias and clamp fused.

    Parameters
    ----------
    packed
        From :func:`pack_depthwise`.
    x
        ``(C, H, W)``, float32 on the CPU; copied unless it is contiguous.
    clamp
        ``(lo, hi)`` applied last: ``(0, inf)`` is ReLU, ``(0, 6)`` ReLU6.
    threads
        Default: torch's number of threads, or 1 for images too small to share.

    Returns
    -------
    Tensor
        ``(C, ceil(H / stride), ceil(W / stride))``.

    Raises
    ------
    TypeError
        If x is not a float32 tensor on the CPU.
    ValueError
        If its shape does not fit, it requires grad, or lo > hi.

    Examples
    --------
    >>> box = pack_depthwise(torch.ones(1, 1, 3, 3), stride=2)
    >>> depthwise(box, torch.ones(1, 3, 3))
    tensor([[[4., 4.],
             [4., 4.]]])
    """
    low, high = Unbounded if clamp is None else clamp
    if not low <= high:
        raise ValueError(f"clamp must be (lo, hi) with lo <= hi, got {clamp!r}")
    x = _image(x)
    channels, height, width = x.shape
    if channels != len(packed.values):
        raise ValueError(f"x must have C = {len(packed.values)}, got shape {tuple(x.shape)}")
    y = torch.empty(packed.out_shape((channels, height, width)))
    if y.numel():
        run = bind_depthwise(packed, (channels, height, width), (low, high), threads)
        run(x.data_ptr(), y.data_ptr())
    return y


def depthwise_reference(
    packed: PackedDepthwise, x: torch.Tensor, *, clamp: tuple[float, float] | None = None
) -> torch.Tensor:
    """``depthwise`` by torch: its plain twin, for tests and for reading."""
    bias, weight = np.split(packed.values, [1], axis=1)
    y = torch.nn.functional.conv2d(
        x[None],
        torch.from_numpy(weight).reshape(-1, 1, packed.size, packed.size),
        torch.from_numpy(bias)[:, 0],
        stride=packed.stride,
        padding=packed.size // 2,
        groups=len(weight),
    )[0]
    return y if clamp is None else y.clamp(*clamp)


def global_mean(x: torch.Tensor) -> torch.Tensor:
    """Mean of each channel of an image ``(C, H, W)``: ``(C,)``; errors as :func:`depthwise`.

    Examples
    --------
    >>> global_mean(torch.arange(8.0).view(2, 2, 2))
    tensor([1.5000, 5.5000])
    """
    x = _image(x)
    if x.shape[1] * x.shape[2] == 0:
        raise ValueError(f"x has no pixels to take a mean of: shape {tuple(x.shape)}")
    y = torch.empty(len(x))
    bind_global_mean((x.shape[0], x.shape[1], x.shape[2]))(x.data_ptr(), y.data_ptr())
    return y


def global_mean_reference(x: torch.Tensor) -> torch.Tensor:
    """``global_mean`` by torch: its plain twin."""
    return x.mean((1, 2))


def bind_depthwise(
    packed: PackedDepthwise,
    shape: tuple[int, int, int],
    clamp: tuple[float, float] = Unbounded,
    threads: int | None = None,
) -> Callable[[int, int], None]:
    """Everything about a call but its data: a function of the addresses of x and y.

    Both must be contiguous, of ``shape`` and ``packed.out_shape(shape)``, and not empty.
    """
    channels, height, width = shape
    _, rows, columns = packed.out_shape(shape)
    work = packed.size**2 * channels * rows * columns
    threads = thread_count(threads, torch.get_num_threads() if work > _WORTH_A_THREAD else 1)
    kernel = _kernel(packed.size, packed.stride, 4 if rows >= 4 else 1)
    sizes, bounds = (height, width, rows, columns), (float(clamp[0]), float(clamp[1]))
    values = packed.values
    cuts = np.linspace(0, channels, min(threads, channels) + 1).astype(int).tolist()
    shares = list(zip(cuts, cuts[1:], strict=False))

    def run(x: int, y: int) -> None:
        if len(shares) == 1:
            kernel(values, x, y, sizes, bounds, shares[0])
        else:
            side_by_side([partial(kernel, values, x, y, sizes, bounds, part) for part in shares])

    return run


def bind_global_mean(shape: tuple[int, int, int]) -> Callable[[int, int], None]:
    """Bind :func:`global_mean` to a shape: a function of the addresses of x and y."""
    channels, height, width = shape
    return lambda x, y: _means(x, y, channels, height * width)


@cache
def _kernel(size: int, stride: int, rows: int) -> Callable[..., None]:
    """Depthwise kernel that makes ``rows`` output rows at once."""
    border = size // 2
    reach = LANES * stride

    @njit(nogil=True, cache=True, error_model="numpy")
    def kernel(values, x, y, sizes, bounds, channels):  # type: ignore[no-untyped-def]
        """The channels ``channels`` (first, stop) of x and y, which are addresses."""
        height, width, out_height, out_width = sizes
        low, high = np.float32(bounds[0]), np.float32(bounds[1])
        last = max(out_width - LANES, 0)
        line = max(stride * last + reach, width, LANES) + 2 * border
        line = -(-line // LANES) * LANES
        most = max(rows, (_BAND // line - size) // stride + 1)
        band = max(rows, -(-out_height // -(-out_height // most)))
        deep = stride * (band - 1) + size
        memory = np.zeros(deep * line + 2 * LANES, np.float32)
        padded = -(-memory.ctypes.data // 64) * 64
        narrow, out_narrow = width < LANES, out_width < LANES
        spill_in = np.empty(height * width + LANES if narrow else 0, np.float32)
        spill_out = np.empty(out_height * out_width + LANES if out_narrow else 0, np.float32)
        for c in range(channels[0], channels[1]):
            source = x + 4 * c * height * width
            if narrow:
                _copy(source, spill_in.ctypes.data, height * width)
                source = spill_in.ctypes.data
            target = y + 4 * c * out_height * out_width
            if out_narrow:
                target = spill_out.ctypes.data
            for first in range(0, out_height, band):
                top = min(first, out_height - band)
                for r in range(deep):
                    at = r * line + border
                    row = stride * top - border + r
                    if row < 0 or row >= height:
                        nothing = keep(load(1, 1, LANES, padded, at, 0, 0), 0, 0)
                        for v in range(0, width, LANES):
                            store(nothing, padded, at + v, 0, 0)
                    elif narrow:
                        pixels = load(1, 1, LANES, source, row * width, 0, 0)
                        store(keep(pixels, 0, width), padded, at, 0, 0)
                    else:
                        for v in range(0, width, LANES):
                            v = min(v, width - LANES)
                            store(
                                load(1, 1, LANES, source, row * width + v, 0, 0),
                                padded,
                                at + v,
                                0,
                                0,
                            )
                for r in range(0, band, rows):
                    r = min(r, band - rows)
                    for v in range(0, out_width, LANES):
                        v = min(v, last)
                        sums = slide(
                            rows,
                            size,
                            stride,
                            values,
                            c * (1 + size * size),
                            padded,
                            stride * (r * line + v),
                            line,
                        )
                        place = (top + r) * out_width + v
                        store(clamp(sums, low, high), target, place, out_width, 0)
            if out_narrow:
                _copy(target, y + 4 * c * out_height * out_width, out_height * out_width)
        keep_alive(memory)
        keep_alive(spill_in)
        keep_alive(spill_out)

    return kernel


@njit(nogil=True, cache=True, error_model="numpy")
def _copy(source, target, count):  # type: ignore[no-untyped-def]
    """Floats from one address to another."""
    if count >= LANES:
        for v in range(0, count, LANES):
            v = min(v, count - LANES)
            store(load(1, 1, LANES, source, v, 0, 0), target, v, 0, 0)
    else:
        for i in range(count):
            poke(peek(source, i), target, i)


@njit(nogil=True, cache=True, error_model="numpy")
def _means(x, y, channels, pixels):  # type: ignore[no-untyped-def]
    few = np.zeros(LANES, np.float32)
    for c in range(channels):
        plane = x + 4 * c * pixels
        if pixels < LANES:
            _copy(plane, few.ctypes.data, pixels)
            plane = few.ctypes.data
        whole = pixels // LANES * LANES
        start = min(whole, max(pixels - LANES, 0))
        # The last vector overlaps the one before it: only its lanes from there on are new.
        sums = keep(load(1, 1, LANES, plane, start, 0, 0), whole - start, pixels - start)
        for v in range(0, whole, LANES):
            sums = add(sums, load(1, 1, LANES, plane, v, 0, 0))
        poke(total(sums) / np.float32(pixels), y, c)
    keep_alive(few)


def _image(x: Any) -> torch.Tensor:
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
    if x.dtype != torch.float32 or not x.is_cpu:
        raise TypeError(f"x must be float32 on the CPU, got {x.dtype} on {x.device}")
    if x.ndim != 3:
        raise ValueError(f"x must have shape (C, H, W), got {tuple(x.shape)}")
    if x.requires_grad and torch.is_grad_enabled():
        raise ValueError("x requires grad, but this is forward only: detach() it first")
    return x.contiguous()
