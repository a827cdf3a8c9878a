r"""PPO with a critic: what PACS, GRPO and RLOO do without.

.. math:: A_t = \sum_{k \ge 0} (\gamma\lambda)^k \delta_{t+k}, \qquad
    \ell = \text{clipped surrogate of } A + c \cdot \tfrac12 (V - \hat V)^2 \text{ (clipped)}

The critic is a second model, a copy of the policy's body with one number in place of the
vocabulary; it is read once for each batch and trained with each mini-batch, which about doubles the
cost of learning.

Source: PPO (arXiv 1707.06347) as for language models (arXiv 2203.02155, appendix C.4), with the
reward on the last token. Departures: critic and policy share the trainer's learning rate and
gradient norm (in PACS's baseline the critic's rate is 10 times the policy's).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rarefy.policy.advantages import batch_whiten, gae
from rarefy.policy.batches import Batch
from rarefy.policy.losses import clipped_surrogate, token_mean, value_loss
from rarefy.policy.rollout import Rollout, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from rarefy.policy.trainer import PolicyTrainer


class PPO(nn.Module):
    """Proximal policy optimisation with generalized advantages.

    Parameters
    ----------
    model : transformers model
        Whose body the critic begins as a copy of, with a head of zeros.
    gamma, lam : float, default 1
        See :func:`rarefy.policy.gae`; both 1 in PACS's baseline.
    eps_low, eps_high : float, default 0.2
        See :func:`rarefy.policy.clipped_surrogate`.
    value_clip : float, default 0.5
        See :func:`rarefy.policy.value_loss`; verl's.
    value_coef : float, default 1
        Weight of the critic's loss. The critic shares nothing with the policy but the clipping of
        the gradient's norm, so it hardly matters.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        gamma: float = 1.0,
        lam: float = 1.0,
        eps_low: float = 0.2,
        eps_high: float = 0.2,
        value_clip: float = 0.5,
        value_coef: float = 1.0,
    ) -> None:
        super().__init__()
        self.body = copy.deepcopy(model.base_model).eval()
        first = next(self.body.parameters())
        self.head = nn.Linear(model.config.hidden_size, 1, device=first.device, dtype=first.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.gamma, self.lam = gamma, lam
        self.eps_low, self.eps_high = eps_low, eps_high
        self.value_clip, self.value_coef = value_clip, value_coef

    def values(self, rollout: Rollout) -> Tensor:
        """Expected reward before each token of the completions, (B, T); zero outside the mask."""
        mask = torch.cat([rollout.prompt_mask, rollout.completion_mask], dim=1)
        hidden = self.body(
            input_ids=torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
            attention_mask=mask,
            position_ids=(mask.long().cumsum(1) - 1).clamp(min=0),
            use_cache=False,
        ).last_hidden_state
        before = hidden[:, rollout.prompt_ids.shape[1] - 1 : -1]
        values = self.head(before)[..., 0]
        return values.masked_fill(~rollout.completion_mask, 0.0)

    def advantages(self, batch: Batch) -> Tensor:
        """Generalized advantages of the tokens, whitened over the batch, (B, T).

        What the critic is to predict, and what it predicts now, stay in ``batch.extra``.
        """
        rollout = batch.rollout
        with torch.no_grad():
            values = self.values(rollout)
        last = rollout.lengths - 1
        rewards = torch.zeros_like(values)
        rewards[torch.arange(len(rewards), device=rewards.device), last] = batch.rewards.to(values)
        mask = rollout.completion_mask
        advantages, returns = gae(rewards, values, mask, gamma=self.gamma, lam=self.lam)
        # Mini-batches are cut from this batch, with what is in here.
        batch.extra.update(values=values, returns=returns * mask)
        return batch_whiten(advantages, mask)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """Clipped surrogate of the policy and squared error of the critic."""
        assert batch.advantages is not None
        rollout = batch.rollout
        mask = rollout.completion_mask
        actor = clipped_surrogate(
            scores.logps,
            rollout.logps,
            batch.advantages,
            mask,
            eps_low=self.eps_low,
            eps_high=self.eps_high,
        )
        critic = value_loss(
            self.values(rollout),
            batch.extra["values"],
            batch.extra["returns"],
            clip=self.value_clip,
        )
        error = token_mean(critic, mask)
        trainer.notes["value_loss"] = float(error.detach())
        return token_mean(actor, mask) + self.value_coef * error
