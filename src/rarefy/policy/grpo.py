"""GRPO and its near kin as objectives of the trainer.

    A = (R - mean of the group) / (std + 1e-4),   loss = clipped surrogate + beta KL(pi, reference)

Sources: GRPO (arXiv 2402.03300), Dr. GRPO (2503.20783), DAPO (2503.14476), RLOO (2402.14740).
Departures: none; the defaults are TRL 1.16's, but for the reduction, which is GRPO's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from rarefy.policy.advantages import group_norm, rloo
from rarefy.policy.batches import Batch
from rarefy.policy.kl import kl_estimate
from rarefy.policy.losses import Level, clipped_surrogate, sequence_mean
from rarefy.policy.rollout import Scores

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer


@dataclass(frozen=True)
class GRPO:
    """Group-relative policy optimisation.

    Parameters
    ----------
    scale : {"group", "batch", "none"}, default "group"
        See :func:`rarefy.policy.group_norm`; "none" is Dr. GRPO's.
    eps_low, eps_high : float, default 0.2
        See :func:`rarefy.policy.clipped_surrogate`; DAPO has ``eps_high=0.28``.
    level : {"token", "sequence", "product"}, default "token"
    reduce : callable, default :func:`rarefy.policy.sequence_mean`
        Of a loss of tokens and their mask; :func:`rarefy.policy.token_mean` is DAPO's.
    kl_coef : float, default 0
        Weight of the k3 estimate of the divergence from the trainer's reference.
    """

    scale: Literal["group", "batch", "none"] = "group"
    eps_low: float = 0.2
    eps_high: float = 0.2
    level: Level = "token"
    reduce: Callable[[Tensor, Tensor], Tensor] = sequence_mean
    kl_coef: float = 0.0

    def advantages(self, batch: Batch) -> Tensor:
        """Rewards normalised within their groups, (B,)."""
        return group_norm(batch.rewards, batch.group_size, scale=self.scale)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """Clipped surrogate and, with ``kl_coef``, the divergence from the reference."""
        assert batch.advantages is not None
        rollout = batch.rollout
        per_token = clipped_surrogate(
            scores.logps,
            rollout.logps,
            batch.advantages,
            rollout.completion_mask,
            eps_low=self.eps_low,
            eps_high=self.eps_high,
            level=self.level,
        )
        if self.kl_coef:
            if batch.ref_logps is None:
                raise ValueError(
                    f"kl_coef is {self.kl_coef}, but the trainer has no reference to stay near"
                )
            per_token = per_token + self.kl_coef * kl_estimate(
                scores.logps, batch.ref_logps, kind="k3"
            )
        return self.reduce(per_token, rollout.completion_mask)


@dataclass(frozen=True)
class RLOO:
    """REINFORCE with the mean of the other completions of the prompt as its baseline.

    Parameters
    ----------
    eps : float, optional
        Clips the ratio of the completion's probabilities to ``1 +- eps``; not at all by default.
    """

    eps: float | None = None

    def advantages(self, batch: Batch) -> Tensor:
        """Rewards less the mean of the others', (B,)."""
        return rloo(batch.rewards, batch.group_size)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """Surrogate of whole completions."""
        assert batch.advantages is not None
        rollout = batch.rollout
        eps = float("inf") if self.eps is None else self.eps
        per_token = clipped_surrogate(
            scores.logps,
            rollout.logps,
            batch.advantages,
            rollout.completion_mask,
            eps_low=eps,
            eps_high=eps,
            level="product",
        )
        return sequence_mean(per_token, rollout.completion_mask)
