"""A larger but sparse copy of a model that costs as many multiply-accumulates as the dense one.

Layer by layer, one of :mod:`rarefy.weights.iso_layers`; or, for the whole network, Sparse Wide:

    all widths times (1 - s)^-1/2,   one density d:   sum_l positions_l d numel_l = dense cost

The first and last layer of a wide network cannot grow on both sides and may stay dense, so d,
common to the sparse layers, is solved for rather than taken as 1 - s.

Source: Thangarasa et al. 2024, "Sparse-IFT" (ICML, arXiv 2303.11525), and the authors' code.

Departures: d is solved exactly where the authors' code bisects; a norm that follows a replaced
layer stays; transposed and grouped convolutions stay dense. A transformers ``Conv1D`` becomes the
linear layer that it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from rarefy.budget import Uniform
from rarefy.weights.iso_layers import (
    SparseDoped,
    SparseFactorized,
    SparseParallel,
    check_sparsity,
    is_plain,
)
from rarefy.weights.macs import OTHER, count_macs
from rarefy.weights.masks import Masks
from rarefy.weights.random_masks import random_mask
from rarefy.weights.select import Chooser, is_conv1d, select
from rarefy.weights.widen import Layer, widened

Family = Literal["wide", "parallel", "factorized", "doped"]


@dataclass(frozen=True)
class IsoFlop:
    """A sparse model that costs what a dense one does.

    Attributes
    ----------
    model : nn.Module
        A changed copy, masks applied, to be trained from scratch.
    masks : Masks
        Random, with exact counts; the paper's scaled initialisation is
        :func:`rarefy.weights.scale_init_` with them. Hold them with :func:`rarefy.weights.attach`
        or let them move with :class:`rarefy.weights.DynamicMasks`.
    macs, dense_macs : int
        Multiply-accumulates of one forward pass of ``inputs``: this model's, the dense model's.
    """

    model: nn.Module
    masks: Masks
    macs: int
    dense_macs: int


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
    avoid_dead: bool = False,
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
    avoid_dead : bool, default False
        Let every unit begin with a weight in and one out where the count is enough: at high
        sparsity and small fan-in many would have none.
    **options
        For the layers of the other families: ``norm=``, ``between=``, ``dense_expand=``,
        ``mask_low_rank=``.

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
    model = _with_linear_layers(model)
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
    masks = _random(copied, kept, generator, avoid_dead)
    masks.apply_(copied)
    macs = sum(row.sparse for row in count_macs(copied, inputs, masks))
    return IsoFlop(copied, masks, macs, sum(dense.values()))


def _with_linear_layers(model: nn.Module) -> nn.Module:
    """Copy a model with a linear layer for each ``Conv1D``; where there is none, it is itself."""
    if not any(is_conv1d(module) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if is_conv1d(module):
            inputs, outputs = module.weight.shape
            # On no device: both parameters are the old layer's.
            linear = nn.Linear(inputs, outputs, device="meta")
            linear.weight = nn.Parameter(module.weight.detach().T.contiguous())
            linear.bias = module.bias
            model.set_submodule(name, linear)
    return model


def _replaced(
    model: nn.Module, names: Collection[str], make: Callable[[Layer], Replacement]
) -> tuple[nn.Module, dict[str, int]]:
    copied = copy.deepcopy(model)
    kept: dict[str, int] = {}
    for name in names:
        owner = _owner(name)
        layer = copied.get_submodule(owner)
        if not is_plain(layer) or min(layer.weight.shape[:2]) < 2:  # type: ignore[index]
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
        and is_plain(wide.get_submodule(_owner(name)))
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


def _random(
    model: nn.Module, kept: Mapping[str, int], generator: torch.Generator, avoid_dead: bool
) -> Masks:
    weights = dict(model.named_parameters())
    masks = {}
    for name, count in kept.items():
        weight = weights[name]
        mask = random_mask(tuple(weight.shape), count, generator=generator, avoid_dead=avoid_dead)
        masks[name] = mask.to(weight.device)
    return Masks(masks)


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
