r"""Masked diffusion over a canvas: the training loss, and the sampler that fills the canvas.

A prompt is followed by a canvas of fixed length, and a bidirectional network predicts what stands
behind every mask of it at once. With each token masked independently with probability t,

.. math:: L = \mathbb{E}_{t \sim U(0, 1]} \frac{1}{t\,|C|}
    \sum_{k \in C,\ \text{masked}} -\log f_\theta(x^k \mid q, x_t)

which bounds the negative log-likelihood per token of the canvas C. The sampler goes through the
canvas in blocks, left to right, and at each step keeps the predictions it is surest of.

Source: LLaDA (Nie et al. 2025), sections 2.1-2.3 and its low-confidence remasking; the form is that
of IGPO (arXiv 2509.10396). Departures: t is at least 0.05, which bounds the loss's variance; the
number unmasked in a step is worked out for each row, so that rows may have other fixed positions.

The network is any causal language model that takes a four-dimensional attention mask; a Llama
given one that hides nothing is bidirectional.

Axis letters: b rows, p prompt tokens, c canvas tokens, v vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_TIME = 0.05


def canvas_logits(
    model: PreTrainedModel, prompt_ids: Tensor, prompt_mask: Tensor, canvas: Tensor
) -> Tensor:
    """What the network predicts at every place of the canvas, seeing prompt and canvas whole.

    Parameters
    ----------
    model : PreTrainedModel
    prompt_ids, prompt_mask : Tensor of int64, shape (b, p)
        Left-padded; the mask is 0 on padding, which nothing sees.
    canvas : Tensor of int64, shape (b, c)

    Returns
    -------
    Tensor of float32, shape (b, c, v)
    """
    seen = torch.cat([prompt_mask, torch.ones_like(canvas)], dim=1)
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    attention = seen.bool()[:, None, None, :].expand(-1, 1, seen.shape[1], -1)
    output = model(
        input_ids=torch.cat([prompt_ids, canvas], dim=1),
        attention_mask=attention,
        position_ids=positions,
        use_cache=False,
    )
    return output.logits[:, prompt_ids.shape[1] :].float()


def diffusion_loss(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    canvas: Tensor,
    *,
    mask_token_id: int,
    generator: torch.Generator,
    maskable: Tensor | None = None,
) -> Tensor:
    """The loss of one draw of times and masks, a scalar.

    Parameters
    ----------
    model : PreTrainedModel
    prompt_ids, prompt_mask : Tensor of int64, shape (b, p)
    canvas : Tensor of int64, shape (b, c)
        The tokens to be learnt, filled up with end tokens.
    mask_token_id : int
    generator : torch.Generator
        Of times and masks, on the CPU.
    maskable : Tensor of bool, shape (b, c), optional
        Places that belong to the loss; the others are always shown. All by default.
    """
    if maskable is None:
        maskable = torch.ones_like(canvas, dtype=torch.bool)
    times = torch.rand(len(canvas), 1, generator=generator).clamp(min=LEAST_TIME)
    masked = torch.rand(canvas.shape, generator=generator) < times
    masked = masked.to(canvas.device) & maskable
    logits = canvas_logits(
        model, prompt_ids, prompt_mask, canvas.masked_fill(masked, mask_token_id)
    )
    losses = torch.nn.functional.cross_entropy(logits.mT, canvas, reduction="none")
    per_row = (losses * masked).sum(1) / maskable.sum(1).clamp(min=1)
    return (per_row / times[:, 0].to(canvas.device)).mean()


@torch.inference_mode()
def denoise(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    *,
    length: int,
    steps: int,
    mask_token_id: int,
    generator: torch.Generator,
    block_length: int = 8,
    temperature: float = 1.0,
    fixed: Tensor | None = None,
) -> Tensor:
    """Fill a canvas.

    Parameters
    ----------
    model : PreTrainedModel
    prompt_ids, prompt_mask : Tensor of int64, shape (b, p)
    length : int
        Tokens of the canvas.
    steps : int
        Forward passes in all, the same number for each block.
    mask_token_id : int
    generator : torch.Generator
        On the CPU.
    block_length : int, default 8
    temperature : float, default 1.0
        Of the Gumbel noise; 0 takes the likeliest token.
    fixed : Tensor of int64, shape (b, length), optional
        Tokens that are given, ``mask_token_id`` where none is; they never change.

    Returns
    -------
    Tensor of int64, shape (b, length)
        Without masks.

    Raises
    ------
    ValueError
        If blocks do not divide the length, or steps the blocks, or ``fixed`` has another shape.
    """
    shape = (len(prompt_ids), length)
    if length % block_length or steps % (length // block_length) or steps <= 0:
        raise ValueError(
            f"length is {length}, block_length {block_length} and steps {steps}; whole blocks, and "
            "as many steps in each, are wanted"
        )
    if fixed is not None and fixed.shape != shape:
        raise ValueError(f"fixed has shape {tuple(fixed.shape)}; {shape} is wanted")
    canvas = torch.full(shape, mask_token_id, device=prompt_ids.device)
    if fixed is not None:
        canvas = fixed.clone()
    never = torch.tensor([mask_token_id], device=canvas.device)
    per_block = steps // (length // block_length)
    for start in range(0, length, block_length):
        block = slice(start, start + block_length)
        for left in range(per_block, 0, -1):
            masked = canvas[:, block] == mask_token_id
            if not masked.any():
                break
            # Only the block's own predictions can be kept, so only they are drawn.
            logits = canvas_logits(model, prompt_ids, prompt_mask, canvas)[:, block]
            logits = logits.index_fill(-1, never, -torch.inf)
            drawn = _gumbel_max(logits, temperature=temperature, generator=generator)
            confidence = logits.softmax(-1).gather(-1, drawn[..., None])[..., 0]
            # An equal share of what is masked for each step left; the first take the remainder.
            quota = -(-masked.sum(1) // left)
            kept = surest(confidence, masked, quota)
            canvas[:, block] = torch.where(kept, drawn, canvas[:, block])
    return canvas


def surest(confidence: Tensor, masked: Tensor, quota: Tensor) -> Tensor:
    """Which masked places of each row to keep: those predicted with most confidence.

    Parameters
    ----------
    confidence : Tensor, shape (b, c)
        At least 0.
    masked : Tensor of bool, shape (b, c)
        Places to choose from.
    quota : Tensor of int64, shape (b,)
        How many to keep of each row, at most as many as are masked.

    Returns
    -------
    Tensor of bool, shape (b, c)

    Examples
    --------
    >>> confidence = torch.tensor([[0.9, 0.2, 0.5]])
    >>> surest(confidence, torch.tensor([[False, True, True]]), torch.tensor([1]))
    tensor([[False, False,  True]])
    """
    order = confidence.masked_fill(~masked, -1).argsort(1, descending=True)
    places = torch.arange(confidence.shape[1], device=confidence.device)
    chosen = (places < quota[:, None]).expand_as(masked)
    return torch.zeros_like(masked).scatter(1, order, chosen) & masked


def _gumbel_max(logits: Tensor, *, temperature: float, generator: torch.Generator) -> Tensor:
    """Draw from softmax(logits / temperature), shape (b, c)."""
    if temperature == 0:
        return logits.argmax(-1)
    # Double precision: in float32 the noise's tail is cut off, and rare tokens never come.
    uniform = torch.rand(logits.shape, generator=generator, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform.clamp(min=1e-300)))
    return (logits.double() / temperature + noise.to(logits.device)).argmax(-1)
