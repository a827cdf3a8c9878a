"""How the arms of paper 14's recipe are trained and measured."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import pvariance
from typing import TYPE_CHECKING, NamedTuple

from rarefy.models.opening import SHIPPED, open_model
from rarefy.papers._igpo_claims import (
    BOTH,
    GRPO,
    NOISY,
    PADDED,
    RESAMPLED,
    SFT,
    START,
    UNFILTERED,
    WHOLE,
)
from rarefy.policy.canvas import Canvas, evaluate_canvas
from rarefy.policy.diffusion_sft import expert, fine_tune
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.igpo import IGPO as Objective
from rarefy.policy.igpo import Inpainting
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN, Problem
from rarefy.policy.train_diffusion_policy import revealed
from rarefy.policy.trainer import Sampler, plain

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CANVAS = Canvas(length=24, steps=6, block_length=8)
"""Half the steps of the warm start's card: as many problems solved for half the time, nearly."""
SHARES = {2: 0.2, 3: 0.4, 4: 0.4}
HARD = (3, 4)
GROUP = 8
LEARNING_RATE = 2e-4
CHUNKS, ROOM = (2, 4), 8
NOISE = 0.2


class Plan(NamedTuple):
    """How much is trained and measured."""

    steps: int
    prompts: int
    sft_steps: int
    held_out: int
    """Problems of each level."""


class NoisyTraces(TaskProblems):
    """Problems in whose traces one digit in five is another."""

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        return [replace(p, trace=_noisy(p, self.seed)) for p in super().draw(n)]


def _noisy(problem: Problem, seed: int) -> str:
    rng = random.Random(f"{seed} {problem.prompt}")
    return "".join(
        rng.choice([other for other in "0123456789" if other != character])
        if character.isdigit() and rng.random() < NOISE
        else character
        for character in problem.trace
    )


def padded(problem: Problem) -> str:
    """Return the expert's completion with every running total said twice.

    >>> from rarefy.policy.tasks import Problem
    >>> padded(Problem("countdown", 3, "n2,3,5>16=", "3;+5.8;*2.16", "3+5*2"))
    '3;3+5.8;8*2.16#3+5*2'
    """
    first, *steps = problem.trace.split(";")
    totals = [first, *(step.partition(".")[2] for step in steps)]
    said = [f"{total}{step}" for total, step in zip(totals, steps, strict=False)]
    return ";".join([first, *said]) + f"#{problem.answer}"


def train(*, arm: str, seed: int, plan: Plan) -> dict[str, dict[str, float]]:
    """Train one arm and measure it; SFT on the way to both, which needs it."""
    model, tokenizer = open_model(SHIPPED / "diffusion")
    if arm == START:
        found = measured(model, tokenizer, seed, plan)
        return {arm: found | _premise(model, tokenizer, seed, plan, alone=found["success"])}
    values: dict[str, dict[str, float]] = {}
    if arm in (BOTH, PADDED):
        name = SFT if arm == BOTH else PADDED
        n_steps = plan.sft_steps if arm == BOTH else _equal_tokens(plan.sft_steps, seed)
        fine_tune(
            model,
            tokenizer,
            problems(seed),
            length=CANVAS.length,
            steps=n_steps,
            seed=seed,
            completion=padded if arm == PADDED else expert,
        )
        values[name] = measured(model, tokenizer, seed, plan) | {"sft_steps": float(n_steps)}
    if arm == PADDED:
        return values
    trainer = DiffusionTrainer(
        model,
        tokenizer,
        problems(seed, noisy=arm == NOISY),
        canvas=CANVAS,
        reward=COUNTDOWN.reward,
        objective=Objective(),
        sampler=sampler(arm),
        n_prompts=plan.prompts,
        group_size=GROUP,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    history = trainer.train(plan.steps)
    triggered = sum(row.get("triggered", row["all_wrong"]) for row in history)
    left = sum(row.get("all_wrong_after", row["all_wrong"]) for row in history)
    values[arm] = measured(model, tokenizer, seed, plan) | {
        "rollouts": float(trainer.n_rollouts),
        "tokens": float(trainer.n_tokens),
        "all_wrong": sum(row["all_wrong"] for row in history) / len(history),
        "still_all_wrong": left / triggered if triggered else 0.0,
        "loss_variance": pvariance([row["loss"] for row in history]),
        "entropy": history[-1]["entropy"],
        "clock": sum(row["seconds"] for row in history),
    }
    return values


def problems(seed: int, *, noisy: bool = False) -> TaskProblems:
    """The same problems in the same order for every arm of a seed."""
    kind = NoisyTraces if noisy else TaskProblems
    return kind({(COUNTDOWN, level): share for level, share in SHARES.items()}, seed=seed)


def sampler(arm: str) -> Sampler:
    """Return what an arm does where every completion is wrong."""
    if arm == GRPO:
        return plain
    inpainting = Inpainting(size=CHUNKS, room=ROOM)
    if arm == RESAMPLED:
        return replace(inpainting, eta=(0.0, 0.0))
    if arm == WHOLE:
        return replace(inpainting, eta=(1.0, 1.0))
    if arm == UNFILTERED:
        return replace(inpainting, tau=1.0)
    return inpainting


def held_out(seed: int, plan: Plan) -> list[Problem]:
    """Hard problems that no policy was trained on."""
    rng = random.Random(f"{seed} held out")
    return [
        COUNTDOWN.sample(level, rng, split="eval") for level in HARD for _ in range(plan.held_out)
    ]


def measured(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int, plan: Plan
) -> dict[str, float]:
    """Success and pass@8, of each hard level and of both."""
    found = evaluate_canvas(
        model, tokenizer, held_out(seed, plan), CANVAS, n_completions=GROUP, seed=seed
    )
    return {
        "success": found.success(),
        "pass8": found.pass_at(GROUP),
        **{f"success_{level}": found.success(level) for level in HARD},
        **{f"pass8_{level}": found.pass_at(GROUP, level) for level in HARD},
    }


def _premise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    plan: Plan,
    *,
    alone: float,
) -> dict[str, float]:
    """Success with the whole trace shown, and how many times that without: the sparse regime."""
    asked = held_out(seed, plan)
    half = GROUP // 2
    fixed = revealed(tokenizer, asked).repeat_interleave(half, dim=0)
    shown = evaluate_canvas(
        model, tokenizer, asked, CANVAS, n_completions=half, seed=seed, fixed=fixed
    )
    # One right completion is the least that can be told from none.
    least = 1 / (GROUP * len(asked))
    return {
        "revealed": shown.success(),
        "revealed_ratio": shown.success() / max(alone, least),
        **{f"revealed_{level}": shown.success(level) for level in HARD},
    }


def _equal_tokens(steps: int, seed: int) -> int:
    """Steps on padded traces that hold as many tokens, ends included."""
    drawn = problems(seed).draw(256)
    short = sum(len(problem.completion) + 1 for problem in drawn)
    return max(1, round(steps * short / sum(len(padded(problem)) + 1 for problem in drawn)))


def all_arms(
    arms: list[str], *, seed: int, plan: Plan, pooled: bool
) -> dict[str, dict[str, float]]:
    """Train the arms, two at a time, or here and one after the other."""
    from rarefy.papers._threads import one_thread
    from rarefy.papers._two_processes import in_two_processes

    given = [{"arm": arm, "seed": seed, "plan": plan} for arm in arms]
    if pooled:
        found = in_two_processes(train, given)
    else:
        with one_thread():
            found = [train(arm=arm, seed=seed, plan=plan) for arm in arms]
    return {arm: values for each in found for arm, values in each.items()}
