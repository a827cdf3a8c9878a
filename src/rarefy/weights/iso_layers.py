"""Layers that are larger but sparse and cost what the dense layer they replace costs.

With N = fan * out weights in the dense layer (fan: inputs times the kernel's taps), at sparsity s:

    parallel    sum_j norm_j(W_j x),         round(1 / (1 - s)) branches
    factorized  V psi(U x),                  inner width ceil(N / ((fan + out)(1 - s)))
    doped       S x + V U x,                 rank floor(s N / (fan + out)), U and V dense

each keeping exactly N weights in all. U is the convolution (kernel, stride), V is 1 x 1. The layers
are dense modules that say, in ``kept``, how many weights a mask must leave them.

Source: Thangarasa et al. 2024, "Sparse-IFT" (ICML, arXiv 2303.11525), and the authors' code.
Departures: counts are exact where the paper's densities round; the branches of a parallel layer
share one budget (they are one stacked layer); fresh weights are drawn as torch draws them; folded
decay takes S + V U as one weight.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.budget import Uniform
from rarefy.weights.widen import Layer, rebuilt

_NEARLY_WHOLE = 0.05
"""How far 1 / (1 - s) may lie from a whole number of branches without a word."""


class FeatureNorm(nn.BatchNorm1d):
    """Batch norm of the last axis, whatever axes stand before it."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch uses
        """Normalise each feature over all other axes."""
        return super().forward(input.flatten(0, -2)).view_as(input)


