"""The arms of paper 07's recipe, trained and evaluated: one call for each arm and seed.

Countdown at levels 2, 3 and 4, half of it the hardest; all arms of a seed start from one policy and
see the same problems in the same order. What is measured of a single attempt is the share of right
completions at temperature 1.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from math import isnan, nan
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from rarefy.models import SHIPPED, open_model
from rarefy.papers._pacs_claims import (
    BETAS,
    DAPO,
    FIXED,
    GRPO,
    PACS,
    PPO,
    RLOO,
    SCORES,
    UNWEIGHTED,
    WARM,
)
from rarefy.policy import grpo, pacs
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.losses import token_mean
from rarefy.policy.metrics import pass_at_k
from rarefy.policy.ppo import PPO as PPOObjective
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, Problem, Task, verified
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain

SHARES = {2: 0.25, 3: 0.25, 4: 0.5}
HARDEST = max(SHARES)
SIBLING = (PERMUTE, 3)
LENGTH = 40
"""Token limit of a completion; an expert's has 30 at most."""
GROUP, MINIBATCHES = 8, 4
TIMED = (GRPO, PACS, PPO)


class Size(NamedTuple):
    """How much of everything."""

    steps: int
    prompts: int
    problems: int
    """Of each easier level, and of the sibling task."""
    completions: int
    hard_problems: int
    hard_completions: int


class Outcome(NamedTuple):
    """An arm's figures, and its right completions of each problem."""

    values: dict[str, float]
    right: list[list[str]]


def trained(
    arm: str, seed: int, size: Size, *, model: Path | None, learning_rate: float, device: str
) -> Outcome:
    """Train one arm and evaluate it."""
    trainer = _trainer(arm, seed, size.prompts, model, learning_rate, device)
    values: dict[str, float] = {}
    if arm != WARM:
        values = history_figures(trainer.train(size.steps))

    def asked(task: Task, level: int, n: int, completions: int) -> Evaluation:
        rng = random.Random(f"{seed} pacs {task.name} {level}")
        problems: list[Problem] = [task.sample(level, rng, split="eval") for _ in range(n)]
        return evaluate(
            trainer.model,
            trainer.tokenizer,
            problems,
            max_new_tokens=LENGTH,
            n_completions=completions,
            seed=seed,
        )

    right: list[list[str]] = []
    values["success"] = values["entropy"] = 0.0
    for level, share in SHARES.items():
        hard = level == HARDEST
        seen = asked(
            COUNTDOWN,
            level,
            size.hard_problems if hard else size.problems,
            size.hard_completions if hard else size.completions,
        )
        values |= {f"success_{level}": seen.success(), f"pass8_{level}": seen.pass_at(8)}
        values["success"] += share * seen.success()
        values["entropy"] += share * seen.entropy
        if hard:
            values |= attempts(seen)
        right += [
            [text for text, good in zip(texts, row, strict=True) if good]
            for texts, row in zip(seen.texts, seen.correct, strict=True)
        ]
    values["sibling"] = asked(*SIBLING, size.problems, size.completions).success()
    return Outcome(values, right)


def step_seconds(
    seed: int, *, n_prompts: int, rounds: int, model: Path | None, device: str
) -> dict[str, float]:
    """Median seconds of a step of GRPO, PACS and PPO, taken in turns.

    Nothing is learnt, so that all have the same completions. The first round does not count.
    """
    trainers = {arm: _trainer(arm, seed, n_prompts, model, 0.0, device) for arm in TIMED}
    for step in range(1, rounds + 1):
        for trainer in trainers.values():
            trainer.train(step)
    return {
        arm: median(row["seconds"] for row in trainer.history[1:])
        for arm, trainer in trainers.items()
    }


def call(function: Callable[..., Any], **given: Any) -> Any:
    """``function(**given)``: for processes that do work of more than one kind."""
    return function(**given)


