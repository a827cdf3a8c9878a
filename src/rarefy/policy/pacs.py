r"""PACS: learn to predict the reward, with a predictor that is made of the policy itself.

For G completions of a prompt, whose rewards R are 0 or 1,

.. math:: \hat r_i = \beta \sum_t \log \frac{\pi(o_{i,t})}{\pi_\mathrm{ref}(o_{i,t})}, \qquad
    \psi_i = \hat r_i - \frac{1}{G - 1} \sum_{j \ne i} \hat r_j, \qquad
    \ell = -\frac{1}{N} \sum_i w_i \bigl[ R_i \log \sigma(\psi_i)
    + (1 - R_i) \log(1 - \sigma(\psi_i)) \bigr]

Where the policy still is the reference, psi is 0 and the gradient is the policy gradient of
``w (R - 1/2)`` less its mean over the other completions: RLOO's step if w is 1. Later the residual
``R - sigma(psi)`` shrinks as a completion moves the way it should: a soft trust region in place of
clipping.

Source: "Implicit Actor Critic Coupling via a Supervised Learning Framework for RLVR" (arXiv
2509.02522, sections 3 and 4), and the authors' released code. Departures from that code: the sum is
over the completion alone, never over padding; a group of one, rewards that are no probabilities,
and weights of classes that are none are refused. The trainer clips the gradient, which the released
code does not: pass ``max_grad_norm=float("inf")`` for theirs.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from rarefy.policy.advantages import grouped, rloo
from rarefy.policy.batches import Batch
from rarefy.policy.rollout import Scores

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer

Score = Literal["rloo", "grpo", "dr_grpo", "none"]
Proxy = Literal["log_ratio", "mean_logp"]
ClassWeight = Literal["balanced", "positive", "negative"]

SATURATED = 5.0
"""Mean size of psi over which sigma(psi) has hardly a gradient left."""


class PACSLoss(NamedTuple):
    """What :func:`pacs_loss` gives."""

    loss: Tensor
    """0-d, to be minimised."""
    psi: Tensor
    """(B,), without a gradient; ``psi.sigmoid()`` is the predicted reward."""


def pacs_loss(
    logps: Tensor,
    ref_logps: Tensor | None,
    mask: Tensor,
    rewards: Tensor,
    group_size: int,
    *,
    beta: float = 1.0,
    score: Score = "rloo",
    proxy: Proxy = "log_ratio",
    class_weight: ClassWeight | None = "balanced",
    actor_term: bool = False,
) -> PACSLoss:
    r"""Cross-entropy of the rewards under the policy's own prediction of them.

    Parameters
    ----------
    logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens, with a gradient.
    ref_logps : Tensor, shape (B, T), optional
        Those of the reference, in the released code the policy that sampled; not needed for the
        proxy "mean_logp".
    mask : Tensor, shape (B, T)
        Which tokens count.
    rewards : Tensor, shape (B,)
        In [0, 1]. The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    beta : float, default 1
        Scale of the prediction; the paper finds 0.5 to 1 best and 0.1 to 10 usable.
    score : {"rloo", "grpo", "dr_grpo", "none"}, default "rloo"
        Less the mean of the others; less the group's mean, over its standard deviation plus 1e-6;
        less the group's mean; as it is. NOTE: "grpo" divides by rounding errors where the policy
        still is the reference, and its gradient is then up to 1e6 times the others'.
    proxy : {"log_ratio", "mean_logp"}, default "log_ratio"
        Sum of log-ratios, or the mean log-probability of a token.
    class_weight : {"balanced", "positive", "negative"} or None, default "balanced"
        See :func:`class_weights`.
    actor_term : bool, default False
        Add the term of the paper's gradient that the released code leaves out, the mean of
        ``-w log-likelihood`` (held fixed) times the completion's log-probability. It has no
        baseline, and so much variance.

    Returns
    -------
    PACSLoss

    Raises
    ------
    ValueError
        Where there is no group to compare in, a reward lies outside [0, 1], classes are weighted
        but a reward is neither 0 nor 1, or an option is unknown.

    Examples
    --------
    >>> logps = torch.tensor([[-1.0, -0.5], [-2.0, 0.0]])
    >>> found = pacs_loss(
    ...     logps, torch.full((2, 2), -1.0), torch.ones(2, 2), torch.tensor([1.0, 0.0]), 2
    ... )
    >>> found.psi, found.loss
    (tensor([ 0.5000, -0.5000]), tensor(0.4741))
    """
    weights = class_weights(rewards, group_size, class_weight)
    psi = _scored(
        beta * _proxies(logps, ref_logps, mask, proxy).view(-1, group_size), score
    ).reshape(-1)
    labels = rewards.to(psi)
    each = binary_cross_entropy_with_logits(psi, labels, weight=weights.to(psi), reduction="none")
    loss = each.mean()
    if actor_term:
        loss = loss + (each.detach() * _over_tokens(logps, mask)).mean()
    return PACSLoss(loss, psi.detach())


def class_weights(rewards: Tensor, group_size: int, mode: ClassWeight | None) -> Tensor:
    """Weights of completions, so that rare labels of a group count as much as common ones.

    Parameters
    ----------
    rewards : Tensor, shape (B,)
        The ``group_size`` completions of a prompt stand side by side.
    group_size : int
        At least 2.
    mode : {"balanced", "positive", "negative"} or None
        ``group_size`` over twice the number of the group's completions of the same label, 1 in
        groups of one label; 1 for the right ones and 0 for the wrong ones; the reverse; 1.

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        As for :func:`pacs_loss`.

    Examples
    --------
    >>> class_weights(torch.tensor([1.0, 0.0, 0.0, 0.0]), 4, "balanced")
    tensor([2.0000, 0.6667, 0.6667, 0.6667])
    """
    groups = grouped(rewards, group_size)
    if bool(((groups < 0) | (groups > 1)).any()):
        raise ValueError(
            f"rewards lie between {rewards.min():g} and {rewards.max():g}, but PACS predicts them "
            "as probabilities: scale them to [0, 1]"
        )
    if mode is None:
        return torch.ones_like(rewards)
    if mode not in get_args(ClassWeight):
        raise ValueError(
            f'class_weight must be "balanced", "positive", "negative" or None, got {mode!r}'
        )
    positive = groups == 1
    if bool((~positive & (groups != 0)).any()):
        raise ValueError(
            f"class_weight is {mode!r}, but some rewards are neither 0 nor 1 and so of no class: "
            "threshold them, or pass class_weight=None"
        )
    if mode != "balanced":
        return (positive if mode == "positive" else ~positive).to(rewards).reshape(-1)
    n_right = positive.sum(1, keepdim=True)
    n_same = torch.where(positive, n_right, group_size - n_right).to(rewards)
    balanced = group_size / (2 * n_same)
    return balanced.masked_fill(n_same == group_size, 1.0).reshape(-1)


@dataclass(frozen=True)
class PACS:
    """Policy and critic in one, learnt by predicting the reward.

    Take several mini-batches a step: in the first, psi is 0 and PACS a weighted RLOO. The trainer's
    figures get ``psi_abs``, the mean size of psi, and ``psi_auc``, the chance that a right
    completion is predicted above a wrong one, both of the step's last mini-batch.

    Parameters
    ----------
    beta, score, proxy, class_weight, actor_term
        See :func:`pacs_loss`.
    reference : {"rollout", "fixed"}, default "rollout"
        The policy that sampled the batch, as in the released code; or the trainer's reference, as
        in the paper.
    reset_every : int, optional
        With a fixed reference: make it the policy as it is, every so many steps. The trainer's
        reference is overwritten.
    reset_optimizer : bool, default True
        Forget the optimizer's moments then, as the paper does; a jump of the loss under old moments
        is a kick.

    Raises
    ------
    ValueError
        Where an option is unknown or they do not fit together; later, where the reference is to be
        the trainer's and it has none.

    Warns
    -----
    RuntimeWarning
        Where the mean size of psi exceeds 5, so that the loss has hardly a gradient left.
    """

    beta: float = 1.0
    score: Score = "rloo"
    proxy: Proxy = "log_ratio"
    class_weight: ClassWeight | None = "balanced"
    actor_term: bool = False
    reference: Literal["rollout", "fixed"] = "rollout"
    reset_every: int | None = None
    reset_optimizer: bool = True

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ValueError(f"beta is {self.beta}, expected more than 0")
        if self.reference not in ("rollout", "fixed"):
            raise ValueError(f'reference must be "rollout" or "fixed", got {self.reference!r}')
        if self.reset_every is not None and (self.reference != "fixed" or self.reset_every < 1):
            raise ValueError(
                f"reset_every is {self.reset_every} and reference {self.reference!r}; resets are "
                'of reference="fixed", at least 1 step apart'
            )

    def advantages(self, batch: Batch) -> Tensor:
        """What log-probabilities are weighted with where psi is 0, (B,); RLOO's without weights."""
        weights = class_weights(batch.rewards, batch.group_size, self.class_weight)
        return rloo(weights * (batch.rewards - 0.5), batch.group_size)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """Weighted cross-entropy of the rewards."""
        found = pacs_loss(
            scores.logps,
            self._reference(batch, trainer),
            batch.rollout.completion_mask,
            batch.rewards,
            batch.group_size,
            beta=self.beta,
            score=self.score,
            proxy=self.proxy,
            class_weight=self.class_weight,
            actor_term=self.actor_term,
        )
        size = float(found.psi.abs().mean())
        trainer.notes |= {"psi_abs": size, "psi_auc": auc(found.psi, batch.rewards > 0.5)}
        if size > SATURATED:
            warnings.warn(
                f"the mean of |psi| is over {SATURATED:g}, where predictions are all but certain "
                "and PACS learns hardly anything: lower beta or the learning rate, or take fewer "
                "mini-batches",
                RuntimeWarning,
                stacklevel=2,
            )
        return found.loss

    def _reference(self, batch: Batch, trainer: PolicyTrainer) -> Tensor | None:
        """Log-probabilities of the reference, which is reset where it is time to."""
        if self.proxy == "mean_logp":
            return None
        if self.reference == "rollout":
            return batch.rollout.logps
        if trainer.reference is None:
            raise ValueError(
                'reference is "fixed", but the trainer has none: pass it a copy of the model'
            )
        if not self.reset_every or not trainer.step or trainer.step % self.reset_every:
            return batch.ref_logps
        # The trainer's figures begin empty at each step: no note means its first mini-batch.
        if "reference_reset" not in trainer.notes:
            trainer.notes["reference_reset"] = 1.0
            trainer.reference.load_state_dict(trainer.model.state_dict())
            if self.reset_optimizer:
                trainer.optimizer.state.clear()
        return batch.rollout.logps  # the policy at the start of the step, which it was set to


