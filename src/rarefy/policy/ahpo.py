r"""AHPO: one stage that imitates an expert only where the policy's own rollouts seldom succeed.

.. math:: \xi(x) = \mathbf 1\bigl[\#\{i : R(\tau_i) = 1\} < \hat R\bigr], \qquad
    L = -\frac1Z \Bigl[\sum_x \xi(x) \sum_t \log \pi(y^*_t \mid x, y^*_{<t})
    + \sum_{x,i} \sum_t \mathrm{CLIP}(\rho_{it}, A_i, \varepsilon)\Bigr]

Where a group fails wholly its advantages are zero, and the expert alone teaches; where the policy
has learnt enough, the expert falls silent and does not pull it back to his own way. Experts' tokens
have no importance ratio. A prompt without a trace never adds to the first sum.

:class:`LUFFY` is the paper's rival: the expert's completion takes the place of a rollout, with
reward 1, its tokens weighted by :math:`f(\pi) = \pi / (\pi + \gamma)`.

Sources: MM-HELIX (arXiv 2510.08540, section 4.2); LUFFY (arXiv 2504.14945, section 3).
Departures: the paper writes Z in two ways, both are here (``normalize``); ``mode="soft"`` is ours;
``gate="batch"`` looks at the mini-batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rarefy.policy.advantages import group_norm
from rarefy.policy.batches import Batch
from rarefy.policy.imitation import expert_rollout, has_expert
from rarefy.policy.losses import clipped_surrogate, token_mean
from rarefy.policy.rollout import Rollout, Scores, concatenate, score

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer

Mode = Literal["adaptive", "static", "soft"]
Gate = Literal["prompt", "batch"]
Normalize = Literal["separate", "joint"]


def expert_gate(
    n_solved: Tensor,
    has_trace: Tensor,
    *,
    success_threshold: int = 2,
    mode: Mode = "adaptive",
    gate: Gate = "prompt",
) -> Tensor:
    """How much of each prompt's expert is to be imitated.

    Parameters
    ----------
    n_solved : Tensor, shape (groups,)
        Right completions of each group.
    has_trace : bool Tensor, shape (groups,)
    success_threshold : int, default 2
        The paper's, of 5 rollouts: imitate where fewer are right.
    mode : {"adaptive", "static", "soft"}, default "adaptive"
        1 below the threshold; 1 everywhere; falling evenly from 1 at none to 0 at the threshold.
    gate : {"prompt", "batch"}, default "prompt"
        Judge each group by itself, or all by their mean.

    Returns
    -------
    Tensor, shape (groups,)
        In [0, 1]; 0 where there is no trace.

    Examples
    --------
    >>> expert_gate(torch.tensor([0, 1, 2, 0]), torch.tensor([True, True, True, False]))
    tensor([1., 1., 0., 0.])
    """
    if mode not in get_args(Mode) or gate not in get_args(Gate):
        raise ValueError(
            f"mode is {mode!r} and gate {gate!r}; one of {', '.join(get_args(Mode))} and one of "
            f"{', '.join(get_args(Gate))} is wanted"
        )
    if success_threshold < 1:
        raise ValueError(f"success_threshold is {success_threshold}; at least 1 is wanted")
    right = n_solved.float()
    if gate == "batch":
        right = right.mean().expand_as(right)
    if mode == "adaptive":
        weights = (right < success_threshold).float()
    elif mode == "soft":
        weights = (1 - right / success_threshold).clamp(min=0)
    else:
        weights = torch.ones_like(right)
    return weights * has_trace


class AHPOTerms(NamedTuple):
    """The two sums of the loss, each divided by its Z."""

    expert: Tensor
    policy: Tensor


def ahpo_terms(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    expert_logps: Tensor,
    expert_mask: Tensor,
    weights: Tensor,
    *,
    n_prompts: int,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    normalize: Normalize = "separate",
) -> AHPOTerms:
    """What :func:`ahpo_loss` adds up; the same parameters."""
    per_token = clipped_surrogate(
        logps, old_logps, advantages, mask, eps_low=eps_low, eps_high=eps_high
    )
    told = expert_mask.bool() & (weights > 0)[:, None]
    nll = -expert_logps.masked_fill(~told, 0.0).sum(1)
    if normalize == "separate":
        lengths = told.sum(1).clamp(min=1)
        return AHPOTerms((weights * nll / lengths).sum() / n_prompts, token_mean(per_token, mask))
    if normalize != "joint":
        raise ValueError(f'normalize is {normalize!r}; "separate" or "joint" is wanted')
    z = (mask.sum() + told.sum()).clamp(min=1)
    surrogate = per_token.masked_fill(~mask.bool(), 0.0).sum()
    return AHPOTerms((weights * nll).sum() / z, surrogate / z)


def ahpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    expert_logps: Tensor,
    expert_mask: Tensor,
    weights: Tensor,
    *,
    n_prompts: int,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    normalize: Normalize = "separate",
    coef: float = 1.0,
) -> Tensor:
    """Negative log-likelihood of experts beside the clipped surrogate of rollouts.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the sampled tokens now and then.
    advantages : Tensor, shape (B,) or (B, T)
    mask : Tensor, shape (B, T)
        Which sampled tokens count.
    expert_logps, expert_mask : Tensor, shape (E, T')
        Log-probabilities of experts' tokens now; E may be 0.
    weights : Tensor, shape (E,)
        How much each expert counts, by :func:`expert_gate`; rows of weight 0 may be there or not.
    n_prompts : int
        Prompts of the batch, those without an expert included.
    eps_low, eps_high : float, default 0.2
        See :func:`rarefy.policy.clipped_surrogate`; infinite ones clip nothing.
    normalize : {"separate", "joint"}, default "separate"
        Separate: the experts' mean over prompts of the mean over tokens, beside the rollouts' mean
        over tokens. Joint: both sums over the number of all tokens that count, where long traces
        outweigh the rollouts.
    coef : float, default 1
        Of the experts.

    Returns
    -------
    Tensor, 0-d

    Examples
    --------
    >>> one, half = torch.zeros(1, 2), torch.full((1, 2), 0.5).log()
    >>> ahpo_loss(one, one, torch.zeros(1), torch.ones(1, 2), half, torch.ones(1, 2),
    ...           torch.ones(1), n_prompts=2)
    tensor(0.3466)
    """
    expert, policy = ahpo_terms(
        logps,
        old_logps,
        advantages,
        mask,
        expert_logps,
        expert_mask,
        weights,
        n_prompts=n_prompts,
        eps_low=eps_low,
        eps_high=eps_high,
        normalize=normalize,
    )
    return coef * expert + policy


def luffy_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    from_expert: Tensor,
    *,
    gamma: float = 0.1,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
) -> Tensor:
    """GRPO's loss in which some completions are the expert's.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Log-probabilities of the tokens now and when they were sampled; of experts' tokens the
        latter are not looked at.
    advantages : Tensor, shape (B,) or (B, T)
        The expert is one of his group.
    mask : Tensor, shape (B, T)
    from_expert : bool Tensor, shape (B,)
    gamma : float, default 0.1
        The smaller, the more of the gradient goes to tokens that the policy finds unlikely.
    eps_low, eps_high : float, default 0.2
        For rollouts; the expert's tokens are not clipped.

    Returns
    -------
    Tensor, 0-d
        The mean over all tokens.
    """
    on_policy = clipped_surrogate(
        logps, old_logps, advantages, mask, eps_low=eps_low, eps_high=eps_high
    )
    p = logps.exp()
    shaped = -(p / (p + gamma)) * (advantages[:, None] if advantages.ndim == 1 else advantages)
    return token_mean(torch.where(from_expert[:, None], shaped, on_policy), mask)


@dataclass(frozen=True)
class AHPO:
    """Adaptive hybrid policy optimisation: GRPO, and imitation where a group seldom succeeds.

    Notes of a step: ``xi``, the gate's mean over prompts; ``expert_share``, of all tokens learnt
    from; ``expert_nll``; ``expert_pull`` and ``policy_pull``, the norms of each term's gradient in
    its log-probabilities. Each is the mean over mini-batches.

    Parameters
    ----------
    success_threshold : int, default 2
        See :func:`expert_gate`, as for ``mode`` and ``gate``. Success is what the trainer's
        ``solved`` says, whatever the reward.
    mode : {"adaptive", "static", "soft"}, default "adaptive"
    gate : {"prompt", "batch"}, default "prompt"
    normalize : {"separate", "joint"}, default "separate"
        See :func:`ahpo_loss`, as for the others.
    coef : float, default 1
    eps_low, eps_high : float, default 0.2
    """

    success_threshold: int = 2
    mode: Mode = "adaptive"
    gate: Gate = "prompt"
    normalize: Normalize = "separate"
    coef: float = 1.0
    eps_low: float = 0.2
    eps_high: float = 0.2

    def __post_init__(self) -> None:
        nobody = torch.zeros(0)
        expert_gate(
            nobody,
            nobody.bool(),
            success_threshold=self.success_threshold,
            mode=self.mode,
            gate=self.gate,
        )
        if self.normalize not in get_args(Normalize):
            raise ValueError(f'normalize is {self.normalize!r}; "separate" or "joint" is wanted')

    def advantages(self, batch: Batch) -> Tensor:
        """GRPO's: rewards normalised within their groups, (B,)."""
        return group_norm(batch.rewards, batch.group_size)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """Both terms, on the mini-batch; experts are scored at temperature 1."""
        assert batch.advantages is not None
        mask = batch.rollout.completion_mask
        known = torch.tensor([has_expert(p) for p in batch.problems], device=mask.device)
        gates = expert_gate(
            batch.n_solved,
            known,
            success_threshold=self.success_threshold,
            mode=self.mode,
            gate=self.gate,
        )
        taught = gates.nonzero()[:, 0]
        expert_logps, expert_mask = scores.logps[:0], mask[:0]
        if len(taught):
            chosen = [batch.problems[i] for i in taught.tolist()]
            expert = expert_rollout(trainer.model, trainer.tokenizer, chosen)
            expert_logps, expert_mask = score(trainer.model, expert).logps, expert.completion_mask
        terms = ahpo_terms(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            mask,
            expert_logps,
            expert_mask,
            gates[taught],
            n_prompts=len(batch),
            eps_low=self.eps_low,
            eps_high=self.eps_high,
            normalize=self.normalize,
        )
        n_expert = float(expert_mask.sum())
        figures = {
            "xi": float(gates.mean()),
            "expert_share": n_expert / (n_expert + float(mask.sum())),
            "expert_nll": -float(expert_logps.detach().sum()) / max(n_expert, 1.0),
            "expert_pull": self.coef * _norm(terms.expert, expert_logps),
            "policy_pull": _norm(terms.policy, scores.logps),
        }
        for name, value in figures.items():
            share = len(batch) / trainer.n_prompts
            trainer.notes[name] = trainer.notes.get(name, 0.0) + share * value
        return self.coef * terms.expert + terms.policy


def _norm(loss: Tensor, logps: Tensor) -> float:
    """Of the gradient in the log-probabilities; 0 where there are none."""
    if not (len(logps) and logps.requires_grad and loss.requires_grad):
        return 0.0
    return float(torch.autograd.grad(loss, logps, retain_graph=True)[0].norm())


def expert_in_group(trainer: PolicyTrainer, n_prompts: int) -> Batch:
    """Roll out, and let the expert's completion stand in for the last of each group: a sampler.

    LUFFY's. The expert gets reward 1; groups whose problem has no trace stay as they are.
    ``extra["from_expert"]`` says which completions are experts'.
    """
    batch = trainer.draw(n_prompts)
    taught = [i for i, problem in enumerate(batch.problems) if has_expert(problem)]
    from_expert = torch.zeros(len(batch.rewards), dtype=torch.bool, device=batch.rewards.device)
    if not taught:
        return batch.with_extra(from_expert=from_expert)
    expert = expert_rollout(trainer.model, trainer.tokenizer, [batch.problems[i] for i in taught])
    rows = torch.tensor(taught, device=from_expert.device) * batch.group_size
    rows = rows + batch.group_size - 1
    from_expert[rows] = True
    order = torch.arange(len(from_expert), device=rows.device)
    order[rows] = len(from_expert) + torch.arange(len(rows), device=rows.device)
    rollout: Rollout = concatenate([batch.rollout, expert]).select(order)
    rewards, solved = batch.rewards.clone(), batch.solved.clone()
    rewards[rows], solved[rows] = 1.0, True
    return replace(batch, rollout=rollout, rewards=rewards, solved=solved).with_extra(
        from_expert=from_expert
    )


@dataclass(frozen=True)
class LUFFY:
    """GRPO with the expert among the group; its sampler is :func:`expert_in_group`.

    Parameters
    ----------
    gamma, eps_low, eps_high : float, default 0.1, 0.2 and 0.2
        See :func:`luffy_loss`.
    """

    gamma: float = 0.1
    eps_low: float = 0.2
    eps_high: float = 0.2

    def advantages(self, batch: Batch) -> Tensor:
        """GRPO's, the expert included, (B,)."""
        return group_norm(batch.rewards, batch.group_size)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """Shaped likelihood of experts and surrogate of rollouts."""
        if "from_expert" not in batch.extra:
            raise ValueError("LUFFY learns from experts in the group; pass sampler=expert_in_group")
        assert batch.advantages is not None
        return luffy_loss(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            batch.rollout.completion_mask,
            batch.extra["from_expert"],
            gamma=self.gamma,
            eps_low=self.eps_low,
            eps_high=self.eps_high,
        )
