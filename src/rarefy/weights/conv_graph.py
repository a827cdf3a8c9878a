"""A convolutional network as a list of operations, batch norms folded and activations fused.

    w' = w gamma / sqrt(var + eps),    b' = beta + (b - mean) gamma / sqrt(var + eps)

Each convolution takes in what follows it as long as nobody else reads the value between: batch
norm, then a residual sum (1 x 1 convolutions only), then ReLU or ReLU6. Everything that is not
known here stays as the call it was.

Source: batch norm folding as everywhere; fusion as in Elsen et al. 2020, section 3.
Departures: none.
"""

from __future__ import annotations

import copy
import math
import operator
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F  # noqa: N812 - everyone's name for it
from torch.nn.utils.fusion import fuse_conv_bn_weights

_RELUS = (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
_RELU6S = (nn.ReLU6, F.relu6)
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_MEANS = (torch.mean, "mean")
_QUESTIONS = (getattr, operator.eq, "dim", "size")


@dataclass
class Convolution:
    """``clamp(conv(x) + bias + residual)``; x, y and residual are numbers of values."""

    name: str
    x: int
    y: int
    weight: Tensor
    bias: Tensor
    stride: tuple[int, int]
    padding: Any
    dilation: tuple[int, int]
    groups: int
    clamp: tuple[float, float] | None = None
    residual: int | None = None

    @property
    def pointwise(self) -> bool:
        """Whether it is a 1 x 1 convolution of stride 1 over all channels: a matrix product."""
        return (
            tuple(self.weight.shape[2:]) == (1, 1)
            and self.groups == 1
            and self.stride == (1, 1)
            and self.padding in ((0, 0), "valid", "same")
        )

    @property
    def depthwise(self) -> bool:
        """Whether :mod:`rarefy.kernels.cpu.depthwise` has it."""
        size = self.weight.shape[2]
        return (
            self.groups == len(self.weight)
            and tuple(self.weight.shape[1:]) in ((1, 3, 3), (1, 5, 5))
            and self.stride in ((1, 1), (2, 2))
            and self.padding == (size // 2, size // 2)
            and self.dilation == (1, 1)
            and self.residual is None
        )

    @property
    def unfolds(self) -> bool:
        """Whether it is a matrix product on windows copied to columns."""
        return (
            self.groups == 1
            and self.dilation == (1, 1)
            and not isinstance(self.padding, str)
            and self.residual is None
        )

    @property
    def sparsity(self) -> float:
        """Share of the weights that are zero."""
        return 1 - int(self.weight.count_nonzero()) / self.weight.numel()

    @property
    def reads(self) -> list[int]:
        """The values it needs."""
        return [self.x] if self.residual is None else [self.x, self.residual]


@dataclass
class GlobalMean:
    """Mean over height and width."""

    name: str
    x: int
    y: int
    keepdim: bool

    @property
    def reads(self) -> list[int]:
        """The values it needs."""
        return [self.x]


@dataclass
class Call:
    """Any other node, as it was."""

    name: str
    y: int
    node: fx.Node
    module: nn.Module | None
    numbers: Mapping[str, int]

    @property
    def reads(self) -> list[int]:
        """The values it needs."""
        return [self.numbers[node.name] for node in self.node.all_input_nodes]

    def __call__(self, values: list[Any]) -> Any:
        """Do what the node did."""
        node = self.node
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda arg: values[self.numbers[arg.name]]
        )
        if self.module is not None:
            return self.module(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


Op = Convolution | GlobalMean | Call


@dataclass
class Network:
    """Operations in order. Value 0 is the input; ``constants`` are values that are there before."""

    ops: list[Op]
    constants: dict[int, Any]
    values: int
    output: int


@torch.no_grad()
def network(model: nn.Module, sample: Tensor) -> Network:
    """Read a model as it is in evaluation mode; its weights are copied.

    Raises
    ------
    ValueError
        If ``torch.fx`` cannot trace the model, it has no convolution, it takes more than one
        input or returns more than one tensor, or a weight is NaN or not float32 on the CPU.
    """
    with evaluating(model):
        # Pruning by hooks writes the weight in the forward pass, and may not have seen the last
        # step of training yet.
        if not isinstance(model(sample), Tensor):
            raise ValueError(f"model must return one tensor, and {type(model).__name__} does not")
        try:
            graph = _Tracer().trace(model)
        except Exception as error:
            raise ValueError(
                f"torch.fx cannot trace {type(model).__name__}, so its layers cannot be chained: "
                f"{error}"
            ) from error
        _drop_idle(graph, model)
        _pad_apart(graph, model)
        return _Reader(model, graph).read()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode again behind."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Tracer(fx.Tracer):
    """Leaves convolutions and poolings whole: libraries derive some that look at image sizes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        sliding = isinstance(m, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d)
        return sliding or super().is_leaf_module(m, module_qualified_name)


def _drop_idle(graph: fx.Graph, model: nn.Module) -> None:
    """Take out what does nothing in evaluation, so that users of a value can be counted."""
    # Backwards, so that what only an assertion asked for is unused when its turn comes.
    for node in reversed(list(graph.nodes)):
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        idle = isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d)
        if idle or node.target is F.dropout:
            node.replace_all_uses_with(node.all_input_nodes[0])
            graph.erase_node(node)
        elif node.target is torch._assert or (node.target in _QUESTIONS and not node.users):
            graph.erase_node(node)


def _pad_apart(graph: fx.Graph, model: nn.Module) -> None:
    """Put TensorFlow's padding, of timm's ``tf_`` networks, in front of its convolution."""
    for node in graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d) and _pads_as_tensorflow(module):
            with graph.inserting_before(node):
                windows = module.kernel_size, module.stride, module.dilation
                padded = graph.call_function(_pad_same, (node.all_input_nodes[0], *windows))
            node.args, node.kwargs = (padded,), {}


def _pads_as_tensorflow(module: nn.Module) -> bool:
    # A module of timm's cannot be there unless timm is; it is no dependency.
    timm = sys.modules.get("timm.layers.conv2d_same")
    return timm is not None and type(module).forward is timm.Conv2dSame.forward


def _pad_same(
    x: Tensor, size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Tensor:
    """Zeros for ``ceil(pixels / stride)`` windows a row, the odd one behind."""
    around: list[int] = []
    for axis in (1, 0):
        pixels = x.shape[2 + axis]
        last = (math.ceil(pixels / stride[axis]) - 1) * stride[axis]
        missing = max(last + dilation[axis] * (size[axis] - 1) + 1 - pixels, 0)
        around += [missing // 2, missing - missing // 2]
    return F.pad(x, around)


def _slides(module: nn.Conv2d) -> bool:
    """Whether a module is the convolution that its attributes say."""
    kind = type(module)
    own = kind.forward is not nn.Conv2d.forward and not _pads_as_tensorflow(module)
    own = own or kind._conv_forward is not nn.Conv2d._conv_forward
    return module.padding_mode == "zeros" and not own


class _Reader:
    """One walk over a graph, in order."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        self.model, self.graph = model, graph
        self.ops: list[Op] = []
        self.constants: dict[int, Any] = {}
        self.numbers: dict[str, int] = {}
        # The convolution that makes a value, while it may still take in what follows.
        self.open: dict[int, Convolution] = {}
        self.count = 0

    def read(self) -> Network:
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        if len(inputs) != 1:
            names = ", ".join(str(node.target) for node in inputs)
            raise ValueError(f"model must take one input, and it takes {len(inputs)}: {names}")
        output = 0
        for node in self.graph.nodes:
            if node.op == "output":
                output = self.numbers[node.args[0].name]
            else:
                self.numbers[node.name] = self._read(node)
        if not any(isinstance(op, Convolution) for op in self.ops):
            raise ValueError(
                f"{type(self.model).__name__} has no convolution to make sparse: give a network of "
                "nn.Conv2d layers"
            )
        return Network(self.ops, self.constants, self.count, output)

    def _new(self) -> int:
        self.count += 1
        return self.count - 1

    def _read(self, node: fx.Node) -> int:
        """Number of the value that a node makes."""
        if node.op == "placeholder":
            return self._new()
        if node.op == "get_attr":
            number = self._new()
            self.constants[number] = operator.attrgetter(str(node.target))(self.model)
            return number
        module = self.model.get_submodule(str(node.target)) if node.op == "call_module" else None
        what = node.target if module is None else type(module)
        if isinstance(module, nn.Conv2d) and _slides(module):
            return self._convolution(node, module)
        made = self._fused(node, module, what)
        if made is None:
            made = self._mean(node, module, what)
        if made is None:
            made = self._new()
            if module is not None:
                module = copy.deepcopy(module)
            self.ops.append(Call(node.name, made, node, module, self.numbers))
        return made

    def _convolution(self, node: fx.Node, conv: nn.Conv2d) -> int:
        weight, name = conv.weight.detach().clone(), str(node.target)
        if weight.dtype != torch.float32 or not weight.is_cpu:
            raise ValueError(
                f"{name}.weight must be float32 on the CPU, got {weight.dtype} on {weight.device}"
            )
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach().clone()
        if bool(weight.isnan().any()) or bool(bias.isnan().any()):
            raise ValueError(f"the weights of {name} hold NaN")
        made = Convolution(
            name,
            self.numbers[node.all_input_nodes[0].name],
            self._new(),
            weight,
            bias,
            (conv.stride[0], conv.stride[1]),
            conv.padding if isinstance(conv.padding, str) else tuple(conv.padding),
            (conv.dilation[0], conv.dilation[1]),
            conv.groups,
        )
        self.ops.append(made)
        self.open[made.y] = made
        return made.y

    def _fused(self, node: fx.Node, module: nn.Module | None, what: Any) -> int | None:
        """Let a convolution take the node in, if it may: its value's number, else None."""
        if what in _SUMS:
            return self._sum(node)
        if not node.all_input_nodes:
            return None
        before = node.all_input_nodes[0]
        conv = self.open.get(self.numbers[before.name])
        if conv is None or len(before.users) > 1:
            return None
        norm = _norm(node, module, what, self)
        if norm is not None and conv.residual is None and conv.clamp is None:
            folded = fuse_conv_bn_weights(conv.weight, conv.bias, *norm)
            conv.weight, conv.bias = folded[0].detach(), folded[1].detach()
            return conv.y
        clamp = _clamp(module, what)
        if clamp is not None and conv.clamp is None:
            conv.clamp = clamp
            return conv.y
        return None

    def _sum(self, node: fx.Node) -> int | None:
        if len(node.all_input_nodes) != 2 or len(node.args) != 2 or node.kwargs:
            return None
        for branch, trunk in (node.all_input_nodes, node.all_input_nodes[::-1]):
            conv = self.open.get(self.numbers[branch.name])
            if (
                conv is not None
                and conv.pointwise
                and conv.clamp is None
                and conv.residual is None
                and len(branch.users) == 1
            ):
                conv.residual = self.numbers[trunk.name]
                # The trunk may have been made behind the convolution, which therefore moves here.
                self.ops.remove(conv)
                self.ops.append(conv)
                return conv.y
        return None

    def _mean(self, node: fx.Node, module: nn.Module | None, what: Any) -> int | None:
        if isinstance(module, nn.AdaptiveAvgPool2d):
            whole, keepdim = module.output_size in (1, (1, 1)), True
        elif what is F.adaptive_avg_pool2d:
            whole, keepdim = node.args[1] in (1, (1, 1), [1, 1]), True
        elif what in _MEANS:
            given = dict(zip(("x", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
            dim, keepdim = given.get("dim"), bool(given.get("keepdim", False))
            whole = isinstance(dim, tuple | list) and tuple(dim) in ((2, 3), (-2, -1))
        else:
            return None
        if not whole:
            return None
        x = self.numbers[node.all_input_nodes[0].name]
        made = GlobalMean(node.name, x, self._new(), keepdim)
        self.ops.append(made)
        return made.y


def _clamp(module: nn.Module | None, what: Any) -> tuple[float, float] | None:
    if what in _RELU6S:
        return 0.0, 6.0
    if what in _RELUS:
        return 0.0, float("inf")
    if isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    return None


def _norm(
    node: fx.Node, module: nn.Module | None, what: Any, reader: _Reader
) -> tuple[Any, ...] | None:
    """Mean, variance, eps, gain and shift of a batch norm that no longer learns its statistics."""
    if isinstance(module, nn.BatchNorm2d) and what is nn.BatchNorm2d:
        found: tuple[Any, ...] = (
            *(module.running_mean, module.running_var),
            *(module.eps, module.weight, module.bias),
        )
    elif what is F.batch_norm:
        names = ("input", "running_mean", "running_var", "weight", "bias", "training", "m", "eps")
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        if given.get("training"):
            return None
        mean, var, gain, shift = (
            reader.constants.get(reader.numbers[arg.name]) if isinstance(arg, fx.Node) else arg
            for arg in (given.get(name) for name in ("running_mean", "running_var", *names[3:5]))
        )
        found = mean, var, given.get("eps", 1e-5), gain, shift
    else:
        return None
    return None if found[0] is None or found[1] is None else found
