"""What the recipe of paper 9 trains: a verbose policy, shortened in several ways.

Every arm of a seed starts from the shipped verbose policy, meets the same problems in the same
order and may generate the same number of tokens, groups that were thrown away included.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from rarefy.models.opening import SHIPPED, open_model
from rarefy.papers._dler_claims import CLIP, DA, DLER_ARM, GRPO_ARM, LASER, MERGED, NORM, WARM
from rarefy.policy.advantages import group_norm
from rarefy.policy.dler import DLER
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.frontier import ParallelCurve, parallel_curve
from rarefy.policy.grpo import GRPO
from rarefy.policy.losses import importance_ratio, token_mean
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, Problem, verified
from rarefy.policy.trainer import Objective, PolicyTrainer, plain
from rarefy.rewards import RewardFunction
from rarefy.rewards.length import DifficultyAwareTruncation, Laser, Truncation
from rarefy.weights.merge import selective_update_merge

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rarefy.policy.batches import Batch
    from rarefy.policy.rollout import Scores

PLACES = {(COUNTDOWN, 3): 1.0, (PERMUTE, 1): 2.0}
"""Tasks and levels in their shares: their experts need about as many tokens, 19 or 20."""
LONGEST = 128
"""Tokens that the warm start may take where its lengths are measured; it hardly ever needs them."""
SHARE = 0.6
"""The limit, of the warm start's median length."""
LOOSER = (1.0, 0.8, SHARE)
TIER, SHORTER = 0.5, 1.5
"""DA-DLER: groups solved as often as this get the limit divided by that."""
KEEP, SCALE = 0.25, 0.7
TEMPERATURE = 0.6
"""Of evaluation; the paper's."""


@dataclass(frozen=True)
class Effort:
    """How much of everything there is."""

    tokens: int
    """What each arm may generate."""
    more_tokens: int
    """What DA-DLER may generate from there."""
    n_prompts: int
    group_size: int
    n_problems: int
    """Held-out ones of each task and level."""
    n_completions: int
    learning_rate: float


class Start(NamedTuple):
    """What is measured of the warm start before anything is trained."""

    limit: int
    values: dict[str, float]


class Outcome(NamedTuple):
    """What an arm came to."""

    values: dict[str, float]
    curve: ParallelCurve


def measure_start(seed: int, effort: Effort) -> Start:
    """Median length, and what truncation leaves of the signal at limits ever tighter."""
    model, tokenizer = open_model(SHIPPED / "policy-verbose")
    problems = TaskProblems(PLACES, seed=seed).draw(2 * effort.n_problems)
    seen = evaluate(
        model,
        tokenizer,
        problems,
        max_new_tokens=LONGEST,
        n_completions=effort.group_size,
        seed=seed,
    )
    median = float(np.median(seen.lengths))
    values = {"median_length": median}
    for share in LOOSER:
        within = seen.correct & (seen.lengths <= round(share * median))
        rewards = torch.from_numpy(within).float()
        advantages = group_norm(rewards.reshape(-1), effort.group_size).view_as(rewards)
        name = f"{100 * share:.0f}"
        values[f"variance_{name}"] = float(advantages.var(dim=1).mean())
        values[f"all_zero_{name}"] = float((rewards.sum(1) == 0).float().mean())
    steps = [values[f"variance_{100 * share:.0f}"] for share in LOOSER]
    values["variance_growth"] = min(b - a for a, b in zip(steps, steps[1:], strict=False))
    return Start(round(SHARE * median), values)


def train_arm(arm: str, seed: int, limit: int, effort: Effort) -> dict[str, Outcome]:
    """Train an arm; DLER's run also gives its difficulty-aware continuation and its merge."""
    model, tokenizer = open_model(SHIPPED / "policy-verbose")
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if arm == WARM:
        return {WARM: _outcome(model, tokenizer, seed, limit, effort)}
    eos = tokenizer.eos_token_id
    truncated = Truncation(verified, limit, eos)
    clip_higher = DLER(kl_coef=0.0)
    narrow = DLER(kl_coef=0.0, eps_high=0.2)
    objectives: dict[str, Objective] = {
        GRPO_ARM: GRPO(reduce=token_mean),
        NORM: narrow,
        CLIP: clip_higher,
        DLER_ARM: clip_higher,
        LASER: clip_higher,
    }
    watched = Watched(objectives[arm])
    trainer = _trainer(
        model,
        tokenizer,
        seed,
        effort,
        objective=watched,
        reward=Laser(verified, limit) if arm == LASER else truncated,
        max_new_tokens=4 * limit if arm == LASER else limit,
        sampler=Dynamic() if arm in (DLER_ARM, LASER) else plain,
    )
    while trainer.n_tokens < effort.tokens:
        trainer.train(trainer.step + 1)
    found = _outcome(model, tokenizer, seed, limit, effort)
    outcomes = {arm: Outcome(found.values | _of_training(trainer) | watched.values(), found.curve)}
    if arm != DLER_ARM:
        return outcomes

    tuned = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(selective_update_merge(base, tuned, keep=KEEP, scale=SCALE))
    outcomes[MERGED] = _outcome(model, tokenizer, seed, limit, effort)
    model.load_state_dict(tuned)
    tiers = (limit, round(limit / SHORTER))
    further = _trainer(
        model,
        tokenizer,
        seed + 1000,
        effort,
        objective=clip_higher,
        reward=DifficultyAwareTruncation(verified, tiers, (TIER,), eos),
        max_new_tokens=limit,
        sampler=Dynamic(),
    )
    while further.n_tokens < effort.more_tokens:
        further.train(further.step + 1)
    outcomes[DA] = _outcome(model, tokenizer, seed, limit, effort)
    return outcomes


