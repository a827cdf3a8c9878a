"""The arms of paper 13's recipe, trained and evaluated: one call for each arm and seed.

Of the problems 60 % are the target, countdown with three numbers, and have an expert's trace; 40 %
are general ones (sort, rewrite, permute) without. All arms of a seed start from the shipped general
policy and see the same problems in the same order.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import NamedTuple

import torch

from rarefy.models import SHIPPED, open_model
from rarefy.papers._mm_helix_claims import (
    AHPO,
    GRPO,
    LUFFY,
    ONE,
    ONLY,
    SFT,
    SFT_GRPO,
    SKELETON,
    SOFT,
    STATIC,
    THREE,
    WARM,
)
from rarefy.policy import ahpo, grpo, imitation
from rarefy.policy.batches import TaskProblems
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.losses import token_mean
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, REWRITE, SORT, Problem, verified
from rarefy.policy.tasks.serg import reflecting
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain

TARGET_LEVEL = 4
GENERAL = (SORT, REWRITE, PERMUTE)
GENERAL_LEVELS = (2, 3)
TARGET_SHARE = 0.6
LENGTH = 48
"""Token limit of a completion; the longest general answer has 40 tokens."""
LEARNING_RATE = 5e-4
MINIBATCHES = 4
GROUP = 5


class Size(NamedTuple):
    """How much of everything."""

    steps: int
    prompts: int
    target_problems: int
    general_problems: int
    """Of each general task."""
    completions: int


class Mixture(TaskProblems):
    """Target problems with an expert's trace, general ones without.

    Parameters
    ----------
    seed : int
    general : bool, default True
        Whether there are general problems.
    branches : int, optional
        Wrong branches at most in a trace; by default the expert's steps alone.
    """

    def __init__(self, *, seed: int, general: bool = True, branches: int | None = None) -> None:
        shares = {(COUNTDOWN, TARGET_LEVEL): TARGET_SHARE}
        if general:
            each = (1 - TARGET_SHARE) / len(GENERAL) / len(GENERAL_LEVELS)
            shares |= {(task, level): each for task in GENERAL for level in GENERAL_LEVELS}
        super().__init__(shares, seed=seed)
        self.branches = branches

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        return [self._told(problem) for problem in super().draw(n)]

    def _told(self, problem: Problem) -> Problem:
        if problem.task != COUNTDOWN.name:
            return replace(problem, trace="", answer="")
        if self.branches is None:
            return problem
        return reflecting(problem, branches=self.branches, seed=self.seed)


RL = grpo.GRPO(reduce=token_mean)
METHODS: dict[str, tuple[Objective, Sampler]] = {
    WARM: (RL, plain),
    GRPO: (RL, plain),
    SFT: (imitation.SFT(), imitation.experts),
    SKELETON: (imitation.SFT(), imitation.experts),
    SFT_GRPO: (imitation.SFT(), imitation.experts),
    AHPO: (ahpo.AHPO(), plain),
    STATIC: (ahpo.AHPO(mode="static"), plain),
    SOFT: (ahpo.AHPO(mode="soft"), plain),
    ONE: (ahpo.AHPO(success_threshold=1), plain),
    THREE: (ahpo.AHPO(success_threshold=3), plain),
    ONLY: (ahpo.AHPO(), plain),
    LUFFY: (ahpo.LUFFY(), ahpo.expert_in_group),
}


def trained(arm: str, seed: int, size: Size) -> dict[str, float]:
    """Train one arm and evaluate it.

    Returns
    -------
    dict of str to float
        ``target``, ``target_pass8``, ``general``, ``general_pass4``, ``rollouts``, ``tokens``,
        ``seconds``; ``xi_early`` and ``xi_late``, the gate over target prompts in the first and
        last fifth of the steps; ``slope``, the gain in training success of the second half.
    """
    model, tokenizer = open_model(SHIPPED / "policy-general")
    objective, sampler = METHODS[arm]
    trainer = PolicyTrainer(
        model,
        tokenizer,
        Mixture(seed=seed, general=arm != ONLY),
        reward=verified,
        objective=objective,
        sampler=sampler,
        max_new_tokens=LENGTH,
        n_prompts=size.prompts,
        group_size=GROUP,
        minibatches=MINIBATCHES,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    began = time.perf_counter()
    if arm != WARM:
        trainer.train(size.steps // 2 if arm == SFT_GRPO else size.steps)
    if arm == SFT_GRPO:
        trainer.objective, trainer.sampler = METHODS[GRPO]
        trainer.train(size.steps)
    seconds = time.perf_counter() - began
    rng = random.Random(f"{seed} mm-helix evaluation")
    target = [COUNTDOWN.sample(TARGET_LEVEL, rng, split="eval") for _ in range(size.target_problems)]
    general = [
        task.sample(2, rng, split="eval") for task in GENERAL for _ in range(size.general_problems)
    ]

    def asked(problems: list[Problem], n: int) -> Evaluation:
        return evaluate(
            model, tokenizer, problems, max_new_tokens=LENGTH, n_completions=n, seed=seed
        )

    on_target, on_general = asked(target, size.completions), asked(general, size.completions // 2)
    values = {
        "target": on_target.success(),
        "target_pass8": on_target.pass_at(8),
        "general": on_general.success(),
        "rollouts": float(trainer.n_rollouts),
        "tokens": float(trainer.n_tokens),
        "seconds": seconds,
    }
    return values


def one_thread_trained(arm: str, seed: int, size: Size) -> dict[str, float]:
    torch.set_num_threads(1)
    return trained(arm, seed, size)
