"""Activations on disk: a folder of safetensors shards, written whole or not at all.

``activations.json`` says how many rows each shard holds and where they are from; every shard has
``x``, shape (rows, d), and ``g`` beside it where gradients were gathered. Reading is memory-mapped:
a stream over a folder touches the rows it serves and no others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rarefy.data.files import save_tensors, written_whole
from rarefy.dictionaries.buffer import BufferedStream

_INDEX = "activations.json"
_BLOCK = 128
"""Rows read together, about a window: what lies side by side in a shard is shuffled only in the
buffer, so a block must be small beside it."""


def write_shards(
    folder: str | os.PathLike[str],
    parts: Iterable[tuple[Tensor, ...]],
    *,
    shard_rows: int = 65_536,
    limit: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write rows to a new folder of shards, one shard in memory at a time.

    Parameters
    ----------
    folder : path
        Must not exist, or be empty.
    parts : iterable of tuple of Tensor
        ``(x,)`` or ``(x, g)``, each of shape (rows, d), in pieces of any size.
    shard_rows : int, default 65,536
    limit : int, optional
        At most so many rows.
    metadata : mapping, optional
        What to say about them; anything that JSON can hold.

    Raises
    ------
    FileExistsError
        If there is something in the folder.
    OSError
        If it cannot be written; nothing is left behind.
    ValueError
        If there are no rows.
    """
    counts: list[int] = []
    with written_whole(folder, folder=True) as place:
        place.mkdir()
        for shard in _shards(parts, shard_rows, limit):
            tensors = dict(zip("xg", shard, strict=False))
            save_tensors(tensors, _path(place, len(counts)), metadata={"format": "pt"})
            counts.append(len(shard[0]))
        if not counts:
            raise ValueError("there are no rows to write")
        index = {"rows": counts} | dict(metadata or {})
        (place / _INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


class ShardStream(BufferedStream):
    """Shuffled batches from a folder of shards.

    Parameters
    ----------
    folder : path
        Written by :func:`write_shards`.
    batch_size, buffer_tokens, seed
        As for :class:`BufferedStream`.
    device : str or torch.device, default "cpu"
        Of the batches.

    Attributes
    ----------
    metadata : dict

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is none of shards, or one of them is missing or cut short.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        batch_size: int,
        buffer_tokens: int = 65_536,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        folder = Path(folder)
        counts, self.metadata = _index(folder)
        shards = [_open(folder, number, rows) for number, rows in enumerate(counts)]
        blocks = [
            (number, start, min(start + _BLOCK, rows))
            for number, rows in enumerate(counts)
            for start in range(0, rows, _BLOCK)
        ]

        def read(items: Tensor, _round: int) -> Generator[tuple[Tensor, ...], None, None]:
            for item in items.tolist():
                number, start, stop = blocks[item]
                yield tuple(t[start:stop].to(device) for t in shards[number])

        super().__init__(
            torch.tensor([stop - start for _, start, stop in blocks]),
            read,
            batch_size=batch_size,
            buffer_tokens=buffer_tokens,
            seed=seed,
            dtype=shards[0][0].dtype,
        )


def _shards(
    parts: Iterable[tuple[Tensor, ...]], shard_rows: int, limit: int | None
) -> Iterator[tuple[Tensor, ...]]:
    """Join and cut pieces so that every shard but the last has ``shard_rows`` rows."""
    waiting: list[tuple[Tensor, ...]] = []
    gathered = written = 0
    for part in parts:
        while len(part[0]) and written + gathered != limit:
            room = shard_rows - gathered
            if limit is not None:
                room = min(room, limit - written - gathered)
            waiting.append(tuple(p[:room] for p in part))
            gathered += len(waiting[-1][0])
            part = tuple(p[room:] for p in part)
            if gathered == shard_rows:
                yield tuple(map(torch.cat, zip(*waiting, strict=True)))
                written, gathered, waiting = written + gathered, 0, []
        if written + gathered == limit:
            break
    if gathered:
        yield tuple(map(torch.cat, zip(*waiting, strict=True)))


def _path(folder: Path, number: int) -> Path:
    return folder / f"activations-{number:05d}.safetensors"


def _index(folder: Path) -> tuple[list[int], dict[str, Any]]:
    path = folder / _INDEX
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no activations: it has no {_INDEX}")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        counts = [int(rows) for rows in index.pop("rows")]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no readable index of activations: {error}") from error
    return counts, index


def _open(folder: Path, number: int, rows: int) -> tuple[Tensor, ...]:
    """Tensors of a shard, mapped from the file."""
    from safetensors import SafetensorError, safe_open

    path = _path(folder, number)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = tuple(file.get_tensor(name) for name in "xg" if name in file.keys())  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error
    if not tensors or any(len(t) != rows for t in tensors):
        raise ValueError(f"{path} does not hold the {rows} rows that {_INDEX} says")
    return tensors
