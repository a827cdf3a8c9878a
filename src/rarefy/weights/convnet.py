"""Run a pruned convolutional network faster than the dense one on a CPU.

    y = clamp(W x + b + residual),    W (C_out x C_in) sparse, x (C_in x P) the image as it lies

for every 1 x 1 convolution that is sparse enough, with the depthwise convolutions and the mean
between them in the same channels-first layout, and whatever else the network holds left to torch.
Each layer runs the fastest way it was measured to run; the network as a whole runs dense where
that is faster still, so that nothing is lost by asking.

Source: Elsen et al. 2020, "Fast Sparse ConvNets" (arXiv 1911.09723); the default of two thirds of
zeros is XNNPACK's. Departures: XNNPACK's rule looks at all 1 x 1 weights together, ours at each
layer.
"""

from __future__ import annotations

import threading
import time
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from rarefy.weights.conv_graph import Network, evaluating, network
from rarefy.weights.conv_plan import Block, DensePlan, LayerChoice, Plan, Policy

Layout = Literal["chain", "contiguous", "channels_last"]

_FORMATS: dict[Layout, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}

# The dense network must be faster by this factor to be preferred: below it lies the clock's noise.
_MARGIN = 1.02
_ROUNDS = 9


class SparseConvNet(nn.Module):
    """A network made by :func:`sparsify_for_inference`.

    One call runs at a time; others wait. An image size that was not seen before is bound at its
    first use, with the choices made on the sample.

    Attributes
    ----------
    choices : list of LayerChoice
        One for each convolution, in the order they run.
    layout : {"chain", "contiguous", "channels_last"}
        How the whole network runs: layer by layer as ``choices`` say, or by torch alone.
    seconds : dict of layout to float
        Of the whole network on the sample, for each layout.
    """

    def __init__(self, net: Network, sample: Tensor, policy: Policy) -> None:
        super().__init__()
        self._network, self._policy = net, policy
        self._plans: dict[tuple[int, ...], Plan] = {}
        self._dense: dict[Layout, DensePlan] = {}
        self._lock = threading.Lock()
        self.layout: Layout = "chain"
        self.choices: list[LayerChoice] = self._plan(sample).choices
        self.seconds = self._measure(sample)
        dense = min(_FORMATS, key=lambda layout: self.seconds.get(layout, float("inf")))
        if self.seconds["chain"] > _MARGIN * self.seconds[dense]:
            self.layout = dense

    def forward(self, x: Tensor) -> Tensor:
        """Output for images ``(n, C, H, W)``; its memory is the caller's.

        Raises
        ------
        TypeError
            If x is not float32 on the CPU.
        ValueError
            If it has not four dimensions, holds no image, or requires grad.
        """
        _check_images(x, "x")
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError("x requires grad, but this network is forward only: detach() it first")
        with torch.no_grad(), self._lock:
            return self._run(x, self.layout)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out plans and lock: they are made anew where the network is unpickled."""
        return self.__dict__ | {"_plans": {}, "_dense": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lock = threading.Lock()

    def _run(self, x: Tensor, layout: Layout) -> Tensor:
        if layout != "chain":
            if layout not in self._dense:
                self._dense[layout] = DensePlan(self._network, _FORMATS[layout])
            return self._dense[layout].run(x)
        x = x.contiguous()
        plan = self._plan(x)
        if len(x) == 1:
            made = plan.run(x)
            return made.clone() if plan.output_is_ours else made
        return torch.cat([plan.run(image).clone() for image in x.split(1)])

    def _plan(self, x: Tensor) -> Plan:
        size = tuple(x.shape[1:])
        if size not in self._plans:
            self._plans[size] = Plan(self._network, x[:1].contiguous(), self._policy)
        return self._plans[size]

    def _measure(self, sample: Tensor) -> dict[Layout, float]:
        layouts: list[Layout] = ["chain", "contiguous"]
        try:
            self._run(sample, "channels_last")
            layouts.append("channels_last")
        except RuntimeError:
            # Tensor.view refuses activations in this layout; the others stand.
            self._dense.pop("channels_last")
        seconds: dict[Layout, list[float]] = {layout: [] for layout in layouts}
        for turn in range(_ROUNDS + 1):
            for layout in layouts:
                start = time.perf_counter()
                self._run(sample, layout)
                if turn:
                    seconds[layout].append(time.perf_counter() - start)
        return {layout: median(runs) for layout, runs in seconds.items()}


@torch.no_grad()
def sparsify_for_inference(
    model: nn.Module,
    sample: Tensor,
    *,
    block: Block = "auto",
    min_sparsity: float = 2 / 3,
    threads: int | None = None,
) -> SparseConvNet:
    """Make a fast inference network of a pruned one, which stays as it is.

    Parameters
    ----------
    model : nn.Module
        Any network that ``torch.fx`` can trace, such as torchvision's and timm's, with zeros where
        it was pruned (masks still attached count).
    sample : Tensor, shape (n, C, H, W)
        Images of the size and number to be served; layers are timed on them.
    block : {1, 2, 4, "auto"}, default "auto"
        Output channels that share an input channel; ``"auto"`` looks whether the zeros come in
        such blocks.
    min_sparsity : float, default 2/3
        A layer with fewer zeros stays dense.
    threads : int, optional
        Default: torch's number of threads, or 1 for layers too small to share.

    Returns
    -------
    SparseConvNet

    Raises
    ------
    TypeError
        If model is no module, or sample not float32 on the CPU.
    ValueError
        If the model has no convolution or cannot be traced, a weight is NaN, or an option is out
        of range.

    Examples
    --------
    >>> from rarefy.models.mobilenet import mobilenet_v1
    >>> images = torch.zeros(1, 3, 32, 32)
    >>> fast = sparsify_for_inference(mobilenet_v1(0.25, classes=10), images)
    >>> fast(images).shape, fast.choices[2].note
    (torch.Size([1, 10]), '0% sparse, less than 67%')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    _check_images(sample, "sample")
    if block not in (1, 2, 4, "auto"):
        raise ValueError(f'block must be 1, 2, 4 or "auto", got {block!r}')
    if not 0 <= min_sparsity <= 1:
        raise ValueError(f"min_sparsity must be in [0, 1], got {min_sparsity}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads must be a positive integer or None, got {threads}")
    with evaluating(model):
        return SparseConvNet(
            network(model, sample), sample, Policy(block, min_sparsity, threads, {}, {})
        )


