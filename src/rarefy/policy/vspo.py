r"""VSPO: the slots of tasks that teach nothing go to copies of the most valuable ones.

A task k (a prompt) with rewards of mean mu and standard deviation sigma over its completions has
the value

.. math:: V_k = (R_\mathrm{max} - \mu_k)\, \sigma_k

difficulty times uncertainty: for rewards of 0 or 1 it is largest where a quarter is right.

    Z = tasks with sigma = 0;   for each slot of Z draw one of the others, p_k in proportion to V_k
    c_k = 1 + draws of k;       A = (r - mu) / (sigma + 1e-6) * w(c)      for each of the c copies
    loss = sum over all slots of the clipped surrogate + beta KL, a mean over tokens

w is value-smoothing: the total weight c w(c) of a task grows slowly and is capped, so that the few
tasks which are copied often cannot take the batch over.

Source: VSPO (arXiv 2512.07478). Departures: the paper does not say what is copied nor prints w. By
default the trajectories that are there are copied, at no rollout, and w(c) = min(1 + log c, 2) / c;
the alternatives are options. The loss is the weighted mean over tokens, so that the step does not
shrink with the weights. sigma has n - 1, as GRPO's has here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rarefy.policy.advantages import group_norm
from rarefy.policy.batches import Batch, join
from rarefy.policy.kl import kl_estimate
from rarefy.policy.losses import clipped_surrogate
from rarefy.policy.rollout import Scores
from rarefy.policy.sampling import has_variance
from rarefy.policy.values import TaskValueStore

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer

Smoothing = Literal["log", "sqrt", "harmonic", "none"]


def task_value(rewards: Tensor, *, r_max: float = 1.0) -> Tensor:
    """Value of each task, from the rewards of its completions.

    Parameters
    ----------
    rewards : Tensor, shape (groups, completions)
    r_max : float, default 1
        The largest reward there is.

    Returns
    -------
    Tensor, shape (groups,)
        At least 0; 0 exactly where all rewards of a group are equal.

    Raises
    ------
    ValueError
        Where a task has fewer than two completions.

    Warns
    -----
    RuntimeWarning
        If a mean is above ``r_max``, whose value is 0 then.

    Examples
    --------
    >>> task_value(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
    tensor([0.3750, 0.0000])
    """
    if rewards.ndim != 2 or rewards.shape[1] < 2:
        raise ValueError(
            f"rewards has shape {tuple(rewards.shape)}; (groups, completions) with at least 2 "
            "completions of each task is wanted"
        )
    mean = rewards.mean(dim=1)
    if bool((mean > r_max + 1e-6).any()):
        warnings.warn(
            f"a task's mean reward is {float(mean.max()):g}, above r_max = {r_max:g}, so that its "
            "value is 0; give the largest reward there is as r_max",
            RuntimeWarning,
            stacklevel=2,
        )
    value = (r_max - mean).clamp(min=0) * rewards.std(dim=1)
    return value.masked_fill(~has_variance(rewards), 0.0)


def refill_copies(
    rewards: Tensor,
    *,
    generator: torch.Generator,
    mode: Literal["value", "random"] = "value",
    r_max: float = 1.0,
) -> Tensor:
    """How often each task stands in the batch once the slots of those without variance are filled.

    Parameters
    ----------
    rewards : Tensor, shape (groups, completions)
    generator : torch.Generator
        On the device of ``rewards``.
    mode : {"value", "random"}, default "value"
        Draw by value, or all tasks with variance alike.
    r_max : float, default 1

    Returns
    -------
    int64 Tensor, shape (groups,)
        0 for tasks without variance, at least 1 for the others; their sum is the number of groups,
        or 0 where no group has variance.
    """
    teaches = has_variance(rewards)
    copies = teaches.long()
    n_empty = len(rewards) - int(copies.sum())
    if not n_empty or n_empty == len(rewards):
        return copies
    p = task_value(rewards, r_max=r_max) if mode == "value" else teaches.to(rewards)
    if not bool((p > 0).any()):  # every mean is at r_max or above
        p = teaches.to(rewards)
    drawn = torch.multinomial(p, n_empty, replacement=True, generator=generator)
    return copies + torch.bincount(drawn, minlength=len(rewards))


def copy_weight(copies: Tensor, *, smoothing: Smoothing = "log", cap: float = 2.0) -> Tensor:
    """Weight w(c) of each of the c copies of a task; all copies together weigh at most ``cap``.

    Parameters
    ----------
    copies : Tensor
        c of each task, at least 1.
    smoothing : {"log", "sqrt", "harmonic", "none"}, default "log"
        The total weight c w(c) is 1 + log c, the root of c, 1 + 1/2 + ... + 1/c, or c itself.
    cap : float, default 2
        Largest total weight; not applied to "none", the ablation.

    Returns
    -------
    Tensor, the shape of ``copies``

    Examples
    --------
    >>> copy_weight(torch.tensor([1, 2, 8]))
    tensor([1.0000, 0.8466, 0.2500])
    """
    if cap < 1:
        raise ValueError(f"cap is {cap}; a task that is not copied weighs 1, so at least 1")
    c = copies.to(torch.get_default_dtype())
    if smoothing == "none":
        return torch.ones_like(c)
    if smoothing == "log":
        total = 1 + c.log()
    elif smoothing == "sqrt":
        total = c.sqrt()
    elif smoothing == "harmonic":
        total = torch.digamma(c + 1) - torch.digamma(torch.ones_like(c))
    else:
        raise ValueError(
            f'smoothing must be "log", "sqrt", "harmonic" or "none", got {smoothing!r}'
        )
    return total.clamp(max=cap) / c


def vspo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    weights: Tensor,
    *,
    ref_logps: Tensor | None = None,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    kl_coef: float = 0.0,
    mean: Literal["weights", "slots"] = "weights",
) -> Tensor:
    """Clipped surrogate of weighted completions, a mean over tokens.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and then.
    advantages : Tensor, shape (B,)
        Before smoothing.
    mask : Tensor, shape (B, T)
        The policy's own tokens; what tools wrote is not in it.
    weights : Tensor, shape (B,)
        w(c) of the completion's task.
    ref_logps : Tensor, shape (B, T), optional
        Needed with ``kl_coef``.
    eps_low, eps_high : float, default 0.2
    kl_coef : float, default 0
        Of the k3 estimate of the divergence from the reference.
    mean : {"weights", "slots"}, default "weights"
        Divide by the weights of all tokens, or by their number as the paper's formula does.

    Returns
    -------
    Tensor, 0-d
        Zero where the mask is empty.
    """
    per_token = clipped_surrogate(
        logps, old_logps, advantages, mask, eps_low=eps_low, eps_high=eps_high
    )
    if kl_coef:
        if ref_logps is None:
            raise ValueError(f"kl_coef is {kl_coef}, but there is no reference to stay near")
        per_token = per_token + kl_coef * kl_estimate(logps, ref_logps, kind="k3")
    counted = mask.to(logps)
    weighted = weights[:, None].to(logps) * counted
    size = weighted.sum() if mean == "weights" else counted.sum()
    # Where the weights are none, there are no tokens, and the sum is zero.
    return (weighted * per_token.masked_fill(~mask.bool(), 0.0)).sum() / size.clamp(min=1e-6)


@dataclass(frozen=True)
class VSPO:
    """The objective: GRPO's surrogate with the weights that :class:`ValueRefill` left.

    Without such weights it is GRPO with a mean over tokens. Of a rollout with tools (see
    :mod:`rarefy.policy.tools`) only the policy's own tokens count.

    Parameters
    ----------
    eps_low, eps_high : float, default 0.2
    kl_coef : float, default 0.001
        The paper's; needs the trainer's reference unless it is 0.
    mean : {"weights", "slots"}, default "weights"
        See :func:`vspo_loss`.
    """

    eps_low: float = 0.2
    eps_high: float = 0.2
    kl_coef: float = 0.001
    mean: Literal["weights", "slots"] = "weights"

    def __post_init__(self) -> None:
        if self.mean not in ("weights", "slots"):
            raise ValueError(f'mean must be "weights" or "slots", got {self.mean!r}')

    def advantages(self, batch: Batch) -> Tensor:
        """Rewards normalised within their groups, (B,)."""
        return group_norm(batch.rewards, batch.group_size, eps=1e-6)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """:func:`vspo_loss` of the batch."""
        assert batch.advantages is not None
        return vspo_loss(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            batch.extra.get("own", batch.rollout.completion_mask),
            batch.extra.get("weight", torch.ones_like(batch.rewards)),
            ref_logps=batch.ref_logps,
            eps_low=self.eps_low,
            eps_high=self.eps_high,
            kl_coef=self.kl_coef,
            mean=self.mean,
        )


@dataclass(frozen=True)
class ValueRefill:
    """The sampler: fill the slots of tasks without variance, and weigh the copies.

    Where no task has variance there is nothing to learn from: the step trains nothing, and its row
    of figures has 0 ``trained_groups``.

    Parameters
    ----------
    mode : {"value", "random", "none"}, default "value"
        Draw tasks by value, alike, or leave the batch as it is (GRPO).
    refill : {"replicate", "rollout"}, default "replicate"
        Copy the completions that are there, or sample as many anew for each draw.
    smoothing, cap
        See :func:`copy_weight`.
    r_max : float, default 1
        The largest reward there is.
    """

    mode: Literal["value", "random", "none"] = "value"
    refill: Literal["replicate", "rollout"] = "replicate"
    smoothing: Smoothing = "log"
    cap: float = 2.0
    r_max: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in ("value", "random", "none"):
            raise ValueError(f'mode must be "value", "random" or "none", got {self.mode!r}')
        if self.refill not in ("replicate", "rollout"):
            raise ValueError(f'refill must be "replicate" or "rollout", got {self.refill!r}')
        copy_weight(torch.ones(1), smoothing=self.smoothing, cap=self.cap)

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out a batch and refill it."""
        batch = trainer.draw(n_prompts)
        values = task_value(batch.groups, r_max=self.r_max)
        if isinstance(trainer.problems, TaskValueStore):
            trainer.problems.update(batch.problems, values)
        of_groups = batch.solved.view(batch.groups.shape)
        trainer.notes |= {
            "task_value": float(values.mean()),
            "drawn_success": float(batch.solved.double().mean()),
            "drawn_zero_variance": 1 - float(has_variance(batch.groups).double().mean()),
            # Rewards by stages nearly always vary; whether being right does is another matter.
            "solved_variance": float(has_variance(of_groups).double().mean()),
        }
        if self.mode == "none":
            return batch
        copies = refill_copies(
            batch.groups, generator=trainer.generator("refill"), mode=self.mode, r_max=self.r_max
        )
        filled = self._filled(batch, copies, trainer)
        trainer.notes |= {
            "refilled": float((copies - 1).clamp(min=0).sum()),
            "effective_tasks": effective_tasks(copies, self.smoothing, self.cap),
        }
        return filled

    def _filled(self, batch: Batch, copies: Tensor, trainer: PolicyTrainer) -> Batch:
        tasks = torch.arange(len(batch), device=copies.device)
        kept = tasks[copies > 0]
        extra = tasks.repeat_interleave((copies - 1).clamp(min=0))
        if self.refill == "rollout" and len(extra):
            fresh = trainer.complete([batch.problems[task] for task in extra.tolist()])
            filled = join([batch.select(kept), fresh])
        else:
            filled = batch.select(torch.cat([kept, extra]))
        weights = copy_weight(
            copies[torch.cat([kept, extra])], smoothing=self.smoothing, cap=self.cap
        )
        weights = weights.to(batch.rewards).repeat_interleave(batch.group_size)
        return replace(filled, extra=filled.extra | {"weight": weights})


def effective_tasks(copies: Tensor, smoothing: Smoothing = "log", cap: float = 2.0) -> float:
    """Number of tasks a batch speaks of, 1 over the sum of their squared shares of its weight.

    Examples
    --------
    >>> effective_tasks(torch.tensor([0, 1, 1]))
    2.0
    """
    there = copies[copies > 0]
    if not len(there):
        return 0.0
    total = there * copy_weight(there, smoothing=smoothing, cap=cap)
    return float(total.sum().square() / total.square().sum())
