"""What DLER saves: a step under truncation beside one under Laser; a merge within three seconds.

Truncation stops every completion at the limit; Laser's bonus needs completions that run on (here to
four times the limit). Both rows: a ratio over 1 means ours is faster. All use one thread.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from _timing import interleaved, row
from rarefy.models.opening import SHIPPED, open_model
from rarefy.policy.dler import DLER
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, verified
from rarefy.policy.trainer import PolicyTrainer
from rarefy.rewards.length import Laser, Truncation
from rarefy.weights.merge import selective_update_merge

if TYPE_CHECKING:
    from rarefy.rewards import RewardFunction

LIMIT = 20
PARAMETERS = 100_000_000
SECONDS = 3.0


def rows() -> list[dict[str, Any]]:
    """A step of 16 prompts by 8 completions, and a merge of 1e8 parameters."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [step_row(), merge_row()]
    finally:
        torch.set_num_threads(threads)


def step_row() -> dict[str, Any]:
    """Rollout, rewards and four updates."""
    eos = open_model(SHIPPED / "policy-verbose").tokenizer.eos_token_id
    truncated = _trainer(Truncation(verified, LIMIT, eos), max_new_tokens=LIMIT)
    laser = _trainer(Laser(verified, LIMIT), max_new_tokens=4 * LIMIT)
    ours, theirs = interleaved(
        lambda: truncated.train(truncated.step + 1),
        lambda: laser.train(laser.step + 1),
        repeats=5,
        warmup=1,
    )
    return row("dler.step", "Laser's reward", ours, theirs, goal=1 / 0.7)


def merge_row() -> dict[str, Any]:
    """Ten tensors; the three seconds are the bar and not a contender."""
    generator = torch.Generator().manual_seed(0)
    base = {f"w{i}": torch.randn(PARAMETERS // 10, generator=generator) for i in range(10)}
    tuned = {name: 1.001 * tensor + 1e-3 for name, tensor in base.items()}
    start = perf_counter()
    selective_update_merge(base, tuned)
    return row("weights.merge", "three seconds", perf_counter() - start, SECONDS, goal=1.0)


def _trainer(reward: RewardFunction, *, max_new_tokens: int) -> PolicyTrainer:
    model, tokenizer = open_model(SHIPPED / "policy-verbose")
    shares = {(COUNTDOWN, 2): 1.0, (COUNTDOWN, 3): 1.0, (PERMUTE, 1): 1.0}
    return PolicyTrainer(
        model,
        tokenizer,
        TaskProblems(shares, seed=0),
        reward=reward,
        objective=DLER(kl_coef=0.0),
        max_new_tokens=max_new_tokens,
        solved=verified,
        minibatches=4,
        learning_rate=0.0,
    )
