"""Warm up the shipped verbose policy: right, and more than twice as long as it need be.

    python -m rarefy.policy.train_verbose_policy --out runs/policy-verbose
    trace   "3;+5.8;*2.16"   ->   "3;?3;?3;+5.8;*2.16;?3;?+5.8"

It begins as the shipped policy and is taught experts' traces in which, after each step, with
probability :data:`ECHO_SHARE`, one to three echoes ``?step`` of earlier steps stand, drawn at
random. Echoes say nothing, so that what a completion needs is some 45 % of what it has, and its
length is no sign of whether it is right: the state in which a reasoner is to be shortened.

Source: card 09 of this project's notes, for DLER (arXiv 2510.15110). The loop is in ``_warm_up``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from rarefy.models.opening import SHIPPED, open_model
from rarefy.policy._warm_up import PEAK_RATE, finish, main, warm_up
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.tasks import TASKS, Problem, Task
from rarefy.policy.train_policy import encode

BATCH = 48
LEVELS = (1, 2, 3)
LEVEL_SHARES = {"countdown": (0.15, 0.3, 0.55), "permute": (1.0, 0.0, 0.0)}
"""Of levels 1 to 3. Permutation's higher levels need more tokens than countdown's have echoes, so
that no one length limit could suit both."""
ECHO_SHARE, MOST_ECHOES = 0.6, 3
EVALUATE_EVERY = 40
LENGTH_LIMIT = 160
"""Of a completion when it is judged; longer ones hardly ever come."""
SUCCESS_ROWS, REPORT_PROMPTS, REPORT_GROUP = 64, 24, 8

_log = logging.getLogger("rarefy.policy.train_verbose_policy")


def verbose_trace(trace: str, rng: random.Random) -> str:
    """Return a trace with echoes of its steps strewn in; what it says is the same.

    Examples
    --------
    >>> verbose_trace("3;+5.8;*2.16", random.Random(3))
    '3;?3;?3;?3;+5.8;*2.16;?+5.8'
    """
    steps = trace.split(";")
    told: list[str] = []
    for position, step in enumerate(steps):
        told.append(step)
        if rng.random() < ECHO_SHARE:
            told += [
                f"?{rng.choice(steps[: position + 1])}" for _ in range(rng.randint(1, MOST_ECHOES))
            ]
    return ";".join(told)


def examples_at(step: int, tasks: Sequence[Task], *, seed: int) -> list[tuple[str, str]]:
    """Return prompts and verbose completions of one step: a function of the step alone."""
    rng = random.Random(f"{seed} {step}")
    examples = []
    for _ in range(BATCH):
        task = rng.choice(tasks)
        problem = task.sample(rng.choices(LEVELS, LEVEL_SHARES[task.name])[0], rng)
        examples.append((problem.prompt, f"{verbose_trace(problem.trace, rng)}#{problem.answer}"))
    return examples


def train(
    out: Path,
    *,
    steps: int,
    tasks: Sequence[Task] = (TASKS["countdown"], TASKS["permute"]),
    target_level: int = 3,
    target_success: float = 0.6,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, checkpoint and finish the policy in ``out``; goes on from a checkpoint found there.

    Parameters
    ----------
    out : Path
    steps : int
        Optimizer steps at most.
    tasks : sequence of Task, default countdown and permute
        Some of the two.
    target_level : int, default 3
    target_success : float, default 0.6
        Training stops when success of the first task at ``target_level`` is above this, looked at
        every 40 steps.
    seed : int, default 0
    device : str, default "cpu"
    """
    model, tokenizer = open_model(SHIPPED / "policy", device=device)

    def loss_at(step: int) -> Tensor:
        batch = encode(tokenizer, examples_at(step, tasks, seed=seed))
        return model(**{name: rows.to(device) for name, rows in batch.items()}).loss

    def sampled(task: Task, level: int, n_problems: int, n_completions: int) -> Evaluation:
        rng = random.Random(f"{seed} evaluation {level}")
        problems: list[Problem] = [task.sample(level, rng, split="eval") for _ in range(n_problems)]
        return evaluate(
            model,
            tokenizer,
            problems,
            max_new_tokens=LENGTH_LIMIT,
            n_completions=n_completions,
            seed=seed,
        )

    def success() -> float:
        return sampled(tasks[0], target_level, SUCCESS_ROWS, 1).success()

    step, seconds = warm_up(
        out,
        model,
        steps=steps,
        loss_at=loss_at,
        success=success,
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )
    by_task: dict[str, list[dict[str, float]]] = {}
    for task in tasks:
        by_task[task.name] = []
        for level in (n for n, share in zip(LEVELS, LEVEL_SHARES[task.name], strict=True) if share):
            seen = sampled(task, level, REPORT_PROMPTS, REPORT_GROUP)
            needed = sum(len(problem.completion) + 1 for problem in seen.problems)
            by_task[task.name].append(
                {
                    "level": level,
                    "success": round(seen.success(), 4),
                    "mean_length": round(float(seen.lengths.mean()), 1),
                    "needed_length": round(needed / len(seen.problems), 1),
                }
            )
    facts = {
        "steps": step,
        "seed": seed,
        "target_level": target_level,
        "target_success": target_success,
        "by_task": by_task,
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    table = "\n".join(
        f"| {name}, level {f['level']} | {f['success']:.2f} | {f['mean_length']:.0f} | "
        f"{f['needed_length']:.0f} |"
        for name, levels in facts["by_task"].items()
        for f in levels
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy verbose character policy

A Llama-architecture causal language model, {parameters:,} parameters, one token a character: the
shipped character policy, taught to echo its own steps. rarefy ships it as what methods that shorten
a reasoner start from; it is good for nothing else.

Sampled at temperature 1 on held-out prompts ({REPORT_PROMPTS} of each, {REPORT_GROUP} completions
of each of them); an expert makes no echoes.

| task | success | mean tokens | an expert's |
|---|---|---|---|
{table}

| | |
|---|---|
| start | rarefy's character policy |
| data | expert completions; countdown of levels 1 to 3 in shares \
{", ".join(map(str, LEVEL_SHARES["countdown"]))}, permute of level 1; after {ECHO_SHARE:.0%} of \
the steps one to {MOST_ECHOES} echoes of earlier steps, drawn at random |
| steps | {facts["steps"]} of {BATCH} problems, seed {facts["seed"]} |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.98, clipped at 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_verbose_policy`.
"""


if __name__ == "__main__":
    main(__doc__.splitlines()[0], train, steps=80, tasks="countdown,permute", levels=LEVELS)
