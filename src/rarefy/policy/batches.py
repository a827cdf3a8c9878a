"""What a step of reinforcement learning holds: problems, their completions, and what those earned.

A :class:`Batch` is some problems after the rollout. Groups stand side by side: the ``group_size``
completions of problem 0, then those of problem 1.

Source: card 00 of this project's notes. Departures from TRL: groups are never shuffled apart, so
that losses that compare the completions of a prompt need no identifiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from rarefy.policy.rollout import Rollout, concatenate
from rarefy.policy.tasks import Problem


@dataclass(frozen=True)
class Batch:
    """Groups of completions and what they earned."""

    problems: list[Problem]
    """One for each group."""
    prompts: list[str]
    """What was asked of each group: the problem's prompt, or that with a hint."""
    rollout: Rollout
    rewards: Tensor
    """(B,), what the objective learns from."""
    solved: Tensor
    """(B,), bool: right, whatever the reward is."""
    group_size: int
    advantages: Tensor | None = None
    """(B,) or (B, T); the trainer asks the objective for them once the batch is complete."""
    ref_logps: Tensor | None = None
    """(B, T), under the trainer's reference, where there is one."""
    extra: dict[str, Tensor] = field(default_factory=dict)
    """Further tensors of first dimension B, such as masks and weights."""

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.problems)

    @property
    def groups(self) -> Tensor:
        """Rewards, shape (groups, group_size)."""
        return self.rewards.view(-1, self.group_size)

    @property
    def n_solved(self) -> Tensor:
        """Right completions of each group, shape (groups,)."""
        return self.solved.view(-1, self.group_size).sum(1)

    def select(self, groups: Tensor | Sequence[int]) -> Batch:
        """Some of the groups, by index or by bool."""
        chosen = torch.as_tensor(groups)
        if chosen.dtype == torch.bool:
            chosen = chosen.nonzero()[:, 0]
        chosen = chosen.long()
        offsets = torch.arange(self.group_size)
        rows = (chosen.cpu()[:, None] * self.group_size + offsets).reshape(-1)
        rows = rows.to(self.rewards.device)
        picked = chosen.tolist()

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[rows]

        return Batch(
            [self.problems[i] for i in picked],
            [self.prompts[i] for i in picked],
            self.rollout.select(rows),
            self.rewards[rows],
            self.solved[rows],
            self.group_size,
            of(self.advantages),
            of(self.ref_logps),
            {name: tensor[rows] for name, tensor in self.extra.items()},
        )

    def with_extra(self, **tensors: Tensor) -> Batch:
        """The same batch with further tensors of first dimension B."""
        return replace(self, extra=self.extra | tensors)


def join(batches: Sequence[Batch]) -> Batch:
    """Batches one below the other, before their advantages are known.

    ``extra`` keeps what all of them have; what is of shape (B, T) is padded with zeros.
    """
    shared = set.intersection(*(set(batch.extra) for batch in batches))
    rollout = concatenate([batch.rollout for batch in batches])
    width = rollout.completion_ids.shape[1]

    def column(name: str) -> Tensor:
        parts = [batch.extra[name] for batch in batches]
        return torch.cat([pad(x, (0, width - x.shape[1])) if x.ndim > 1 else x for x in parts])

    return Batch(
        [problem for batch in batches for problem in batch.problems],
        [prompt for batch in batches for prompt in batch.prompts],
        rollout,
        torch.cat([batch.rewards for batch in batches]),
        torch.cat([batch.solved for batch in batches]),
        batches[0].group_size,
        extra={name: column(name) for name in shared},
    )
