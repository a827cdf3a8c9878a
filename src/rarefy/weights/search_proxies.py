"""What a search may rank candidates by without the loss: zero-cost proxies, or training itself.

    SynFlow        - log R,   R = 1' |W_L| ... |W_1| 1, the flow through the candidate
    SNIP           - sum |w g|
    gradient norm  - ||g||,   g the gradient of the mean cross-entropy at kept weights
    trained        - score after training

lower is better, as for objectives. SynFlow reads no data: by its conservation law the saliencies of
every layer add up to R, so that the forward pass is enough, and candidates run in one batch.

Source: Tanaka et al. 2020 (SynFlow); Lee et al. 2019 (SNIP); Abdelfattah et al. 2021, "Zero-cost
proxies for lightweight NAS" (ICLR, arXiv 2101.08134), which sums them over a network. Departures:
biases count as zero in SynFlow, and its logarithm is taken.

Axis letters: b candidates, n examples.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from rarefy.weights.search_space import C, SearchSpace
from rarefy.weights.select import select


class Proxy(Protocol):
    """What :class:`rarefy.weights.RandomSearch` takes in place of an objective."""

    def __call__(
        self, space: SearchSpace[C], model: nn.Module, candidates: Sequence[C], X: Tensor, y: Tensor
    ) -> Tensor:
        """Score candidates of a model on (n, ...) examples, (b,); the lower the better."""


def synflow_proxy(
    space: SearchSpace[C],
    model: nn.Module,
    candidates: Sequence[C],
    X: Tensor,
    y: Tensor,  # noqa: ARG001 - a proxy's signature
) -> Tensor:
    """Compute minus the logarithm of the synaptic flow of each candidate.

    Parameters
    ----------
    space : SearchSpace
    model : nn.Module
        Of layers that let positive signals pass, such as ReLU; a float64 copy runs.
    candidates : sequence
    X : Tensor, shape (n, ...)
        Only the shape of an example is used.
    y : Tensor
        Not used.

    Returns
    -------
    Tensor of float64, shape (b,)
        Infinite where nothing flows.
    """
    twin = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.abs_()
            if name.endswith("bias"):
                parameter.zero_()
        ones = torch.ones_like(X[:1], dtype=torch.float64)
        return -space.outputs(twin, candidates, ones).flatten(1).sum(1).log()


def snip_proxy(
    space: SearchSpace[C], model: nn.Module, candidates: Sequence[C], X: Tensor, y: Tensor
) -> Tensor:
    """Compute minus the mass of SNIP's saliency, ``sum |w g|``, of each candidate.

    One backward pass a candidate. Parameters are those of a :class:`Proxy`.

    Returns
    -------
    Tensor, shape (b,)
    """
    return _by_gradients(
        space, model, candidates, X, y, lambda weight, gradient: (weight * gradient).abs().sum()
    )


def gradient_norm_proxy(
    space: SearchSpace[C], model: nn.Module, candidates: Sequence[C], X: Tensor, y: Tensor
) -> Tensor:
    """Compute minus the norm of the gradient at the kept weights of each candidate.

    One backward pass a candidate. Parameters are those of a :class:`Proxy`.

    Returns
    -------
    Tensor, shape (b,)
    """
    squares = _by_gradients(
        space, model, candidates, X, y, lambda _, gradient: gradient.square().sum()
    )
    return -(-squares).sqrt()


def trained_proxy(train: Callable[[nn.Module, C], float]) -> Proxy:
    """Make a proxy that is none: each candidate is trained, at its cost.

    Parameters
    ----------
    train : callable ``(model, candidate) -> float``
        Trains a copy of the parent and gives its score, higher is better; not on test data.

    Returns
    -------
    Proxy
    """

    def proxy(
        space: SearchSpace[C],  # noqa: ARG001 - a proxy's signature
        model: nn.Module,
        candidates: Sequence[C],
        X: Tensor,  # noqa: ARG001
        y: Tensor,  # noqa: ARG001
    ) -> Tensor:
        with torch.enable_grad():
            return -torch.tensor([train(copy.deepcopy(model), c) for c in candidates])

    return proxy  # type: ignore[return-value] # of the candidates that ``train`` takes


def mean_error(outputs: Tensor, y: Tensor) -> Tensor:
    """Compute the share of wrong answers of each candidate: an objective, as accuracy is.

    Parameters
    ----------
    outputs : Tensor, shape (b, n, classes)
    y : integer Tensor, shape (n,)

    Returns
    -------
    Tensor, shape (b,)
    """
    return (outputs.argmax(2) != y).float().mean(1)


def _by_gradients(
    space: SearchSpace[C],
    model: nn.Module,
    candidates: Sequence[C],
    X: Tensor,
    y: Tensor,
    mass: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    weights = list(select(model).values())
    scores = []
    for candidate in candidates:
        with torch.enable_grad():
            outputs = space.outputs(model, [candidate], X)[0]
            loss = nn.functional.cross_entropy(outputs, y)
            # Gradients at pruned weights are zero, as those weights were not read.
            gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
        with torch.no_grad():
            parts = [mass(w, g) for w, g in zip(weights, gradients, strict=True)]
            scores.append(-torch.stack(parts).sum())
    return torch.stack(scores)
