"""What inpainting costs a masked-diffusion rollout, and choosing what to keep row by row.

Ratios over 1 mean ours is faster. All use one thread and the shipped policy, 96 canvases of 24.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import torch

from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.policy.canvas import CPU_ROWS, Canvas, fill
from rarefy.policy.diffusion import canvas_logits, denoise, surest
from rarefy.policy.rollout import left_pad
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.train_diffusion_policy import revealed

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS, COMPLETIONS = 12, 8
CANVAS = Canvas(length=24, steps=12, block_length=8)


def rows() -> list[dict[str, Any]]:
    """Hints beside none; the sampler beside its passes and beside one row at a time; the choice."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [*sampler_rows(), remasking_row()]
    finally:
        torch.set_num_threads(threads)


def sampler_rows() -> list[dict[str, Any]]:
    """A rollout with part of the trace given may take 5 % longer than one without, no more."""
    model, tokenizer = open_model(SHIPPED / "diffusion")
    rng = random.Random(0)
    problems = [COUNTDOWN.sample(4, rng) for _ in range(PROMPTS)]
    prompts = [problem.prompt for problem in problems]
    hints = revealed(tokenizer, problems)
    hints[:, 1::2] = tokenizer.mask_token_id
    hints = hints.repeat_interleave(COMPLETIONS, dim=0)
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts for _ in range(COMPLETIONS)]
    ids, mask = left_pad(encoded, pad_token_id=tokenizer.pad_token_id)
    empty = torch.full((len(ids), CANVAS.length), tokenizer.mask_token_id)
    generator = torch.Generator().manual_seed(0)

    def rollout(fixed: Tensor | None) -> None:
        fill(
            model, tokenizer, prompts, CANVAS, n_completions=COMPLETIONS, generator=generator,
            fixed=fixed,
        )  # fmt: skip

    def sampled(n_rows: int, of: int) -> None:
        for start in range(0, of, n_rows):
            denoise(
                model, ids[start : start + n_rows], mask[start : start + n_rows].long(),
                length=CANVAS.length, steps=CANVAS.steps, block_length=CANVAS.block_length,
                mask_token_id=tokenizer.mask_token_id, generator=generator,
            )  # fmt: skip

    @torch.inference_mode()
    def passes() -> None:
        for _ in range(CANVAS.steps):
            canvas_logits(model, ids[:CPU_ROWS], mask[:CPU_ROWS].long(), empty[:CPU_ROWS])

    hinted, plain = interleaved(lambda: rollout(hints), lambda: rollout(None), repeats=5, warmup=1)
    together, bare, one = interleaved(
        lambda: sampled(CPU_ROWS, CPU_ROWS),
        passes,
        lambda: sampled(1, CPU_ROWS),
        repeats=5,
        warmup=1,
    )
    return [
        row("igpo.rollout.inpainting", "the same without hints", hinted, plain, goal=0.95),
        row("igpo.sampler", "its passes of the network alone", together, bare, goal=1 / 1.2),
        row("igpo.sampler.batched", "one row at a time", together, one, goal=None),
    ]


def remasking_row() -> dict[str, Any]:
    """Choosing what to keep of 96 rows at once, and top-k of one row after the other."""
    generator = torch.Generator().manual_seed(0)
    shape = (PROMPTS * COMPLETIONS, CANVAS.block_length)
    confidence = torch.rand(shape, generator=generator)
    masked = torch.rand(shape, generator=generator) < 0.8
    quota = -(-masked.sum(1) // 4)

    def loop() -> Tensor:
        kept = torch.zeros_like(masked)
        open_ = torch.where(masked, confidence, -torch.inf)
        for number in range(len(open_)):
            _, places = torch.topk(open_[number], k=int(quota[number]))
            kept[number, places] = True
        return kept

    if not loop().equal(surest(confidence, masked, quota)):
        raise RuntimeError("the loop and the vectorised choice keep different places")
    quick, slow = interleaved(lambda: surest(confidence, masked, quota), loop, repeats=50)
    return row("igpo.remasking", "loop over rows as in the authors' code", quick, slow, goal=5.0)
