"""The arms of paper 10's recipe, trained and evaluated: one call for each arm and seed.

Countdown at levels 2, 3 and 4, half of it the hardest; all arms of a seed start from one policy,
and all but the curricula see the same problems in the same order. Arms that roll out more than GRPO
are evaluated twice: at the end, and at the last step that needed no more rollouts than GRPO's all.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from rarefy.models import SHIPPED, open_model
from rarefy.papers._ghpo_claims import (
    ALWAYS,
    BEST,
    CL,
    CLH,
    DROP,
    FIXED,
    GHPO,
    PLAIN,
    SFT,
    WARM,
    WHOLE,
)
from rarefy.policy import grpo, imitation
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.evaluation import evaluate
from rarefy.policy.hints import FixedHint, HintPolicy
from rarefy.policy.problems import Problems, StagedProblems, TaskProblems
from rarefy.policy.tasks import COUNTDOWN, Problem, verified
from rarefy.policy.trainer import PolicyTrainer, Sampler, plain

SHARES = {2: 0.25, 3: 0.25, 4: 0.5}
HARD = (3, 4)
LENGTH = 32
"""Token limit of a completion; an expert's has 25 at most."""
GROUP, MINIBATCHES = 8, 4
SFT_RATE = 5e-4
"""A quarter of the warm-up's peak."""


