"""What a search over sparse networks draws from: hidden units, or masks over weights.

A space does two things. It draws candidates, and it runs many of them in one batch:

    sample(n, generator) -> n candidates
    outputs(model, candidates, x) -> (candidates, examples, ...)

Source: Rezsa Farahani 2024 (arXiv 2403.08265) for hidden units; masks over weights are the same
search over another set. Departures: none.

Axis letters: b candidates, n examples, k units kept, H units of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import vmap

from rarefy.weights.attach import masked_call
from rarefy.weights.masks import Masks
from rarefy.weights.subnetwork import Units, check_units, kept_units, perceptron

C = TypeVar("C")


class SearchSpace(Protocol[C]):
    """What :class:`rarefy.weights.RandomSearch` needs of a space; ``C`` is a candidate."""

    def sample(self, n: int, generator: torch.Generator) -> Sequence[C]:
        """Draw ``n`` candidates; drawing 2 and then 3 gives what drawing 5 would."""

    def outputs(self, model: nn.Module, candidates: Sequence[C], x: Tensor) -> Tensor:
        """Run every candidate of ``model`` on ``x``: (candidates, examples, ...)."""


@dataclass(frozen=True)
class NodeSpace:
    """Uniformly random subsets of a perceptron's hidden units, of one size a layer.

    Parameters
    ----------
    widths : sequence of int
        Units of each hidden layer.
    node_sparsity : float in [0, 1)
        Share of the units left out of each; ``max(1, round((1 - s) H))`` stay. Between hidden
        layers a share of ``(1 - s)^2`` of the weights stays.
    rescale : bool, default False
        As for :func:`rarefy.weights.subnetwork`.

    Raises
    ------
    ValueError
        If a width is no positive number, there is none, or the sparsity is out of range.

    Examples
    --------
    >>> space = NodeSpace((6, 8), node_sparsity=0.5)
    >>> [len(units) for units in space.sample(1, torch.Generator().manual_seed(0))[0]]
    [3, 4]
    >>> round(10**space.log10_size)
    1400
    """

    widths: Sequence[int]
    node_sparsity: float
    rescale: bool = False

    def __post_init__(self) -> None:
        if not len(self.widths) or min(self.widths) < 1:
            raise ValueError(
                f"widths must be the positive widths of the hidden layers, got {self.widths}"
            )
        if not 0 <= self.node_sparsity < 1:
            raise ValueError(f"node_sparsity must lie in [0, 1), got {self.node_sparsity}")

    @property
    def kept(self) -> tuple[int, ...]:
        """Units that stay of each hidden layer."""
        return tuple(kept_units(w, node_sparsity=self.node_sparsity) for w in self.widths)

    @property
    def log10_size(self) -> float:
        """Decimal logarithm of how many candidates there are."""
        pairs = zip(self.widths, self.kept, strict=True)
        return sum(math.log10(math.comb(width, kept)) for width, kept in pairs)

    def sample(self, n: int, generator: torch.Generator) -> list[Units]:
        """Draw ``n`` candidates: for each hidden layer the rising indices that stay.

        Parameters
        ----------
        n : int
        generator : torch.Generator
            Of the CPU.

        Returns
        -------
        list of tuples of index tensors
        """
        # The places of the k largest of H uniform numbers are a uniform k-subset.
        noise = torch.rand(n, sum(self.widths), generator=generator).split(list(self.widths), 1)
        layers = [
            part.topk(kept).indices.sort(dim=1).values
            for part, kept in zip(noise, self.kept, strict=True)
        ]
        return list(zip(*layers, strict=True))

    def outputs(self, model: nn.Module, candidates: Sequence[Units], x: Tensor) -> Tensor:
        """Run sub-networks of a perceptron in one batch of small dense products.

        The first layer's activations are those of the parent, computed once for all.

        Parameters
        ----------
        model : nn.Sequential
        candidates : sequence of tuples of index tensors
        x : Tensor, shape (n, ...)

        Returns
        -------
        Tensor, shape (b, n, outputs)

        Raises
        ------
        ValueError
            If the model is no perceptron, or has other widths.
        """
        parts = perceptron(model)
        if parts.widths != tuple(self.widths):
            raise ValueError(
                f"the model's hidden layers have widths {parts.widths}, the space "
                f"{tuple(self.widths)}"
            )
        check_units(candidates[0], parts.widths)
        first, *rest = parts.linears
        units = [torch.stack(layer).to(x.device) for layer in zip(*candidates, strict=True)]
        # Units come first, (H, n), so that picking some of them copies whole rows.
        shared = parts.after[0](first(parts.before(x))).T.contiguous()
        h = shared.index_select(0, units[0].flatten()).view(*units[0].shape, -1)
        all_outputs = torch.arange(rest[-1].out_features, device=x.device)
        outs = [*units[1:], all_outputs.expand(len(candidates), -1)]
        for linear, act, i, o in zip(rest, parts.after[1:], units, outs, strict=True):
            weight = linear.weight[o[:, :, None], i[:, None, :]]
            if self.rescale:
                weight = weight * math.sqrt(linear.in_features / i.shape[1])
            if linear.bias is None:
                h = act(torch.bmm(weight, h))
            else:
                h = act(torch.baddbmm(linear.bias[o][:, :, None], weight, h))
        return h.transpose(1, 2)


@dataclass(frozen=True)
class WeightSpace:
    """Random masks over the weights of any model, drawn by a function of yours.

    Parameters
    ----------
    draw : callable ``generator -> Masks``
        All of the same tensors: :func:`rarefy.weights.random_masks` with any budget, or a random
        N:M pattern.

    Examples
    --------
    >>> from rarefy.operators import NM
    >>> from rarefy.weights import mask_from_scores, random, random_masks
    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> space = WeightSpace(lambda g: random_masks(net, density=0.1, generator=g))
    >>> two_of_four = WeightSpace(
    ...     lambda g: mask_from_scores(random(net, generator=g), pattern=NM(2, 4))
    ... )
    >>> g = torch.Generator().manual_seed(0)
    >>> [s.sample(1, g)[0].nnz for s in (space, two_of_four)]
    [8, 40]
    """

    draw: Callable[[torch.Generator], Masks]

    def sample(self, n: int, generator: torch.Generator) -> list[Masks]:
        """Draw ``n`` masks."""
        return [self.draw(generator) for _ in range(n)]

    def outputs(self, model: nn.Module, candidates: Sequence[Masks], x: Tensor) -> Tensor:
        """Run the model under every mask, all in one batch.

        Parameters
        ----------
        model : nn.Module
            One that ``torch.func.vmap`` can run.
        candidates : sequence of Masks
            Over the same tensors of the model.
        x : Tensor, shape (n, ...)

        Returns
        -------
        Tensor, shape (b, n, ...)

        Raises
        ------
        ValueError
            If a mask does not fit the model.
        """
        candidates[0].validate(model)
        stacked = {name: torch.stack([c[name] for c in candidates]) for name in candidates[0]}
        return vmap(lambda masks: masked_call(model, masks, x))(stacked)
