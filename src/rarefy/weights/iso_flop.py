"""Larger but sparse layers that cost as many multiply-accumulates as the dense ones they replace.

A layer of N = fan * out weights (fan = inputs, times the kernel's taps) becomes, at sparsity s:

    wide        all widths times (1 - s)^-1/2
    parallel    sum_j norm_j(W_j x),         round(1 / (1 - s)) branches
    factorized  V psi(U x),                  inner width ceil(N / ((fan + out)(1 - s)))
    doped       S x + V U x,                 rank floor(s N / (fan + out)), U and V dense

each keeping exactly N weights in all. U is the convolution (kernel, stride), V is 1 x 1. In a wide
network the first and last layer cannot grow on both sides: one density, common to the sparse
layers, is solved so that the whole network costs what the dense one did.

Source: Thangarasa et al. 2024, "Sparse-IFT" (ICML, arXiv 2303.11525), section 3 and appendix B.

Departures: counts are exact where the paper's densities round; the branches of a parallel layer
share one budget (they are one stacked layer); a norm that follows the replaced layer stays; fresh
weights are drawn as torch draws them, not by fan-out; transposed and grouped convolutions and
transformers' ``Conv1D`` stay dense.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from rarefy.budget import Uniform
from rarefy.weights.macs import OTHER, count_macs
from rarefy.weights.masks import Masks
from rarefy.weights.random_masks import random_mask
from rarefy.weights.select import Chooser, select
from rarefy.weights.widen import Layer, rebuilt, widened

Family = Literal["wide", "parallel", "factorized", "doped"]


@dataclass(frozen=True)
class IsoFlop:
    """A sparse model that costs what a dense one does.

    Attributes
    ----------
    model : nn.Module
        A changed copy, masks applied, to be trained from scratch.
    masks : Masks
        Random, with exact counts; hold them with :func:`rarefy.weights.attach` or let them move
        with :class:`rarefy.weights.DynamicMasks`.
    macs, dense_macs : int
        Multiply-accumulates of one forward pass of ``inputs``: this model's, the dense model's.
    """

    model: nn.Module
    masks: Masks
    macs: int
    dense_macs: int


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

    Examples
    --------
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
        self.branches = round(1 / (1 - sparsity))
        if self.branches == 1 and sparsity > 0:
            raise ValueError(
                f"sparsity {sparsity:g} makes 1 / (1 - sparsity), rounded, a single branch; "
                "parallel branches need a sparsity of 1/3 or more"
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

    def __init__(self, layer: Layer, *, sparsity: float) -> None:
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

    def forward(self, x: Tensor) -> Tensor:
        """Compute ``S x + V U x``."""
        return self.sparse(x) + self.expand(self.reduce(x))


Replacement = SparseParallel | SparseFactorized | SparseDoped

_REPLACEMENTS: dict[str, Callable[..., Replacement]] = {
    "parallel": SparseParallel,
    "factorized": SparseFactorized,
    "doped": SparseDoped,
}


def iso_flop(
    model: nn.Module,
    inputs: Any,
    *,
    family: Family,
    sparsity: float,
    generator: torch.Generator,
    keep_dense: Chooser | None = None,
    widen: Chooser | None = None,
    match: Literal["network", "layer"] = "network",
    rule: Callable[..., dict[str, int]] = Uniform(),  # noqa: B008 - a frozen constant
    **options: Any,
) -> IsoFlop:
    """Make a larger, sparse copy of a model at the same multiply-accumulates.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    inputs : Tensor, tuple of positional or dict of keyword arguments
        A batch to count on; only its shapes matter.
    family : {"wide", "parallel", "factorized", "doped"}
    sparsity : float in [0, 1)
    generator : torch.Generator
        Of the masks and of the fresh weights.
    keep_dense : str, sequence of str, or callable, optional
        What is not made sparse, as for :func:`rarefy.weights.select`. By default the stem and the
        head: the first and the last layer that runs. ``()`` makes them sparse too. Of a wide
        network they are widened all the same.
    widen : str, sequence of str, or callable, optional
        Of family "wide", the weights of the layers whose *outputs* grow, by ``1 / (1 - sparsity)``,
        and what changes shape with them is sparse; for example ``("*gate_proj*", "*up_proj*")``.
        By default every layer but the last, by the root of that.
    match : {"network", "layer"}, default "network"
        Of family "wide": solve one density so that the networks cost the same, or let each sparse
        layer keep as many weights as the dense layer had. The others do the latter anyhow.
    rule : allocation rule, default ``Uniform()``
        From :mod:`rarefy.budget`: how "network" spreads the budget over the sparse layers.
    **options
        For the layers of the other families: ``norm=``, ``between=``, ``dense_expand=``.

    Returns
    -------
    IsoFlop

    Raises
    ------
    ValueError
        If the sparsity is out of range or does not suit a layer, nothing is left to make sparse,
        a wide network cannot be built, or its dense layers leave less than half of the density
        asked for.

    Examples
    --------
    >>> mlp = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 4))
    >>> g = torch.Generator().manual_seed(0)
    >>> sparse = iso_flop(mlp, torch.ones(1, 8), family="factorized", sparsity=0.75, generator=g)
    >>> sparse.macs == sparse.dense_macs, sparse.masks.nnz
    (True, 256)
    """
    check_sparsity(sparsity)
    if family not in get_args(Family):
        raise ValueError(f"family must be one of {', '.join(get_args(Family))}, got {family!r}")
    if family != "wide" and widen is not None:
        raise ValueError(f"widen= belongs to family 'wide', got family {family!r}")
    weights = select(model)
    dense = {row.name: row.dense for row in count_macs(model, inputs)}
    order = [name for name in dense if name != OTHER]
    if keep_dense is None:
        left = {order[0], order[-1]}
    else:
        left = set() if keep_dense == () else set(select(model, include=keep_dense))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        if family == "wide":
            grown = set(order[:-1]) if widen is None else set(select(model, include=widen))
            factor = (1 - sparsity) ** (-0.5 if widen is None else -1.0)
            copied = widened(model, inputs, factor=factor, layers={_owner(n) for n in grown})
        else:
            make = _REPLACEMENTS[family]
            copied, kept = _replaced(
                model,
                [name for name in order if name in weights and name not in left],
                lambda layer: make(layer, sparsity=sparsity, **options),
            )
    if family == "wide":
        sparse = _sparse_of_wide(model, copied, left)
        kept = (
            {name: weights[name].numel() for name in sparse}
            if match == "layer"
            else _solved(copied, inputs, sparse, sum(dense.values()), rule, 1 - sparsity)
        )
    masks = _random(copied, kept, generator)
    masks.apply_(copied)
    macs = sum(row.sparse for row in count_macs(copied, inputs, masks))
    return IsoFlop(copied, masks, macs, sum(dense.values()))


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1), NaN included."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be at least 0 and below 1, got {sparsity}")


def _replaced(
    model: nn.Module, names: Collection[str], make: Callable[[Layer], Replacement]
) -> tuple[nn.Module, dict[str, int]]:
    copied = copy.deepcopy(model)
    kept: dict[str, int] = {}
    for name in names:
        owner = _owner(name)
        layer = copied.get_submodule(owner)
        if not _plain(layer) or min(layer.weight.shape[:2]) < 2:  # type: ignore[index]
            continue
        sparse = make(layer).train(layer.training)  # type: ignore[arg-type]
        if owner:
            copied.set_submodule(owner, sparse)
        else:
            copied = sparse
        kept |= {f"{owner}.{key}" if owner else key: count for key, count in sparse.kept.items()}
    if not kept:
        raise ValueError(
            "no layer is left to make sparse: they are kept dense, grouped, or narrower than 2; "
            "pass keep_dense=() to include the first and the last"
        )
    return copied, kept


def _sparse_of_wide(model: nn.Module, wide: nn.Module, left: Collection[str]) -> list[str]:
    before = dict(model.named_parameters())
    sparse = [
        name
        for name, weight in select(wide).items()
        if name not in left
        and weight.shape != before[name].shape
        and _plain(wide.get_submodule(_owner(name)))
    ]
    if not sparse:
        raise ValueError("widening changed no layer that may be sparse; see widen= and keep_dense=")
    return sparse


def _solved(
    wide: nn.Module,
    inputs: Any,
    sparse: list[str],
    budget: int,
    rule: Callable[..., dict[str, int]],
    wanted: float,
) -> dict[str, int]:
    """Counts of the sparse layers that make the whole network cost ``budget``."""
    weights = dict(wide.named_parameters())
    full = {row.name: row.dense for row in count_macs(wide, inputs)}
    room = sum(full[name] for name in sparse)
    fixed = sum(full.values()) - room
    share = (budget - fixed) / room
    if share < wanted / 2:
        raise ValueError(
            f"the wide network's dense layers cost {fixed:,} of the {budget:,} multiply-accumulates"
            f" of the original, which leaves the sparse ones a density of {max(share, 0):.3f} where"
            f" {wanted:.3f} was asked for; keep fewer layers dense (keep_dense=()) or widen fewer"
        )
    cost = {name: full[name] / weights[name].numel() for name in sparse}
    shapes = {name: tuple(weights[name].shape) for name in sparse}
    return rule(shapes, density=min(share, 1.0), cost=cost)


def _random(model: nn.Module, kept: Mapping[str, int], generator: torch.Generator) -> Masks:
    weights = dict(model.named_parameters())
    masks = {}
    for name, count in kept.items():
        weight = weights[name]
        mask = random_mask(tuple(weight.shape), count, generator=generator)
        masks[name] = mask.to(weight.device)
    return Masks(masks)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _plain(layer: nn.Module) -> bool:
    # Subclasses may be read by their owner without being called (attention's out_proj).
    return type(layer) is nn.Linear or (type(layer) is nn.Conv2d and layer.groups == 1)


def _sizes(layer: Layer) -> tuple[int, int, int]:
    """Weights, inputs times the kernel's taps, and outputs of a layer."""
    size, outputs = layer.weight.numel(), layer.weight.shape[0]
    if not _plain(layer) or min(layer.weight.shape[:2]) < 2:
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
