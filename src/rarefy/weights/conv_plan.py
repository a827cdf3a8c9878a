"""A convolutional network bound to one image size: a list of calls on buffers that are there.

Binding walks the network's operations once, on a real image. Each operation becomes the fastest of
the functions that can do it, timed in turns on the data it will see:

    1 x 1          sparse product, dense product, torch's convolution
    depthwise      windows in registers, torch's convolution
    k x k          windows copied to columns and the 1 x 1 product on them, torch's convolution
    global mean    in registers
    the rest       torch

after which a run is one Python call a layer. Buffers are taken over by later layers as soon as
nobody reads them any more, so that a chain lives in two or three of them, and stays in the cache.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from rarefy.weights.conv_graph import Call, Convolution, GlobalMean, Network

Kernel = Literal["sparse", "dense", "torch", "windows", "columns"]
Block = Literal[1, 2, 4, "auto"]
Step = Callable[[], None]
_ROUNDS = 7


class LayerChoice(NamedTuple):
    """How a convolution runs, and why.

    Attributes
    ----------
    name : str
        Of the convolution in the model.
    kernel : {"sparse", "dense", "torch", "windows", "columns"}
        Sparse product; dense product; torch's convolution; the depthwise windows; the product on
        windows copied to columns.
    sparsity : float
    block : int
        Output channels that share an input channel in the sparse product; 0 for the others.
    seconds : dict of kernel to float
        What was timed; empty where there was nothing to choose.
    note : str
        Why it is not sparse, if it is not.
    """

    name: str
    kernel: Kernel
    sparsity: float
    block: int
    seconds: dict[Kernel, float]
    note: str


@dataclass(frozen=True)
class Policy:
    """How to choose: the block of sparse products, and how sparse a layer must be.

    ``packed`` and ``chosen`` belong to the value that a convolution makes, not to its name: a
    module that is used twice may have other batch norms folded in.
    """

    block: Block
    min_sparsity: float
    threads: int | None
    packed: dict[int, Any]
    chosen: dict[int, Kernel]


class Plan:
    """A network of one image size; a run overwrites what the run before returned.

    Parameters
    ----------
    network : Network
    image : Tensor, shape (1, C, H, W)
    policy : Policy
        Its ``chosen`` is filled at the first plan and followed by the later ones.
    """

    def __init__(self, network: Network, image: Tensor, policy: Policy) -> None:
        self._network, self._policy = network, policy
        self._values: list[Any] = [None] * network.values
        for number, constant in network.constants.items():
            self._values[number] = constant
        self._values[0] = image
        self._steps: list[Step] = []
        self._buffers = _Buffers(network)
        self.choices: list[LayerChoice] = []
        for at, op in enumerate(network.ops):
            step = self._bind(op)
            step()
            self._steps.append(step)
            self._buffers.release_behind(at)

    @property
    def output_is_ours(self) -> bool:
        """Whether the next run will overwrite what this one returned."""
        return self._buffers.owns(self._network.output)

    def run(self, image: Tensor) -> Tensor:
        """Output for one image ``(1, C, H, W)``, contiguous, of the size that was bound."""
        self._values[0] = image
        for step in self._steps:
            step()
        return self._values[self._network.output]

    def _bind(self, op: Convolution | GlobalMean | Call) -> Step:
        if isinstance(op, Call):
            return self._call(op)
        if isinstance(op, Convolution):
            return self._convolution(op)
        return self._mean(op) if self._is_image(op.x) else self._torch_mean(op)

    def _is_image(self, number: int) -> bool:
        """Whether a value is one image of float32: networks may fold parts into the batch."""
        x = self._values[number]
        return x.ndim == 4 and len(x) == 1 and x.dtype == torch.float32

    def _call(self, op: Call) -> Step:
        values, y = self._values, op.y

        def step() -> None:
            values[y] = op(values)

        return step

    def _mean(self, op: GlobalMean) -> Step:
        from rarefy.kernels.cpu.depthwise import bind_global_mean

        values, x, y = self._values, op.x, op.y
        _, channels, height, width = values[x].shape
        means = self._buffers.take(y, (1, channels, 1, 1) if op.keepdim else (1, channels))
        run = bind_global_mean((channels, height, width))
        address = means.data_ptr()

        def step() -> None:
            image = values[x].contiguous()
            run(image.data_ptr(), address)
            values[y] = means

        return step

    def _torch_mean(self, op: GlobalMean) -> Step:
        values, x, y, keepdim = self._values, op.x, op.y, op.keepdim

        def step() -> None:
            values[y] = values[x].mean((2, 3), keepdim=keepdim)

        return step

    def _convolution(self, conv: Convolution) -> Step:
        steps, block, note = self._candidates(conv)
        known = self._policy.chosen.get(conv.y)
        if known in steps:
            steps = {known: steps[known]}
        seconds = _time(steps) if len(steps) > 1 else {}
        best = min(steps, key=lambda kernel: seconds.get(kernel, 0.0))
        self._policy.chosen.setdefault(conv.y, best)
        if best != "sparse" and "sparse" in seconds:
            note = "dense is faster here"
        if best != "sparse":
            block = 0
        self.choices.append(LayerChoice(conv.name, best, conv.sparsity, block, seconds, note))
        return steps[best]

    def _candidates(self, conv: Convolution) -> tuple[dict[Kernel, Step], int, str]:
        """What can do a convolution; the block of the sparse product, and why there is none."""
        from rarefy.kernels.cpu.spmm import LANES

        if not self._is_image(conv.x):
            return {"torch": self._torch(conv)}, 0, "not applied to one image"
        if conv.pointwise:
            note = self._why_not_sparse(conv)
            dense: dict[Kernel, Step] = {"dense": self._dense(conv), "torch": self._torch(conv)}
            if note:
                return dense, 0, note
            step, block = self._sparse(conv)
            return {"sparse": step, **dense}, block, ""
        if conv.depthwise:
            return {"windows": self._windows(conv), "torch": self._torch(conv)}, 0, "depthwise"
        note = "not a 1 x 1 convolution of stride 1"
        if conv.unfolds and math.prod(self._size(conv)) >= LANES:
            return {"columns": self._columns(conv), "torch": self._torch(conv)}, 0, note
        return {"torch": self._torch(conv)}, 0, note

    def _why_not_sparse(self, conv: Convolution) -> str:
        from rarefy.kernels.cpu.spmm import LANES

        if conv.sparsity < self._policy.min_sparsity:
            return f"{conv.sparsity:.0%} sparse, less than {self._policy.min_sparsity:.0%}"
        if math.prod(self._size(conv)) < LANES:
            return f"fewer than {LANES} pixels"
        if self._bad_residual(conv):
            return "its sum broadcasts"
        return ""

    def _size(self, conv: Convolution) -> tuple[int, int]:
        """Height and width of what a convolution without dilation makes."""
        found = []
        for axis, pixels in enumerate(self._values[conv.x].shape[2:]):
            border = 0 if isinstance(conv.padding, str) else conv.padding[axis]
            around = pixels + 2 * border - conv.weight.shape[2 + axis]
            found.append(around // conv.stride[axis] + 1)
        return found[0], found[1]

    def _bad_residual(self, conv: Convolution) -> bool:
        if conv.residual is None:
            return False
        residual, x = self._values[conv.residual], self._values[conv.x]
        return tuple(residual.shape) != (x.shape[0], len(conv.weight), *self._size(conv))

    def _sparse(self, conv: Convolution) -> tuple[Step, int]:
        from rarefy.kernels.cpu.spmm import bind, pack

        policy = self._policy
        if conv.y not in policy.packed:
            policy.packed[conv.y] = pack(conv.weight.flatten(1), block=policy.block, bias=conv.bias)
        packed = policy.packed[conv.y]
        values, x, y, residual = self._values, conv.x, conv.y, conv.residual
        _, _, height, width = values[x].shape
        made = self._buffers.take(y, (1, len(conv.weight), height, width))
        run = bind(packed, height * width, clamp=_bounds(conv), threads=policy.threads)
        address = made.data_ptr()

        def step() -> None:
            image = values[x].contiguous()
            if residual is None:
                run(image.data_ptr(), 0, address)
            else:
                added = values[residual].contiguous()
                run(image.data_ptr(), added.data_ptr(), address)
            values[y] = made

        return step, packed.block

    def _dense(self, conv: Convolution) -> Step:
        values, x, y = self._values, conv.x, conv.y
        _, _, height, width = values[x].shape
        made = self._buffers.take(y, (1, len(conv.weight), height, width))
        weight, bias = conv.weight.flatten(1).contiguous(), conv.bias[:, None].contiguous()
        matrix = made.view(len(weight), -1)
        finish = _finish(conv, values)

        def step() -> None:
            torch.addmm(bias, weight, values[x].reshape(weight.shape[1], -1), out=matrix)
            values[y] = finish(made)

        return step

    def _windows(self, conv: Convolution) -> Step:
        from rarefy.kernels.cpu.depthwise import bind_depthwise, pack_depthwise

        policy = self._policy
        if conv.y not in policy.packed:
            policy.packed[conv.y] = pack_depthwise(
                conv.weight, bias=conv.bias, stride=conv.stride[0]
            )
        packed = policy.packed[conv.y]
        values, x, y = self._values, conv.x, conv.y
        shape = tuple(values[x].shape[1:])
        made = self._buffers.take(y, (1, *packed.out_shape(shape)))
        run = bind_depthwise(packed, shape, _bounds(conv), policy.threads)
        address = made.data_ptr()

        def step() -> None:
            image = values[x].contiguous()
            run(image.data_ptr(), address)
            values[y] = made

        return step

    def _columns(self, conv: Convolution) -> Step:
        from rarefy.kernels.cpu.spmm import bind, pack

        policy = self._policy
        if conv.y not in policy.packed:
            matrix = conv.weight.flatten(1)
            dense = len(matrix) >= 4 and conv.sparsity < policy.min_sparsity
            block: Block = 4 if dense else policy.block
            policy.packed[conv.y] = pack(matrix, block=block, bias=conv.bias)
        packed = policy.packed[conv.y]
        values, x, y = self._values, conv.x, conv.y
        (_, inputs, *_), (height, width) = values[x].shape, self._size(conv)
        made = self._buffers.take(y, (1, len(conv.weight), height, width))
        size, stride = conv.weight.shape[2:], conv.stride
        columns = torch.empty(inputs, *size, height, width)
        run = bind(packed, height * width, clamp=_bounds(conv), threads=policy.threads)
        border = (conv.padding[1], conv.padding[1], conv.padding[0], conv.padding[0])

        def step() -> None:
            windows = pad(values[x][0], border).unfold(1, size[0], stride[0])
            windows = windows.unfold(2, size[1], stride[1])
            columns.copy_(windows.permute(0, 3, 4, 1, 2))
            run(columns.data_ptr(), 0, made.data_ptr())
            values[y] = made

        return step

    def _torch(self, conv: Convolution) -> Step:
        values, y, run = self._values, conv.y, _torch_convolution(conv, self._values)

        def step() -> None:
            values[y] = run()

        return step


class DensePlan:
    """The same network by torch alone, in one memory format, any size and number of images."""

    def __init__(self, network: Network, memory_format: torch.memory_format) -> None:
        self._network, self._format = network, memory_format
        self._values: list[Any] = [None] * network.values
        for number, constant in network.constants.items():
            self._values[number] = constant
        self._steps = [(op.y, self._step(op)) for op in network.ops]

    def run(self, images: Tensor) -> Tensor:
        """Output for images ``(n, C, H, W)``."""
        self._values[0] = images.contiguous(memory_format=self._format)
        for y, step in self._steps:
            self._values[y] = step()
        made = self._values[self._network.output]
        self._values[self._network.output] = None
        return made

    def _step(self, op: Convolution | GlobalMean | Call) -> Callable[[], Any]:
        values = self._values
        if isinstance(op, Convolution):
            return _torch_convolution(op, values, self._format)
        if isinstance(op, GlobalMean):
            return lambda: values[op.x].mean((2, 3), keepdim=op.keepdim)
        return partial(op, values)


class _Buffers:
    """Memory for values, handed on to later ones."""

    def __init__(self, network: Network) -> None:
        self._last: dict[int, int] = {}
        # What torch reads, it may return a view of: such memory is never handed on.
        self._kept = {network.output}
        for at, op in enumerate(network.ops):
            for number in op.reads:
                self._last[number] = at
                if isinstance(op, Call):
                    self._kept.add(number)
        self._free: list[Tensor] = []
        self._taken: dict[int, Tensor] = {}

    def take(self, number: int, shape: Sequence[int]) -> Tensor:
        """Memory for a value, the same at a second call."""
        size = torch.Size(shape).numel()
        if number not in self._taken:
            enough = [buffer for buffer in self._free if buffer.numel() >= size]
            if enough:
                best = min(enough, key=Tensor.numel)
                self._free = [buffer for buffer in self._free if buffer is not best]
            else:
                best = torch.empty(size)
            self._taken[number] = best
        return self._taken[number][:size].view(*shape)

    def release_behind(self, at: int) -> None:
        """Free what operation ``at`` was the last to read."""
        for number in [n for n in self._taken if self._last.get(n) == at]:
            if number not in self._kept:
                self._free.append(self._taken.pop(number))

    def owns(self, number: int) -> bool:
        """Whether a value lies in this memory."""
        return number in self._taken


def _torch_convolution(
    conv: Convolution,
    values: list[Any],
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Callable[[], Tensor]:
    """Do a convolution of the list of values with torch, as a function without arguments."""
    weight = conv.weight.contiguous(memory_format=memory_format)
    bias, finish, x = conv.bias, _finish(conv, values), conv.x

    def run() -> Tensor:
        return finish(
            conv2d(values[x], weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        )

    return run


def _finish(conv: Convolution, values: list[Any]) -> Callable[[Tensor], Tensor]:
    """Add the residual and clamp, in place."""
    residual, clamp = conv.residual, conv.clamp

    def finish(made: Tensor) -> Tensor:
        if residual is not None:
            other = values[residual]
            made = made.add_(other) if other.shape == made.shape else made + other
        if clamp is None:
            return made
        return made.relu_() if clamp == (0.0, float("inf")) else made.clamp_(*clamp)

    return finish


def _bounds(conv: Convolution) -> tuple[float, float]:
    return (float("-inf"), float("inf")) if conv.clamp is None else conv.clamp


def _time(steps: dict[Kernel, Step]) -> dict[Kernel, float]:
    """Median seconds of each, in turns."""
    seconds: dict[Kernel, list[float]] = {kernel: [] for kernel in steps}
    for step in steps.values():
        step()
    for _ in range(_ROUNDS):
        for kernel, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[kernel].append(time.perf_counter() - start)
    return {kernel: statistics.median(runs) for kernel, runs in seconds.items()}
