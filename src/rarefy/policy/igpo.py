r"""IGPO: where every completion is wrong, let the policy inpaint around pieces of a known solution.

    o_1..o_G ~ policy; where any is right: GRPO as it is. Else
        for each i: eta ~ U[0.2, 0.6], that share of the trace's chunks fixed, the rest inpainted
        up to lambda G wrong completions give way to inpainted ones that verify
    A = R - mean of the group;  hint tokens learn only where the policy is least certain

.. math:: L = -\frac{1}{|K|} \sum_{(i, k) \in K}
    \min(s_i A_i, \mathrm{clip}(s_i, 1 \pm \epsilon) A_i) - \beta\, \mathrm{KL}_{i,k}, \qquad
    s_i = \exp \frac{1}{|K_i|} \sum_{k \in K_i} \log \frac{\pi_\theta}{\pi_\mathrm{old}}(o_i^k)

K are the tokens that learn: all but the hints, and of each completion's hints the fifth with the
highest entropy under the policy that sampled.

Source: IGPO (arXiv 2509.10396, ICLR 2026, sections 3.2-3.3; numbers from the authors' scripts).
Departures: tokens that do not learn are left out of the mean s_i too, where the released code only
takes them out of the sum; the trigger looks at each group, not at a device's batch; the answer is
never part of a hint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from rarefy.policy.advantages import group_norm
from rarefy.policy.batches import Batch
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.inpainting import chunk, place, stretch, without_answer
from rarefy.policy.kl import kl_estimate
from rarefy.policy.losses import clipped_surrogate, token_mean
from rarefy.policy.rollout import Scores, concatenate
from rarefy.policy.tasks import Problem

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer


def top_entropy(entropies: Tensor, hint: Tensor, tau: float) -> Tensor:
    """Which tokens learn: all that are no hint, and of the hints the most uncertain.

    Parameters
    ----------
    entropies : Tensor, shape (B, T)
        Of the predictions, under the policy that sampled.
    hint : Tensor of bool, shape (B, T)
        Tokens that were given.
    tau : float in (0, 1]
        Share of each completion's hints that learns, rounded down, but one at least.

    Returns
    -------
    Tensor of bool, shape (B, T)

    Raises
    ------
    ValueError
        If ``tau`` is no such share.

    Examples
    --------
    >>> hint = torch.tensor([[True, True, False]])
    >>> top_entropy(torch.tensor([[0.1, 0.7, 0.4]]), hint, 0.5)
    tensor([[False,  True,  True]])
    """
    if not 0 < tau <= 1:
        raise ValueError(f"tau is {tau}; a share above 0, and 1 at most, is wanted")
    n_hints = hint.sum(1)
    kept = (n_hints * tau + 1e-4).long().clamp(min=1)
    order = entropies.masked_fill(~hint, -torch.inf).argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter(
        1, order, torch.arange(hint.shape[1], device=hint.device).expand_as(order)
    )
    return ~hint | (rank < kept[:, None])


def replacements(
    wrong: Tensor, right: Tensor, *, share: float, generator: torch.Generator
) -> Tensor:
    """Which completions give way to which.

    Parameters
    ----------
    wrong : Tensor of bool, shape (groups, G)
        The completions that may give way.
    right : Tensor of bool, shape (groups, G)
        The inpainted ones that verify.
    share : float in [0, 1]
        At most so much of a group gives way, rounded down.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of int64, shape (groups, G)
        Which inpainted completion of the same group stands there instead; -1 where none does.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; a share of the group, from 0 to 1, is wanted")
    groups, size = wrong.shape
    chosen = torch.full((groups, size), -1)
    for group in range(groups):
        leaving = wrong[group].cpu().nonzero()[:, 0]
        coming = right[group].cpu().nonzero()[:, 0]
        count = min(len(leaving), len(coming), int(share * size + 1e-9))
        leaving = leaving[torch.randperm(len(leaving), generator=generator)[:count]]
        coming = coming[torch.randperm(len(coming), generator=generator)[:count]]
        chosen[group, leaving] = coming
    return chosen.to(wrong.device)


