"""Train and evaluate one arm of paper 17's recipe on kb-qa, from the shipped policy with tools."""

from __future__ import annotations

import random
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rarefy.models import SHIPPED, open_model
from rarefy.papers._vspo_claims import (
    GRPO_EM,
    GRPO_PRS,
    RANDOM,
    START,
    UNSMOOTHED,
    VSPO_PRS,
)
from rarefy.policy.problems import TaskProblems
from rarefy.policy.rollout import score
from rarefy.policy.tasks.kbqa import KB_QA, TOOLS
from rarefy.policy.tools import ToolEnv, ToolRollout, ToolTrainer, evaluate_with_tools
from rarefy.policy.vspo import VSPO, ValueRefill
from rarefy.rewards import RewardFunction
from rarefy.rewards.staged import Stage, StagedReward
from rarefy.rewards.text import exact_match, length_aware_bleu
from rarefy.rewards.tool import AnswerTag, ParseRate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rarefy.policy.evaluation import Evaluation

HOPS, TRAINED_HOPS = (1, 2, 3), (3,)
"""Evaluated, and trained on: at the start two completions of a hundred are right there."""
MAX_NEW_TOKENS = 68
GROUP_SIZE, MINIBATCHES, LEARNING_RATE = 5, 4, 2e-4
PARSED, WINDOW = 0.9, 3
CURVE_EVERY, EARLY = 5, 10

ENV = ToolEnv(TOOLS, max_calls=5)
TAG = AnswerTag("#")
EM = TAG.reward(exact_match)
PRS = StagedReward(
    [
        Stage(ParseRate(ENV.attempts), 0.2),
        Stage(TAG, 0.2),
        Stage(TAG.reward(length_aware_bleu), 0.6),
    ]
)
ARM: dict[str, tuple[RewardFunction, ValueRefill]] = {
    GRPO_EM: (EM, ValueRefill("none")),
    GRPO_PRS: (PRS, ValueRefill("none")),
    VSPO_PRS: (PRS, ValueRefill()),
    RANDOM: (PRS, ValueRefill("random")),
    UNSMOOTHED: (PRS, ValueRefill(smoothing="none")),
}


@dataclass(frozen=True)
class Size:
    """How much is trained and evaluated."""

    steps: int
    n_prompts: int
    eval_prompts: int
    """Of each number of hops."""
    eval_completions: int


def train_arm(*, arm: str, seed: int, size: Size, device: str = "cpu") -> dict[str, float]:
    """Metrics of one arm at one seed; all arms of a seed meet the same problems in one order."""
    model, tokenizer = open_model(SHIPPED / "policy-tools", device=device)
    start = deepcopy(model)
    values: dict[str, float] = {"rollouts": 0.0, "tokens": 0.0}
    if arm != START:
        reward, sampler = ARM[arm]
        trainer = ToolTrainer(
            model,
            tokenizer,
            TaskProblems({(KB_QA, level): 1.0 for level in TRAINED_HOPS}, seed=seed),
            reward=reward,
            solved=KB_QA.reward,
            objective=VSPO(kl_coef=0.0),
            sampler=sampler,
            max_new_tokens=MAX_NEW_TOKENS,
            n_prompts=size.n_prompts,
            group_size=GROUP_SIZE,
            minibatches=min(MINIBATCHES, size.n_prompts),
            learning_rate=LEARNING_RATE,
            seed=seed,
            tools=ENV,
        )
        history = trainer.train(size.steps)
        values = {"rollouts": float(trainer.n_rollouts), "tokens": float(trainer.n_tokens)}
        values |= _of_training(history)
    return values | _evaluated(model, start, tokenizer, seed=seed, size=size)


def _of_training(history: list[dict[str, float]]) -> dict[str, float]:
    def mean(name: str) -> float:
        found = [row[name] for row in history if name in row]
        return sum(found) / len(found)

    parse = [row["parse_rate"] for row in history]
    smooth = [sum(parse[max(0, i + 1 - WINDOW) : i + 1]) / min(i + 1, WINDOW)
              for i in range(len(parse))]  # fmt: skip
    reached = [i + 1 for i, rate in enumerate(smooth) if rate >= PARSED]
    values = {
        # Where it is never reached, the first step that was not done.
        "steps_to_90": float(reached[0] if reached else len(parse) + 1),
        "train_entropy": mean("own_entropy"),
        "zero_variance": mean("drawn_zero_variance"),
        "solved_variance": mean("solved_variance"),
        "em_early": sum(row["drawn_success"] for row in history[:EARLY]) / len(history[:EARLY]),
        "clock_step": mean("seconds"),
    }
    if "effective_tasks" in history[0]:
        values["effective_tasks"] = mean("effective_tasks")
    for end in range(CURVE_EVERY, len(history) + 1, CURVE_EVERY):
        rows = history[end - CURVE_EVERY : end]
        for name, column in (("parse", "parse_rate"), ("em", "drawn_success"), ("calls", "calls")):
            values[f"{name}_at_{end}"] = sum(row[column] for row in rows) / len(rows)
    return values


def _evaluated(
    model: PreTrainedModel,
    start: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int,
    size: Size,
) -> dict[str, float]:
    rng = random.Random(f"vspo evaluation {seed}")
    problems = [
        KB_QA.sample(level, rng, split="eval") for level in HOPS for _ in range(size.eval_prompts)
    ]
    evaluation, sampled = evaluate_with_tools(
        model,
        tokenizer,
        problems,
        ENV,
        tasks=[KB_QA],
        max_new_tokens=MAX_NEW_TOKENS,
        n_completions=size.eval_completions,
        seed=seed,
    )
    k = min(8, size.eval_completions)
    values = {"em": evaluation.success(), "pass8": evaluation.pass_at(k)}
    values |= {f"em_{level}": evaluation.success(level) for level in HOPS}
    values |= {f"pass8_{level}": evaluation.pass_at(k, level) for level in HOPS}
    return values | _of_texts(evaluation) | _divergence(sampled, start)


def _of_texts(evaluation: Evaluation) -> dict[str, float]:
    texts = [text for row in evaluation.texts for text in row]
    none = [""] * len(texts)
    return {
        "parse_rate": sum(filter(None, ParseRate(ENV.attempts)(none, texts))) / len(texts),
        "answered": sum(filter(None, TAG(none, texts))) / len(texts),
    }


def _divergence(sampled: ToolRollout, start: PreTrainedModel) -> dict[str, float]:
    """KL(policy || start) and entropy, means over the policy's own tokens, in nats."""
    import torch

    rollout, own = sampled
    with torch.no_grad():
        before = score(start, rollout).logps
    n_own = float(own.sum())
    return {
        "kl": float(((rollout.logps - before) * own).sum()) / n_own,
        "entropy": float(rollout.entropies.sum()) / n_own,
    }
