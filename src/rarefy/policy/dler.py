r"""DLER: shorten a reasoner with the plainest penalty, and mend the optimisation instead.

A completion that does not end by itself within the limit earns nothing; what makes that work is

.. math:: A_i = \frac{R_i - \bar R_\mathrm{group}}{\mathrm{std}_\mathrm{batch} + 10^{-8}}, \qquad
    \ell = \mathrm{token\ mean}\bigl[-\min(\rho A,\ \mathrm{clip}(\rho, 0.8, 1.28) A)
    + 5 \cdot 10^{-4} \tfrac12 (\log \pi - \log \pi_\mathrm{ref})^2\bigr]

one scale for all groups, an upper clip that lets rare tokens rise, and dynamic sampling
(:class:`rarefy.policy.dynamic.Dynamic`); the penalty is :class:`rarefy.rewards.length.Truncation`.

Source: DLER (arXiv 2510.15110), sections 3 and 4. Departures of the authors' code from their paper
are options here: statistics over tokens (``whiten_over="tokens"``) and 0.1 added to the advantages
of right completions (``correct_boost=0.1``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from rarefy.policy.advantages import batch_norm
from rarefy.policy.batches import Batch
from rarefy.policy.kl import kl_estimate
from rarefy.policy.losses import clipped_surrogate, token_mean
from rarefy.policy.rollout import Scores

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer


def dler_advantages(
    rewards: Tensor,
    group_size: int,
    *,
    mask: Tensor | None = None,
    correct: Tensor | None = None,
    correct_boost: float = 0.0,
) -> Tensor:
    """Group-centred rewards over one standard deviation of the batch.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        Shaped ones; the ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    mask : Tensor, shape (B, T), optional
        With it the statistics are over tokens (the authors' code), else over completions.
    correct : bool Tensor, shape (B,), optional
        Which completions are right, whatever they earned; needed for a boost.
    correct_boost : float, default 0
        Added to the advantages of right completions; 0.1 in the authors' code.

    Returns
    -------
    Tensor, shape (B,)
        Zeros where no group has any variance.

    Raises
    ------
    ValueError
        Where there is no group to compare in, a reward is not finite, or a boost is asked for
        without ``correct``.

    Examples
    --------
    >>> import torch
    >>> dler_advantages(torch.tensor([1.0, 0.0, 1.0, 1.0]), 2)
    tensor([ 1.4142, -1.4142,  0.0000,  0.0000])
    """
    advantages = batch_norm(rewards, group_size, mask=mask)
    if not correct_boost:
        return advantages
    if correct is None:
        raise ValueError(
            f"correct_boost is {correct_boost}, but which completions are right was not given; "
            "pass correct"
        )
    return advantages + correct_boost * correct.to(advantages)


def dler_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    ref_logps: Tensor | None = None,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    dual_clip: float | None = 10.0,
    kl_coef: float = 5e-4,
) -> Tensor:
    """Clip-higher surrogate with a dual clip and a k2 penalty, averaged over tokens.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and when they were sampled.
    advantages : Tensor, shape (B,) or (B, T)
    mask : Tensor, shape (B, T)
        Which tokens count.
    ref_logps : Tensor, shape (B, T), optional
        Under the reference; without it there is no penalty.
    eps_low, eps_high : float, default 0.2 and 0.28
        The paper's; 0.36 above for its model of 8 B.
    dual_clip : float, optional, default 10
        See :func:`rarefy.policy.clipped_surrogate`.
    kl_coef : float, default 5e-4

    Returns
    -------
    Tensor, 0-d
        Zero where the mask is empty.
    """
    per_token = clipped_surrogate(
        logps,
        old_logps,
        advantages,
        mask,
        eps_low=eps_low,
        eps_high=eps_high,
        dual_clip=dual_clip,
    )
    if ref_logps is not None and kl_coef:
        per_token = per_token + kl_coef * kl_estimate(logps, ref_logps, kind="k2")
    return token_mean(per_token, mask)


@dataclass(frozen=True)
class DLER:
    """DLER as an objective of the trainer; give the trainer ``sampler=Dynamic()`` with it.

    Parameters
    ----------
    eps_low, eps_high, dual_clip, kl_coef
        As for :func:`dler_loss`. Unless ``kl_coef`` is 0 the trainer needs a reference.
    whiten_over : {"samples", "tokens"}, default "samples"
        The paper's formula, or the authors' code.
    correct_boost : float, default 0
        See :func:`dler_advantages`. Right is what the trainer counts as solved.
    """

    eps_low: float = 0.2
    eps_high: float = 0.28
    dual_clip: float | None = 10.0
    kl_coef: float = 5e-4
    whiten_over: Literal["samples", "tokens"] = "samples"
    correct_boost: float = 0.0

    def __post_init__(self) -> None:
        if self.whiten_over not in ("samples", "tokens"):
            raise ValueError(f'whiten_over must be "samples" or "tokens", got {self.whiten_over!r}')
        if self.dual_clip is not None and self.dual_clip <= 1 + self.eps_high:
            raise ValueError(
                f"dual_clip is {self.dual_clip}; more than 1 + eps_high = {1 + self.eps_high:g}, "
                "or None for no bound, is wanted"
            )

    def advantages(self, batch: Batch) -> Tensor:
        """Rewards centred in their groups and scaled over the batch, (B,)."""
        return dler_advantages(
            batch.rewards,
            batch.group_size,
            mask=batch.rollout.completion_mask if self.whiten_over == "tokens" else None,
            correct=batch.solved,
            correct_boost=self.correct_boost,
        )

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """Surrogate and penalty, averaged over the tokens of the mini-batch."""
        assert batch.advantages is not None
        if self.kl_coef and batch.ref_logps is None:
            raise ValueError(
                f"kl_coef is {self.kl_coef}, but the trainer has no reference to stay near; give "
                "it one, or kl_coef=0"
            )
        return dler_loss(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            batch.rollout.completion_mask,
            ref_logps=batch.ref_logps,
            eps_low=self.eps_low,
            eps_high=self.eps_high,
            dual_clip=self.dual_clip,
            kl_coef=self.kl_coef,
        )
