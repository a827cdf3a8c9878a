"""Groups of completions from a masked-diffusion policy: rollouts, and how often they are right.

A :class:`Rollout` whose completions are whole canvases. Its mask holds the tokens up to and with
the first end token, which is what is read; log-probabilities and entropies are there for all of the
canvas (see :mod:`rarefy.policy.mean_field`), since the policy models what stands behind the end.

Source: IGPO (arXiv 2509.10396, section 2); the sampler is :func:`rarefy.policy.diffusion.denoise`.
Departures: on the CPU rows are filled in parts that fit its caches, which is a quarter faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rarefy.policy.diffusion import denoise
from rarefy.policy.evaluation import Evaluation, judged
from rarefy.policy.mean_field import mean_field_scores
from rarefy.policy.rollout import Rollout, left_pad
from rarefy.policy.tasks import TASKS, Problem, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CPU_ROWS = 32


@dataclass(frozen=True)
class Canvas:
    """How a policy's canvas is filled.

    Parameters
    ----------
    length : int, default 24
        Tokens; those of the shipped policy.
    steps : int, default 12
        Passes of the network, as many for each block.
    block_length : int, default 8

    Raises
    ------
    ValueError
        If blocks do not divide the length, or steps the blocks.
    """

    length: int = 24
    steps: int = 12
    block_length: int = 8

    def __post_init__(self) -> None:
        if (
            min(self.length, self.steps, self.block_length) < 1
            or self.length % self.block_length
            or self.steps % (self.length // self.block_length)
        ):
            raise ValueError(
                f"length is {self.length}, block_length {self.block_length} and steps "
                f"{self.steps}; whole blocks, and as many steps in each, are wanted"
            )


def on_canvas(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, length: int) -> Tensor:
    """Texts filled up with end tokens, int64 of shape (len(texts), length).

    Raises
    ------
    ValueError
        If a text and one end token do not fit.
    """
    canvas = torch.full((len(texts), length), tokenizer.eos_token_id)
    for row, text in enumerate(texts):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= length:
            raise ValueError(f"completion {text!r} has {len(ids)} tokens; at most {length - 1} fit")
        canvas[row, : len(ids)] = torch.tensor(ids)
    return canvas


@torch.no_grad()
def fill(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    canvas: Canvas,
    *,
    n_completions: int = 1,
    temperature: float = 1.0,
    generator: torch.Generator,
    fixed: Tensor | None = None,
) -> Rollout:
    """Sample completions of prompts.

    Parameters
    ----------
    model : transformers model
        A masked-diffusion policy, such as the shipped one.
    tokenizer : transformers tokenizer
        With a mask token.
    prompts : sequence of str
    canvas : Canvas
    n_completions : int, default 1
        Of each prompt.
    temperature : float, default 1
        0 takes the likeliest tokens.
    generator : torch.Generator
        On the CPU.
    fixed : Tensor of int64, shape (B, length), optional
        Tokens that are given for each completion, the mask token where none is.

    Returns
    -------
    Rollout
        Of ``len(prompts) * n_completions`` completions; T is the canvas's length.

    Raises
    ------
    ValueError
        If the tokenizer has no mask token, or a prompt does not fit the model's context.
    """
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no mask token: it is none of a masked-diffusion policy")
    encoded = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
    longest = max(map(len, encoded))
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and longest + canvas.length > context:
        raise ValueError(
            f"the longest prompt has {longest} tokens, which with a canvas of {canvas.length} does "
            f"not fit the model's context of {context}"
        )
    ids, mask = left_pad(encoded, pad_token_id=tokenizer.pad_token_id, device=model.device)
    ids = ids.repeat_interleave(n_completions, dim=0)
    mask = mask.repeat_interleave(n_completions, dim=0)
    rows = CPU_ROWS if model.device.type == "cpu" else len(ids)
    parts = []
    for start in range(0, len(ids), rows):
        part = slice(start, start + rows)
        filled = denoise(
            model,
            ids[part],
            mask[part].long(),
            length=canvas.length,
            steps=canvas.steps,
            block_length=canvas.block_length,
            temperature=temperature,
            mask_token_id=tokenizer.mask_token_id,
            generator=generator,
            fixed=None if fixed is None else fixed[part].to(model.device),
        ).clone()  # out of inference mode
        scores = mean_field_scores(
            model,
            ids[part],
            mask[part].long(),
            filled,
            mask_token_id=tokenizer.mask_token_id,
            temperature=temperature or 1.0,
        )
        parts.append((filled, *scores))
    completions, logps, entropies = (torch.cat(column) for column in zip(*parts, strict=True))
    ends = completions == tokenizer.eos_token_id
    return Rollout(
        prompt_ids=ids,
        prompt_mask=mask,
        completion_ids=completions,
        completion_mask=ends.cumsum(1) - ends.long() == 0,
        logps=logps,
        entropies=entropies,
        terminated=ends.any(1),
    )


def evaluate_canvas(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    canvas: Canvas,
    *,
    n_completions: int,
    seed: int,
    temperature: float = 1.0,
    fixed: Tensor | None = None,
    tasks: Sequence[Task] = tuple(TASKS.values()),
) -> Evaluation:
    """Sample completions of each problem and verify them.

    Parameters
    ----------
    model, tokenizer, canvas, temperature, fixed
        As for :func:`fill`.
    problems : sequence of Problem
        Each of one of the ``tasks``, by name.
    n_completions : int
        Of each problem; ``2 k`` at least for a steady pass@k.
    seed : int
    tasks : sequence of Task, default all of the suite

    Returns
    -------
    Evaluation
        Its entropy is the mean over tokens that are read, everything hidden.
    """
    rollout = fill(
        model,
        tokenizer,
        [problem.prompt for problem in problems],
        canvas,
        n_completions=n_completions,
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
        fixed=fixed,
    )
    read = rollout.entropies.masked_fill(~rollout.completion_mask, 0.0)
    return judged(replace(rollout, entropies=read), tokenizer, problems, tasks=tasks)
