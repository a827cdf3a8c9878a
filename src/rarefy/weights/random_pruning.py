"""Random pruning at initialisation: what is needed beside :func:`random_masks`.

    d_l   share of layer l's weights among the best round(d N) scores of a redrawn copy
    M_l   drawn at random with density d_l: how many is kept, which ones is not
    std   of a kept weight, times d_l^(-1/2), keeps the variance of a layer's output

Source: Liu et al. 2022 (arXiv 2202.02643), sections 3 and 4, and the authors' code, which scores a
copy drawn anew by Xavier's rule. The allocations from shapes are rules of :mod:`rarefy.budget`.
Departures: no layer is left without a weight (``min_per_group=0`` allows it); the scaled
initialisation goes by each layer's density, where the code takes the network's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rarefy.budget import ScoreRatios
from rarefy.weights.masks import Masks
from rarefy.weights.scores import Loss
from rarefy.weights.select import select


class Score(Protocol):
    """A score that reads gradients: :func:`snip`, :func:`grasp` or :func:`fisher`."""

    def __call__(
        self,
        model: nn.Module,
        batches: Iterable[Any],
        loss: Loss,
        *,
        weights: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Score weights, by name; the larger, the sooner kept."""


def score_ratios(
    score: Score,
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    weights: Mapping[str, Tensor] | None = None,
    redraw: bool = True,
    min_per_group: int = 1,
    generator: torch.Generator,
) -> ScoreRatios:
    """Make the allocation rule that keeps a score's layer densities and drops its positions.

    Parameters
    ----------
    score : callable
        :func:`snip` for "SNIP ratios", :func:`grasp` for "GraSP ratios", :func:`fisher`.
    model : nn.Module
        Left as it is: a copy is scored.
    batches : iterable
        Each is handed to ``loss``. The paper takes one batch of 128 for SNIP; for GraSP two, of
        25 examples of each class together.
    loss : callable ``(model, batch) -> scalar Tensor``
        For GraSP the paper divides the logits by 200 in it.
    weights : mapping of str to Parameter, optional
        Parameters of ``model`` to be pruned; :func:`rarefy.weights.select` by default.
    redraw : bool, default True
        Score weights drawn anew by Xavier's normal rule, so that the densities depend on the
        architecture and the data alone. ``False`` scores the model's own, for one that is trained.
    min_per_group : int, default 1
        Weights that every layer keeps at least.
    generator : torch.Generator
        Of the CPU; what the copy is drawn from.

    Returns
    -------
    ScoreRatios
        For ``random_masks(model, rule=...)``, at any density.

    Raises
    ------
    ValueError
        If ``batches`` is empty, or a weight is tied.

    Examples
    --------
    >>> from rarefy.weights import random_masks, snip
    >>> g = torch.Generator().manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> def loss(model, x):
    ...     return model(x).square().mean()
    >>> rule = score_ratios(snip, net, [torch.ones(2, 8)], loss, generator=g)
    >>> random_masks(net, density=0.25, rule=rule, generator=g).nnz
    48
    """
    names = list(select(model) if weights is None else weights)
    twin = copy.deepcopy(model)
    parameters = dict(twin.named_parameters())
    chosen = {name: parameters[name] for name in names}
    if redraw:
        xavier_(chosen, generator=generator)
    return ScoreRatios(score(twin, batches, loss, weights=chosen), min_per_group=min_per_group)


@torch.no_grad()
def xavier_(weights: Mapping[str, Tensor], *, generator: torch.Generator) -> None:
    """Draw weights anew, normal with variance ``2 / (fan_in + fan_out)``, in place.

    Parameters
    ----------
    weights : mapping of str to Tensor
    generator : torch.Generator
        Of the CPU, so that a seed gives the same weights on any device.
    """
    for weight in weights.values():
        drawn = torch.empty(weight.shape, dtype=torch.float32)
        weight.copy_(nn.init.xavier_normal_(drawn, generator=generator))


@torch.no_grad()
def scale_init_(model: nn.Module, masks: Masks) -> None:
    """Multiply each masked weight by ``density^(-1/2)`` of its tensor, in place.

    Of a freshly drawn network, before training: what a layer's inputs lose in number they regain
    in size.

    Parameters
    ----------
    model : nn.Module
    masks : Masks
        A tensor of which nothing is kept stays as it is.

    Raises
    ------
    ValueError
        If a mask does not fit the model.
    """
    masks.validate(model)
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if kept := int(mask.count_nonzero()):
            parameters[name].mul_(math.sqrt(mask.numel() / kept))


@torch.no_grad()
def gradient_norm(model: nn.Module, masks: Masks) -> float:
    """Compute ``||m g||``, the norm of the gradient that kept weights hold after a backward pass.

    Early in training it tells allocations apart: where little flows, little is learned.

    Parameters
    ----------
    model : nn.Module
        After ``loss.backward()``. A weight without a gradient counts as zero.
    masks : Masks
        ``Masks.ones(select(model))`` for a dense network.

    Returns
    -------
    float
    """
    parameters = dict(model.named_parameters())
    norms = [
        torch.linalg.vector_norm(gradient.masked_fill(~mask, 0))
        for name, mask in masks.items()
        if (gradient := parameters[name].grad) is not None
    ]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
