"""The arms of paper 13's recipe, trained and evaluated: one call for each arm and seed.

Of the problems 60 % are the target and have an expert's trace, 40 % are general and have none. The
target is permute with six moves: the shipped general policy can follow four, and its failures are
of length. It fails almost always, and yet a few hundred traces mend it, as the paper supposes of a
model of 7 billion parameters. All arms of a seed start from that policy and see the same problems.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any, NamedTuple

from rarefy.models import SHIPPED, open_model
from rarefy.papers._mm_helix_claims import (
    AHPO,
    GRPO,
    HELIX,
    LUFFY,
    ONE,
    ONLY,
    POLISHED,
    SFT,
    SFT_GRPO,
    SKELETON,
    SOFT,
    STATIC,
    THREE,
    WARM,
)
from rarefy.policy import ahpo, grpo, imitation
from rarefy.policy.batches import Batch
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.losses import token_mean
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, REWRITE, SORT, Problem, Task, helix, verified
from rarefy.policy.tasks.serg import build, reflecting
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain

TARGET, TARGET_LEVEL, TARGET_SHARE = PERMUTE, 4, 0.6
GENERAL, GENERAL_LEVELS = (SORT, REWRITE, COUNTDOWN), (1, 2)
SERG_LEVEL, SERG_BRANCHES = 4, 2
"""Of countdown, whose solver takes branches back."""
LENGTH = 54
"""Token limit of a completion: the target's expert needs all of them."""
LEARNING_RATE = 3e-4
GROUP = 5


class Size(NamedTuple):
    """How much of everything."""

    steps: int
    prompts: int
    target_problems: int
    general_problems: int
    """Of each general task."""
    completions: int
    """Of a target problem; half as many of a general one."""


class Mixture(TaskProblems):
    """Target problems with an expert's trace, general ones without.

    Parameters
    ----------
    seed : int
    target : Task, default :data:`TARGET`
    level : int, default :data:`TARGET_LEVEL`
    general : bool, default True
        Whether there are general problems.
    branches : int, optional
        Wrong branches at most in a trace; by default the expert's steps alone.
    """

    def __init__(
        self,
        *,
        seed: int,
        target: Task = TARGET,
        level: int = TARGET_LEVEL,
        general: bool = True,
        branches: int | None = None,
    ) -> None:
        shares = {(target, level): TARGET_SHARE}
        if general:
            each = (1 - TARGET_SHARE) / len(GENERAL) / len(GENERAL_LEVELS)
            shares |= {(task, level): each for task in GENERAL for level in GENERAL_LEVELS}
        super().__init__(shares, seed=seed)
        self.target = target.name
        self.branches = branches

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        return [self._told(problem) for problem in super().draw(n)]

    def _told(self, problem: Problem) -> Problem:
        if problem.task != self.target:
            return replace(problem, trace="", answer="")
        if self.branches is None:
            return problem
        return reflecting(problem, branches=self.branches, seed=self.seed)


def watched(trainer: PolicyTrainer, n_prompts: int) -> Batch:
    """The next problems as they come; notes the success on target problems."""
    batch = plain(trainer, n_prompts)
    hard = [i for i, problem in enumerate(batch.problems) if problem.task == TARGET.name]
    trainer.notes["target_share"] = len(hard) / len(batch)
    if hard:
        trainer.notes["target"] = float(batch.select(hard).solved.float().mean())
    return batch


RL = grpo.GRPO(reduce=token_mean)
METHODS: dict[str, tuple[Objective, Sampler]] = {
    GRPO: (RL, watched),
    SFT: (imitation.SFT(), imitation.experts),
    SKELETON: (imitation.SFT(), imitation.experts),
    POLISHED: (imitation.SFT(), imitation.experts),
    SFT_GRPO: (imitation.SFT(), imitation.experts),
    AHPO: (ahpo.AHPO(), watched),
    STATIC: (ahpo.AHPO(mode="static"), watched),
    SOFT: (ahpo.AHPO(mode="soft"), watched),
    ONE: (ahpo.AHPO(success_threshold=1), watched),
    THREE: (ahpo.AHPO(success_threshold=3), watched),
    ONLY: (ahpo.AHPO(), watched),
    LUFFY: (ahpo.LUFFY(), ahpo.expert_in_group),
}


def measured(arm: str, seed: int, size: Size, per_level: int) -> dict[str, float]:
    """Either :func:`platform` or an arm :func:`trained`, whose parameters these are."""
    return platform(seed, per_level=per_level) if arm == HELIX else trained(arm, seed, size)


