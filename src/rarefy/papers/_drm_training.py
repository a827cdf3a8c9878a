"""Paper 19's second experiment: GRPO on the answer's advantage, the reasoning's, and their sum.

All arms of a seed start at the shipped policy and see the same problems in the same order. They
learn countdown; permute is the sibling that they are never shown. An arm learns off-policy: pairs
of best and worst by DRM among completions of the warm start, as many as GRPO's steps sample.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from rarefy.papers._drm_scorers import (
    NEW_TOKENS,
    G,
    dimension_reward,
    labelled,
    measured,
    sample,
    warm_start,
)
from rarefy.policy.drm import DRM, Mode, WithReasoning
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.preference import pairs_from_scores, train_on_pairs
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, Problem
from rarefy.policy.tasks.traces import trace_valid
from rarefy.policy.trainer import PolicyTrainer
from rarefy.rewards.reasoning import split_reasoning

LEVELS = (2, 3)
SIBLING_LEVEL = 3
MODES: dict[str, Mode] = {"answer": "answer", "DRM only": "drm", "both": "both"}
MINIBATCHES = 4

Figures = dict[str, float]


def grpo(
    arm: str,
    *,
    seed: int,
    steps: int,
    n_prompts: int,
    eta: float,
    evaluated: int,
    completions: int,
) -> Figures:
    """Train one on-policy arm and measure it."""
    model, tokenizer = warm_start()
    trainer = PolicyTrainer(
        model,
        tokenizer,
        TaskProblems({(COUNTDOWN, level): 1.0 for level in LEVELS}, seed=seed),
        reward=COUNTDOWN.reward,
        objective=DRM(mode=MODES[arm], eta=eta),
        sampler=WithReasoning(dimension_reward(tokenizer)),
        max_new_tokens=NEW_TOKENS["countdown"],
        n_prompts=n_prompts,
        group_size=G,
        minibatches=MINIBATCHES,
        seed=seed,
    )
    history = trainer.train(steps)
    half = history[len(history) // 2 :]
    silent = "zero_variance" if arm == "answer" else "drm_zero_variance"
    return evaluation(model, tokenizer, seed=seed, evaluated=evaluated, completions=completions) | {
        "silent": float(np.mean([row[silent] for row in history])),
        "n_rollouts": float(trainer.n_rollouts),
        "n_tokens": float(trainer.n_tokens),
        "entropy_start": history[0]["entropy"],
        "entropy_end": float(np.mean([row["entropy"] for row in half])),
        **{
            f"gain_{name}": float(
                np.mean([row[f"drm_{name}"] for row in half]) - history[0][f"drm_{name}"]
            )
            for name in ("confidence", "relevance", "coherence")
        },
        **{
            f"curve_{int(row['step'])}": row["success"]
            for row in history
            if int(row["step"]) % max(1, steps // 10) == 0
        },
    }


def dpo(*, seed: int, steps: int, n_prompts: int, evaluated: int, completions: int) -> Figures:
    """Sample the warm start once, choose pairs by DRM, and learn from them."""
    model, tokenizer = warm_start()
    problems = list(
        {
            problem.prompt: problem
            for problem in TaskProblems(
                {(COUNTDOWN, level): 1.0 for level in LEVELS}, seed=seed
            ).draw(n_prompts)
        }.values()
    )
    rollout = sample(model, tokenizer, problems, seed=seed)
    texts = rollout.text(tokenizer)
    prompts = [problem.prompt for problem in problems for _ in range(G)]
    rows = zip(rollout.logps.tolist(), rollout.lengths.tolist(), strict=True)
    scores = dimension_reward(tokenizer)(
        prompts, texts, rollout.completions(), logps=[row[:length] for row, length in rows]
    )
    pairs = pairs_from_scores(prompts, texts, scores, terminated=rollout.terminated.tolist())
    train_on_pairs(model, tokenizer, pairs, steps=steps, seed=seed)
    return evaluation(model, tokenizer, seed=seed, evaluated=evaluated, completions=completions) | {
        "n_rollouts": float(len(rollout)),
        "n_pairs": float(len(pairs)),
    }


def evaluation(
    model: Any, tokenizer: Any, *, seed: int, evaluated: int, completions: int
) -> Figures:
    """Success, pass@8 and valid traces on held-out problems, and success on the sibling task."""
    rng = random.Random(f"{seed} drm evaluation")
    own = [COUNTDOWN.sample(level, rng, split="eval") for level in LEVELS for _ in range(evaluated)]
    sibling = [PERMUTE.sample(SIBLING_LEVEL, rng, split="eval") for _ in range(evaluated)]

    def on(problems: list[Problem]) -> Evaluation:
        return evaluate(
            model,
            tokenizer,
            problems,
            max_new_tokens=NEW_TOKENS[problems[0].task],
            n_completions=completions,
            seed=seed,
        )

    there, elsewhere = on(own), on(sibling)
    valid = np.array(
        [
            [trace_valid(p.prompt, split_reasoning(text).reasoning) for text in row]
            for p, row in zip(there.problems, there.texts, strict=True)
        ]
    )
    right = there.correct
    return {
        "success": there.success(),
        "pass_8": there.pass_at(min(8, completions)),
        **{f"success_{level}": there.success(level) for level in LEVELS},
        "valid": float(valid.mean()),
        "sound": float((right & valid).mean()),
        "sound_of_right": float((right & valid).sum() / max(right.sum(), 1)),
        "sibling": elsewhere.success(),
        "sibling_pass_8": elsewhere.pass_at(min(8, completions)),
    }


def job(kind: str, **settings: Any) -> dict[str, Figures]:
    """One arm, or the scorer study with what it is cheap to do beside it; figures by arm."""
    torch.set_num_threads(1)
    if kind in MODES:
        return {kind: grpo(kind, **settings)}
    if kind == "study":
        return measured(labelled(settings["n_problems"], seed=settings["seed"]))
    if kind == "warm start":
        return {kind: evaluation(*warm_start(), **settings)}
    return {kind: dpo(**settings)}