def igpo_loss(
    logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    ref_logps: Tensor | None = None,
    eps: float = 0.2,
    beta: float = 0.01,
    ratio: Literal["sequence", "token"] = "sequence",
) -> Tensor:
    """IGPO's objective, to be minimised.

    Parameters
    ----------
    logps, old_logps : Tensor, shape (B, T)
        Mean-field log-probabilities now and then, with the same tokens hidden.
    advantages : Tensor, shape (B,) or (B, T)
    mask : Tensor of bool, shape (B, T)
        Tokens that learn, such as :func:`top_entropy` gives.
    ref_logps : Tensor, shape (B, T), optional
        Under the reference; without, there is no divergence in the loss.
    eps : float, default 0.2
    beta : float, default 0.01
        Of the k3 estimate of the divergence from the reference.
    ratio : {"sequence", "token"}, default "sequence"
        Of the whole completion, over the tokens that learn; or of each.

    Returns
    -------
    Tensor, 0-d
        Mean over the tokens that learn.
    """
    per_token = clipped_surrogate(
        logps, old_logps, advantages, mask, eps_low=eps, eps_high=eps, level=ratio
    )
    if ref_logps is not None and beta:
        per_token = per_token + beta * kl_estimate(logps, ref_logps, kind="k3")
    return token_mean(per_token, mask)


@dataclass(frozen=True)
class IGPO:
    """IGPO's objective; with the plain sampler that of DiffuGRPO.

    Parameters
    ----------
    eps, beta, ratio
        As for :func:`igpo_loss`; ``beta`` counts only where the trainer has a reference.
    """

    eps: float = 0.2
    beta: float = 0.01
    ratio: Literal["sequence", "token"] = "sequence"

    def __post_init__(self) -> None:
        if self.ratio not in ("sequence", "token"):
            raise ValueError(f'ratio must be "sequence" or "token", got {self.ratio!r}')

    def advantages(self, batch: Batch) -> Tensor:
        """Rewards less their group's mean, (B,)."""
        return group_norm(batch.rewards, batch.group_size, scale="none")

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """:func:`igpo_loss` of a mini-batch."""
        assert batch.advantages is not None
        return igpo_loss(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            batch.rollout.completion_mask,
            ref_logps=batch.ref_logps,
            eps=self.eps,
            beta=self.beta,
            ratio=self.ratio,
        )


