"""Streams of activations: batch ``step`` is a function of the step alone.

A trainer asks a stream for the batch of a step, so a run that was killed goes on with exactly the
batches it would have seen. A batch is a tensor of rows, or a tuple whose first entry is the rows
and whose others go with them (gradients, say) through :meth:`SparseAutoencoder.encode_all`.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class Stream(Protocol):
    """Where a trainer gets its batches from."""

    def batch(self, step: int) -> Tensor | tuple[Tensor, ...]:
        """Rows of one step, shape (b, d), and what goes with them."""


class ArrayStream:
    """Shuffled batches of rows that fit in memory, epoch after epoch; the remainder is left out.

    Parameters
    ----------
    arrays : Tensor or ndarray, one or more
        Of the same number of rows; the first is x.
    batch_size : int
    seed : int, default 0

    Raises
    ------
    ValueError
        If the arrays differ in length or are shorter than one batch.
    """

    def __init__(self, *arrays: Any, batch_size: int, seed: int = 0) -> None:
        self.arrays = tuple(torch.as_tensor(array) for array in arrays)
        self.batch_size = batch_size
        self.seed = seed
        lengths = {len(array) for array in self.arrays}
        if len(lengths) != 1:
            raise ValueError(f"arrays must have the same number of rows, got {sorted(lengths)}")
        if batch_size < 1 or len(self.arrays[0]) < batch_size:
            raise ValueError(
                f"batch_size must be from 1 to the {len(self.arrays[0])} rows, got {batch_size}"
            )
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Tensor | tuple[Tensor, ...]:
        """Rows of one step."""
        per_epoch = len(self.arrays[0]) // self.batch_size
        epoch, place = divmod(step, per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._order = torch.randperm(len(self.arrays[0]), generator=generator)
            self._epoch = epoch
        rows = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        batch = tuple(array[rows] for array in self.arrays)
        return batch[0] if len(batch) == 1 else batch
