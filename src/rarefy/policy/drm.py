r"""DRM: an advantage for the reasoning, added to the one for the answer.

.. math:: A = A_\text{answer} + \eta\, A_\text{DRM}

each normalised within its group. A verifier's advantage is zero where all completions of a prompt
are wrong or all are right; the reasoning's score is a real number, so that its advantage hardly
ever is, and groups that taught nothing teach which reasoning was better.

Source: DRM (arXiv 2510.11457), on-policy use. Departures: eta and both normalisations are a
reconstruction (card 19); the surrogate is GRPO's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from rarefy.policy.advantages import group_norm
from rarefy.policy.batches import Batch
from rarefy.policy.grpo import GRPO
from rarefy.policy.trainer import Sampler, plain
from rarefy.rewards.dimensions import DimensionReward

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer

Mode = Literal["answer", "drm", "both"]


def combine(
    answer: Tensor, drm: Tensor, group_size: int, *, mode: Mode = "both", eta: float = 1.0
) -> Tensor:
    """Advantages out of a verifier's rewards and rewards of the reasoning.

    Parameters
    ----------
    answer, drm : Tensor, shape (B,)
        Rewards; the ``group_size`` completions of a prompt stand side by side.
    group_size : int
    mode : {"both", "answer", "drm"}, default "both"
    eta : float, default 1
        Weight of the reasoning's advantage in "both".

    Returns
    -------
    Tensor, shape (B,)

    Raises
    ------
    ValueError
        Where mode or shapes are none of these, or a reward is not finite.

    Examples
    --------
    >>> combine(torch.zeros(2), torch.tensor([2.0, 0.0]), 2).round(decimals=3)
    tensor([ 0.7070, -0.7070])
    """
    if mode not in ("answer", "drm", "both"):
        raise ValueError(f"mode is {mode!r}; 'answer', 'drm' or 'both' is wanted")
    if answer.shape != drm.shape:
        raise ValueError(
            f"answer has shape {tuple(answer.shape)} and drm {tuple(drm.shape)}; one of each for "
            "every completion is wanted"
        )
    if mode == "answer":
        return group_norm(answer, group_size)
    of_reasoning = group_norm(drm, group_size)
    if mode == "drm":
        return of_reasoning
    return group_norm(answer, group_size) + eta * of_reasoning


@dataclass(frozen=True)
class DRM(GRPO):
    """GRPO with :func:`combine`'s advantages; the batch comes from :class:`WithReasoning`.

    Parameters
    ----------
    mode : {"both", "answer", "drm"}, default "both"
    eta : float, default 1
    """

    mode: Mode = "both"
    eta: float = 1.0

    def advantages(self, batch: Batch) -> Tensor:
        """Of the rewards and of ``batch.extra["drm"]``, (B,).

        Raises
        ------
        ValueError
            If the batch has no scores of its reasoning.
        """
        if "drm" not in batch.extra:
            raise ValueError(
                "the batch has no scores of its reasoning; give the trainer "
                "sampler=WithReasoning(reward)"
            )
        return combine(
            batch.rewards, batch.extra["drm"], batch.group_size, mode=self.mode, eta=self.eta
        )


class WithReasoning:
    """A sampler whose batches carry the scores of their reasoning, as ``extra["drm"]``.

    The scores are of the policy that sampled, without a gradient. Noted at each step: the mean of
    each dimension, the share of completions without one answer set off, and the share of groups
    whose reasoning scores are all equal.

    Parameters
    ----------
    reward : DimensionReward
        Asked with the log-probabilities of the sampled tokens, and with the problems' column
        ``documents`` where they have it.
    sampler : Sampler, default :func:`rarefy.policy.plain`
        Where the batches come from.
    """

    def __init__(self, reward: DimensionReward, sampler: Sampler = plain) -> None:
        self.reward = reward
        self.sampler = sampler

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Sample and score."""
        batch = self.sampler(trainer, n_prompts)
        if not len(batch):
            return batch
        rollout, size = batch.rollout, batch.group_size
        each = [problem for problem in batch.problems for _ in range(size)]
        lengths = rollout.lengths.tolist()
        rows = rollout.logps.tolist()
        values = self.reward(
            [problem.prompt for problem in each],
            rollout.text(trainer.tokenizer),
            rollout.completions(),
            logps=[row[:length] for row, length in zip(rows, lengths, strict=True)],
            documents=[problem.columns.get("documents") for problem in each],
        )
        drm = torch.tensor(values, dtype=torch.float32, device=batch.rewards.device)
        groups = drm.view(-1, size)
        trainer.notes |= {
            **{f"drm_{name}": float(raw.mean()) for name, raw in self.reward.scores.items()},
            "drm_flagged": sum(map(bool, self.reward.flags)) / len(each),
            "drm_zero_variance": float((groups == groups[:, :1]).all(1).float().mean()),
        }
        return batch.with_extra(drm=drm)

    def state_dict(self) -> dict[str, Any]:
        """What the reward and the sampler within have seen."""
        state = {"reward": self.reward.state_dict()}
        if hasattr(self.sampler, "state_dict"):
            state["sampler"] = self.sampler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self.reward.load_state_dict(state["reward"])
        if hasattr(self.sampler, "load_state_dict"):
            self.sampler.load_state_dict(state["sampler"])
