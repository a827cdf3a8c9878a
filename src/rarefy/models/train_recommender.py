"""Training a recommender: triples of a user, an item they chose and one they did not.

    u uniform among users, i uniform among u's items, j uniform among the others
    rate(t) = rate (last + (1 - last) / 2 (1 + cos(pi t / T)))

Source: the released settings of Dynamic Sparse Learning (WSDM 2024), last = 1/100. Departures:
none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_LAST = 0.01


class TripleSampler:
    """Draws (users, positives, negatives) from an interaction matrix, each of shape (n,).

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)

    Raises
    ------
    ValueError
        If there is no interaction, or a user has every item, so that there is no negative.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> sampler = TripleSampler(csr_array([[1, 0], [0, 0]]))
    >>> [part.tolist() for part in sampler.sample(2, generator=torch.Generator())]
    [[0, 0], [0, 0], [1, 1]]
    """

    def __init__(self, interactions: csr_array) -> None:
        from scipy.sparse import csr_array

        matrix = csr_array(interactions)
        matrix.sort_indices()
        counts = np.diff(matrix.indptr)
        if matrix.nnz == 0:
            raise ValueError("interactions is empty: at least one entry is wanted")
        if (full := np.flatnonzero(counts == matrix.shape[1])).size:
            raise ValueError(
                f"user {full[0]} has all {matrix.shape[1]} items, so there is no negative to learn "
                "from; leave such users out"
            )
        self._items = matrix.shape[1]
        self._active = torch.from_numpy(np.flatnonzero(counts))
        self._counts = torch.from_numpy(counts.astype(np.int64))
        self._first = torch.from_numpy(matrix.indptr.astype(np.int64))
        self._chosen = torch.from_numpy(matrix.indices.astype(np.int64))
        # One number for each entry, ascending: row by row, and sorted in each row.
        rows = torch.repeat_interleave(torch.arange(len(counts)), self._counts)
        self._keys = rows * self._items + self._chosen

    def sample(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw ``n`` triples on the CPU."""
        users = self._active[torch.randint(len(self._active), (n,), generator=generator)]
        place = torch.rand(n, generator=generator, dtype=torch.float64) * self._counts[users]
        positives = self._chosen[self._first[users] + place.long()]
        negatives = torch.randint(self._items, (n,), generator=generator)
        while (wrong := self._has(users, negatives)).any():
            negatives[wrong] = torch.randint(self._items, (int(wrong.sum()),), generator=generator)
        return users, positives, negatives

    def _has(self, users: Tensor, items: Tensor) -> Tensor:
        keys = users * self._items + items
        at = torch.searchsorted(self._keys, keys).clamp_max(len(self._keys) - 1)
        return self._keys[at] == keys


def train_recommender(
    model: nn.Module,
    interactions: csr_array,
    optimizer: Optimizer,
    *,
    steps: int,
    batch_size: int = 2048,
    generator: torch.Generator,
    on_step: Callable[[int], Any] | None = None,
) -> None:
    """Train in place, every group's rate falling to a hundredth as a half cosine.

    Masks are held by whoever holds them: build :class:`rarefy.weights.DynamicMasks` on the model
    and the optimizer first.

    Parameters
    ----------
    model : Recommender
        With a ``loss(users, positives, negatives)``.
    interactions : sparse matrix, shape (U, I)
    optimizer : torch optimizer
    steps : int
    batch_size : int, default 2048
        Triples a step.
    generator : torch.Generator
        Draws the triples.
    on_step : callable, optional
        Told each step's number, from 1, behind it; returning True ends training.

    Raises
    ------
    ValueError
        If steps or batch_size is not positive, or as :class:`TripleSampler`.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    sampler = TripleSampler(interactions)
    device = next(model.parameters()).device
    rates = [group["lr"] for group in optimizer.param_groups]
    model.train()
    for step in range(steps):
        factor = _LAST + (1 - _LAST) / 2 * (1 + math.cos(math.pi * step / steps))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        batch = [ids.to(device) for ids in sampler.sample(batch_size, generator=generator)]
        optimizer.zero_grad()
        model.loss(*batch).backward()  # type: ignore[operator] # a Recommender's method
        optimizer.step()
        if on_step is not None and on_step(step + 1) is True:
            break
    model.eval()