@dataclass(frozen=True)
class Inpainting:
    """IGPO's sampler, of a :class:`DiffusionTrainer`.

    It notes ``triggered`` (share of groups with nothing right), ``all_wrong_after`` (of groups,
    once completions were replaced), ``replaced`` (completions), ``empty_hints`` (share of the
    hints without a chunk, which are plain sampling again) and ``n_hint_tokens``.

    Parameters
    ----------
    eta : (float, float), default (0.2, 0.6)
        Shares of the chunks that are given are drawn from here, for each completion. (0, 0) samples
        as many completions without hints: the control at equal cost; (1, 1) gives whole traces.
    size : (int, int), default (5, 10)
        Shortest and longest chunk, in tokens.
    share : float, default 0.5
        Of a group's completions, at most, that are replaced: the paper's lambda.
    tau : float, default 0.2
        Share of hint tokens that learns; see :func:`top_entropy`.
    room : int, default 0
        Places at the canvas's end that are never given; see :func:`place`.
    stretched : bool, default False
        Whether traces shorter than the canvas are stretched, as in the authors' code.
    mark : str, default "#"
        What a trace's answer begins with; it and what follows is cut off.
    """

    eta: tuple[float, float] = (0.2, 0.6)
    size: tuple[int, int] = (5, 10)
    share: float = 0.5
    tau: float = 0.2
    room: int = 0
    stretched: bool = False
    mark: str = "#"

    def __post_init__(self) -> None:
        low, high = self.eta
        if not 0 <= low <= high <= 1:
            raise ValueError(f"eta is {self.eta}; two rising shares from 0 to 1 are wanted")
        if not 1 <= self.size[0] <= self.size[1]:
            raise ValueError(f"size is {self.size}; two rising numbers of tokens are wanted")
        for name in ("share", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; a share from 0 to 1 is wanted")
        if self.room < 0:
            raise ValueError(f"room is {self.room}; 0 places or more are wanted")

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out the next problems, and inpaint where nothing is right."""
        if not isinstance(trainer, DiffusionTrainer):
            raise TypeError(
                f"the trainer is a {type(trainer).__name__}; only a DiffusionTrainer can inpaint"
            )
        batch = trainer.draw(n_prompts)
        empty = batch.n_solved == 0
        notes = {"triggered": float(empty.float().mean()), "replaced": 0.0, "n_hint_tokens": 0.0}
        hint = torch.zeros_like(batch.rollout.completion_mask)
        if empty.any():
            problems = [batch.problems[i] for i in empty.nonzero()[:, 0].tolist()]
            fixed = self.canvases(trainer, problems).to(hint.device)
            given = fixed != trainer.tokenizer.mask_token_id
            notes["empty_hints"] = float((~given.any(1)).float().mean())
            inpainted = trainer.complete(problems, fixed=fixed)
            batch, taken = self._mixed(trainer, batch, inpainted, empty)
            from_inpainted = taken >= 0
            hint[from_inpainted] = given[taken[from_inpainted]]
            notes["replaced"] = float(from_inpainted.sum())
            notes["n_hint_tokens"] = float(hint.sum())
        notes["all_wrong_after"] = float((batch.n_solved == 0).float().mean())
        trainer.notes |= notes
        return batch.with_extra(keep=top_entropy(batch.rollout.entropies, hint, self.tau))

    def canvases(self, trainer: DiffusionTrainer, problems: list[Problem]) -> Tensor:
        """Draw what is given to each completion of each problem, (problems * G, length)."""
        generator = trainer.cpu_generator("inpainting")
        low, high = self.eta
        rows = []
        for problem in problems:
            trace = without_answer(problem.trace, mark=self.mark)
            ids = trainer.tokenizer(trace, add_special_tokens=False)["input_ids"]
            room = trainer.canvas.length - self.room
            factor = stretch(len(ids), length=room) if self.stretched else 1.0
            pieces = chunk(ids, size=self.size, generator=generator)
            for _ in range(trainer.group_size):
                share = low + (high - low) * float(torch.rand((), generator=generator))
                rows.append(
                    place(
                        pieces,
                        share,
                        length=trainer.canvas.length,
                        mask_token_id=trainer.tokenizer.mask_token_id,
                        generator=generator,
                        factor=factor,
                        room=self.room,
                    )
                )
        return torch.stack(rows)

    def _mixed(
        self, trainer: DiffusionTrainer, batch: Batch, inpainted: Batch, empty: Tensor
    ) -> tuple[Batch, Tensor]:
        """Put right inpainted completions in the place of wrong ones.

        Also returns, for each completion, which row of ``inpainted`` it is, or -1.
        """
        size = batch.group_size
        chosen = replacements(
            torch.ones_like(inpainted.solved.view(-1, size)),
            inpainted.solved.view(-1, size),
            share=self.share,
            generator=trainer.cpu_generator("replaced"),
        )
        offsets = size * torch.arange(len(chosen), device=chosen.device)[:, None]
        taken = torch.full((len(batch), size), -1, device=chosen.device)
        taken[empty] = torch.where(chosen >= 0, chosen + offsets, chosen)
        taken = taken.flatten()
        own = torch.arange(len(taken), device=chosen.device)
        rows = torch.where(taken >= 0, len(own) + taken, own)
        rollout = concatenate([batch.rollout, inpainted.rollout]).select(rows)
        mixed = replace(
            batch,
            rollout=rollout,
            rewards=torch.cat([batch.rewards, inpainted.rewards])[rows],
            solved=torch.cat([batch.solved, inpainted.solved])[rows],
        )
        return mixed, taken
