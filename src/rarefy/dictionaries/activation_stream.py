"""Streams of a model's activations: harvested as they are needed, shuffled, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.dictionaries.buffer import BufferedStream
from rarefy.dictionaries.harvest import (
    Gradients,
    Site,
    count_rows,
    harvest_batches,
    resolve_site,
)
from rarefy.dictionaries.shards import ShardStream, write_shards


class ActivationStream(BufferedStream):
    """Batches of activations at a site, over all windows in a random order, epoch after epoch.

    Parameters
    ----------
    model : nn.Module
    windows : int64 Tensor, shape (n, l)
    site : str or int
        As for :func:`~rarefy.dictionaries.resolve_site`.
    batch_size : int
        Rows a batch.
    buffer_tokens : int, default 65,536
        Rows in memory at most, of ``d`` numbers of ``dtype``, twice that with gradients. The more,
        the better shuffled: a batch draws from the windows of one buffer.
    seed : int, default 0
        Of all orders, and of the tokens that ``"ce_sampled"`` draws.
    gradients : {"ce", "ce_sampled"} or callable, optional
        As for :func:`~rarefy.dictionaries.harvest`; batches are then pairs (x, g).
    dtype : torch.dtype, default float32
        Of the buffer; batches are float32.
    windows_per_pass : int, default 8
        Windows a forward pass of the model.
    exclude, skip
        As for :func:`~rarefy.dictionaries.content_mask`.

    Attributes
    ----------
    rows : int
        Tokens of text in all windows.

    Raises
    ------
    ValueError
        If the site is unknown, windows are not (n, l), or there is less text than one batch.

    Examples
    --------
    >>> from rarefy.models import open_model
    >>> model, _ = open_model()
    >>> windows = torch.arange(2, 130).view(8, 16)
    >>> stream = ActivationStream(model, windows, 2, batch_size=32, buffer_tokens=64)
    >>> stream.batch(3).shape
    torch.Size([32, 256])
    """

    def __init__(
        self,
        model: nn.Module,
        windows: Tensor,
        site: Site,
        *,
        batch_size: int,
        buffer_tokens: int = 65_536,
        seed: int = 0,
        gradients: Gradients | None = None,
        dtype: torch.dtype = torch.float32,
        windows_per_pass: int = 8,
        exclude: Collection[int] | None = None,
        skip: int = 0,
    ) -> None:
        resolve_site(model, site)
        kept: dict[str, Any] = {"gradients": gradients, "exclude": exclude, "skip": skip}

        def read(items: Tensor, round_: int) -> Generator[tuple[Tensor, ...], None, None]:
            return harvest_batches(
                *(model, windows[items], site),
                batch=windows_per_pass,
                seed=seed * 1_000_003 + round_,
                **kept,
            )

        super().__init__(
            count_rows(model, windows, **kept),
            read,
            batch_size=batch_size,
            buffer_tokens=buffer_tokens,
            seed=seed,
            dtype=dtype,
        )
        self._facts = {"site": site, "windows": len(windows), "length": windows.shape[1]}

    def to_disk(
        self,
        folder: str | os.PathLike[str],
        *,
        limit: int | None = None,
        shard_rows: int = 65_536,
    ) -> None:
        """Write the rows of the first epoch, in its order of windows, to a folder of shards.

        Parameters
        ----------
        folder : path
            Must not exist, or be empty; written whole or not at all.
        limit : int, optional
            At most so many rows; all by default.
        shard_rows : int, default 65,536
            Rows a file, and in memory while writing.

        Raises
        ------
        FileExistsError, OSError
            If the folder cannot be written.
        """
        rows = (tuple(p.to(self.dtype) for p in part) for part in self._read(self.order(0), 0))
        write_shards(folder, rows, limit=limit, shard_rows=shard_rows, metadata=self._facts)

    @staticmethod
    def from_disk(
        folder: str | os.PathLike[str],
        *,
        batch_size: int,
        buffer_tokens: int = 65_536,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> ShardStream:
        """Open a folder of :meth:`to_disk`; see :class:`~rarefy.dictionaries.ShardStream`."""
        return ShardStream(
            folder, batch_size=batch_size, buffer_tokens=buffer_tokens, seed=seed, device=device
        )
