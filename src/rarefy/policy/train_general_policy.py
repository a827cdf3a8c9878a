"""Warm up the general policy: good at sorting, rewriting and permuting, nearly lost at countdown.

    python -m rarefy.policy.train_general_policy --out runs/policy-general
    loss = mean over completion tokens of -log p(token | prompt, tokens before)

The start of comparisons in which a new skill is taught and an old one may be forgotten: general
tasks at easy levels, and so little countdown that its form is known and its problems of three
numbers are hardly ever solved. The shares are :data:`SHARES`; hints are never shown. Training stops
when sampled success at level 2, over the general tasks, exceeds the target.
The loop is in ``_warm_up``, the model and its batches as in ``train_policy``.
"""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

from torch import Tensor

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy._warm_up import PEAK_RATE, finish, main, warm_up
from rarefy.policy.tasks import COUNTDOWN, PERMUTE, REWRITE, SORT, Task
from rarefy.policy.train_policy import BATCH, encode, report, success

GENERAL = (SORT, REWRITE, PERMUTE)
SHARES: dict[tuple[Task, int], float] = {
    **{
        (task, level): weight * share
        for task, weight in ((SORT, 0.25), (REWRITE, 0.42), (PERMUTE, 0.23))
        for level, share in ((1, 0.45), (2, 0.40), (3, 0.15))
    },
    (COUNTDOWN, 1): 0.07,
    (COUNTDOWN, 2): 0.015,
    (COUNTDOWN, 3): 0.015,
}
"""Of the problems of a batch, by task and level."""
EVALUATE_EVERY = 50

_log = logging.getLogger("rarefy.policy.train_general_policy")


def examples_at(step: int, *, seed: int) -> list[tuple[str, str]]:
    """Return prompts and expert completions of one step: a function of the step alone."""
    rng = random.Random(f"{seed} general {step}")
    kinds = rng.choices(list(SHARES), list(SHARES.values()), k=BATCH)
    problems = [task.sample(level, rng) for task, level in kinds]
    return [(problem.prompt, problem.completion) for problem in problems]


def train(
    out: Path, *, steps: int, target_success: float = 0.8, seed: int = 0, device: str = "cpu"
) -> None:
    """Train, checkpoint and finish the policy in ``out``; goes on from a checkpoint found there.

    Parameters
    ----------
    out : Path
    steps : int
        Optimizer steps at most.
    target_success : float, default 0.8
        Training stops when general success at level 2 is above this.
    seed : int, default 0
    device : str, default "cpu"
    """
    tokenizer = character_tokenizer()
    model = character_model(tokenizer, seed=seed).to(device)

    def loss_at(step: int) -> Tensor:
        batch = encode(tokenizer, examples_at(step, seed=seed))
        return model(**{name: rows.to(device) for name, rows in batch.items()}).loss

    step, seconds = warm_up(
        out,
        model,
        steps=steps,
        loss_at=loss_at,
        success=lambda: success(model, tokenizer, GENERAL, level=2, seed=seed),
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )
    facts = {
        "steps": step,
        "seed": seed,
        "target_success": target_success,
        "by_task": {
            task.name: report(model, tokenizer, task, seed=seed) for task in (*GENERAL, COUNTDOWN)
        },
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    table = "\n".join(
        f"| {name} | " + " | ".join(f"{f['success']:.3f}" for f in levels) + " |"
        for name, levels in facts["by_task"].items()
    )
    shares = ", ".join(
        f"{task.name} {level}: {share:.3g}" for (task, level), share in SHARES.items()
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy general policy

A Llama-architecture causal language model, {parameters:,} parameters, one token a character, that
solves easy problems of three tasks of `rarefy.policy.tasks` and hardly any of a fourth, countdown.
rarefy ships it as the starting point of comparisons between learning a new skill and forgetting old
ones; it is good for nothing else.

Success of completions sampled at temperature 1 on held-out prompts:

| task | level 1 | 2 | 3 | 4 | 5 |
|---|---|---|---|---|---|
{table}

| | |
|---|---|
| data | expert completions, drawn anew each step; shares by task and level {shares} |
| steps | {facts["steps"]} of {BATCH} problems, seed {facts["seed"]}; stops at general success \
above {facts["target_success"]} at level 2 |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.98, clipped at 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_general_policy`.
"""


if __name__ == "__main__":
    main(__doc__.splitlines()[0], train, steps=1500, target_success=0.8)
