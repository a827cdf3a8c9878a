r"""How much better than expected a completion was: rewards in, advantages out.

With G completions of each prompt, whose rewards R stand side by side,

.. math:: A_i = \frac{R_i - \bar R}{s + \varepsilon} \;\text{(GRPO)}, \qquad
    A_i = R_i - \frac{1}{G - 1} \sum_{j \ne i} R_j \;\text{(RLOO)}

Sources: GRPO (Shao et al. 2024, arXiv 2402.03300, section 4.1), Dr. GRPO (Liu et al. 2025, arXiv
2503.20783), RLOO (Ahmadian et al. 2024, arXiv 2402.14740), REINFORCE++ (Hu et al. 2025, arXiv
2501.03262), DLER (arXiv 2510.15110), generalized advantage estimation (Schulman et al. 2016, arXiv
1506.02438, equation 16).

Departures: where all rewards of a group are equal its advantages are zero to the last bit, which a
mean in floating point does not give (the mean of three 0.1 is not 0.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


def reward_tensor(
    values: Sequence[float | None],
    *,
    n_completions: int,
    device: torch.device | str | None = None,
) -> Tensor:
    """What a reward callable returned, checked.

    Parameters
    ----------
    values : sequence of float
        One for each completion, in their order.
    n_completions : int
        How many completions it was handed.
    device : torch.device, optional
        Default the CPU.

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        Where the length is wrong, or a reward is missing or not finite.

    Examples
    --------
    >>> reward_tensor([0.0, 1.0], n_completions=2)
    tensor([0., 1.])
    """
    if len(values) != n_completions:
        raise ValueError(
            f"the reward returned {len(values)} values for {n_completions} completions; "
            "it must return one for each, in their order"
        )
    missing = [row for row, value in enumerate(values) if value is None]
    if missing:
        raise ValueError(
            f"the reward returned None for {len(missing)} of {n_completions} completions, the "
            f"first at {missing[0]}; return 0.0 where nothing was earned"
        )
    rewards = torch.tensor(values, dtype=torch.float32, device=device)
    _check_finite(rewards)
    return rewards


def group_norm(
    rewards: Tensor,
    group_size: int,
    *,
    scale: Literal["group", "batch", "none"] = "group",
    eps: float = 1e-4,
) -> Tensor:
    """Rewards less their group's mean, divided by a standard deviation or by nothing.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    scale : {"group", "batch", "none"}, default "group"
        Divide by the standard deviation of the group's rewards (GRPO), of all rewards of the batch
        (TRL's ``scale_rewards="batch"``; for DLER's see :func:`batch_norm`), or by nothing
        (Dr. GRPO). Standard deviations are over n - 1, as in TRL.
    eps : float, default 1e-4
        Added to the standard deviation; TRL's.

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        Where there is no group to compare in, or a reward is not finite.

    Examples
    --------
    >>> group_norm(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2, scale="none")
    tensor([ 0.5000, -0.5000,  0.0000,  0.0000])
    """
    groups = grouped(rewards, group_size)
    centred = _centred(groups)
    if scale == "group":
        centred = centred / (groups.std(dim=1, keepdim=True) + eps)
    elif scale == "batch":
        centred = centred / (groups.std() + eps)
    elif scale != "none":
        raise ValueError(f'scale must be "group", "batch" or "none", got {scale!r}')
    return centred.reshape(-1)


def rloo(rewards: Tensor, group_size: int) -> Tensor:
    """Rewards less the mean reward of the *other* completions of the same prompt.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.

    Returns
    -------
    Tensor, shape (B,)
        ``G / (G - 1)`` times what :func:`group_norm` gives without a scale.

    Raises
    ------
    ValueError
        Where there is no group to compare in, or a reward is not finite.

    Examples
    --------
    >>> rloo(torch.tensor([1.0, 0.0, 0.0]), 3)
    tensor([ 1.0000, -0.5000, -0.5000])
    """
    centred = _centred(grouped(rewards, group_size))
    return (centred * (group_size / (group_size - 1))).reshape(-1)


def batch_norm(
    rewards: Tensor, group_size: int, *, mask: Tensor | None = None, eps: float = 1e-8
) -> Tensor:
    """Group-centred rewards over the standard deviation of all group-centred rewards.

    One scale for the whole batch: a group whose rewards nearly all agree is not blown up, as it is
    by its own standard deviation. DLER's normalisation; with a mask that of its released code and
    of REINFORCE++-baseline.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    mask : Tensor, shape (B, T), optional
        Which tokens count. With it the statistics are over tokens, so that a completion counts by
        its length. NOTE: their mean is not zero then, so that a group of equal rewards gets an
        advantage, unless such groups are filtered out first.
    eps : float, default 1e-8
        Added to the standard deviation, which is over n.

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        Where there is no group to compare in, or a reward is not finite.

    Examples
    --------
    >>> batch_norm(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2)
    tensor([ 1.4142, -1.4142,  0.0000,  0.0000])
    """
    centred = _centred(grouped(rewards, group_size)).reshape(-1)
    if mask is not None:
        return batch_whiten(centred, mask, eps=eps)
    # The mean of centred rewards is zero but for rounding; taking it off would move equal groups.
    return centred / (centred.square().mean().sqrt() + eps)


def batch_whiten(advantages: Tensor, mask: Tensor | None = None, *, eps: float = 1e-8) -> Tensor:
    """Shift and scale to mean 0 and standard deviation 1 over the batch.

    Parameters
    ----------
    advantages : Tensor, shape (B,) or (B, T)
        Of completions, or of tokens.
    mask : Tensor, shape (B, T), optional
        Which tokens count; the statistics are then over tokens, also where each completion has one
        advantage. Advantages of other tokens are 0.
    eps : float, default 1e-8
        Added to the standard deviation, which is over n.

    Returns
    -------
    Tensor, the shape of ``advantages``

    Examples
    --------
    >>> batch_whiten(torch.tensor([3.0, 1.0]))
    tensor([ 1., -1.])
    """
    if mask is None:
        weights = torch.ones_like(advantages)
    elif advantages.ndim == 1:
        weights = mask.sum(1).to(advantages)
    else:
        weights = mask.to(advantages)
    counted = weights > 0
    some = advantages[counted]
    if not len(some) or bool((some == some[0]).all()):
        return torch.zeros_like(advantages)
    mean = (advantages * weights).sum() / weights.sum()
    centred = (advantages - mean) * counted
    variance = (centred.square() * weights).sum() / weights.sum()
    return centred / (variance.sqrt() + eps)


class TokenAdvantages(NamedTuple):
    """What :func:`gae` gives, both of shape (B, T) and zero outside the mask."""

    advantages: Tensor
    returns: Tensor
    """What the critic is to predict: advantages plus values."""


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95
) -> TokenAdvantages:
    r"""Generalized advantage estimation over the tokens of each completion.

    .. math:: A_t = \sum_{k \ge 0} (\gamma\lambda)^k \delta_{t+k}, \qquad
        \delta_t = r_t + \gamma V_{t+1} - V_t

    with V = 0 behind the last token.

    Parameters
    ----------
    rewards : Tensor, shape (B, T)
        Of tokens; a verifier's reward stands at the last token of its completion.
    values : Tensor, shape (B, T)
        The critic's, before each token.
    mask : Tensor, shape (B, T)
        Ones, then zeros, in each row.
    gamma : float, default 1
        Discount; 1 throughout the literature on verifiable rewards.
    lam : float, default 0.95
        1 gives the whole return less the value, 0 the one-step error.

    Returns
    -------
    TokenAdvantages

    Examples
    --------
    >>> r = torch.tensor([[0.0, 1.0]])
    >>> gae(r, torch.tensor([[0.2, 0.6]]), torch.ones(1, 2), lam=1.0).advantages
    tensor([[0.8000, 0.4000]])
    """
    counted = mask.to(values)
    rewards, values = rewards * counted, values * counted
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    delta = rewards + gamma * following - values
    advantages = torch.zeros_like(values)
    running = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        running = delta[:, t] + gamma * lam * running
        advantages[:, t] = running
    return TokenAdvantages(advantages, advantages + values)


def grouped(rewards: Tensor, group_size: int) -> Tensor:
    """Rewards with a row for each prompt, checked.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
    group_size : int
        At least 2, a divisor of B.

    Returns
    -------
    Tensor, shape (B / group_size, group_size)
        A view.

    Raises
    ------
    ValueError
        Where there is no group to compare in, or a reward is not finite.
    """
    if group_size < 2:
        raise ValueError(
            f"group_size is {group_size}, but an advantage within a group compares completions of "
            "one prompt: sample at least 2 of each"
        )
    if rewards.ndim != 1 or not len(rewards) or len(rewards) % group_size:
        raise ValueError(
            f"rewards has shape {tuple(rewards.shape)}, expected one axis with a multiple of "
            f"group_size = {group_size} entries, one for each completion"
        )
    _check_finite(rewards)
    return rewards.reshape(-1, group_size)


def _centred(groups: Tensor) -> Tensor:
    equal = (groups == groups[:, :1]).all(dim=1, keepdim=True)
    return (groups - groups.mean(dim=1, keepdim=True)).masked_fill(equal, 0.0)


def _check_finite(rewards: Tensor) -> None:
    bad = (~rewards.isfinite()).nonzero()
    if len(bad):
        first = int(bad[0, 0])
        raise ValueError(
            f"{len(bad)} of {len(rewards)} rewards are not finite, the first at {first} "
            f"({rewards[first].item()}); a reward must be a number for every completion"
        )
