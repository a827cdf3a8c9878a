"""Dynamic Sparse Learning: masks on embedding tables that explore widely first and settle late.

    every ``every`` steps, of a table's (or all tables') nnz kept entries:
    n = ceil(rho_t nnz),   rho_t = floor + (drop - floor) / 2 (1 + cos(pi t / T))
    prune   the n kept entries of least importance: |w|, SET's, or Taylor's (w g)^2
    grow    the n entries of largest dL/dw among those that are not kept now

An entry that was just pruned competes for growth like any other; one that wins stays as it was,
one that is new starts at zero. The budget never changes, and the end of training (T, not a part of
it) is where the masks come to rest.

Source: Wang et al. 2024 (arXiv 2402.02855), section 3, and its released settings; growth by the
gradients of the whole interval, and of sampled rows, from SparseRec (2024). Departures: the last
step moves nothing, as what it grew could not learn; ``momentum`` is a running mean of dense
gradients without Adam's second moment, as pruned entries have no optimizer state here;
``scope="group"`` and ``min_per_row`` are ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rarefy.budget import Cosine
from rarefy.operators import TopK
from rarefy.weights.dense_gradients import Gather
from rarefy.weights.from_scores import largest
from rarefy.weights.masks import Masks

Prune = Literal["magnitude", "set", "taylor", "random"]
Grow = Literal["gradient", "accumulated", "momentum", "random"]


_OVER: dict[str, Literal["step", "interval", "momentum"]] = {
    "gradient": "step",
    "accumulated": "interval",
    "momentum": "momentum",
}


@dataclass(frozen=True)
class DSL:
    """The rule of Dynamic Sparse Learning, for :class:`DynamicMasks`.

    Parameters
    ----------
    drop : float, default 0.5
        Share of the kept entries that the first update moves.
    floor : float, default 0.005
        Share that the last ones move; equal to ``drop`` it is constant.
    prune : {"magnitude", "set", "taylor", "random"}, default "magnitude"
        ``"set"`` prunes half of its count among the positive entries nearest zero and half among
        the negative; ``"taylor"`` those whose removal changes the loss least, to first order.
        ``"random"`` is there to compare with.
    grow : {"gradient", "accumulated", "momentum", "random"}, default "gradient"
        By the gradients of the last batch, those of every batch since the last update, their
        running mean, or chance. Where a batch gives gradients to few rows, as in plain matrix
        factorisation, ``"gradient"`` grows these rows only: take ``"accumulated"``.
    scope : {"tensor", "group"}, default "tensor"
        What competes: the entries of one table, or of all, so that the budget can move between
        users and items.
    min_per_row : int, default 0
        Entries of each row that pruning spares, its most important; a row without any scores
        everything alike.
    sample : float in (0, 1], default 1.0
        Share of each table's rows, drawn anew behind every update, of which gradients are gathered,
        in as much less time and memory; only these rows can grow. Not for choices by chance, nor
        for Taylor's, which reads every row.

    Raises
    ------
    ValueError
        If a share is not in [0, 1], ``floor`` exceeds ``drop``, or a choice is unknown.

    Examples
    --------
    >>> from torch import nn
    >>> from rarefy.weights import DynamicMasks, random_masks
    >>> g = torch.Generator().manual_seed(0)
    >>> table = nn.Embedding(10, 8)
    >>> masks = random_masks({"weight": table.weight}, density=0.25, generator=g)
    >>> adam = torch.optim.Adam(table.parameters(), lr=0.1)
    >>> held = DynamicMasks(table, masks, adam, rule=DSL(), steps=6, every=2, generator=g)
    >>> for _ in range(6):
    ...     (table.weight - 1).square().sum().backward()
    ...     adam.step()
    ...     adam.zero_grad()
    >>> held.masks.nnz, int(table.weight.count_nonzero()), held.ever_active() > 0.25
    (20, 20, True)
    """

    drop: float = 0.5
    floor: float = 0.005
    prune: Prune = "magnitude"
    grow: Grow = "gradient"
    scope: Literal["tensor", "group"] = "tensor"
    min_per_row: int = 0
    sample: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.drop <= 1:
            raise ValueError(
                "floor and drop must be shares with floor <= drop, got "
                f"{self.floor} and {self.drop}"
            )
        for name, value, known in (
            ("prune", self.prune, ("magnitude", "set", "taylor", "random")),
            ("grow", self.grow, ("gradient", "accumulated", "momentum", "random")),
            ("scope", self.scope, ("tensor", "group")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.min_per_row < 0:
            raise ValueError(f"min_per_row must not be negative, got {self.min_per_row}")
        if not 0 < self.sample <= 1:  # also true for NaN
            raise ValueError(f"sample must be in (0, 1], got {self.sample}")
        if self.sample < 1 and (self.grow == "random" or self.prune == "taylor"):
            raise ValueError(
                f"sample is for growth by gradients: with grow={self.grow!r} and "
                f"prune={self.prune!r} it must be 1, got {self.sample}"
            )

    @property
    def by_gradient(self) -> bool | Gather:
        """Which gradients :class:`DynamicMasks` gathers."""
        if self.grow == "random":
            return self.prune == "taylor"
        return Gather(_OVER[self.grow], rows=self.sample)

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        masks: Masks,
        *,
        progress: float,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Masks:
        """Move a share of each table's entries, or of all tables' together."""
        if progress >= 1:
            return masks
        share = Cosine(self.floor, initial=self.drop)(progress)
        groups = [list(masks)] if self.scope == "group" else [[name] for name in masks]
        moved: dict[str, Tensor] = {}
        for names in groups:
            kept = Masks({name: masks[name] for name in names})
            count = math.ceil(share * kept.nnz - 1e-9)
            stay = self._pruned(kept, weights, gradients, generator, count)
            # Fewer may have gone than were asked for, where rows are spared.
            moved.update(stay | self._grown(stay, gradients, generator, kept.nnz - stay.nnz))
        return Masks({name: moved[name] for name in masks})

    def _pruned(
        self,
        kept: Masks,
        weights: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
        count: int,
    ) -> Masks:
        importance = {
            name: self._importance(name, weights[name], gradients, generator) for name in kept
        }
        spared = Masks({name: self._spared(importance[name], mask) for name, mask in kept.items()})
        count = min(count, kept.nnz - spared.nnz)
        stay = Masks({name: torch.zeros_like(mask) for name, mask in kept.items()})
        for side, leaving in self._sides(kept, weights, spared, count):
            ranked = {
                name: value.masked_fill(~side[name], -1).masked_fill_(
                    side[name] & spared[name], torch.inf
                )
                for name, value in importance.items()
            }
            stay = stay | largest(ranked, side.nnz - leaving)
        return stay

    def _sides(
        self, kept: Masks, weights: Mapping[str, Tensor], spared: Masks, count: int
    ) -> list[tuple[Masks, int]]:
        """What is ranked by itself, and how many entries of it are pruned."""
        if self.prune != "set":
            return [(kept, count)]
        positive = Masks({name: mask & (weights[name] >= 0) for name, mask in kept.items()})
        negative = kept & ~positive
        most, others = ((side & ~spared).nnz for side in (positive, negative))
        # Half from each side; where one is short the other makes up for it.
        half = min(max(math.ceil(count / 2), count - others), most)
        return [(positive, half), (negative, count - half)]

    def _importance(
        self,
        name: str,
        weight: Tensor,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Tensor:
        if self.prune == "random":
            return _lots(weight, generator)
        importance = weight.detach().float()
        if self.prune == "taylor":
            # A table that the loss did not reach can lose anything.
            importance = importance * gradients.get(name, torch.zeros_like(importance))
        return importance.abs()

    def _spared(self, importance: Tensor, mask: Tensor) -> Tensor:
        if not self.min_per_row:
            return torch.zeros_like(mask)
        best = TopK(self.min_per_row, by="value").mask(importance.masked_fill(~mask, -1))
        return best & mask

    def _grown(
        self,
        stay: Masks,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
        count: int,
    ) -> Masks:
        growth = {}
        for name, mask in stay.items():
            if self.grow == "random":
                value = _lots(mask, generator)
            elif name in gradients:
                value = gradients[name].float().abs()
            else:
                value = torch.zeros(mask.shape, device=mask.device)
            growth[name] = value.masked_fill(mask, -1)
        return largest(growth, count)


def _lots(like: Tensor, generator: torch.Generator) -> Tensor:
    # Drawn on the generator's device, so that a seed means the same on any other.
    drawn = torch.rand(like.shape, generator=generator, device=generator.device)
    return drawn.to(like.device)
