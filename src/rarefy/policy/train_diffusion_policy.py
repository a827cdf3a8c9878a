"""Warm up the masked-diffusion policy: experts' completions on a canvas, masked at random.

    python -m rarefy.policy.train_diffusion_policy --out runs/diffusion --steps 20000

The same network, tokenizer, problems and learning rate as the character policy's
(:mod:`rarefy.policy.train_policy`), with the loss of :mod:`rarefy.policy.diffusion`. In three rows
of ten only the answer is ever masked: a policy that is shown a trace must have learnt to draw the
answer from it, or inpainting could not guide it. Countdown is the task: its answer copies from the
trace, and its canvas is short.

Training stops as the character policy's does. The model card gives success without help and with
the expert's trace revealed, which is what inpainting-guided exploration lives on.

Departures from IGPO's models (8 B parameters): everything about size.
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
from rarefy.policy._warm_up import finish, main, warm_up
from rarefy.policy.canvas import on_canvas
from rarefy.policy.diffusion import denoise, diffusion_loss
from rarefy.policy.tasks import COUNTDOWN, Problem, Task
from rarefy.policy.train_policy import examples_at

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

CANVAS = 24
"""Tokens; the longest completion of countdown's level 4 has 19, and its end."""
BLOCK = 8
SAMPLER_STEPS = 12
ANSWER_ONLY_SHARE = 0.3
EVALUATE_EVERY = 200
EVALUATION_PROMPTS = 128
CHECKED_LEVELS = (1, 2, 3, 4)
"""Completions of level 5 are longer than the canvas."""

_log = logging.getLogger("rarefy.policy.train_diffusion_policy")


def revealed(tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]) -> Tensor:
    """The experts' traces on canvases whose other places, the answers', are masked."""
    canvas = on_canvas(tokenizer, [problem.trace for problem in problems], length=CANVAS)
    behind = torch.arange(CANVAS) >= torch.tensor([[len(p.trace)] for p in problems])
    return canvas.masked_fill(behind, tokenizer.mask_token_id)


def loss_at(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    step: int,
    tasks: Sequence[Task],
    *,
    seed: int,
) -> Tensor:
    """The loss of one step: a function of weights and step alone."""
    examples = examples_at(step, tasks, seed=seed)
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + step)
    batch = tokenizer([prompt for prompt, _ in examples], padding=True, return_tensors="pt")
    canvas = on_canvas(tokenizer, [completion for _, completion in examples], length=CANVAS)
    answers = torch.tensor([[completion.index("#")] for _, completion in examples])
    everything = torch.rand(len(canvas), 1, generator=generator) >= ANSWER_ONLY_SHARE
    maskable = everything | (torch.arange(CANVAS) >= answers)
    device = model.device
    return diffusion_loss(
        model,
        batch["input_ids"].to(device),
        batch["attention_mask"].to(device),
        canvas.to(device),
        mask_token_id=tokenizer.mask_token_id,
        generator=generator,
        maskable=maskable.to(device),
    )


def success(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[Task],
    *,
    level: int,
    seed: int,
    reveal: bool = False,
) -> float:
    """Mean success over tasks of canvases filled at temperature 1, with the trace given or not."""
    rng = random.Random(f"{seed} evaluation {level}")
    asked = [
        (task, task.sample(level, rng, split="eval"))
        for task in tasks
        for _ in range(max(1, EVALUATION_PROMPTS // len(tasks)))
    ]
    problems = [problem for _, problem in asked]
    batch = tokenizer([p.prompt for p in problems], padding=True, return_tensors="pt")
    canvas = denoise(
        model,
        batch["input_ids"].to(model.device),
        batch["attention_mask"].to(model.device),
        length=CANVAS,
        steps=SAMPLER_STEPS,
        block_length=BLOCK,
        mask_token_id=tokenizer.mask_token_id,
        generator=torch.Generator().manual_seed(seed),
        fixed=revealed(tokenizer, problems).to(model.device) if reveal else None,
    )
    completions = tokenizer.batch_decode(_until_end(canvas, tokenizer), skip_special_tokens=True)
    solved = [
        task.verify(problem.prompt, completion)
        for (task, problem), completion in zip(asked, completions, strict=True)
    ]
    return sum(solved) / len(solved)


def _until_end(canvas: Tensor, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """End tokens from the first one on, so that nothing behind it is read."""
    ended = (canvas == tokenizer.eos_token_id).cumsum(1) > 0
    return canvas.masked_fill(ended, tokenizer.eos_token_id)


def train(
    out: Path,
    *,
    steps: int,
    tasks: Sequence[Task] = (COUNTDOWN,),
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
        Whose completions up to level 4 fit the canvas; countdown by default.
    target_level : int, default 4
    target_success : float, default 0.03
        Training stops when success without help is above this at ``target_level``.
    seed : int, default 0
    device : str, default "cpu"
    """
    tokenizer = character_tokenizer()
    model = character_model(tokenizer, seed=seed).to(device)
    step, seconds = warm_up(
        out,
        model,
        steps=steps,
        loss_at=lambda step: loss_at(model, tokenizer, step, tasks, seed=seed),
        success=lambda: success(model, tokenizer, tasks, level=target_level, seed=seed),
        target_success=target_success,
        evaluate_every=EVALUATE_EVERY,
        log=_log,
    )

    def by_level(*, reveal: bool) -> list[float]:
        return [
            success(model, tokenizer, tasks, level=level, seed=seed, reveal=reveal)
            for level in CHECKED_LEVELS
        ]

    facts = {
        "steps": step,
        "seed": seed,
        "tasks": [task.name for task in tasks],
        "target_level": target_level,
        "target_success": target_success,
        "success": by_level(reveal=False),
        "success_revealed": by_level(reveal=True),
        "training_seconds": round(seconds),
    }
    finish(out, model, tokenizer, facts, _card)
    _log.info("%s", facts)


def _card(facts: dict[str, Any], parameters: int) -> str:
    rows = {
        name: " | ".join(f"{value:.3f}" for value in facts[name])
        for name in ("success", "success_revealed")
    }
    return f"""---
license: apache-2.0
library_name: transformers
---
# rarefy masked-diffusion policy

A masked-diffusion language model, {parameters:,} parameters, one token a character, canvas of
{CANVAS}. The weights are a Llama's, and every position must see every other: use them through
`rarefy.policy.diffusion`, for `generate` would be causal.

| sampled success at level | {" | ".join(map(str, CHECKED_LEVELS))} |
|{"---|" * (1 + len(CHECKED_LEVELS))}
| without help | {rows["success"]} |
| with the expert's trace revealed | {rows["success_revealed"]} |

| | |
|---|---|
| data | expert completions of `rarefy.policy.tasks`: {", ".join(facts["tasks"])} |
| steps | {facts["steps"]}, seed {facts["seed"]}; stopped at success above \
{facts["target_success"]} at level {facts["target_level"]} |
| sampler | {SAMPLER_STEPS} steps, blocks of {BLOCK}, temperature 1 |
| hardware | {facts["hardware"]} |
| training time | {facts["training_seconds"]:,} s |

Trained by `python -m rarefy.policy.train_diffusion_policy`.
"""


if __name__ == "__main__":
    main(__doc__.splitlines()[0], train, steps=20_000, tasks=COUNTDOWN.name, levels=CHECKED_LEVELS)
