r"""Log-probabilities of a filled canvas, each token's as if the others were independent of it.

A masked-diffusion policy has no probability of a completion that could be computed. In its place,
for the places H of the canvas that are hidden,

.. math:: \log \pi(o_k \mid q) \approx
    \log f_\theta(o^k \mid q,\ o \text{ with } H \text{ masked}), \qquad k \in H

With everything hidden (the default) one pass gives all tokens, and nothing is random. Old and new
log-probabilities must be of the same hidden places, or their ratio is noise.

Sources: DiffuGRPO (d1, arXiv 2504.12216, section 3.1: everything hidden, and part of the prompt
too), UniGRPO (MMaDA, arXiv 2505.15809: random shares), IGPO (arXiv 2509.10396: everything hidden,
the prompt shown). Departures: the mask token has probability 0, since the sampler never draws it.

Axis letters: b rows, p prompt tokens, c canvas tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rarefy.policy.diffusion import canvas_logits
from rarefy.policy.rollout import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Estimator = Literal["all_mask", "random"]


def mean_field_scores(
    model: PreTrainedModel,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    canvas: Tensor,
    *,
    mask_token_id: int,
    hidden: Tensor | None = None,
    temperature: float = 1.0,
) -> Scores:
    """Log-probabilities and entropies of a canvas's tokens, in one pass with a gradient.

    Parameters
    ----------
    model : PreTrainedModel
    prompt_ids, prompt_mask : Tensor, shape (b, p)
        Padded on the left.
    canvas : Tensor of int64, shape (b, c)
        Without masks.
    mask_token_id : int
    hidden : Tensor of bool, shape (b, p + c), optional
        Places the policy does not see, of the prompt too; the whole canvas by default.
    temperature : float, default 1
        That of the sampling.

    Returns
    -------
    Scores
        (b, c) each; zero at places of the canvas that are shown.
    """
    width = prompt_ids.shape[1]
    if hidden is None:
        hidden = torch.ones_like(torch.cat([prompt_ids, canvas], dim=1), dtype=torch.bool)
        hidden[:, :width] = False
    logits = canvas_logits(
        model,
        prompt_ids.masked_fill(hidden[:, :width], mask_token_id),
        prompt_mask,
        canvas.masked_fill(hidden[:, width:], mask_token_id),
    )
    never = torch.tensor([mask_token_id], device=canvas.device)
    logps = (logits.index_fill(-1, never, -torch.inf) / temperature).log_softmax(-1)
    shown = ~hidden[:, width:]
    chosen = logps.gather(-1, canvas[..., None])[..., 0]
    # Minus infinity times a probability of zero is no number; it adds nothing.
    entropies = -(logps.exp() * logps.clamp(min=torch.finfo(logps.dtype).min)).sum(-1)
    return Scores(chosen.masked_fill(shown, 0.0), entropies.masked_fill(shown, 0.0))


def mask_shares(n: int, *, estimator: Estimator, generator: torch.Generator) -> list[float]:
    """Share of the canvas that is hidden in each of n inner updates.

    Parameters
    ----------
    n : int
    estimator : {"all_mask", "random"}
        Always 1; or, as in UniGRPO, the first at random and the others evenly from there to 1.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    list of float
    """
    if estimator == "all_mask":
        return [1.0] * n
    if estimator != "random":
        raise ValueError(f'estimator is {estimator!r}; "all_mask" or "random" is wanted')
    first = float(torch.rand((), generator=generator))
    return [first + (1 - first) * i / max(n - 1, 1) for i in range(n)]


def hidden_places(
    prompt_mask: Tensor,
    length: int,
    *,
    share: float,
    prompt_share: float = 0.0,
    generator: torch.Generator,
) -> Tensor:
    """Draw what the policy does not see.

    Parameters
    ----------
    prompt_mask : Tensor, shape (b, p)
        0 on padding, which is never drawn.
    length : int
        Of the canvas.
    share : float
        Chance of each token of the canvas; every row has at least one hidden.
    prompt_share : float, default 0
        Chance of each token of the prompt; d1 has 0.15.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of bool, shape (b, p + length)
    """
    rows, width = prompt_mask.shape
    uniform = torch.rand(rows, width + length, generator=generator)
    canvas = uniform[:, width:]
    hidden = (canvas < share) | (canvas == canvas.amin(1, keepdim=True))
    prompt = (uniform[:, :width] < prompt_share) & prompt_mask.bool().cpu()
    return torch.cat([prompt, hidden], dim=1).to(prompt_mask.device)
