"""What verbs on language models share: the model, text to calibrate on and text to measure on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import typer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rarefy.operators import NM

SHIPPED = "the shipped code model"

EVALUATION_SHARE = 0.2
"""Share of the user's text, at its end, that is kept back to measure perplexity on."""


class Language(NamedTuple):
    """A model with its text.

    ``calibration`` is a token stream, ``evaluation`` windows of ``length`` that it does not hold.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    calibration: Tensor
    evaluation: Tensor
    length: int


def open_language(
    model: str | None,
    *,
    data: Path | None,
    length: int | None,
    device: str,
    every: int = 12,
    held_out: int = 32,
) -> Language:
    """Open a language model, and read and cut its text.

    Parameters
    ----------
    model : str, optional
        A folder or hub name; ``None`` is the shipped model.
    data : Path, optional
        A text file or folder; ``None`` is the standard library.
    length : int, optional
        Tokens a window; the model's context, at most 1,024, by default.
    device : str
    every : int, default 12
        Of the standard library, every so many modules calibrate: 12 give 250 thousand of the
        shipped model's tokens.
    held_out : int, default 32
        At most so many windows to measure on.

    Raises
    ------
    ValueError, OSError
        If the model or the text cannot be used.
    """
    from rarefy.models import open_model

    network, tokenizer = open_model(model, device=device)
    context = getattr(network.config, "max_position_embeddings", 1024)
    length = min(context, 1024) if length is None else length
    if length > context:
        raise ValueError(f"--length {length} is longer than the model's context of {context}")
    return Language(network, tokenizer, *_text(data, tokenizer, length, every, held_out), length)


def read_pattern(text: str, *, option: str) -> NM:
    """Read ``N:M``; anything else is bad usage of ``option``."""
    from rarefy.operators import NM

    numbers = text.split(":")
    try:
        n, m = map(int, numbers)
        return NM(n, m)
    except ValueError as error:
        reason = str(error) if len(numbers) == 2 and all(map(str.isdigit, numbers)) else ""
        raise typer.BadParameter(
            reason or f"{text!r} is no pattern: N:M such as 2:4 is wanted", param_hint=option
        ) from error


def _text(
    path: Path | None,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    every: int,
    held_out: int,
) -> tuple[Tensor, Tensor]:
    """Token stream to calibrate on, and windows to measure on, which it does not hold."""
    from rarefy.data import encode, modules, read_documents, windows

    if path is None:
        training = [module.read() for module in modules("train", tests=False)[::every]]
        others = [module.read() for module in modules("heldout", tests=False)]
        calibration, evaluation = encode(tokenizer, training), encode(tokenizer, others)
    else:
        tokens = encode(tokenizer, read_documents(path))
        kept_back = max(length, round(EVALUATION_SHARE * len(tokens)))
        if len(tokens) < 2 * length:
            raise ValueError(
                f"{path} has {len(tokens)} tokens: two windows of {length}, one to calibrate and "
                "one to measure on, are the least; give more text or a shorter --length"
            )
        calibration, evaluation = tokens[:-kept_back], tokens[-kept_back:]
    return calibration, windows(evaluation, length, limit=held_out)
