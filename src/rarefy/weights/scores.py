"""Importance scores of weights; the larger, the sooner kept.

    magnitude |w|                    random  U(0, 1)
    snip      |g w|                  (Lee et al. 2019, eq. 6; without the normalisation)
    grasp     w (H g)                (Wang et al. 2020, eq. 8, sign turned: keep the largest)
    synflow   |w dR/dw|, R = 1' prod |w_l| 1   (Tanaka et al. 2020, algorithm 1)
    fisher    E[g^2] w^2             (empirical, one gradient a batch; Theis et al. 2018, eq. 6)
    movement  - sum_t w_t g_t        (Sanh et al. 2020, eq. 6)
    wanda     |w_ij| ||x_j||         (Sun et al. 2024, eq. 1)

with g the gradient of the loss. Scores are float32 whatever the weights are.

Departures: SNIP and GraSP sum gradients over batches first, so that of a summed loss one large
batch and its parts give the same score; movement leaves out the constant learning rate.

Axis letters: o outputs, i inputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rarefy.budget import Exponential
from rarefy.weights.attach import refuse_tied
from rarefy.weights.from_scores import mask_from_scores
from rarefy.weights.masks import Masks
from rarefy.weights.select import select

Loss = Callable[[nn.Module, Any], Tensor]
"""``loss(model, batch) -> scalar tensor``."""

Scores = dict[str, Tensor]


def magnitude(weights: nn.Module | Mapping[str, Tensor], *, within: Masks | None = None) -> Scores:
    """Compute ``|w|``.

    Parameters
    ----------
    weights : nn.Module or mapping of str to Tensor
        A model stands for its :func:`rarefy.weights.select`.
    within : Masks, optional
        What these prune scores -1: below a kept weight that happens to be zero.

    Returns
    -------
    dict of str to float32 Tensor

    Examples
    --------
    >>> magnitude({"w": torch.tensor([[-2.0, 1.0]])})
    {'w': tensor([[2., 1.]])}
    """
    scores = {name: w.detach().abs().float() for name, w in _chosen(weights).items()}
    if within is None:
        return scores
    return {name: torch.where(within[name], score, -1.0) for name, score in scores.items()}


def random(weights: nn.Module | Mapping[str, Tensor], *, generator: torch.Generator) -> Scores:
    """Draw uniform scores: the baseline every criterion must beat.

    Parameters
    ----------
    weights : nn.Module or mapping of str to Tensor
    generator : torch.Generator
        A CPU generator gives the same scores for any device of the weights.
    """
    return {
        name: torch.rand(w.shape, generator=generator, device=generator.device).to(w.device)
        for name, w in _chosen(weights).items()
    }


def wanda(weight: Tensor, norms: Tensor) -> Tensor:
    """Compute ``|w_ij| ||x_j||`` of one linear layer.

    Parameters
    ----------
    weight : Tensor, shape (o, i)
    norms : Tensor, shape (i,)
        Euclidean norm of each input over the calibration tokens (:attr:`LayerStats.norm`).

    Returns
    -------
    float32 Tensor, shape (o, i)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    if weight.ndim != 2 or norms.shape != weight.shape[1:]:
        raise ValueError(
            "weight must be a matrix and norms hold one value for each of its inputs, got "
            f"{tuple(weight.shape)} and {tuple(norms.shape)}"
        )
    return weight.detach().float().abs() * norms.float()


