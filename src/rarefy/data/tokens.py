"""Token streams, evaluation windows and seeded training windows.

Documents are joined into one stream, each followed by the end-of-text token; windows are cut from
the stream, so no token is padding and every position counts the same.

Axis letters: n windows, l tokens a window.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, documents: Iterable[str]) -> Tensor:
    """Tokenize documents into one stream, an end-of-text token behind each.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        One without an end-of-text token joins the documents as they are.
    documents : iterable of str

    Returns
    -------
    Tensor of int64, shape (tokens,)
    """
    ids: list[int] = []
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for document in documents:
        # verbose=False: documents longer than the model's context are meant to be cut later.
        encoded = tokenizer(document, add_special_tokens=False, verbose=False)
        ids.extend(encoded["input_ids"])
        ids.extend(end)
    return torch.tensor(ids, dtype=torch.int64)


def windows(tokens: Tensor, length: int, *, limit: int | None = None) -> Tensor:
    """Cut a stream into non-overlapping windows from its start; the remainder is dropped.

    Parameters
    ----------
    tokens : Tensor of int64, shape (tokens,)
    length : int
        Tokens per window.
    limit : int, optional
        At most so many windows, spread evenly over the stream.

    Returns
    -------
    Tensor of int64, shape (n, length)

    Raises
    ------
    ValueError
        If the stream is shorter than one window, or ``limit`` is below 1.
    """
    n = _available(tokens, length)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 window, got {limit}")
    cut = tokens[: n * length].view(n, length)
    if limit is None or limit >= n:
        return cut
    return cut[torch.arange(limit) * n // limit]


def sample_windows(
    tokens: Tensor, length: int, count: int, *, generator: torch.Generator
) -> Tensor:
    """Draw windows at uniformly random offsets of the stream, with replacement.

    Parameters
    ----------
    tokens : Tensor of int64, shape (tokens,)
    length, count : int
        Tokens per window, number of windows.
    generator : torch.Generator
        CPU generator: the same state gives the same windows on every device.

    Returns
    -------
    Tensor of int64, shape (count, length)

    Raises
    ------
    ValueError
        If the stream is shorter than one window.
    """
    _available(tokens, length)
    starts = torch.randint(len(tokens) - length + 1, (count, 1), generator=generator)
    return tokens[starts + torch.arange(length)]


def _available(tokens: Tensor, length: int) -> int:
    if length < 1:
        raise ValueError(f"length must be at least 1 token, got {length}")
    if len(tokens) < length:
        raise ValueError(
            f"the text has {len(tokens)} tokens, shorter than one window of {length}: "
            "give more text or a shorter window"
        )
    return len(tokens) // length
