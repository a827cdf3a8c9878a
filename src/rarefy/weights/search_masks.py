"""Two more spaces to search: whole channels of convolutions, and how a budget is spread.

    channels     of each convolution max(1, round((1 - s) C)) output channels, uniformly
    allocations  raw densities r ~ Dirichlet(c, ..., c);  counts in proportion r_l numel_l, within
                 their layers and exact in all;  positions uniform

Both are a :class:`WeightSpace`: what differs is how masks are drawn.

Source: generalisations of Rezsa Farahani 2024 (arXiv 2403.08265). Departures: ours altogether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rarefy.budget import ShapeRule
from rarefy.weights.masks import Masks
from rarefy.weights.random_masks import random_masks
from rarefy.weights.search_space import WeightSpace
from rarefy.weights.select import select
from rarefy.weights.subnetwork import kept_units

_NORMS = (nn.BatchNorm2d, nn.GroupNorm, nn.InstanceNorm2d)


def channel_space(model: nn.Module, *, channel_sparsity: float) -> WeightSpace:
    """Search over which output channels of each convolution stay.

    A channel that is left out is silent: its weights, its bias, and what the norm behind the
    convolution (the next module, if it has as many channels) makes of it are zero. Weights that
    read silent channels stay in the masks; :func:`rarefy.weights.effective_masks` takes them out.

    Parameters
    ----------
    model : nn.Module
    channel_sparsity : float in [0, 1)
        Share of the channels left out of each convolution.

    Returns
    -------
    WeightSpace

    Raises
    ------
    ValueError
        If the sparsity is out of range, or the model has no two-dimensional convolution without
        groups.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> space = channel_space(net, channel_sparsity=0.75)
    >>> masks = space.sample(1, torch.Generator().manual_seed(0))[0]
    >>> {name: mask.flatten(1).any(1).sum().item() if mask.ndim > 1 else mask.sum().item()
    ...  for name, mask in masks.items()}
    {'0.weight': 2, '0.bias': 2, '1.weight': 2, '1.bias': 2}
    """
    if not 0 <= channel_sparsity < 1:  # also true for NaN
        raise ValueError(f"channel_sparsity must lie in [0, 1), got {channel_sparsity}")
    groups = _channel_groups(model)
    if not groups:
        raise ValueError("the model has no two-dimensional convolution without groups")

    def draw(generator: torch.Generator) -> Masks:
        masks = {}
        for group in groups:
            channels = len(next(iter(group.values())))
            kept = kept_units(channels, node_sparsity=channel_sparsity)
            stays = torch.zeros(channels, dtype=torch.bool)
            stays[torch.randperm(channels, generator=generator)[:kept]] = True
            for name, tensor in group.items():
                place = stays.to(tensor.device).view(-1, *(1,) * (tensor.ndim - 1))
                masks[name] = place.expand_as(tensor).contiguous()
        return Masks(masks)

    return WeightSpace(draw)


def allocation_space(
    model: nn.Module, *, density: float, concentration: float = 1.0, min_per_layer: int = 1
) -> WeightSpace:
    """Search over how one budget is spread over the layers, positions at random.

    Parameters
    ----------
    model : nn.Module
    density : float in (0, 1]
        Of all prunable weights together, exactly.
    concentration : float, default 1.0
        1 draws all allocations alike; large values come near the uniform one, small values favour
        few layers.
    min_per_layer : int, default 1

    Returns
    -------
    WeightSpace

    Raises
    ------
    ValueError
        If a number is out of range, or the model has nothing to prune.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 5))
    >>> space = allocation_space(net, density=0.1)
    >>> one, other = space.sample(2, torch.Generator().manual_seed(0))
    >>> one.nnz, other.nnz, one.density("0.weight") == other.density("0.weight")
    (50, 50, False)
    """
    if not 0 < density <= 1:  # also true for NaN
        raise ValueError(f"density must lie in (0, 1], got {density}")
    if not 0 < concentration < float("inf"):
        raise ValueError(f"concentration must be positive and finite, got {concentration}")
    weights = select(model)

    def draw(generator: torch.Generator) -> Masks:
        seed = int(torch.randint(2**62, (), generator=generator))
        raw = np.random.default_rng(seed).dirichlet(np.full(len(weights), concentration))
        rule = _Drawn(tuple(raw.tolist()), min_per_group=min_per_layer)
        return random_masks(weights, density=density, rule=rule, generator=generator)

    return WeightSpace(draw)


@dataclass(frozen=True)
class _Drawn(ShapeRule):
    """Raw densities as given, one a group."""

    raw: tuple[float, ...]

    def _raw(self, shapes: object) -> NDArray[np.float64]:  # noqa: ARG002 - a rule's signature
        # A draw can underflow to 0, where the filling wants a proportion.
        return np.maximum(self.raw, np.finfo(np.float64).tiny ** 0.5)


def _channel_groups(model: nn.Module) -> list[dict[str, Tensor]]:
    """Parameters of each convolution and of the norm behind it: all have a channel first."""
    leaves = [(name, m) for name, m in model.named_modules() if not list(m.children())]
    groups = []
    for place, (name, module) in enumerate(leaves):
        if not isinstance(module, nn.Conv2d) or module.groups > 1:
            continue
        group = _own(name, module)
        behind = leaves[place + 1] if place + 1 < len(leaves) else None
        if behind is not None and isinstance(behind[1], _NORMS):
            own = _own(*behind)
            if all(len(tensor) == module.out_channels for tensor in own.values()):
                group |= own
        groups.append(group)
    return groups


def _own(name: str, module: nn.Module) -> dict[str, Tensor]:
    prefix = f"{name}." if name else ""
    return {f"{prefix}{key}": p for key, p in module.named_parameters(recurse=False)}