class Size(NamedTuple):
    """How much of everything."""

    steps: int
    prompts: int
    problems: int
    """For evaluation at each level."""
    completions: int

    @property
    def cold_start(self) -> int:
        """A tenth of the steps, 20 at most."""
        return min(20, self.steps // 10)


def trained(
    arm: str, seed: int, size: Size, *, model: Path | None, learning_rate: float, device: str
) -> dict[str, float]:
    """Train one arm and evaluate it."""
    policy, tokenizer = open_model(model or SHIPPED / "policy", device=device)
    problems = problems_of(arm, seed, size)
    if arm == SFT:
        imitate(policy, tokenizer, problems_of(arm, seed, size), seed, size)
    trainer = PolicyTrainer(
        policy,
        tokenizer,
        problems,
        reward=verified,
        objective=grpo.GRPO(),
        sampler=sampler_of(arm, size.cold_start),
        max_new_tokens=LENGTH,
        n_prompts=size.prompts,
        group_size=GROUP,
        minibatches=MINIBATCHES,
        learning_rate=learning_rate,
        seed=seed,
    )
    if arm == WARM:
        return scores(policy, tokenizer, seed, size)
    budget = size.steps * size.prompts * GROUP
    matched: dict[str, float] = {}
    for step in range(1, size.steps + 1):
        before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
        trainer.train(step)
        if trainer.n_rollouts > budget and not matched:
            after = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
            policy.load_state_dict(before)
            matched = scores(policy, tokenizer, seed, size) | {"steps": float(step - 1)}
            policy.load_state_dict(after)
    values = scores(policy, tokenizer, seed, size)
    matched = matched or values | {"steps": float(size.steps)}
    return (
        values
        | {f"{name}_matched": value for name, value in matched.items()}
        | history_figures(trainer.history)
    )


def problems_of(arm: str, seed: int, size: Size) -> Problems:
    """The problems of an arm; curricula have the hardest level in the second half of training."""
    if arm not in (CL, CLH):
        return TaskProblems({(COUNTDOWN, lv): share for lv, share in SHARES.items()}, seed=seed)
    hardest = max(SHARES)
    easy = {(COUNTDOWN, lv): share for lv, share in SHARES.items() if lv < hardest}
    half = size.steps * size.prompts // 2
    stages = [TaskProblems(easy, seed=seed), TaskProblems({(COUNTDOWN, hardest): 1.0}, seed=seed)]
    return StagedProblems(stages, [half])


def sampler_of(arm: str, cold_start: int) -> Sampler:
    """The sampler of an arm."""
    samplers: dict[str, Sampler] = {
        GHPO: HintPolicy(cold_start=cold_start),
        FIXED: HintPolicy((0.5,), cold_start=cold_start),
        WHOLE: HintPolicy((1.0,), cold_start=cold_start),
        PLAIN: HintPolicy(cold_start=cold_start, score_prompt="plain"),
        BEST: HintPolicy(cold_start=cold_start, keep="best"),
        ALWAYS: FixedHint(0.5),
        CLH: FixedHint(0.5, when=_hardest),
        DROP: Dynamic(),
    }
    return samplers.get(arm, plain)


def imitate(policy: Any, tokenizer: Any, problems: Problems, seed: int, size: Size) -> None:
    """One pass over the experts' completions of all problems that training will draw."""
    PolicyTrainer(
        policy,
        tokenizer,
        problems,
        reward=verified,
        objective=imitation.SFT(),
        sampler=imitation.experts,
        max_new_tokens=LENGTH,
        n_prompts=size.prompts,
        learning_rate=SFT_RATE,
        seed=seed,
    ).train(size.steps)


def scores(policy: Any, tokenizer: Any, seed: int, size: Size) -> dict[str, float]:
    """Success and pass@8 on held-out problems without hints, by level and over levels."""
    values: dict[str, float] = {}
    for level in SHARES:
        seen = evaluate(
            policy,
            tokenizer,
            held_out(seed, level, size.problems),
            max_new_tokens=LENGTH,
            n_completions=size.completions,
            seed=seed,
        )
        values |= {f"success_{level}": seen.success(), f"pass8_{level}": seen.pass_at(8)}
    for name in ("success", "pass8"):
        values[f"{name}_hard"] = fmean(values[f"{name}_{level}"] for level in HARD)
        values[name] = sum(share * values[f"{name}_{level}"] for level, share in SHARES.items())
    return values


def held_out(seed: int, level: int, n: int) -> list[Problem]:
    """Problems of a level that are never trained on."""
    rng = random.Random(f"{seed} ghpo {level}")
    return [COUNTDOWN.sample(level, rng, split="eval") for _ in range(n)]


def history_figures(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of training: costs, gradients, what hints did, and curves in at most 12 points."""
    last = history[-1]
    late = history[2 * len(history) // 3 :]
    norms = _all(history, "grad_norm")
    values = {
        "n_rollouts": last["n_rollouts"],
        "n_tokens": last["n_tokens"],
        "step_seconds": _mean(history, "seconds"),
        "grad_norm": fmean(norms) if norms else nan,
        "grad_norm_cv": stdev(norms) / fmean(norms) if len(norms) > 1 and fmean(norms) else nan,
        "zero_variance": _mean(history, "zero_variance"),
        "reward_late": _mean(late, "reward_mean"),
        "length_late": _mean(late, "mean_length"),
        "difficult_late": _mean(late, "all_wrong"),
        "entropy_late": _mean(late, "entropy"),
        "plain_success_late": _mean(late, "plain_success", "success"),
    }
    share = 1 - values["zero_variance"]
    values["grad_norm_contributing"] = values["grad_norm"] / share if share else nan
    hinted = [row for row in history if "all_wrong_after" in row]
    before = _mean(hinted, "all_wrong_before")
    values["all_wrong_left"] = _mean(hinted, "all_wrong_after") / before if before else nan
    values["hinted_success_late"] = _mean(late, "hinted_success")
    for name in sorted({name for row in hinted for name in row}):
        if name.startswith(("hinted_0", "hinted_1", "rescued_")):
            values[name] = _mean(hinted, name)
    every = -(-len(history) // 12)
    for end in range(every, len(history) + 1, every):
        part = history[end - every : end]
        values[f"curve_success_{end}"] = _mean(part, "plain_success", "success")
        values[f"curve_rollouts_{end}"] = part[-1]["n_rollouts"]
        for ratio in ("0.25", "0.5", "0.75"):
            tried = [row.get(f"hinted_{ratio}", 0.0) for row in part]
            values[f"curve_hinted_{ratio}_{end}"] = fmean(tried)
    return {name: value for name, value in values.items() if not isnan(value)}


def _hardest(problem: Problem) -> bool:
    return problem.level == max(SHARES)


def _all(history: Sequence[dict[str, float]], name: str, otherwise: str = "") -> list[float]:
    """Of the steps that have it; ``otherwise`` stands in where a step has not."""
    found = [row.get(name, row.get(otherwise, nan)) for row in history]
    return [value for value in found if not isnan(value)]


def _mean(history: Sequence[dict[str, float]], name: str, otherwise: str = "") -> float:
    found = _all(history, name, otherwise)
    return fmean(found) if found else nan
