"""Supervised fine-tuning of a masked-diffusion policy on experts' completions.

    loss = masked diffusion of the canvas "trace # answer <eos> <eos> ..."      (policy.diffusion)

IGPO's recipe begins with it, on traces rewritten until they are as short as the canvases of the
reinforcement learning that follows: what is longer than the canvas cannot be rolled out later.

Source: IGPO (arXiv 2509.10396, section 3.4). Departures: the rate falls linearly; the paper says
nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from rarefy.policy.canvas import on_canvas
from rarefy.policy.diffusion import diffusion_loss
from rarefy.policy.problems import Problems
from rarefy.policy.rollout import left_pad
from rarefy.policy.tasks import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def expert(problem: Problem) -> str:
    """Return the expert's completion."""
    return problem.completion


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Problems,
    *,
    length: int,
    steps: int,
    seed: int,
    batch_size: int = 32,
    learning_rate: float = 5e-4,
    completion: Callable[[Problem], str] = expert,
) -> list[float]:
    """Train in place.

    Parameters
    ----------
    model : transformers model
    tokenizer : transformers tokenizer
        With a mask token.
    problems : Problems
    length : int
        Of the canvas.
    steps : int
    seed : int
        Of times and masks.
    batch_size : int, default 32
    learning_rate : float, default 5e-4
        Of AdamW without weight decay, at the first step; for models of a million parameters.
    completion : callable, default :func:`expert`
        How a problem's solution is spelled.

    Returns
    -------
    list of float
        The loss of each step.

    Raises
    ------
    ValueError
        If a completion does not fit the canvas.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for step in range(steps):
        drawn = problems.draw(batch_size)
        asked = [tokenizer(p.prompt, add_special_tokens=False)["input_ids"] for p in drawn]
        ids, mask = left_pad(asked, pad_token_id=tokenizer.pad_token_id, device=model.device)
        canvas = on_canvas(tokenizer, [completion(problem) for problem in drawn], length=length)
        loss = diffusion_loss(
            model,
            ids,
            mask.long(),
            canvas.to(model.device),
            mask_token_id=tokenizer.mask_token_id,
            generator=generator,
        )
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses
