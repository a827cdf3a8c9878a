"""Which groups of completions are worth learning from, and drawing more until there are enough.

A group whose rewards are all equal has advantages of zero, so a batch of B prompts may hold far
fewer than B that teach. Dynamic sampling drops those groups and draws further prompts:

    while fewer than B groups are kept:  draw, verify, keep those of some variance
    cut to B

Sources: DAPO (Yu et al. 2025, arXiv 2503.14476, section 3.2), DLER (arXiv 2510.15110). Departures:
none; kept groups beyond B are discarded, as in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

GroupFilter = Callable[[Tensor], Tensor]
"""Rewards of shape (groups, completions) to a bool for each group: is it kept?"""


def has_variance(rewards: Tensor) -> Tensor:
    """Keep groups whose rewards are not all equal: DAPO's filter.

    Parameters
    ----------
    rewards : Tensor, shape (groups, completions)

    Returns
    -------
    bool Tensor, shape (groups,)

    Examples
    --------
    >>> has_variance(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    tensor([False,  True])
    """
    return (rewards != rewards[:, :1]).any(dim=1)


@dataclass(frozen=True)
class MeanBetween:
    """Keep groups whose mean reward lies strictly between two bounds.

    Parameters
    ----------
    low, high : float, default 0 and 1
        With 0 and 1 and rewards that are either, the same as :func:`has_variance`.
    """

    low: float = 0.0
    high: float = 1.0

    def __call__(self, rewards: Tensor) -> Tensor:
        """Bool of each group, shape (groups,), for rewards of shape (groups, completions)."""
        mean = rewards.mean(dim=1)
        return (self.low < mean) & (mean < self.high)


class NotEnoughGroups(RuntimeError):
    """Dynamic sampling ended without the groups that were asked for."""


class Draw(NamedTuple, Generic[T]):
    """Groups that were rolled out and verified."""

    groups: Sequence[T]
    """Whatever the caller needs to know of each group."""
    rewards: Tensor
    """Shape (groups, completions)."""


class Filled(NamedTuple, Generic[T]):
    """What :meth:`DynamicSampler.fill` kept, and what that cost."""

    groups: list[T]
    rewards: Tensor
    """Shape (groups, completions)."""
    rounds: int
    n_drawn: int
    """Groups that were rolled out: what methods are to be compared at."""
    n_kept: int
    """Groups that passed the filter, those that were cut off at the end included."""


@dataclass(frozen=True)
class DynamicSampler:
    """Draw groups until enough of them pass a filter.

    It holds no state, so there is none to save: what the next draw gives is the caller's.

    Parameters
    ----------
    keep : callable, default :func:`has_variance`
        See :data:`GroupFilter`.
    max_rounds : int, default 8
        Draws at most.
    on_exhausted : {"partial", "error"}, default "partial"
        After the last round go on with what is there, or raise :class:`NotEnoughGroups`.

    Examples
    --------
    >>> rewards = iter([torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]] * 2)])
    >>> filled = DynamicSampler().fill(lambda n: Draw(["a", "b"], next(rewards)), 2)
    >>> filled.groups, filled.n_drawn
    (['b', 'a'], 4)
    """

    keep: GroupFilter = has_variance
    max_rounds: int = 8
    on_exhausted: Literal["partial", "error"] = "partial"

    def __post_init__(self) -> None:
        if self.max_rounds < 1:
            raise ValueError(f"max_rounds is {self.max_rounds}, expected at least 1")
        if self.on_exhausted not in ("partial", "error"):
            raise ValueError(
                f'on_exhausted must be "partial" or "error", got {self.on_exhausted!r}'
            )

    def fill(self, draw: Callable[[int], Draw[T]], n_groups: int) -> Filled[T]:
        """Call ``draw(n_groups)`` until ``n_groups`` groups are kept.

        Parameters
        ----------
        draw : callable ``(n) -> Draw``
            Rolls out n further prompts and verifies their completions.
        n_groups : int
            How many to keep.

        Returns
        -------
        Filled
            With fewer groups than asked for only where ``on_exhausted`` is "partial".

        Raises
        ------
        NotEnoughGroups
            Where ``on_exhausted`` is "error" and the rounds are over.
        ValueError
            Where ``n_groups`` is below 1, or a draw has another number of groups than of rows of
            rewards.
        """
        if n_groups < 1:
            raise ValueError(f"n_groups is {n_groups}, expected at least 1")
        groups: list[T] = []
        rewards: list[Tensor] = []
        n_drawn = rounds = 0
        while len(groups) < n_groups and rounds < self.max_rounds:
            drawn = draw(n_groups)
            if len(drawn.groups) != len(drawn.rewards):
                raise ValueError(
                    f"a draw has {len(drawn.groups)} groups but {len(drawn.rewards)} rows of "
                    "rewards; each group needs one row"
                )
            kept = self.keep(drawn.rewards).nonzero()[:, 0]
            groups += [drawn.groups[int(i)] for i in kept]
            rewards.append(drawn.rewards[kept])
            n_drawn += len(drawn.groups)
            rounds += 1
        if len(groups) < n_groups and self.on_exhausted == "error":
            raise NotEnoughGroups(
                f"{len(groups)} of {n_groups} groups passed the filter in {rounds} rounds "
                f"({n_drawn} groups drawn); take easier prompts, more completions of each, or a "
                "larger max_rounds"
            )
        return Filled(
            groups[:n_groups],
            torch.cat(rewards)[:n_groups],
            rounds=rounds,
            n_drawn=n_drawn,
            n_kept=len(groups),
        )
