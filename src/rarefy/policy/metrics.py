r"""What to watch and to report while a policy learns.

.. math:: \mathrm{pass@}k = 1 - \binom{n - c}{k} \Big/ \binom{n}{k}

is the chance that, of k completions drawn from the n at hand of which c are right, one is right:
unbiased, unlike one minus the k-th power of the failure rate.

Source: Chen et al. 2021 (arXiv 2107.03374, section 2.1). Departures: binomials of integers instead
of their product in floating point, so no n is too large.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from torch import Tensor

from rarefy.policy.advantages import grouped
from rarefy.policy.losses import Level, importance_ratio


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that at least one of k completions is right, estimated from n of which c are.

    Parameters
    ----------
    n : int
        Completions sampled of the problem; at least ``2 k`` for a steady estimate.
    c : int
        How many of them are right.
    k : int
        At most ``n``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Unless 0 <= c <= n and 1 <= k <= n.

    Examples
    --------
    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not 0 <= c <= n or not 1 <= k <= n:
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got n = {n}, c = {c}, k = {k}")
    return 1 - comb(n - c, k) / comb(n, k)


class PassAtK(NamedTuple):
    """Mean pass@k over problems and its bootstrap interval."""

    mean: float
    low: float
    high: float


def mean_pass_at_k(
    correct: Sequence[int],
    *,
    n: int,
    k: int,
    seed: int,
    level: float = 0.95,
    n_resamples: int = 2000,
) -> PassAtK:
    """Mean pass@k over problems, with a percentile bootstrap over problems.

    Parameters
    ----------
    correct : sequence of int
        Right completions of each problem.
    n : int
        Completions sampled of each problem.
    k : int
        At most ``n``.
    seed : int
        Of the bootstrap.
    level : float, default 0.95
        Coverage of the interval.
    n_resamples : int, default 2000

    Returns
    -------
    PassAtK

    Raises
    ------
    ValueError
        Where there are no problems, or their counts do not fit ``n`` and ``k``.

    Examples
    --------
    >>> mean_pass_at_k([4, 0], n=4, k=2, seed=0)
    PassAtK(mean=0.5, low=0.0, high=1.0)
    """
    if not len(correct):
        raise ValueError("correct is empty: pass@k is a mean over problems")
    each = np.array([pass_at_k(n, int(c), k) for c in correct])
    drawn = np.random.default_rng(seed).integers(len(each), size=(n_resamples, len(each)))
    tail = (1 - level) / 2
    low, high = np.quantile(each[drawn].mean(axis=1), [tail, 1 - tail])
    return PassAtK(float(each.mean()), float(low), float(high))


class GroupOutcomes(NamedTuple):
    """Shares of a batch's groups."""

    zero_variance: float
    """All rewards of the group are equal, so that it teaches nothing."""
    all_wrong: float
    """No reward of the group is above 0."""
    all_right: float
    """Every reward of the group is at the maximum."""


def group_outcomes(rewards: Tensor, group_size: int, *, max_reward: float = 1.0) -> GroupOutcomes:
    """How many groups carry no signal, and why.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    max_reward : float, default 1
        What a right completion gets.

    Returns
    -------
    GroupOutcomes

    Raises
    ------
    ValueError
        Where there is no group to compare in, or a reward is not finite.

    Examples
    --------
    >>> import torch
    >>> group_outcomes(torch.tensor([0.0, 0.0, 0.0, 1.0]), 2)
    GroupOutcomes(zero_variance=0.5, all_wrong=0.5, all_right=0.0)
    """
    groups = grouped(rewards, group_size)
    shares = (
        (groups == groups[:, :1]).all(1),
        (groups <= 0).all(1),
        (groups >= max_reward).all(1),
    )
    return GroupOutcomes(*(float(share.float().mean()) for share in shares))


class ClipStats(NamedTuple):
    """Where the ratios of a batch lie, over its tokens (over its completions for their levels)."""

    low: float
    """Share below ``1 - eps_low`` with a negative advantage: clipped, without a gradient."""
    high: float
    """Share above ``1 + eps_high`` with a positive advantage: clipped, without a gradient."""
    ratio_min: float
    ratio_max: float


def clip_stats(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    level: Level = "token",
) -> ClipStats:
    """How much of a batch the clipped surrogate takes out.

    Parameters
    ----------
    logps, old_logps, advantages, mask, eps_low, eps_high, level
        As for :func:`rarefy.policy.clipped_surrogate`.

    Returns
    -------
    ClipStats
        Zeros and ratios of 1 where the mask is empty.
    """
    ratio = importance_ratio(logps.detach(), old_logps, mask, level=level)
    per_token = advantages[:, None] if advantages.ndim == 1 else advantages
    low = (ratio < 1 - eps_low) & (per_token < 0)
    high = (ratio > 1 + eps_high) & (per_token > 0)
    counted = mask.bool()
    if level != "token":
        # One ratio stands for all tokens, whose advantages may differ in sign.
        low, high = (c.expand_as(counted).logical_and(counted).any(1) for c in (low, high))
        ratio, counted = ratio[:, 0], counted.any(1)
    if not counted.any():
        return ClipStats(0.0, 0.0, 1.0, 1.0)
    low, high, ratio = low[counted], high[counted], ratio[counted]
    return ClipStats(
        float(low.float().mean()),
        float(high.float().mean()),
        float(ratio.min()),
        float(ratio.max()),
    )


class CompletionStats(NamedTuple):
    """Of a batch of completions."""

    entropy: float
    """Mean over tokens, in nats."""
    mean_length: float
    """Tokens, the one that ends a completion included."""
    terminated: float
    """Share that ended by itself; the others were cut off at the length limit."""
    n_tokens: int


def completion_stats(mask: Tensor, terminated: Tensor, entropies: Tensor) -> CompletionStats:
    """Lengths, terminations and the entropy of a batch of completions.

    Parameters
    ----------
    mask : Tensor, shape (B, T)
        Which tokens belong to a completion.
    terminated : bool Tensor, shape (B,)
    entropies : Tensor, shape (B, T)
        Of the distributions that the tokens were sampled from.

    Returns
    -------
    CompletionStats

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[1, 1], [1, 0]])
    >>> completion_stats(mask, torch.tensor([False, True]), torch.ones(2, 2))
    CompletionStats(entropy=1.0, mean_length=1.5, terminated=0.5, n_tokens=3)
    """
    counted = mask.bool()
    n_tokens = int(counted.sum())
    total = float(entropies.detach().masked_fill(~counted, 0.0).sum())
    return CompletionStats(
        entropy=total / max(n_tokens, 1),
        mean_length=n_tokens / len(mask),
        terminated=float(terminated.float().mean()),
        n_tokens=n_tokens,
    )
