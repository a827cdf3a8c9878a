"""Warm up the shipped character policy: taught by experts until hard problems rarely succeed.

    python -m rarefy.policy.train_policy --out runs/policy --steps 2000 --tasks countdown,permute
    loss = mean over completion tokens of -log p(token | prompt, tokens before)

Half a million characters of expert traces or so make a policy that solves easy problems often,
middle ones rarely and hard ones almost never: the state in which reinforcement learning from sparse
rewards begins. Batches mix the tasks evenly and the levels by :data:`LEVEL_SHARES`; the few longer
problems are there because a policy that has never seen their length fails on length alone. A
quarter of the prompts carry a hint, so that hints mean something later.

Training stops by success, not by loss: as soon as sampled success at the target level, over the
tasks, exceeds the target, or after ``--steps``. That makes the reward equally sparse whatever the
seed. Every batch and evaluation is a function of seed and step, so that a killed run, started again
with the same ``--out``, goes on from its last checkpoint as if nothing had happened. The finished
folder holds config, safetensors, tokenizer and a model card (README.md).
The loop is in ``_warm_up``.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rarefy.models.characters import character_model, character_tokenizer
from rarefy.policy._warm_up import PEAK_RATE, finish, main, warm_up
from rarefy.policy.rollout import generate
from rarefy.policy.tasks import LEVELS, TASKS, Problem, Task, hinted

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BATCH = 64
LEVEL_SHARES = (0.40, 0.30, 0.22, 0.08, 0.0)
HINTED_SHARE = 0.25
EVALUATE_EVERY = 50
EVALUATION_ROWS = 256
"""Completions sampled, over all tasks, to see whether the target is reached."""
REPORT_PROMPTS, REPORT_GROUP = 32, 8
"""Prompts of each task and level, and completions of each, behind the model card's figures."""

_log = logging.getLogger("rarefy.policy.train_policy")


def examples_at(step: int, tasks: Sequence[Task], *, seed: int) -> list[tuple[str, str]]:
    """Return prompts and expert completions of one step: a function of the step alone."""
    rng = random.Random(f"{seed} {step}")
    examples = []
    for _ in range(BATCH):
        level = rng.choices(LEVELS, LEVEL_SHARES)[0]
        problem = rng.choice(tasks).sample(level, rng)
        ratio = rng.random() if rng.random() < HINTED_SHARE else 0.0
        examples.append((hinted(problem, ratio), problem.completion))
    return examples


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[tuple[str, str]]
) -> dict[str, Tensor]:
    """Input ids, attention mask and labels, each (rows, longest); only completions have labels.

    Rows are prompt, completion, end token, padded on the right: causal attention never sees it.
    """
    rows = []
    for prompt, completion in examples:
        asked = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        told = tokenizer(completion, add_special_tokens=False)["input_ids"]
        rows.append((asked, [*told, tokenizer.eos_token_id]))
    shape = (len(rows), max(len(asked) + len(told) for asked, told in rows))
    ids = torch.full(shape, tokenizer.pad_token_id)
    labels = torch.full(shape, -100)
    mask = torch.zeros(shape, dtype=torch.long)
    for row, (asked, told) in enumerate(rows):
        end = len(asked) + len(told)
        ids[row, :end] = torch.tensor(asked + told)
        labels[row, len(asked) : end] = torch.tensor(told)
        mask[row, :end] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def sample_completions(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    *,
    seed: int,
) -> list[str]:
    """Sample one completion a problem at temperature 1, a little longer than experts' at most."""
    rollout = generate(
        model,
        [tokenizer(p.prompt, add_special_tokens=False)["input_ids"] for p in problems],
        max_new_tokens=max(len(p.completion) for p in problems) + 8,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator(model.device).manual_seed(seed),
    )
    return rollout.text(tokenizer)