class SparseParallel(nn.Module):
    """Sum of sparse branches, each with its own norm; the non-linearity follows in the model.

    The branches are stacked into one layer: the same function in one matrix product.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The dense layer to replace.
    sparsity : float in [0, 1)
    norm : callable ``width -> module``, optional
        Acts on each feature alone; batch norm by default. Without it the branches would be one
        denser matrix.

    Attributes
    ----------
    kept : dict of str to int
        How many weights each sparse tensor of the module keeps.

    Raises
    ------
    ValueError
        If the sparsity is out of range, or too low for two branches (below 1/3).

    Warns
    -----
    UserWarning
        If 1 / (1 - sparsity) is far from a whole number: the branches are then less or more sparse.

    Examples
    --------
    >>> import torch
    >>> SparseParallel(nn.Linear(8, 4), sparsity=0.75)(torch.ones(5, 8)).shape
    torch.Size([5, 4])
    """

    def __init__(
        self,
        layer: Layer,
        *,
        sparsity: float,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_sparsity(sparsity)
        wanted = 1 / (1 - sparsity)
        self.branches = round(wanted)
        if self.branches == 1 and sparsity > 0:
            raise ValueError(
                f"sparsity {sparsity:g} makes 1 / (1 - sparsity), rounded, a single branch; "
                "parallel branches need a sparsity of 1/3 or more"
            )
        if abs(wanted - self.branches) > _NEARLY_WHOLE:
            warnings.warn(
                f"sparsity {sparsity:g} makes 1 / (1 - sparsity) = {wanted:.3g}, no whole number; "
                f"the layer gets {self.branches} branches of sparsity {1 - 1 / self.branches:.3g}",
                stacklevel=2,
            )
        size, _, outputs = _sizes(layer)
        width = self.branches * outputs
        self.stacked = rebuilt(layer, _inputs(layer), width)
        self.norm = (norm or _batch_norm(layer))(width)
        self.axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self.kept = {"stacked.weight": size}

    def forward(self, x: Tensor) -> Tensor:
        """Add up the branches."""
        normed = self.norm(self.stacked(x))
        split = normed.unflatten(self.axis, (self.branches, -1))
        return split.sum(1 if self.axis == 1 else -2)


class SparseFactorized(nn.Module):
    """Two sparse factors with a norm and a non-linearity between.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The dense layer to replace.
    sparsity : float in [0, 1)
        0 gives the dense bottleneck of the same cost.
    between : callable ``width -> module``, optional
        psi: batch norm and ReLU by default; ``lambda _: nn.Identity()`` makes a linear layer.
    dense_expand : bool, default False
        Leave V dense; the inner width is then ``ceil(N / (fan (1 - s) + out))``.

    Attributes
    ----------
    kept : dict of str to int
        How many weights each sparse tensor of the module keeps.

    Examples
    --------
    >>> layer = SparseFactorized(nn.Linear(64, 64), sparsity=0.5)
    >>> layer.reduce.out_features, sum(layer.kept.values())
    (64, 4096)
    """

    def __init__(
        self,
        layer: Layer,
        *,
        sparsity: float,
        between: Callable[[int], nn.Module] | None = None,
        dense_expand: bool = False,
    ) -> None:
        super().__init__()
        check_sparsity(sparsity)
        size, fan, outputs = _sizes(layer)
        density = 1 - sparsity
        cost = fan * density + outputs if dense_expand else (fan + outputs) * density
        # The guard keeps 60 / (1 - 0.9) from rounding up because 0.1 is 0.09999999999999998.
        inner = math.ceil(size / cost - 1e-9)
        self.reduce = rebuilt(layer, _inputs(layer), inner, bias=False)
        norm = _batch_norm(layer)
        self.between = between(inner) if between else nn.Sequential(norm(inner), nn.ReLU())
        self.expand = _pointwise(layer, inner, outputs, bias=layer.bias is not None)
        if dense_expand:
            self.kept = {"reduce.weight": size - inner * outputs}
        else:
            shapes = {"reduce.weight": (inner, fan), "expand.weight": (outputs, inner)}
            self.kept = Uniform()(shapes, density=size / (inner * (fan + outputs)))

    def folded(self) -> Tensor:
        """Multiply the factors: the weight of the dense layer that a linear one amounts to.

        Raises
        ------
        ValueError
            If there is more than ``nn.Identity`` between the factors.
        """
        if not isinstance(self.between, nn.Identity):
            raise ValueError(
                f"only linear factors fold; between them is {type(self.between).__name__}: build "
                "the layer with between=lambda _: nn.Identity()"
            )
        return _product(self.reduce, self.expand)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``V psi(U x)``."""
        return self.expand(self.between(self.reduce(x)))


class SparseDoped(nn.Module):
    """A sparse layer beside a dense one of low rank.

    Parameters
    ----------
    layer : nn.Linear or nn.Conv2d
        The dense layer to replace.
    sparsity : float in (0, 1)
    mask_low_rank : bool, default False
        Make U and V as sparse as S is, as the authors' code does though not the paper; the layer
        then costs less than the dense one.

    Attributes
    ----------
    kept : dict of str to int
        How many weights each sparse tensor of the module keeps.

    Raises
    ------
    ValueError
        If the sparsity is out of range, or too low for a rank of 1.

    Examples
    --------
    >>> layer = SparseDoped(nn.Linear(64, 64), sparsity=0.5)
    >>> layer.reduce.out_features, layer.kept
    (16, {'sparse.weight': 2048})
    """

    def __init__(self, layer: Layer, *, sparsity: float, mask_low_rank: bool = False) -> None:
        super().__init__()
        check_sparsity(sparsity)
        size, fan, outputs = _sizes(layer)
        rank = math.floor(sparsity * size / (fan + outputs) + 1e-9)
        if rank == 0:
            raise ValueError(
                f"sparsity {sparsity:g} leaves no rank for a layer of {fan} inputs and {outputs} "
                f"outputs; {(fan + outputs) / size:.3g} or more is wanted"
            )
        self.sparse = rebuilt(layer, _inputs(layer), outputs)
        self.reduce = rebuilt(layer, _inputs(layer), rank, bias=False)
        self.expand = _pointwise(layer, rank, outputs, bias=False)
        self.kept = {"sparse.weight": size - rank * (fan + outputs)}
        if mask_low_rank:
            self.kept["reduce.weight"] = max(1, round((1 - sparsity) * rank * fan))
            self.kept["expand.weight"] = max(1, round((1 - sparsity) * rank * outputs))

    def folded(self) -> Tensor:
        """Add up ``S + V U``: the weight of the dense layer that this one amounts to."""
        return self.sparse.weight + _product(self.reduce, self.expand)

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``S x + V U x``."""
        return self.sparse(x) + self.expand(self.reduce(x))


def folded_decay(model: nn.Module) -> Tensor:
    """Compute half the squared norms of the folded weights: weight decay of what layers amount to.

    Ordinary decay pulls on U and V apart, which is a nuclear norm on their product. With this times
    the rate added to the loss, the optimizer's own decay is for the others: see
    :func:`folded_parameters`.

    Parameters
    ----------
    model : nn.Module
        Its linear factorized and its doped layers count.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the model has no such layer.

    Examples
    --------
    >>> layer = SparseDoped(nn.Linear(8, 8), sparsity=0.5)
    >>> bool(folded_decay(layer) == layer.folded().square().sum() / 2)
    True
    """
    return torch.stack([layer.folded().square().sum() / 2 for layer in _linear(model)]).sum()


def folded_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Find the parameters that :func:`folded_decay` covers: a group with ``weight_decay=0``.

    Parameters and errors are those of :func:`folded_decay`.
    """
    names = ("sparse", "reduce", "expand")
    return [getattr(m, n).weight for m in _linear(model) for n in names if hasattr(m, n)]


def _linear(model: nn.Module) -> list[SparseFactorized | SparseDoped]:
    found = [
        m
        for m in model.modules()
        if isinstance(m, SparseDoped)
        or (isinstance(m, SparseFactorized) and isinstance(m.between, nn.Identity))
    ]
    if not found:
        raise ValueError("the model has no doped layer and no factorized one that is linear")
    return found


def _product(reduce: nn.Module, expand: nn.Module) -> Tensor:
    """V U of a pair of layers, in the shape of the layer that it stands for."""
    u, v = reduce.get_parameter("weight"), expand.get_parameter("weight")
    return (v.flatten(1) @ u.flatten(1)).unflatten(1, u.shape[1:])


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1), NaN included."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")


def is_plain(layer: nn.Module) -> bool:
    """Tell whether a layer is one that these can replace, size aside."""
    # Subclasses may be read by their owner without being called (attention's out_proj).
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)


def _sizes(layer: Layer) -> tuple[int, int, int]:
    """Weights, inputs times the kernel's taps, and outputs of a layer."""
    size, outputs = layer.weight.numel(), layer.weight.shape[0]
    if not is_plain(layer) or min(layer.weight.shape[:2]) < 2:
        raise ValueError(
            "layer must be an nn.Linear or an nn.Conv2d without groups, 2 x 2 or larger; got "
            f"{layer}"
        )
    return size, size // outputs, outputs


def _inputs(layer: Layer) -> int:
    return layer.weight.shape[1]


def _pointwise(layer: Layer, inputs: int, outputs: int, *, bias: bool) -> Layer:
    where: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias, **where)
    return nn.Conv2d(inputs, outputs, 1, bias=bias, **where)


def _batch_norm(layer: Layer) -> Callable[[int], nn.Module]:
    kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else FeatureNorm
    return lambda width: kind(width, device=layer.weight.device, dtype=layer.weight.dtype)
