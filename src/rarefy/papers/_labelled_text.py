"""Text that brings its own labels, for the language sides of papers 39, 41 and 45.

Three readings of a language model, none of which needs a label:

    loss        mean over tokens of -log p(token | what came before), by window
    hits        argmax p = token, by kind of token: tasks of different difficulty in one pass
    questions   which of four lines comes next: argmax over lines of mean log p(token of the line)

Axis letters: n windows or questions, l tokens, c choices, v vocabulary.
"""

from __future__ import annotations

import io
import keyword
import random
import tokenize
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rarefy.data import modules, read_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("layout", "punctuation", "keyword", "name", "number", "prose")
"""Kinds of tokens; "prose" is what stands inside comments and strings."""

_CHOICES = 4
CHANCE = 1 / _CHOICES
"""Accuracy of guessing the next line."""


class Questions(NamedTuple):
    """Next-line questions: contexts (n, l), lines and their real tokens (n, c, m), answers (n,)."""

    contexts: Tensor
    lines: Tensor
    real: Tensor
    answers: Tensor


@cache
def documents(path: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the text to evaluate on and the text to fine-tune on: every other file for each.

    Without a path, the held-out modules of the standard library, which the shipped model never saw.
    A single document is cut in two halves.
    """
    if path is None:
        texts = [module.read() for module in modules("heldout", tests=False)]
    else:
        texts = read_documents(path)
    if len(texts) == 1:
        lines = texts[0].splitlines(keepends=True)
        texts = ["".join(lines[: len(lines) // 2]), "".join(lines[len(lines) // 2 :])]
    return tuple(texts[0::2]), tuple(texts[1::2])


@cache
def training_documents() -> tuple[str, ...]:
    """Read the training modules of the standard library, without their tests."""
    return tuple(module.read() for module in modules("train", tests=False))


def labelled(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Tokenize documents into one stream, and say of each token which of `KINDS` it is."""
    ids: list[int] = []
    kinds: list[int] = []
    for text in texts:
        encoded = tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        prose = _prose(text)
        ids += encoded["input_ids"]
        kinds += [
            KINDS.index(_kind(text[start:end], bool(prose[start:end].any())))
            for start, end in encoded["offset_mapping"]
        ]
    return torch.tensor(ids), torch.tensor(kinds)


def _kind(piece: str, prose: bool) -> str:
    word = piece.strip()
    if not word:
        return "layout"
    if not any(character.isalnum() for character in word):
        return "punctuation"
    if word.isdigit():
        return "number"
    if prose:
        return "prose"
    return "keyword" if keyword.iskeyword(word) else "name"


def _prose(text: str) -> np.ndarray:
    """Mark the characters inside comments and strings; none where the text is not Python."""
    marked = np.zeros(len(text), dtype=bool)
    starts = np.cumsum([0] + [len(line) for line in text.splitlines(keepends=True)])
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.COMMENT, tokenize.STRING):
                (first, left), (last, right) = token.start, token.end
                marked[starts[first - 1] + left : starts[last - 1] + right] = True
    except (tokenize.TokenError, SyntaxError, IndexError):
        marked[:] = False
    return marked


@torch.no_grad()
def predictions(model: nn.Module, windows: Tensor, *, batch: int = 8) -> tuple[Tensor, Tensor]:
    """Compute the loss of every predicted token, and whether it was the likeliest: (n, l - 1)."""
    device = next(model.parameters()).device
    losses, hits = [], []
    for ids in windows.split(batch):
        ids = ids.to(device)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        losses.append(loss.cpu())
        hits.append((logits.argmax(-1) == ids[:, 1:]).cpu())
    return torch.cat(losses), torch.cat(hits)


def next_lines(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    count: int,
    context: int = 32,
    longest: int = 12,
    seed: int,
) -> Questions:
    """Ask which of four lines comes next: the true one, or three others of the same file.

    The indentation before the true line belongs to the context, so it gives nothing away.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    texts : sequence of str
    count : int
        Questions wanted; fewer come back where the texts are too short for more.
    context, longest : int
        Tokens before the line, and at most so many of each line.
    seed : int
    """
    draw = random.Random(seed)
    contexts: list[list[int]] = []
    lines: list[list[list[int]]] = []
    real: list[list[list[bool]]] = []
    answers: list[int] = []
    for _ in range(20 * count):
        if len(contexts) == count:
            break
        text = draw.choice(texts).splitlines()
        worth = [i for i, line in enumerate(text) if len(line.strip()) >= 8]
        if len({text[i].strip() for i in worth}) < _CHOICES:
            continue
        at = draw.choice(worth)
        true = text[at].strip()
        others = sorted({text[i].strip() for i in worth} - {true})
        indent = text[at][: len(text[at]) - len(text[at].lstrip())]
        before = _ids(tokenizer, "\n".join([*text[max(0, at - 20) : at], indent]))
        options = [true, *draw.sample(others, _CHOICES - 1)]
        draw.shuffle(options)
        if len(before) < context:
            continue
        tokens = [_ids(tokenizer, option)[:longest] for option in options]
        contexts.append(before[-context:])
        lines.append([t + [0] * (longest - len(t)) for t in tokens])
        real.append([[i < len(t) for i in range(longest)] for t in tokens])
        answers.append(options.index(true))
    if not contexts:
        raise ValueError("the text is too short for next-line questions: longer files are wanted")
    return Questions(*map(torch.tensor, (contexts, lines, real, answers)))


def answered(model: nn.Module, questions: Questions) -> Tensor:
    """Answer next-line questions by the likeliest line: right or wrong, bool of shape (n,)."""
    return line_losses(model, questions).argmin(1) == questions.answers


@torch.no_grad()
def line_losses(model: nn.Module, questions: Questions) -> Tensor:
    """Compute the mean loss of the tokens of each line, (n, c); a context is read once for all."""
    device = next(model.parameters()).device
    lines = questions.lines.flatten(0, 1).to(device)
    real = questions.real.flatten(0, 1).to(device)
    seen = model(input_ids=questions.contexts.to(device), use_cache=True)
    past = seen.past_key_values
    past.batch_repeat_interleave(_CHOICES)
    ahead = model(input_ids=lines, past_key_values=past).logits
    first = seen.logits[:, -1:].repeat_interleave(_CHOICES, dim=0)
    logits = torch.cat([first, ahead[:, :-1]], dim=1).float()
    loss = nn.functional.cross_entropy(logits.transpose(1, 2), lines, reduction="none")
    return ((loss * real).sum(1) / real.sum(1)).view(-1, _CHOICES).cpu()


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