class SparseConv1x1(nn.Module):
    """A sparse 1 x 1 convolution for inference, in the place of a dense one.

    Build it with :meth:`from_dense`. In a network of many, :func:`sparsify_for_inference` saves
    the way through a module for each layer.
    """

    def __init__(self, packed: Any, clamp: tuple[float, float] | None) -> None:
        super().__init__()
        self.packed, self.clamp = packed, clamp

    @classmethod
    def from_dense(
        cls,
        conv: nn.Conv2d,
        bn: nn.BatchNorm2d | None = None,
        *,
        block: Block = "auto",
        clamp: tuple[float, float] | None = None,
    ) -> SparseConv1x1:
        """Pack a pruned convolution, and the batch norm behind it.

        Parameters
        ----------
        conv : nn.Conv2d
            1 x 1, stride 1, one group; its zeros are left out.
        bn : nn.BatchNorm2d, optional
            Folded in with the statistics it has learned.
        block : {1, 2, 4, "auto"}, default "auto"
        clamp : (lo, hi), optional
            Applied last: ``(0, inf)`` is ReLU, ``(0, 6)`` ReLU6.

        Returns
        -------
        SparseConv1x1

        Raises
        ------
        TypeError
            If conv is no ``nn.Conv2d``, or not float32.
        ValueError
            If it is not 1 x 1 with stride 1, no padding and one group, or bn has no statistics or
            other channels.

        Examples
        --------
        >>> conv = nn.Conv2d(8, 4, 1, bias=False)
        >>> _ = conv.weight.data[conv.weight.abs() < 0.2] = 0.0
        >>> x = torch.rand(1, 8, 5, 5)
        >>> torch.allclose(SparseConv1x1.from_dense(conv)(x), conv(x), atol=1e-6)
        True
        """
        from rarefy.kernels.cpu.spmm import pack

        _check_pointwise(conv)
        weight = conv.weight.detach()
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        if bn is not None:
            if bn.running_mean is None or bn.running_var is None:
                raise ValueError("bn has no running statistics (track_running_stats=False) to fold")
            if bn.num_features != len(weight):
                raise ValueError(f"bn has {bn.num_features} channels, conv {len(weight)}")
            weight, bias = _folded(weight, bias, bn)
        return cls(pack(weight.flatten(1), block=block, bias=bias), clamp)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve images ``(n, C_in, H, W)``: ``(n, C_out, H, W)``."""
        from rarefy.kernels.cpu.spmm import spmm

        if x.ndim != 4 or x.shape[1] != self.packed.shape[1]:
            raise ValueError(
                f"x must have shape (n, {self.packed.shape[1]}, H, W), got {tuple(x.shape)}"
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError("x requires grad, but this layer is forward only: detach() it first")
        made = torch.empty(len(x), self.packed.shape[0], *x.shape[2:])
        with torch.no_grad():
            for image, out in zip(x.flatten(2), made.flatten(2), strict=True):
                spmm(self.packed, image, out=out, clamp=self.clamp)
        return made


def _check_pointwise(conv: Any) -> None:
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"conv must be an nn.Conv2d, got {type(conv).__name__}")
    for name, got, wanted in (
        ("kernel_size", conv.kernel_size, (1, 1)),
        ("stride", conv.stride, (1, 1)),
        ("groups", conv.groups, 1),
    ):
        if got != wanted:
            raise ValueError(f"conv must have {name} {wanted} to be a matrix product, got {got}")
    if conv.padding not in ((0, 0), "same", "valid"):
        raise ValueError(f"conv must have no padding, got {conv.padding}")


def _folded(weight: Tensor, bias: Tensor, bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    assert bn.running_mean is not None and bn.running_var is not None  # seen by from_dense
    folded = fuse_conv_bn_weights(
        weight, bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
    )
    return folded[0].detach(), folded[1].detach()


def _check_images(x: Any, name: str) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype != torch.float32 or not x.is_cpu:
        raise TypeError(f"{name} must be float32 on the CPU, got {x.dtype} on {x.device}")
    if x.ndim != 4 or x.numel() == 0:
        raise ValueError(
            f"{name} must be images (n, channels, height, width), at least one, "
            f"got shape {tuple(x.shape)}"
        )