def _trainer(
    arm: str, seed: int, n_prompts: int, model: Path | None, learning_rate: float, device: str
) -> PolicyTrainer:
    policy, tokenizer = open_model(model or SHIPPED / "policy", device=device)
    objective, sampler = method(arm, policy)
    return PolicyTrainer(
        policy,
        tokenizer,
        TaskProblems({(COUNTDOWN, level): share for level, share in SHARES.items()}, seed=seed),
        reward=verified,
        objective=objective,
        sampler=sampler,
        reference=copy.deepcopy(policy) if arm == FIXED else None,
        max_new_tokens=LENGTH,
        n_prompts=n_prompts,
        group_size=GROUP,
        minibatches=MINIBATCHES,
        learning_rate=learning_rate,
        seed=seed,
    )


def method(arm: str, policy: Any) -> tuple[Objective, Sampler]:
    """Objective and sampler of an arm."""
    objectives: dict[str, Objective] = {
        WARM: grpo.GRPO(),
        GRPO: grpo.GRPO(),
        RLOO: grpo.RLOO(),
        PACS: pacs.PACS(),
        UNWEIGHTED: pacs.PACS(class_weight=None),
        FIXED: pacs.PACS(reference="fixed"),
        DAPO: grpo.GRPO(eps_high=0.28, reduce=token_mean),
        **{name: pacs.PACS(beta=beta) for name, beta in BETAS.items()},
        **{name: pacs.PACS(score=score) for name, score in SCORES.items()},
    }
    objective = PPOObjective(policy) if arm == PPO else objectives[arm]
    return objective, Dynamic() if arm == DAPO else plain


def history_figures(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of training: costs, how well psi predicts, and curves in at most 15 points."""
    last = history[-1]
    values = {
        "n_rollouts": last["n_rollouts"],
        "n_tokens": last["n_tokens"],
        "grad_norm": _mean(history, "grad_norm"),
        "ratio_max": max(row["ratio_max"] for row in history),
    }
    for name in ("psi_abs", "psi_auc"):
        if name in last:
            values[name] = _mean(history, name)
    every = -(-len(history) // 15)
    for end in range(every, len(history) + 1, every):
        for name in ("entropy", "success"):
            values[f"curve_{name}_{end}"] = _mean(history[end - every : end], name)
    return values


def attempts(seen: Evaluation) -> dict[str, float]:
    """``passK_4`` for powers of two, as far as there are completions."""
    n = seen.correct.shape[1]
    counts = [int(row.sum()) for row in seen.correct]
    ks = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= n]
    return {f"pass{k}_{HARDEST}": fmean(pass_at_k(n, c, k) for c in counts) for k in ks}


def diversities(right: dict[str, list[list[str]]]) -> dict[str, float]:
    """Mean distance of two right completions, over problems of which each arm has two or more.

    Parameters
    ----------
    right : mapping of str to list of list of str
        For each arm, the right completions of each problem.
    """
    both = [
        i
        for i in range(len(next(iter(right.values()))))
        if min(len(r[i]) for r in right.values()) > 1
    ]
    return {
        arm: fmean(mean_distance(texts[i]) for i in both) if both else nan
        for arm, texts in right.items()
    }


def mean_distance(texts: Sequence[str]) -> float:
    """Edit distance over the longer length, mean over pairs; equal texts count as pairs too.

    Examples
    --------
    >>> mean_distance(["ab", "ab", "ac"])
    0.3333333333333333
    """
    counts = Counter(texts)
    total = sum(
        counts[a] * counts[b] * edit_distance(a, b) / max(len(a), len(b))
        for a, b in combinations(counts, 2)
    )
    return total / (len(texts) * (len(texts) - 1) / 2)


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions and substitutions that make one text the other.

    Examples
    --------
    >>> edit_distance("kitten", "sitting")
    3
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def _mean(history: Sequence[dict[str, float]], name: str) -> float:
    """Over the steps that have it; NaN where none has."""
    found = [row[name] for row in history if not isnan(row.get(name, nan))]
    return fmean(found) if found else nan