def success(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[Task],
    *,
    level: int,
    seed: int,
) -> float:
    """Mean sampled success over tasks at a level, on :data:`EVALUATION_ROWS` held-out problems."""
    rng = random.Random(f"{seed} evaluation {level}")
    asked = [
        (task, task.sample(level, rng, split="eval"))
        for task in tasks
        for _ in range(max(1, EVALUATION_ROWS // len(tasks)))
    ]
    completions = sample_completions(model, tokenizer, [p for _, p in asked], seed=seed)
    solved = [
        task.verify(problem.prompt, completion)
        for (task, problem), completion in zip(asked, completions, strict=True)
    ]
    return sum(solved) / len(solved)


def report(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    task: Task,
    *,
    seed: int,
) -> list[dict[str, float]]:
    """Success, credit, and share of groups in which every completion is wrong, by level."""
    figures = []
    for level in LEVELS:
        rng = random.Random(f"{seed} report {level}")
        problems = [task.sample(level, rng, split="eval") for _ in range(REPORT_PROMPTS)]
        repeated = [problem for problem in problems for _ in range(REPORT_GROUP)]
        completions = sample_completions(model, tokenizer, repeated, seed=seed)
        pairs = list(zip([p.prompt for p in repeated], completions, strict=True))
        solved = torch.tensor([task.verify(*pair) for pair in pairs]).view(-1, REPORT_GROUP)
        credit = torch.tensor([task.credit(*pair) for pair in pairs])
        figures.append(
            {
                "success": round(float(solved.mean()), 4),
                "credit": round(float(credit.mean()), 4),
                "all_wrong": round(float((solved.sum(1) == 0).float().mean()), 4),
            }
        )
    return figures


def train(
    out: Path,
    *,
    steps: int,
    tasks: Sequence[Task] = tuple(TASKS.values()),
    target_level: int = 4,
    target_success: float = 0.03,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, checkpoint and finish the policy in ``out``; goes on from a checkpoint found there.

    Parameters
    ----------
    out : Path
    steps : int
        Optimizer steps at most.
    tasks : sequence of Task
        All by default.
    target_level : int, default 4
    target_success : float, default 0.03
        Training stops when success at ``target_level`` is above this, looked at every 50 steps.
    seed : int, default 0
    device : str, default "cpu"
    """
    tokenizer = character_tokenizer()
    model = character_model(tokenizer, seed=seed).to(device)

    def loss_at(step: int) -> Tensor:
        batch = encode(tokenizer, examples_at(step, tasks, seed=seed))
        return model(**{name: rows.to(device) for name, rows in batch.items()}).loss

    step, seconds = warm_up(
        out,
        model,
        steps=steps,
        loss_at=loss_at,
        success=lambda: success(model, tokenizer, tasks, level=target_level, seed=seed),
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )
    facts = {
        "steps": step,
        "seed": seed,
        "target_level": target_level,
        "target_success": target_success,
        "by_task": {task.name: report(model, tokenizer, task, seed=seed) for task in tasks},
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    by_task = facts["by_task"]
    table = "\n".join(
        f"| {name} | "
        + " | ".join(f"{f['success']:.3f} ({f['all_wrong']:.2f})" for f in levels)
        + " |"
        for name, levels in by_task.items()
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy character policy

A Llama-architecture causal language model, {parameters:,} parameters, one token a character, that
half knows how to solve the tasks of `rarefy.policy.tasks`. rarefy ships it as the starting point of
reinforcement learning from sparse rewards; it is good for nothing else.

Success of completions sampled at temperature 1 on held-out prompts, and in brackets the share of
groups of {REPORT_GROUP} completions that are all wrong ({REPORT_PROMPTS} prompts each):

| task | level 1 | 2 | 3 | 4 | 5 |
|---|---|---|---|---|---|
{table}

| | |
|---|---|
| data | expert completions of `rarefy.policy.tasks`, drawn anew each step; levels 1 to 5 in \
shares {", ".join(map(str, LEVEL_SHARES))}; {HINTED_SHARE:.0%} with a hint |
| steps | {facts["steps"]} of {BATCH} problems, seed {facts["seed"]}; stopped at success above \
{facts["target_success"]} at level {facts["target_level"]} |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.98, clipped at 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_policy`.
"""


if __name__ == "__main__":
    main(__doc__.splitlines()[0], train, steps=2000, tasks=",".join(TASKS), levels=LEVELS)
