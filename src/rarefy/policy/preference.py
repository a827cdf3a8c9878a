r"""Learning from pairs: the completion whose reasoning scores best against the one with the worst.

.. math:: \mathcal L = -\log \sigma\bigl(\beta\, [\log \tfrac{\pi(y^+)}{\pi_0(y^+)}
    - \log \tfrac{\pi(y^-)}{\pi_0(y^-)}]\bigr) - \alpha \, \overline{\log \pi(y^+_t)}

Sources: DPO (Rafailov et al. 2023, arXiv 2305.18290, equation 7), with the likelihood of the chosen
as in TRL's ``loss_type=["sigmoid", "sft"]``; pairs as in DRM (arXiv 2510.11457), off-policy use.
Departures: alpha = 1 and the pair rule (argmax against argmin) are a reconstruction (card 19).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rarefy.policy.rollout import Rollout, left_pad, score

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class PreferencePair(TypedDict):
    """A row as TRL's ``DPOTrainer`` wants it."""

    prompt: str
    chosen: str
    rejected: str


def pairs_from_scores(
    prompts: Sequence[str],
    completions: Sequence[str],
    scores: Sequence[float],
    *,
    margin: float = 0.0,
    correct: Sequence[bool] | None = None,
    terminated: Sequence[bool] | None = None,
) -> list[PreferencePair]:
    """For each prompt, its best completion as chosen and its worst as rejected.

    Parameters
    ----------
    prompts, completions, scores : sequences of the same length
        Rows of equal prompts are candidates of one pair; a repeated completion counts once.
    margin : float, default 0
        Scores that are no further apart make no pair.
    correct : sequence of bool, optional
        Where it is given, the chosen one must be right.
    terminated : sequence of bool, optional
        Where it is given, completions that were cut off take no part.

    Returns
    -------
    list of PreferencePair
        At most one a prompt; ``datasets.Dataset.from_list`` makes TRL's data set of it.

    Raises
    ------
    ValueError
        If lengths differ, or the margin is negative.

    Examples
    --------
    >>> pairs_from_scores(["1+1="] * 3, ["1;+1.2#2", "2#2", "?"], [0.9, 0.1, -1.0])
    [{'prompt': '1+1=', 'chosen': '1;+1.2#2', 'rejected': '?'}]
    """
    n = len(prompts)
    for name, values in {
        "completions": completions,
        "scores": scores,
        "correct": correct,
        "terminated": terminated,
    }.items():
        if values is not None and len(values) != n:
            raise ValueError(f"{name} has {len(values)} rows; there are {n} prompts")
    if margin < 0:
        raise ValueError(f"margin is {margin}; at least 0 is wanted")
    by_prompt: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        if terminated is None or terminated[row]:
            by_prompt.setdefault(prompt, []).append(row)
    pairs: list[PreferencePair] = []
    for prompt, rows in by_prompt.items():
        eligible = [row for row in rows if correct is None or correct[row]]
        if not eligible:
            continue
        best = max(eligible, key=lambda row: scores[row])
        worst = min(rows, key=lambda row: scores[row])
        if scores[best] - scores[worst] > margin and completions[best] != completions[worst]:
            pairs.append(
                {"prompt": prompt, "chosen": completions[best], "rejected": completions[worst]}
            )
    return pairs


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    chosen_mask: Tensor,
    rejected_mask: Tensor,
    *,
    beta: float = 0.1,
    nll_coef: float = 1.0,
) -> Tensor:
    """DPO's loss, and the mean negative log-likelihood of the chosen tokens.

    Parameters
    ----------
    chosen_logps, rejected_logps : Tensor, shapes (B, T) and (B, T')
        Of the completions' tokens under the policy.
    ref_chosen_logps, ref_rejected_logps : Tensor, the same shapes
        Under the policy that training starts from.
    chosen_mask, rejected_mask : Tensor, the same shapes
        Which tokens count.
    beta : float, default 0.1
        How closely the policy is held to the reference.
    nll_coef : float, default 1
        0 is plain DPO.

    Returns
    -------
    Tensor
        A scalar, to be minimised.
    """
    chosen, rejected = chosen_mask.to(chosen_logps), rejected_mask.to(rejected_logps)
    gap = ((chosen_logps - ref_chosen_logps) * chosen).sum(1)
    gap = gap - ((rejected_logps - ref_rejected_logps) * rejected).sum(1)
    likelihood = (chosen_logps * chosen).sum() / chosen.sum()
    return -logsigmoid(beta * gap).mean() - nll_coef * likelihood


