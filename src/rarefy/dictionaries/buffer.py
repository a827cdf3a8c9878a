"""Streams over more rows than fit in memory: one buffer, filled round after round.

Rows come in items (token windows, blocks of a file). Every epoch puts the items in a random order
of its own, which lays the rows of all epochs out in one endless line; round r fills the buffer with
the r-th stretch of that line, and its batches draw from the buffer in a random order of r. So a
batch is a function of its step alone, a run that goes on reads its current round again and no
other, and nothing but the buffer grows with its size. When everything fits it is read once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

Read = Callable[[Tensor, int], Generator[tuple[Tensor, ...], None, None]]
"""Called with the items of a round, in order, and the round's number; yields their rows."""


class BufferedStream:
    """Shuffled batches of rows that are read item by item.

    Parameters
    ----------
    counts : int64 Tensor, shape (items,)
        Rows of every item.
    read : callable ``(items, round) -> iterator of tuple of Tensor``
        Yields all rows of these items in this order, in pieces of any size.
    batch_size : int
    buffer_tokens : int, default 65,536
        Rows in memory at most.
    seed : int, default 0
    dtype : torch.dtype, default float32
        Of the buffer; batches are float32.

    Attributes
    ----------
    rows : int
        In all.

    Raises
    ------
    ValueError
        If the buffer or the rows there are make less than one batch.
    """

    def __init__(
        self,
        counts: Tensor,
        read: Read,
        *,
        batch_size: int,
        buffer_tokens: int = 65_536,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.rows = int(counts.sum())
        if not 1 <= batch_size <= buffer_tokens:
            raise ValueError(
                f"batch_size must be from 1 to the buffer's {buffer_tokens} tokens, "
                f"got {batch_size}"
            )
        if self.rows < batch_size:
            raise ValueError(
                f"there are {self.rows} tokens of text, fewer than one batch of {batch_size}: "
                "more text or a smaller batch is wanted"
            )
        self.batch_size = batch_size
        self.seed = seed
        self.dtype = dtype
        self._counts = counts.cpu()
        self._read = read
        self._fits = self.rows <= buffer_tokens
        self._per_round = min(buffer_tokens, self.rows) // batch_size
        self._buffers: tuple[Tensor, ...] = ()
        self._round: int | None = None
        self._order = torch.empty(0, dtype=torch.int64)

    def batch(self, step: int) -> Any:
        """Rows of one step, shape (b, d), or a tuple with what goes with them."""
        round_, place = divmod(step, self._per_round)
        if round_ != self._round:
            if not self._fits or self._round is None:
                # Until it is whole again the buffer belongs to no round.
                self._round = None
                self._fill(round_)
            self._order = torch.randperm(
                len(self._buffers[0]), generator=self._generator("rows", round_)
            )
            self._round = round_
        drawn = self._order[place * self.batch_size : (place + 1) * self.batch_size]
        batch = tuple(b[drawn.to(b.device)].float() for b in self._buffers)
        return batch[0] if len(batch) == 1 else batch

    def _fill(self, round_: int) -> None:
        """Read the rows of a round into the buffer, which is made once."""
        if self._fits:
            size, items, head = self.rows, torch.arange(len(self._counts)), 0
        else:
            size = self._per_round * self.batch_size
            items, head = self._stretch(round_ * size, size)
        filled = -head
        with closing(self._read(items, round_)) as parts:
            for part in parts:
                if not self._buffers:
                    self._buffers = tuple(
                        torch.empty(size, p.shape[1], dtype=self.dtype, device=p.device)
                        for p in part
                    )
                first = min(max(0, -filled), len(part[0]))
                last = min(len(part[0]), size - filled)
                for buffer, p in zip(self._buffers, part, strict=True):
                    buffer[max(0, filled) : max(0, filled + last)] = p[first:last]
                filled += last
                if filled == size:
                    break

    def _stretch(self, start: int, size: int) -> tuple[Tensor, int]:
        """Items that hold rows ``start`` to ``start + size`` of the line, and rows before them."""
        epoch, before = divmod(start, self.rows)
        items: list[Tensor] = []
        head = found = 0
        while found < size:
            order = self.order(epoch)
            ends = self._counts[order].cumsum(0)
            first = int(torch.searchsorted(ends, before, right=True))
            last = int(torch.searchsorted(ends, before + size - found)) + 1
            if not items:
                head = before - (int(ends[first - 1]) if first else 0)
            items.append(order[first:last])
            found += min(self.rows - before, size - found)
            epoch, before = epoch + 1, 0
        return torch.cat(items), head

    def order(self, epoch: int) -> Tensor:
        """Order of the items in an epoch, int64, shape (items,)."""
        return torch.randperm(len(self._counts), generator=self._generator("items", epoch))

    def _generator(self, what: str, number: int) -> torch.Generator:
        kinds = {"items": 0, "rows": 1}
        return torch.Generator().manual_seed((self.seed * 1_000_003 + number) * 2 + kinds[what])
