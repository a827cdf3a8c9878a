"""Pieces of a known solution on an otherwise empty canvas, for a diffusion policy to fill.

    trace   3;+5.8;*2.16        in chunks   3;+ | 5.8; | *2. | 16
    canvas  ___5.8;_____...     a share of them, at their own places

The trace without its answer is cut into contiguous chunks of random lengths; a share eta of them,
rounded down, is drawn and put where it stands in the trace. What is put there never holds a token
of the answer: the policy has to find that itself.

Source: IGPO (arXiv 2509.10396, section 3.2 and its appendix's algorithm; stretching from the
authors' code). Departures: the released code hands in a trace with its answer, and its helper
always shows the last chunk; here the answer is cut off, and every chunk is drawn alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

MAX_SHIFT = 100
"""A chunk is moved no further than this by stretching."""
MAX_STRETCH = 1.5


class Chunk(NamedTuple):
    """Tokens that stand together in a trace."""

    start: int
    tokens: tuple[int, ...]


def without_answer(trace: str, *, mark: str = "#") -> str:
    """The part of a trace before its answer.

    Parameters
    ----------
    trace : str
    mark : str, default "#"
        What the answer begins with; ``"The answer is"`` or the like in data sets of words.

    Examples
    --------
    >>> without_answer("3;+5.8#3+5")
    '3;+5.8'
    """
    return trace.partition(mark)[0]


def chunk(
    trace_ids: Sequence[int], *, size: tuple[int, int] = (5, 10), generator: torch.Generator
) -> list[Chunk]:
    """Cut a trace into contiguous chunks of random lengths.

    Parameters
    ----------
    trace_ids : sequence of int
        Tokens of the trace, its answer left out.
    size : (int, int), default (5, 10)
        Shortest and longest chunk, both drawn too; the authors' for traces of some hundred tokens.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    list of Chunk
        In order. What is left at the end and shorter than the shortest is dropped.

    Raises
    ------
    ValueError
        If the sizes are no range of positive numbers.

    Examples
    --------
    >>> chunk([7, 8, 9, 7, 8], size=(2, 2), generator=torch.Generator())
    [Chunk(start=0, tokens=(7, 8)), Chunk(start=2, tokens=(9, 7))]
    """
    shortest, longest = size
    if not 1 <= shortest <= longest:
        raise ValueError(f"size is {size}; 1 <= shortest <= longest is wanted")
    chunks, start = [], 0
    while len(trace_ids) - start >= shortest:
        drawn = int(torch.randint(shortest, longest + 1, (), generator=generator))
        chunks.append(Chunk(start, tuple(trace_ids[start : start + drawn])))
        start += drawn
    return chunks


def stretch(trace_length: int, *, length: int) -> float:
    """How far the authors stretch a trace that is shorter than the canvas: 1 to 1.5.

    Examples
    --------
    >>> stretch(20, length=24)
    1.2
    """
    return min(MAX_STRETCH, max(1.0, length / max(trace_length, 1)))


def place(
    chunks: Sequence[Chunk],
    share: float,
    *,
    length: int,
    mask_token_id: int,
    generator: torch.Generator,
    factor: float = 1.0,
    room: int = 0,
) -> Tensor:
    """Put some of the chunks on a canvas.

    Parameters
    ----------
    chunks : sequence of Chunk
    share : float in [0, 1]
        Of the chunks, rounded down: of few chunks a small share is none.
    length : int
        Of the canvas.
    mask_token_id : int
        What the other places hold.
    generator : torch.Generator
        On the CPU.
    factor : float, default 1
        A chunk that starts at p starts at ``factor * p`` here (see :func:`stretch`), so that
        longer steps than the trace's fit between; each stays contiguous.
    room : int, default 0
        Places at the end that stay masked, for the answer (30 of 256 in the authors' code); chunks
        are cut there.

    Returns
    -------
    Tensor of int64, shape (length,)

    Raises
    ------
    ValueError
        If the share is no share, the factor below 1, or no place is left for chunks.

    Examples
    --------
    >>> pieces = [Chunk(0, (7, 8)), Chunk(2, (9, 7))]
    >>> place(pieces, 1.0, length=6, mask_token_id=3, generator=torch.Generator(), room=3)
    tensor([7, 8, 9, 3, 3, 3])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; a share of the chunks, from 0 to 1, is wanted")
    if factor < 1 or not 0 <= room < length:
        raise ValueError(
            f"factor is {factor}, room {room} and length {length}; a factor of at least 1 and a "
            "room within the canvas are wanted"
        )
    canvas = torch.full((length,), mask_token_id)
    # A share such as 0.6 of five must be three, which floating point alone does not grant.
    n_placed = int(share * len(chunks) + 1e-9)
    end = length - room
    for index in torch.randperm(len(chunks), generator=generator)[:n_placed].tolist():
        first, tokens = chunks[index]
        start = min(int(first * factor), first + MAX_SHIFT)
        fitting = tokens[: max(0, end - start)]
        canvas[start : start + len(fitting)] = torch.tensor(fitting, dtype=torch.long)
    return canvas
