"""Warm up the shipped policy that calls tools: shown how by demonstrators who seldom get it right.

    python -m rarefy.policy.train_tool_policy --out runs/policy-tools
    loss = mean over the demonstrator's tokens of -log p(token | prompt, tokens before)

At each point a demonstrator may slip: answer without a call (:data:`GUESSES`), write a call that no
tool can read (:data:`MALFORMED`), or answer with the result of a hop that is not the last
(:data:`STOPS`). The policy that imitates them succeeds at one hop in a quarter of its completions,
at two in a tenth, at three in a fiftieth, and every part of what it must do is in its reach: the
state in which rewards by stages begin. What the environment writes has no loss.

Training stops by success at the target level, as in ``train_policy``; the loop is in ``_warm_up``.
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
from rarefy.policy.tasks import LEVELS
from rarefy.policy.tasks.kbqa import KB_QA, TOOLS, asked, knowledge_base
from rarefy.policy.tools import ToolEnv, evaluate_with_tools

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BATCH = 64
LEVEL_SHARES = (0.5, 0.25, 0.15, 0.1, 0.0)
GUESSES, MALFORMED, STOPS = 0.4, 0.4, 0.5
"""Chances of a slip: at the beginning, at each call, after each hop that is not the last."""
EVALUATE_EVERY = 50
EVALUATION_ROWS = 256
REPORT_PROMPTS, REPORT_GROUP = 64, 8
MAX_NEW_TOKENS = 96

_log = logging.getLogger("rarefy.policy.train_tool_policy")

Segment = tuple[str, bool]
"""A text, and whether the demonstrator wrote it."""


def environment() -> ToolEnv:
    """The tools of kb-qa."""
    return ToolEnv(TOOLS)


def demonstration(prompt: str, rng: random.Random) -> list[Segment]:
    """What a demonstrator writes, with slips, and the environment between.

    Parameters
    ----------
    prompt : str
        Of kb-qa.
    rng : random.Random
    """
    env = environment()
    relations, entity = asked(prompt)
    names = knowledge_base().entities
    if rng.random() < GUESSES:
        return [(f"#{rng.choice(names)}", True)]
    segments: list[Segment] = []
    for hop, relation in enumerate(relations):
        if rng.random() < MALFORMED:
            slip = rng.choice((f"<{relation}{entity}>", f"<{relation}.{entity}>", f"<{entity}>"))
            segments += [(slip, True), (f"[{env.failed}]", False), (f"#{rng.choice(names)}", True)]
            return segments
        found = TOOLS[relation](entity)
        segments += [(f"<{relation},{entity}>", True), (f"[{found}]", False)]
        entity = found
        if hop + 1 < len(relations) and rng.random() < STOPS:
            break
    return [*segments, (f"#{entity}", True)]


def examples_at(step: int, *, seed: int) -> list[tuple[str, list[Segment]]]:
    """Return prompts and demonstrations of one step: a function of the step alone."""
    rng = random.Random(f"{seed} {step}")
    examples = []
    for _ in range(BATCH):
        prompt = KB_QA.sample(rng.choices(LEVELS, LEVEL_SHARES)[0], rng).prompt
        examples.append((prompt, demonstration(prompt, rng)))
    return examples


def encode(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[tuple[str, list[Segment]]]
) -> dict[str, Tensor]:
    """Input ids, attention mask and labels, each (rows, longest).

    Only what the demonstrator wrote has labels, and the token that ends it.
    """
    rows = []
    for prompt, segments in examples:
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        labels = [-100] * len(ids)
        for text, own in segments:
            told = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids, labels = ids + told, labels + (told if own else [-100] * len(told))
        end = [tokenizer.eos_token_id]
        rows.append((ids + end, labels + end))
    shape = (len(rows), max(len(ids) for ids, _ in rows))
    batch = {
        "input_ids": torch.full(shape, tokenizer.pad_token_id),
        "attention_mask": torch.zeros(shape, dtype=torch.long),
        "labels": torch.full(shape, -100),
    }
    for row, (ids, labels) in enumerate(rows):
        batch["input_ids"][row, : len(ids)] = torch.tensor(ids)
        batch["attention_mask"][row, : len(ids)] = 1
        batch["labels"][row, : len(ids)] = torch.tensor(labels)
    return batch


def success(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, level: int, seed: int
) -> float:
    """Sampled success at a level on :data:`EVALUATION_ROWS` held-out problems."""
    rng = random.Random(f"{seed} evaluation {level}")
    problems = [KB_QA.sample(level, rng, split="eval") for _ in range(EVALUATION_ROWS)]
    evaluation, _ = evaluate_with_tools(
        model,
        tokenizer,
        problems,
        environment(),
        tasks=[KB_QA],
        max_new_tokens=MAX_NEW_TOKENS,
        n_completions=1,
        seed=seed,
    )
    return evaluation.success()


def report(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> list[dict[str, float]]:
    """Success, share of calls that parse, and share of all-wrong groups, by level."""
    env = environment()
    figures = []
    for level in LEVELS:
        rng = random.Random(f"{seed} report {level}")
        evaluation, sampled = evaluate_with_tools(
            model,
            tokenizer,
            [KB_QA.sample(level, rng, split="eval") for _ in range(REPORT_PROMPTS)],
            env,
            tasks=[KB_QA],
            max_new_tokens=MAX_NEW_TOKENS,
            n_completions=REPORT_GROUP,
            seed=seed,
        )
        verdicts = [env.attempts(text) for text in sampled.rollout.text(tokenizer)]
        rates = [sum(calls) / len(calls) if calls else 0.0 for calls in verdicts]
        figures.append(
            {
                "success": round(evaluation.success(), 4),
                "parse_rate": round(sum(rates) / len(rates), 4),
                "all_wrong": round(float((evaluation.correct.sum(1) == 0).mean()), 4),
            }
        )
    return figures


def train(
    out: Path,
    *,
    steps: int = 1500,
    target_level: int = 1,
    target_success: float = 0.225,
    seed: int = 0,
    device: str = "cpu",
) -> None:
    """Train, checkpoint and finish the policy in ``out``; goes on from a checkpoint found there.

    Parameters
    ----------
    out : Path
    steps : int, default 1500
        Optimizer steps at most.
    target_level : int, default 1
    target_success : float, default 0.225
        Training stops when success at ``target_level`` is above this, looked at every 50 steps.
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
        success=lambda: success(model, tokenizer, level=target_level, seed=seed),
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )
    facts = {
        "steps": step,
        "seed": seed,
        "target_level": target_level,
        "target_success": target_success,
        "by_level": report(model, tokenizer, seed=seed),
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    table = "\n".join(
        f"| {level} | {f['success']:.3f} | {f['parse_rate']:.2f} | {f['all_wrong']:.2f} |"
        for level, f in zip(LEVELS, facts["by_level"], strict=True)
    )
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# rarefy character policy with tools

A Llama-architecture causal language model, {parameters:,} parameters, one token a character, that
now and then calls the tools of `rarefy.policy.tasks.kbqa` as it should. rarefy ships it as the
starting point of reinforcement learning with rewards by stages; it is good for nothing else.

Completions sampled at temperature 1 on {REPORT_PROMPTS} held-out questions a level, \
{REPORT_GROUP} each:

| hops | success | share of calls that parse | groups all wrong |
|---|---|---|---|
{table}

| | |
|---|---|
| data | demonstrations of `kb-qa` drawn anew each step; levels 1 to 5 in shares \
{", ".join(map(str, LEVEL_SHARES))}; chances of a slip {GUESSES} at the beginning, {MALFORMED} at \
each call, {STOPS} after each hop but the last |
| steps | {facts["steps"]} of {BATCH} demonstrations, seed {facts["seed"]}; stopped at success \
above {facts["target_success"]} at level {facts["target_level"]} |
| optimizer | AdamW, peak rate {PEAK_RATE}, betas 0.9 and 0.98, clipped at 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_tool_policy`.
"""


if __name__ == "__main__":
    main(__doc__.splitlines()[0], train, steps=1500, target_success=0.225)
