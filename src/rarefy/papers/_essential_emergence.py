"""The pre-training side of paper 39: a tiny language model, trained live with its masks watched.

A Llama of width 64 and two layers with the shipped tokenizer, trained at a constant rate after a
short warm-up, so that no jump can be the schedule's. Its free sparsity is one-shot: the largest
sparsity at which perplexity on held-out text is at most 5 % above the dense checkpoint's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rarefy.data import encode, sample_windows
from rarefy.models import perplexity
from rarefy.papers._essential_language import TOLERANCE, opened, size_of, stream
from rarefy.papers._labelled_text import training_documents
from rarefy.papers._recipe import Progress, Trial
from rarefy.weights import (
    SparsificationMonitor,
    SparsityCurve,
    block_weights,
    global_magnitude_mask,
    sparsity_curve,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_BATCH, _CONTEXT = 4, 128
_RATE, _WARM_UP = 3e-3, 10


def texts(steps: int, *, windows: int, trial: Trial) -> tuple[Tensor, Tensor, int]:
    """Draw training modules for one epoch of so many steps, and held-out windows.

    Returns
    -------
    corpus : Tensor of int64, shape (tokens,)
    held_out : Tensor of int64, shape (windows, l)
    vocabulary : int
    """
    tokenizer = opened(None, trial.device).tokenizer
    wanted = steps * _BATCH * _CONTEXT
    documents = list(training_documents())
    random.Random(trial.seed).shuffle(documents)
    parts: list[Tensor] = []
    while documents and sum(map(len, parts)) < wanted:
        parts.append(encode(tokenizer, [documents.pop()]))
    held_out = sample_windows(
        stream(None, trial.device, None, size_of(trial).files).tokens,
        _CONTEXT,
        windows,
        generator=trial.generator(),
    )
    return torch.cat(parts)[:wanted], held_out, len(tokenizer)


def tiny_model(vocabulary: int, *, seed: int) -> LlamaForCausalLM:
    """Build the untrained model; the seed is scoped, the global random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def one_shot(
    model: torch.nn.Module, held_out: Tensor, grid: Sequence[float] = GRID
) -> SparsityCurve:
    """Perplexity against sparsity under one-shot global magnitude pruning."""
    return sparsity_curve(
        model,
        lambda pruned: perplexity(pruned, held_out),
        lambda pruned, s, _: global_magnitude_mask(block_weights(pruned), sparsity=s),
        greater_is_better=False,
        grid=grid,
        log=True,
    )


def pretrain(
    model: torch.nn.Module,
    corpus: Tensor,
    held_out: Tensor,
    *,
    steps: int,
    every: int | None,
    grid: Sequence[float] = GRID,
    generator: torch.Generator,
    progress: Progress,
) -> SparsificationMonitor:
    """Train in place on windows of a token stream, recording a checkpoint's masks as it goes.

    Parameters
    ----------
    model : nn.Module
    corpus : Tensor of int64, shape (tokens,)
    held_out : Tensor of int64, shape (n, l)
        What free sparsity is measured on.
    steps : int
    every : int, optional
        Steps between records; ``None`` records nothing.
    grid : sequence of float
        Sparsities of the one-shot curves.
    generator : torch.Generator
    progress : Progress

    Returns
    -------
    SparsificationMonitor
        With the series ``"free"`` beside its own.
    """

    def essential() -> float:
        return one_shot(model, held_out, grid).essential(delta=TOLERANCE, smooth=True)

    monitor = SparsificationMonitor(
        block_weights(model), every=every or steps + 1, also={"free": essential}
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.95))
    device = next(model.parameters()).device
    model.train()
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, step / _WARM_UP)
        batch = sample_windows(corpus, _CONTEXT, _BATCH, generator=generator).to(device)
        optimizer.zero_grad()
        model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        monitor.step(step)
        if step % 10 == 0:
            progress(f"pre-training, step {step}", step / steps)
    model.eval()
    return monitor