class Watched:
    """An objective, and the tokens that its upper clip takes out beside those it leaves."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.eps_low = float(getattr(objective, "eps_low", 0.2))
        self.eps_high = float(getattr(objective, "eps_high", 0.2))
        self._sums = torch.zeros(2, 3, dtype=torch.float64)

    def advantages(self, batch: Batch) -> Tensor:
        """The objective's."""
        return self.objective.advantages(batch)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """The objective's."""
        rollout, mask = batch.rollout, batch.rollout.completion_mask
        assert batch.advantages is not None
        ratio = importance_ratio(scores.logps.detach(), rollout.logps, mask)
        clipped = mask & (ratio > 1 + self.eps_high) & (batch.advantages[:, None] > 0)
        for row, chosen in enumerate((clipped, mask & ~clipped)):
            self._sums[row] += torch.stack(
                [
                    chosen.sum().double(),
                    rollout.logps.exp()[chosen].double().sum(),
                    rollout.entropies[chosen].double().sum(),
                ]
            )
        return self.objective.loss(scores, batch, trainer)

    def values(self) -> dict[str, float]:
        """Clipped tokens' share, and how much rarer and less certain they are than others."""
        (n, p, h), (others, p_others, h_others) = self._sums.tolist()
        n, others = max(n, 1.0), max(others, 1.0)
        return {
            "clipped_high": self._sums[0, 0].item() / (n + others),
            "clipped_rarer": p_others / others - p / n,
            "clipped_less_certain": h / n - h_others / others,
        }


def held_out(seed: int, n: int) -> list[Problem]:
    """The same number of held-out problems of each task and level."""
    rng = random.Random(f"{seed} dler evaluation")
    return [task.sample(level, rng, split="eval") for task, level in PLACES for _ in range(n)]


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    effort: Effort,
    *,
    objective: Any,
    reward: RewardFunction,
    max_new_tokens: int,
    sampler: Any,
) -> PolicyTrainer:
    return PolicyTrainer(
        model,
        tokenizer,
        TaskProblems(PLACES, seed=seed),
        reward=reward,
        solved=verified,
        objective=objective,
        sampler=sampler,
        max_new_tokens=max_new_tokens,
        n_prompts=effort.n_prompts,
        group_size=effort.group_size,
        minibatches=4,
        learning_rate=effort.learning_rate,
        seed=seed,
    )


def _outcome(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    limit: int,
    effort: Effort,
) -> Outcome:
    seen = evaluate(
        model,
        tokenizer,
        held_out(seed, effort.n_problems),
        max_new_tokens=4 * limit,
        n_completions=effort.n_completions,
        seed=seed,
        temperature=TEMPERATURE,
    )
    return Outcome(_values(seen, limit), parallel_curve(seen.correct, seen.lengths))


def _values(seen: Evaluation, limit: int) -> dict[str, float]:
    length = float(seen.lengths.mean())
    return {
        "accuracy": seen.success(),
        "pass_8": seen.pass_at(min(8, seen.correct.shape[1])),
        "length": length,
        "gap_to_limit": abs(length / limit - 1),
    }


def _of_training(trainer: PolicyTrainer) -> dict[str, float]:
    last = [row["entropy"] for row in trainer.history[-5:] if "entropy" in row]
    trained = [row for row in trainer.history if row["trained_groups"]]
    return {
        "entropy": float(np.mean(last)) if last else 0.0,
        "rollouts": float(trainer.n_rollouts),
        "tokens": float(trainer.n_tokens),
        "steps": float(trainer.step),
        "partial": sum(row.get("partial", 0.0) for row in trainer.history),
        "zero_variance": float(np.mean([row["zero_variance"] for row in trained] or [0.0])),
        "all_wrong_first": trainer.history[0]["all_wrong"],
        "all_right_last": trainer.history[-1]["all_right"],
    }