def snip(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> Scores:
    """Compute ``|g w|``: how fast the loss moves as a weight is faded out.

    Parameters
    ----------
    model : nn.Module
        Left as it is, its ``.grad`` included; in training mode batch norms gather statistics.
    batches : iterable
        Each is handed to ``loss``.
    loss : callable ``(model, batch) -> scalar Tensor``
    weights : mapping of str to Parameter, optional
        Parameters of ``model`` to score; :func:`rarefy.weights.select` by default.

    Returns
    -------
    dict of str to float32 Tensor

    Raises
    ------
    ValueError
        If ``batches`` is empty.
    """
    weights = _chosen(model, weights)
    total = _sum_over(batches, lambda batch: _gradients(loss(model, batch), weights))
    return {name: (total[name] * w.detach()).abs().float() for name, w in weights.items()}


def fisher(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> Scores:
    """Compute ``E[g^2] w^2``, the loss increase by a diagonal empirical Fisher matrix.

    Parameters, returns and errors are those of :func:`snip`; a batch should be one example where
    the expectation over examples is wanted.
    """
    weights = _chosen(model, weights)
    batches = list(batches)
    total = _sum_over(
        batches,
        lambda batch: {n: g.square() for n, g in _gradients(loss(model, batch), weights).items()},
    )
    return {
        name: (total[name] / len(batches) * w.detach().square()).float()
        for name, w in weights.items()
    }


def grasp(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> Scores:
    """Compute ``w (H g)``: keep the weights without which the gradient norm would fall most.

    Parameters, returns and errors are those of :func:`snip`. The paper divides the logits by a
    temperature of 200; that belongs in ``loss``. It takes a second backward pass through the first,
    for which torch's attention runs unfused.
    """
    weights = _chosen(model, weights)
    batches = list(batches)
    gradient = _sum_over(batches, lambda batch: _gradients(loss(model, batch), weights))

    def hessian_times_gradient(batch: Any) -> Scores:
        with sdpa_kernel(SDPBackend.MATH):
            part = _gradients(loss(model, batch), weights, create_graph=True)
        product = torch.stack([(part[name] * gradient[name]).sum() for name in weights]).sum()
        return _gradients(product, weights)

    total = _sum_over(batches, hessian_times_gradient)
    return {name: (total[name] * w.detach()).float() for name, w in weights.items()}


def synflow(
    model: nn.Module,
    inputs: Tensor,
    *,
    weights: Mapping[str, Tensor] | None = None,
    masks: Masks | None = None,
) -> Scores:
    """Compute synaptic saliency ``|w dR/dw|`` of the network with absolute weights.

    ``R`` is the sum of the outputs for an all-ones input of the shape of ``inputs``; no data.

    Parameters
    ----------
    model : nn.Module
        Called on one float tensor. Left as it is; evaluated on a float64 copy in eval mode.
    inputs : Tensor
        Only its shape is used.
    weights : mapping of str to Parameter, optional
    masks : Masks, optional
        Weights already pruned, which carry no flow and score 0.

    Returns
    -------
    dict of str to float64 Tensor
        Double precision: products of many layers span more than float32 holds.
    """
    names = list(_chosen(model, weights))
    twin = copy.deepcopy(model).double().eval()
    parameters = dict(twin.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.abs_()
        for name, mask in (masks or {}).items():
            parameters[name].masked_fill_(~mask, 0)
    output = twin(torch.ones_like(inputs, dtype=torch.float64))
    chosen = {name: parameters[name] for name in names}
    gradients = _gradients(output.sum(), chosen)
    return {name: (gradients[name] * w.detach()).abs() for name, w in chosen.items()}


def synflow_masks(
    model: nn.Module,
    inputs: Tensor,
    *,
    density: float,
    rounds: int = 100,
    weights: Mapping[str, Tensor] | None = None,
) -> Masks:
    """Prune by SynFlow: score and prune in rounds, density falling as ``density^(r / rounds)``.

    Parameters
    ----------
    model, inputs, weights
        As for :func:`synflow`.
    density : float in (0, 1]
    rounds : int, default 100
        The paper's number. One round is the one-shot variant, which collapses layers.

    Returns
    -------
    Masks
        With ``round(density * numel)`` weights.

    Raises
    ------
    ValueError
        If the density is out of range or ``rounds`` below 1.
    """
    if not 0 < density <= 1:  # also true for NaN
        raise ValueError(f"density must be above 0 and at most 1, got {density}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    chosen = _chosen(model, weights)
    masks = Masks.ones(chosen)
    schedule = Exponential(final=density)
    for r in range(1, rounds + 1):
        scores = synflow(model, inputs, weights=chosen, masks=masks)
        masks = mask_from_scores(scores, density=schedule(r / rounds))
    return masks


class Movement:
    """Movement score, ``- sum_t w_t g_t``, gathered while the model trains.

    A weight that moves away from zero scores high. Call :meth:`update` after each backward pass.

    Parameters
    ----------
    weights : nn.Module or mapping of str to Parameter

    Attributes
    ----------
    scores : dict of str to float32 Tensor
    """

    def __init__(self, weights: nn.Module | Mapping[str, Tensor]) -> None:
        self._weights = dict(_chosen(weights))
        self.scores = {
            name: torch.zeros_like(w, dtype=torch.float32) for name, w in self._weights.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Add ``- w g`` of this step; parameters without a gradient add nothing."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                self.scores[name] -= weight.float() * weight.grad.float()


def _chosen(
    model: nn.Module | Mapping[str, Tensor], weights: Mapping[str, Tensor] | None = None
) -> Mapping[str, Tensor]:
    if not isinstance(model, nn.Module):
        return model
    if weights is None:
        return select(model)
    refuse_tied(model, weights)
    return weights


def _gradients(
    value: Tensor, weights: Mapping[str, Tensor], *, create_graph: bool = False
) -> Scores:
    # A weight the loss never reads has gradient zero, hence score zero: the first to go.
    gradients = torch.autograd.grad(
        value, list(weights.values()), create_graph=create_graph, materialize_grads=True
    )
    return dict(zip(weights, gradients, strict=True))


def _sum_over(batches: Iterable[Any], of_batch: Callable[[Any], Scores]) -> Scores:
    total: Scores = {}
    for batch in batches:
        for name, value in of_batch(batch).items():
            total[name] = total[name] + value if name in total else value
    if not total:
        raise ValueError("batches is empty: a gradient score needs at least one batch")
    return total
