r"""Losses of sampled tokens, and the ways to add them up.

A loss of tokens has shape (B, T), so that penalties can be added to it before it is reduced:

.. math:: \ell_{i,t} = -\min\bigl(\rho A,\ \mathrm{clip}(\rho, 1 - \varepsilon_\mathrm{low},
    1 + \varepsilon_\mathrm{high})\, A\bigr), \qquad \rho = \pi(o_{i,t}) / \pi_\mathrm{old}(o_{i,t})

=============  ===========================================  ==================================
method         loss of tokens                               reduced by
=============  ===========================================  ==================================
REINFORCE      ``reinforce``                                ``token_mean``
PPO            ``clipped_surrogate`` (+ ``value_loss``)     ``token_mean``
RLOO           ``clipped_surrogate(level="product")``       ``sequence_mean``
GRPO           ``clipped_surrogate``                        ``sequence_mean``
Dr. GRPO       ``clipped_surrogate``                        ``constant_mean`` of the length limit
BNPO           ``clipped_surrogate``                        ``token_mean``
DAPO           ``clipped_surrogate(eps_high=0.28)``         ``token_mean`` of the global batch
GSPO           ``clipped_surrogate(level="sequence")``      ``sequence_mean``
LUSPO          ``clipped_surrogate(level="sequence")``      ``sequence_sum``
CISPO          ``cispo``                                    ``token_mean`` of the global batch
=============  ===========================================  ==================================

Sources: PPO (arXiv 1707.06347), dual clip (Ye et al. 2020, arXiv 1912.09729), GRPO (2402.03300),
Dr. GRPO (2503.20783), DAPO (2503.14476), GSPO (2507.18071), CISPO (MiniMax-M1, 2506.13585).
Departures: log-ratios are clamped to +-20 (as in verl): an infinite ratio, even where clipping
discards it, has the gradient 0 * inf. TRL's ``epsilon_high`` for CISPO is our ``1 + eps_high``.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Level = Literal["token", "sequence", "product"]

MAX_LOG_RATIO = 20.0


def importance_ratio(
    logps: Tensor, old_logps: Tensor, mask: Tensor, *, level: Level = "token"
) -> Tensor:
    """How much likelier the sampled tokens are now than when they were sampled.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and then.
    mask : Tensor, shape (B, T)
        Which tokens count; the ratio of the others is 1 at level "token".
    level : {"token", "sequence", "product"}, default "token"
        Of each token; the geometric mean over the completion (GSPO); the product over it, which is
        the ratio of the completion's probabilities (RLOO).

    Returns
    -------
    Tensor, shape (B, T), or (B, 1) for the levels of a completion
    """
    counted = mask.bool()
    log_ratio = (logps - old_logps).masked_fill(~counted, 0.0)
    if level == "sequence":
        log_ratio = log_ratio.sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
    elif level == "product":
        log_ratio = log_ratio.sum(1, keepdim=True)
    elif level != "token":
        raise ValueError(f'level must be "token", "sequence" or "product", got {level!r}')
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def clipped_surrogate(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
    level: Level = "token",
) -> Tensor:
    """PPO's clipped loss of each token.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and then.
    advantages : Tensor, shape (B,) or (B, T)
    mask : Tensor, shape (B, T)
        Which tokens count.
    eps_low, eps_high : float, default 0.2
        PPO's. DAPO and DLER raise ``eps_high`` to 0.28, so that rare tokens can become likely; for
        GSPO both are some 3e-4.
    dual_clip : float, optional
        With c over ``1 + eps_high``, tokens of negative advantage lose at most ``c |A|``, however
        likely they have become (3 in the paper, 10 in DLER; TRL's ``delta``).
    level : {"token", "sequence", "product"}, default "token"
        What is clipped; see :func:`importance_ratio`.

    Returns
    -------
    Tensor, shape (B, T)
        To be minimised; what lies outside the mask is for the reduction to leave out.

    Examples
    --------
    >>> new, old = torch.tensor([[0.5, 0.0]]).log(), torch.tensor([[0.25, 1.0]]).log()
    >>> clipped_surrogate(new, old, torch.tensor([1.0]), torch.tensor([[1, 0]]))[0, 0]
    tensor(-1.2000)
    """
    if dual_clip is not None and dual_clip <= 1 + eps_high:
        raise ValueError(
            f"dual_clip is {dual_clip}, expected more than 1 + eps_high = {1 + eps_high:g}, or "
            "None for no bound"
        )
    ratio = importance_ratio(logps, old_logps, mask, level=level)
    per_token = _per_token(advantages)
    surrogate = torch.minimum(ratio * per_token, ratio.clamp(1 - eps_low, 1 + eps_high) * per_token)
    if dual_clip is not None:
        bounded = torch.maximum(surrogate, dual_clip * per_token)
        surrogate = torch.where(per_token < 0, bounded, surrogate)
    return -surrogate.expand_as(logps)


def cispo(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    eps_high: float = 4.0,
) -> Tensor:
    """CISPO's loss of each token: the ratio is a clipped weight without a gradient.

    Unlike :func:`clipped_surrogate` it leaves every token a gradient.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and then.
    advantages : Tensor, shape (B,) or (B, T)
    mask : Tensor, shape (B, T)
        Which tokens count.
    eps_high : float, default 4
        Weights are at most ``1 + eps_high``; ScaleRL's recommendation (arXiv 2510.13786), 5 in TRL.

    Returns
    -------
    Tensor, shape (B, T)
        To be minimised.
    """
    weight = importance_ratio(logps, old_logps, mask).clamp(max=1 + eps_high).detach()
    return -weight * _per_token(advantages) * logps


def reinforce(logps: Tensor, advantages: Tensor) -> Tensor:
    """The plain policy gradient's loss of each token, for samples of the present policy.

    Parameters
    ----------
    logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens.
    advantages : Tensor, shape (B,) or (B, T)
        Rewards less a baseline.

    Returns
    -------
    Tensor, shape (B, T)
        To be minimised.
    """
    return -_per_token(advantages) * logps


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float = 0.2) -> Tensor:
    """PPO's loss of the critic at each token.

    Parameters
    ----------
    values, old_values : Tensor, shape (B, T)
        The critic's, now and when the tokens were sampled.
    returns : Tensor, shape (B, T)
        As :func:`rarefy.policy.gae` gives them.
    clip : float, default 0.2
        How far a value may move before the error stops rewarding it.

    Returns
    -------
    Tensor, shape (B, T)
        Half the larger of the clipped and the unclipped squared error.
    """
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum((values - returns).square(), (near - returns).square()) / 2


def token_mean(per_token: Tensor, mask: Tensor, *, n_tokens: float | None = None) -> Tensor:
    """Mean over tokens: each token counts the same (BNPO, DAPO).

    Parameters
    ----------
    per_token, mask : Tensor, shape (B, T)
    n_tokens : float, optional
        Tokens of all micro-batches whose losses are added up (DAPO); default those of this mask.

    Returns
    -------
    Tensor, 0-d
        Zero where the mask is empty, as for the other reductions.
    """
    count = mask.sum() if n_tokens is None else torch.as_tensor(n_tokens)
    return _masked(per_token, mask).sum() / count.clamp(min=1)


def sequence_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    """Mean over completions of the mean over their tokens (GRPO).

    NOTE: a token of a long completion counts less, so that long wrong answers are cheap.

    Parameters
    ----------
    per_token, mask : Tensor, shape (B, T)

    Returns
    -------
    Tensor, 0-d
    """
    return (_masked(per_token, mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


def sequence_sum(per_token: Tensor, mask: Tensor) -> Tensor:
    """Mean over completions of the sum over their tokens.

    Parameters
    ----------
    per_token, mask : Tensor, shape (B, T)

    Returns
    -------
    Tensor, 0-d
    """
    return _masked(per_token, mask).sum(1).mean()


def constant_mean(per_token: Tensor, mask: Tensor, *, length: int) -> Tensor:
    """Sum over tokens, divided by completions times a length that does not depend on them.

    Dr. GRPO's: no bias for or against long completions.

    Parameters
    ----------
    per_token, mask : Tensor, shape (B, T)
    length : int
        The length limit of a completion, the same at every step.

    Returns
    -------
    Tensor, 0-d
    """
    return _masked(per_token, mask).sum() / (len(mask) * length)


def _per_token(advantages: Tensor) -> Tensor:
    return advantages[:, None] if advantages.ndim == 1 else advantages


def _masked(per_token: Tensor, mask: Tensor) -> Tensor:
    return per_token.masked_fill(~mask.bool(), 0.0)
