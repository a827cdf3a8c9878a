"""Sub-networks of a multilayer perceptron: some of its hidden units, and nothing of the others.

    h_l = act(W_l h_{l-1} + b_l) z_l,   z_l in {0, 1}^{H_l}

A unit that is dropped takes its incoming and outgoing weights with it, so the sub-network is a
smaller *dense* perceptron with the rows and columns that are left: it is sliced, not masked, and
costs (1 - s)^2 of its parent between hidden layers.

Source: Rezsa Farahani 2024, "Random search as a baseline for sparse neural network architecture
search" (arXiv 2403.08265), for the space of units. Departures: none.

Axis letters: o outputs of a layer, i its inputs, k units kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rarefy.weights.masks import Masks

Units = tuple[Tensor, ...]
"""The units kept of each hidden layer: one tensor of rising indices (k,) a layer."""

# Modules that act on each unit by itself, so that leaving units out before or after is the same.
_UNIT_BY_UNIT = (
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.Sigmoid,
    nn.SiLU,
    nn.Softplus,
    nn.Tanh,
)


class Perceptron(NamedTuple):
    """A perceptron taken apart.

    Attributes
    ----------
    model : nn.Sequential
    linears : list of nn.Linear
    places : list of int
        Where they stand in the model.
    """

    model: nn.Sequential
    linears: list[nn.Linear]
    places: list[int]

    @property
    def widths(self) -> tuple[int, ...]:
        """Units of each hidden layer."""
        return tuple(linear.out_features for linear in self.linears[:-1])

    @property
    def before(self) -> nn.Sequential:
        """What stands before the first linear layer."""
        return nn.Sequential(*list(self.model)[: self.places[0]])

    @property
    def after(self) -> list[nn.Sequential]:
        """What follows each linear layer, up to the next."""
        modules, ends = list(self.model), [*self.places[1:], len(self.model)]
        return [
            nn.Sequential(*modules[here + 1 : there])
            for here, there in zip(self.places, ends, strict=True)
        ]


def perceptron(model: nn.Module) -> Perceptron:
    """Take a perceptron apart.

    Parameters
    ----------
    model : nn.Module
        An ``nn.Sequential`` of two or more ``nn.Linear`` with activations between them, and
        possibly an ``nn.Flatten`` in front.

    Returns
    -------
    Perceptron

    Raises
    ------
    ValueError
        If it is something else, or has no hidden layer.
    """
    if not isinstance(model, nn.Sequential):
        raise ValueError(
            f"hidden units are left out of an nn.Sequential of nn.Linear and activations only, got "
            f"a {type(model).__name__}; masks over weights (WeightSpace) suit any model"
        )
    places = [i for i, module in enumerate(model) if isinstance(module, nn.Linear)]
    if len(places) < 2:
        raise ValueError(
            f"the model has no hidden layer: {len(places)} nn.Linear, at least 2 wanted"
        )
    for i, module in enumerate(model):
        flattening = i == 0 and isinstance(module, nn.Flatten)
        if not (isinstance(module, (nn.Linear, *_UNIT_BY_UNIT)) or flattening):
            raise ValueError(
                f"module {i} is a {type(module).__name__}, which may mix units or hold weights of "
                "its own; wanted are nn.Linear, activations, and nn.Flatten in front"
            )
    linears = [module for module in model if isinstance(module, nn.Linear)]
    return Perceptron(model, linears, places)


def kept_units(width: int, *, node_sparsity: float) -> int:
    """Count the units that stay of a layer: ``max(1, round((1 - s) width))``, halves rounded up.

    Examples
    --------
    >>> kept_units(256, node_sparsity=0.9), kept_units(10, node_sparsity=0.75)
    (26, 3)
    """
    # Without the nudge (1 - 0.9) * 5 would be a little less than a half.
    return max(1, math.floor((1 - node_sparsity) * width + 0.5 + 1e-9))


def subnetwork(model: nn.Module, units: Units, *, rescale: bool = False) -> nn.Sequential:
    """Slice a sub-network out of a perceptron.

    Parameters
    ----------
    model : nn.Sequential
        Left as it is; see :func:`perceptron` for what it may hold.
    units : tuple of index tensors
        The units kept, one tensor a hidden layer.
    rescale : bool, default False
        Multiply the weights that read a layer of ``k`` of ``H`` units by ``sqrt(H / k)``, which
        keeps the variance of what they compute. Off in the paper.

    Returns
    -------
    nn.Sequential
        With weights of its own.

    Raises
    ------
    ValueError
        If the model is no perceptron, or the units do not fit it.

    Examples
    --------
    >>> parent = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> subnetwork(parent, (torch.tensor([0, 5]),))
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
      (1): ReLU()
      (2): Linear(in_features=2, out_features=2, bias=True)
    )
    """
    parts = perceptron(model)
    check_units(units, parts.widths)
    modules = [copy.deepcopy(m) for m in parts.model if not isinstance(m, nn.Linear)]
    ins: list[Tensor | None] = [None, *units]
    outs: list[Tensor | None] = [*units, None]
    for place, linear, i, o in zip(parts.places, parts.linears, ins, outs, strict=True):
        modules.insert(place, _sliced(linear, i, o, rescale=rescale))
    return nn.Sequential(*modules).train(model.training)


def embed(sub: nn.Module, model: nn.Module, units: Units) -> nn.Sequential:
    """Write a sub-network's weights back into a copy of its parent, with zeros elsewhere.

    The copy computes what the sub-network does: undo :func:`subnetwork` after training.

    Parameters
    ----------
    sub : nn.Sequential
    model : nn.Sequential
        The parent; left as it is.
    units : tuple of index tensors

    Returns
    -------
    nn.Sequential

    Raises
    ------
    ValueError
        If the three do not fit each other.
    """
    parts, inner = perceptron(model), perceptron(sub)
    check_units(units, parts.widths)
    if inner.widths != (wanted := tuple(map(len, units))) or inner.places != parts.places:
        raise ValueError(
            f"sub does not fit: its hidden layers have widths {inner.widths}, units keeps {wanted}"
        )
    whole = copy.deepcopy(parts.model)
    ins: list[Tensor | None] = [None, *units]
    outs: list[Tensor | None] = [*units, None]
    with torch.no_grad():
        for large, small, i, o in zip(
            perceptron(whole).linears, inner.linears, ins, outs, strict=True
        ):
            rows, columns = _grid(large, i, o)
            large.weight.zero_()
            large.weight[rows[:, None], columns] = small.weight
            if large.bias is not None:
                large.bias.zero_()
                large.bias[rows] = small.bias
    return whole


def unit_masks(model: nn.Module, units: Units) -> Masks:
    """Write down which weights of the parent a sub-network keeps.

    Parameters
    ----------
    model : nn.Sequential
        The parent.
    units : tuple of index tensors

    Returns
    -------
    Masks
        Over the weight matrices; their density is the sub-network's *weight* density. Biases are
        not masked: no kept weight reads a dropped unit.
    """
    parts = perceptron(model)
    check_units(units, parts.widths)
    names = {module: name for name, module in model.named_modules()}
    masks = {}
    for linear, i, o in zip(parts.linears, [None, *units], [*units, None], strict=True):
        rows, columns = _grid(linear, i, o)
        mask = torch.zeros_like(linear.weight, dtype=torch.bool)
        mask[rows[:, None], columns] = True
        masks[f"{names[linear]}.weight"] = mask
    return Masks(masks)


def check_units(units: Units, widths: Sequence[int]) -> None:
    """Refuse units that a perceptron of these hidden widths does not have.

    Raises
    ------
    ValueError
        Naming the layer.
    """
    if len(units) != len(widths):
        raise ValueError(
            f"units has {len(units)} layers, but the model has {len(widths)} hidden layers"
        )
    for layer, (kept, width) in enumerate(zip(units, widths, strict=True)):
        inside = (
            kept.ndim == 1 and len(kept) > 0 and 0 <= int(kept.min()) <= int(kept.max()) < width
        )
        if not inside or bool((kept.diff() <= 0).any()):
            raise ValueError(
                f"units of hidden layer {layer} must be rising indices below its width {width}, "
                f"got {kept.tolist()}"
            )


def _sliced(
    linear: nn.Linear, ins: Tensor | None, outs: Tensor | None, *, rescale: bool
) -> nn.Linear:
    rows, columns = _grid(linear, ins, outs)
    small = nn.Linear(
        len(columns), len(rows), bias=linear.bias is not None, device="meta"
    ).to_empty(device=linear.weight.device)
    small.to(linear.weight.dtype)
    gain = math.sqrt(linear.in_features / len(columns)) if rescale else 1.0
    with torch.no_grad():
        small.weight.copy_(gain * linear.weight[rows[:, None], columns])
        if linear.bias is not None:
            small.bias.copy_(linear.bias[rows])
    return small


def _grid(linear: nn.Linear, ins: Tensor | None, outs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Rows and columns that are kept; all where nothing is said."""
    device = linear.weight.device
    rows = torch.arange(linear.out_features) if outs is None else outs
    columns = torch.arange(linear.in_features) if ins is None else ins
    return rows.to(device), columns.to(device)