def trained(arm: str, seed: int, size: Size) -> dict[str, float]:
    """Train one arm and evaluate it.

    Returns
    -------
    dict of str to float
        ``target``, ``target_pass8`` and ``general`` success, ``rollouts``, ``tokens`` and
        ``clock_training``; for methods of rollouts ``early`` and ``late_gain``, from success on
        the target problems of thirds of the training, the curve ``target_TENTH``, and for AHPO
        ``xi_early``, ``xi_late`` and ``expert_share``. The arms of traces have ``countdown``,
        ``countdown_pass8``, ``trace_length`` and ``general``. The warm start has ``accepted``, the
        share of target problems that one of its completions solves.
    """
    model, tokenizer = open_model(SHIPPED / "policy-general")
    of_traces = arm in (SKELETON, POLISHED)
    task, level = (COUNTDOWN, SERG_LEVEL) if of_traces else (TARGET, TARGET_LEVEL)
    problems = Mixture(
        seed=seed,
        target=task,
        level=level,
        general=arm != ONLY and not of_traces,
        branches=SERG_BRANCHES if arm == POLISHED else None,
    )
    values: dict[str, float] = {}
    if arm != WARM:
        values |= _train(arm, model, tokenizer, problems, seed, size)

    def asked(problems: list[Problem], n: int) -> Evaluation:
        return evaluate(
            model, tokenizer, problems, max_new_tokens=LENGTH, n_completions=n, seed=seed
        )

    rng = random.Random(f"{seed} mm-helix evaluation")
    hard = [task.sample(level, rng, split="eval") for _ in range(size.target_problems)]
    easy = [t.sample(2, rng, split="eval") for t in GENERAL for _ in range(size.general_problems)]
    on_hard = asked(hard, size.completions)
    name = "countdown" if of_traces else "target"
    values |= {name: on_hard.success(), f"{name}_pass8": on_hard.pass_at(8)}
    values["general"] = asked(easy, size.completions // 2).success()
    if arm == WARM:
        values["accepted"] = float(on_hard.correct.any(1).mean())
    if of_traces:
        values["trace_length"] = sum(len(p.trace) for p in problems.draw(64)) / 64
    return values


def _train(
    arm: str, model: Any, tokenizer: Any, problems: Mixture, seed: int, size: Size
) -> dict[str, float]:
    objective, sampler = METHODS[arm]
    trainer = PolicyTrainer(
        model,
        tokenizer,
        problems,
        reward=verified,
        objective=objective,
        sampler=sampler,
        max_new_tokens=LENGTH,
        n_prompts=size.prompts,
        group_size=GROUP,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    began = time.perf_counter()
    if arm == SFT_GRPO:
        trainer.train(size.steps // 2)
        trainer.objective, trainer.sampler = METHODS[GRPO]
    rows = trainer.train(size.steps)
    values = {
        "clock_training": time.perf_counter() - began,
        "rollouts": float(trainer.n_rollouts),
        "tokens": float(trainer.n_tokens),
    }
    if sampler is not watched:
        return values
    for tenth in range(10):
        part = rows[tenth * len(rows) // 10 : (tenth + 1) * len(rows) // 10] or rows[-1:]
        values[f"target_{tenth}"] = _mean(part, "target")
    first, middle, last = (
        _mean(rows[third * len(rows) // 3 : (third + 1) * len(rows) // 3] or rows, "target")
        for third in range(3)
    )
    values |= {"early": (first + middle) / 2, "late_gain": last - middle}
    if isinstance(objective, ahpo.AHPO):
        fifth = max(1, len(rows) // 5)
        for when, part in (("early", rows[:fifth]), ("late", rows[-fifth:])):
            values[f"xi_{when}"] = _mean(part, "xi") / max(_mean(part, "target_share"), 1e-9)
        values["expert_share"] = _mean(rows, "expert_share")
    return values


def _mean(rows: list[dict[str, float]], name: str) -> float:
    found = [row[name] for row in rows if name in row]
    return sum(found) / max(len(found), 1)


def platform(seed: int, *, per_level: int) -> dict[str, float]:
    """Draw, solve and verify problems of the 42 tasks, and make traces of them.

    Returns
    -------
    dict of str to float
        ``problems``, ``verified`` (share), ``clock_problems``, ``accepted`` (share of traces),
        ``trace_length`` (mean, in characters), ``clock_traces``.
    """
    began = time.perf_counter()
    problems, right = [], 0
    for name in helix.list_tasks():
        task = helix.get_task(name)
        for level in (1, 2, 3, 4, 5):
            for index in range(per_level):
                problem = helix.draw(task, level, index, seed=seed)
                problems.append(problem)
                right += task.verify(problem, task.solve(problem).answer)
    solved = time.perf_counter()
    rows = build(problems[::2], seed=seed, verified_only=False)
    return {
        "problems": float(len(problems)),
        "verified": right / len(problems),
        "clock_problems": solved - began,
        "accepted": sum(row["accepted"] for row in rows) / len(rows),
        "trace_length": sum(len(row["trace"]) for row in rows) / len(rows),
        "clock_traces": time.perf_counter() - solved,
    }