def auc(scores: Tensor, labels: Tensor) -> float:
    """Chance that a positive scores above a negative; ties count half, NaN without both.

    Parameters
    ----------
    scores : Tensor, shape (n,)
    labels : bool Tensor, shape (n,)

    Returns
    -------
    float

    Examples
    --------
    >>> auc(torch.tensor([3.0, 1.0, 2.0]), torch.tensor([True, False, False]))
    1.0
    """
    gap = scores[labels][:, None] - scores[~labels]
    return float(((gap > 0).double() + (gap == 0).double() / 2).mean())


def _over_tokens(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask.bool(), 0.0).sum(1)


def _proxies(logps: Tensor, ref_logps: Tensor | None, mask: Tensor, proxy: Proxy) -> Tensor:
    """The policy's implicit rewards before beta, (B,)."""
    if proxy == "mean_logp":
        return _over_tokens(logps, mask) / mask.sum(1).clamp(min=1)
    if proxy != "log_ratio":
        raise ValueError(f'proxy must be "log_ratio" or "mean_logp", got {proxy!r}')
    if ref_logps is None:
        raise ValueError('ref_logps is None, which only the proxy "mean_logp" can do without')
    return _over_tokens(logps - ref_logps, mask)


def _scored(implicit: Tensor, score: Score) -> Tensor:
    """Implicit rewards (groups, G) beside those of their group; the baseline has a gradient too."""
    if score == "none":
        return implicit
    centred = implicit - implicit.mean(1, keepdim=True)
    if score == "dr_grpo":
        return centred
    if score == "rloo":
        n = implicit.shape[1]
        return centred * (n / (n - 1))
    if score == "grpo":
        return centred / (implicit.std(1, keepdim=True) + 1e-6)
    raise ValueError(f'score must be "rloo", "grpo", "dr_grpo" or "none", got {score!r}')