def train_on_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    *,
    steps: int,
    batch_size: int = 32,
    beta: float = 0.1,
    nll_coef: float = 1.0,
    learning_rate: float = 2e-4,
    seed: int = 0,
) -> list[float]:
    """Train a policy in place on pairs, by AdamW without weight decay.

    The reference is the model as it is handed over. For models of a billion parameters take
    ``trl.DPOTrainer``; the pairs are its rows.

    Parameters
    ----------
    model : transformers model
    tokenizer : transformers tokenizer
    pairs : sequence of PreferencePair
    steps : int
    batch_size : int, default 32
        Pairs of a step, drawn epoch by epoch in a new order.
    beta, nll_coef : float
        See :func:`dpo_loss`.
    learning_rate : float, default 2e-4
    seed : int, default 0
        Of the order.

    Returns
    -------
    list of float
        The loss of each step.

    Raises
    ------
    ValueError
        If there is no pair.
    """
    if not pairs:
        raise ValueError("pairs is empty: there is nothing to learn from")
    model.eval()  # dropout would be noise in the ratios
    encoded = {side: _encoded(tokenizer, pairs, side, model) for side in ("chosen", "rejected")}
    with torch.no_grad():
        reference = {
            side: torch.cat([score(model, part).logps for part in _slices(rollout, batch_size)])
            for side, rollout in encoded.items()
        }
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    rng, order, losses = random.Random(f"{seed} pairs"), list[int](), []
    for _ in range(steps):
        if len(order) < min(batch_size, len(pairs)):
            order = rng.sample(range(len(pairs)), len(pairs))
        rows = torch.tensor(order[:batch_size], device=model.device)
        del order[:batch_size]
        some = {side: rollout.select(rows) for side, rollout in encoded.items()}
        loss = dpo_loss(
            *(score(model, some[side]).logps for side in ("chosen", "rejected")),
            *(reference[side][rows] for side in ("chosen", "rejected")),
            *(some[side].completion_mask for side in ("chosen", "rejected")),
            beta=beta,
            nll_coef=nll_coef,
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[PreferencePair],
    side: str,
    model: PreTrainedModel,
) -> Rollout:
    """One side of the pairs as if it had been sampled, each completion ended by the end token."""
    prompts = [tokenizer(pair["prompt"])["input_ids"] for pair in pairs]
    told = [
        [*tokenizer(pair[side], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]  # type: ignore[literal-required]
        for pair in pairs
    ]
    prompt_ids, prompt_mask = left_pad(
        prompts, pad_token_id=tokenizer.pad_token_id, device=model.device
    )
    # Padding on the right is padding on the left of the rows turned round.
    back, mask = left_pad(
        [row[::-1] for row in told], pad_token_id=tokenizer.pad_token_id, device=model.device
    )
    ids, mask = back.flip(1), mask.flip(1)
    nothing = torch.zeros(ids.shape, device=model.device)
    return Rollout(prompt_ids, prompt_mask, ids, mask, nothing, nothing, mask.any(1))


def _slices(rollout: Rollout, size: int) -> list[Rollout]:
    rows = torch.arange(len(rollout), device=rollout.prompt_ids.device)
    return [rollout.select(part) for part in rows.split(size)]
