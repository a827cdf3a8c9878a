"""The language side of paper 40: a tiny Llama over bytes, its MLPs wide and half empty.

AdamW at 3e-3 with a short warm-up and a cosine to 0, on the standard library's source.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn

from rarefy.data import modules, read_documents, sample_windows, windows
from rarefy.models import token_losses
from rarefy.papers._recipe import Trial
from rarefy.weights import DynamicMasks, IsoFlop, RigL, iso_flop

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

_RATE, _WARM_UP = 3e-3, 10


class Text(NamedTuple):
    """Bytes to train on, (t,), and held-out windows of them, (n, l)."""

    train: Tensor
    held_out: Tensor


def read_text(trial: Trial, path: Path | None) -> Text:
    """Read the bytes; of a user's own text the last tenth is held out."""
    context = trial.pick(smoke=32, default=64, full=256)
    limit = trial.pick(smoke=8, default=64, full=512)
    if path is not None:
        everything = _bytes(read_documents(path))
        cut = len(everything) * 9 // 10
        train, rest = everything[:cut], everything[cut:]
    else:
        train = _corpus("train", trial.pick(smoke=100, default=10, full=1))
        rest = _corpus("heldout", 1)
    return Text(train, windows(rest, context, limit=limit))


def llama(trial: Trial) -> LlamaForCausalLM:
    """Build the dense model; the seed is scoped, the global random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    width = trial.pick(smoke=16, default=64, full=256)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        return LlamaForCausalLM(config)


def measure_language(text: Text, trial: Trial, *, sparsity: float | None) -> dict[str, float]:
    """Train the dense model, or one whose MLPs are wide and sparse, and test it.

    Returns
    -------
    dict of str to float
        ``log_ppl`` on the held-out bytes and ``clock_step_ms``; of the sparse model also
        ``macs_off``, and what its masks cost: a step that moves them, and one that does not, over
        a plain step.
    """
    model: nn.Module = llama(trial)
    sparse = None
    if sparsity is not None:
        sparse = iso_flop(
            model,
            {"input_ids": text.held_out[:1], "use_cache": False},
            family="wide",
            sparsity=sparsity,
            widen=("*gate_proj*", "*up_proj*"),
            keep_dense=(),
            generator=trial.generator(),
        )
        model = sparse.model
    every = trial.pick(smoke=2, default=15, full=100)
    updates, plain, dynamic = _train(model.to(trial.device), text, trial, sparse, every)
    values = {
        "log_ppl": float(token_losses(model, text.held_out).double().mean()),
        "clock_step_ms": 1e3 * statistics.median(plain),
    }
    if sparse is not None and dynamic is not None:
        values["macs_off"] = abs(sparse.macs / sparse.dense_macs - 1)
        values["clock_update_step_ratio"] = statistics.median(updates) / statistics.median(plain)
        values["clock_mask_overhead"] = _overhead(model, text, trial, dynamic)
    return values


def _train(
    model: nn.Module, text: Text, trial: Trial, sparse: IsoFlop | None, every: int
) -> tuple[list[float], list[float], DynamicMasks | None]:
    """Train in place; seconds of the steps that move masks, and of those that do not."""
    steps = trial.pick(smoke=6, default=120, full=10_000)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.95))
    dynamic = None
    if sparse is not None:
        dynamic = DynamicMasks(
            model,
            sparse.masks.to(trial.device),
            optimizer,
            rule=RigL(),
            steps=steps,
            every=every,
            generator=trial.generator(),
        )
    draw = trial.generator()
    updates: list[float] = []
    plain: list[float] = []
    model.train()
    for step in range(steps):
        warm = min(1.0, (step + 1) / _WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = warm * _RATE / 2 * (1 + math.cos(math.pi * step / steps))
        batch = _batch(text, trial, draw)
        moved = len(dynamic.history) if dynamic else 0
        seconds = _step(model, optimizer, batch)
        (updates if dynamic and len(dynamic.history) > moved else plain).append(seconds)
        if step % 10 == 0:
            trial.progress(f"language model, step {step}", step / steps)
    model.eval()
    return updates, plain, dynamic


def _overhead(model: nn.Module, text: Text, trial: Trial, dynamic: DynamicMasks) -> float:
    """Time of steps with masks held over steps of the same model without; turn about."""
    dynamic.detach()
    draw = trial.generator()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(trial.pick(smoke=4, default=20, full=100)):
        held = turn % 2 == 0
        # A learning rate of 0: nothing that is timed here may change what was trained.
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
        batch = _batch(text, trial, draw)
        if held:
            with DynamicMasks(
                model,
                dynamic.masks,
                optimizer,
                rule=RigL(),
                steps=1000,
                generator=draw,
            ):
                _step(model, optimizer, batch)
                seconds[held].append(_step(model, optimizer, batch))
        else:
            _step(model, optimizer, batch)
            seconds[held].append(_step(model, optimizer, batch))
    return statistics.median(seconds[True]) / statistics.median(seconds[False]) - 1


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor) -> float:
    start = time.perf_counter()
    optimizer.zero_grad()
    model(input_ids=batch, labels=batch, use_cache=False).loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if batch.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _batch(text: Text, trial: Trial, draw: torch.Generator) -> Tensor:
    size = trial.pick(smoke=2, default=8, full=64)
    context = text.held_out.shape[1]
    return sample_windows(text.train, context, size, generator=draw).to(trial.device)


@cache
def _corpus(split: Literal["train", "heldout"], step: int) -> Tensor:
    """Every ``step``-th module of the standard library; read once for all seeds."""
    return _bytes(m.read() for m in modules(split, tests=False)[::step])


def _bytes(documents: Iterable[str]) -> Tensor:
    joined = "\n".join(documents).encode()
    return torch.frombuffer(bytearray(joined), dtype=torch.uint8).long()
