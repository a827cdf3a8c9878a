"""A task with a head of its own, for paper 39: name the file that a line of text is from.

    accuracy of  argmax W f(line),     f(line) = mean over its tokens of the last hidden state

with W a logistic regression on half of the lines, taught anew for each pruned model; the other
half is what it is measured on. The files are the longest of the text.

Axis letters: n lines, l tokens, d width.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FILES = 8
_LONGEST = 16
"""Tokens of a line that are read."""

_LEAST = 8
"""Characters of a line that is worth asking about."""


class Lines(NamedTuple):
    """Token ids and which are real (n, l); a line's file, and whether it teaches the head (n,)."""

    ids: Tensor
    real: Tensor
    files: Tensor
    taught: Tensor


def file_lines(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, count: int, seed: int
) -> Lines:
    """Draw lines of the longest texts, each without its indentation; every other one teaches.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    texts : sequence of str
        At least two.
    count : int
        Lines of each file; fewer where a file has not so many that are its own.
    seed : int
    """
    draw = random.Random(seed)
    ids: list[list[int]] = []
    files: list[int] = []
    chosen = [
        {line.strip() for line in text.splitlines() if len(line.strip()) >= _LEAST}
        for text in sorted(texts, key=len)[-_FILES:]
    ]
    for file, mine in enumerate(chosen):
        others = set().union(*(lines for i, lines in enumerate(chosen) if i != file))
        own = sorted(mine - others)
        for line in draw.sample(own, min(count, len(own))):
            ids.append(tokenizer(line, add_special_tokens=False)["input_ids"][:_LONGEST])
            files.append(file)
    padded = [line + [0] * (_LONGEST - len(line)) for line in ids]
    real = [[i < len(line) for i in range(_LONGEST)] for line in ids]
    return Lines(
        torch.tensor(padded),
        torch.tensor(real),
        torch.tensor(files),
        torch.arange(len(ids)) % 2 == 0,
    )


@torch.no_grad()
def line_features(model: nn.Module, lines: Lines, *, batch: int = 256) -> Tensor:
    """Mean of the last hidden states over each line's tokens, (n, d)."""
    device = next(model.parameters()).device
    found = []
    for ids, real in zip(lines.ids.split(batch), lines.real.split(batch), strict=True):
        # A causal model: the padding behind a line's tokens does not change them.
        body: nn.Module = model.base_model  # type: ignore[assignment]
        states = body(input_ids=ids.to(device), use_cache=False).last_hidden_state
        weight = real.to(device, states.dtype).unsqueeze(-1)
        found.append(((states * weight).sum(1) / weight.sum(1)).float().cpu())
    return torch.cat(found)


def head_accuracy(features: Tensor, lines: Lines) -> float:
    """Share of the untaught lines whose file a linear head names rightly."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    head.fit(features[lines.taught].numpy(), lines.files[lines.taught].numpy())
    return float(head.score(features[~lines.taught].numpy(), lines.files[~lines.taught].numpy()))
