r"""Rewards that know how long a completion is: what DLER shortens with, and its rivals.

With R what another reward says, n the completion's tokens and L a limit,

=============================  =====================================================
:class:`Truncation`            R where n <= L and it ended by itself, else ``factor`` R
:class:`DifficultyAwareTruncation`  the same with a shorter L for groups that are often right
:class:`Laser`                 R + alpha R where n <= L
:class:`L1Max`                 R clip(alpha (L - n) + delta, 0, 1)
:class:`Cosine`                R (low + (1 - low) (1 + cos(pi min(n / L, 1))) / 2)
=============================  =====================================================

A completion ended by itself if its last token is the one that ends a completion; whether it already
printed an answer says nothing. Lengths count that token too. They need ``completion_ids``, which
TRL passes.

Sources: DLER (arXiv 2510.15110), Laser (2505.15612), L1 (2503.04697), cosine (2502.03373).
Departures: the rivals' constants are from those papers as card 09 recalls them: all are arguments.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.rewards.functions import RewardFunction, check_rewards, completion_text

Ids = Sequence[int]


@dataclass(frozen=True)
class _Shaped(ABC):
    """A reward made of another and the completions' token ids."""

    reward: RewardFunction

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return f"{_name(self.reward)}_{type(self).__qualname__.lower()}"

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Ids] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch; None where the other reward gives None.

        Raises
        ------
        ValueError
            Without ``completion_ids``, or with another number of them than of prompts.
        """
        if completion_ids is None or len(completion_ids) != len(prompts):
            given = "none" if completion_ids is None else len(completion_ids)
            raise ValueError(
                f"{self.__name__!r} judges lengths, but completion_ids has {given} rows for "
                f"{len(prompts)} prompts; pass the token ids of each completion"
            )
        values = self.reward(prompts, completions, completion_ids, **columns)
        scores = check_rewards(values, rows=len(prompts), name=_name(self.reward))
        return self._of_batch(prompts, scores, completion_ids)

    @abstractmethod
    def _of_batch(
        self, prompts: Sequence[Any], scores: list[float | None], ids: Sequence[Ids]
    ) -> list[float | None]:
        """The rewards, from what the other says."""


@dataclass(frozen=True)
class _OfLength(_Shaped):
    """One that looks at each completion by itself."""

    limit: int

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}; at least one token is wanted")

    def _of_batch(
        self,
        prompts: Sequence[Any],  # noqa: ARG002
        scores: list[float | None],
        ids: Sequence[Ids],
    ) -> list[float | None]:
        return [
            None if score is None else self._shaped(score, row)
            for score, row in zip(scores, ids, strict=True)
        ]

    @abstractmethod
    def _shaped(self, score: float, ids: Ids) -> float:
        """The reward of a completion, from what the other says of it."""


@dataclass(frozen=True)
class Truncation(_OfLength):
    """DLER's penalty: nothing for what did not end by itself within the limit.

    Parameters
    ----------
    reward : RewardFunction
        What is earned otherwise.
    limit : int
        In tokens; 4000 in the paper. Let generation stop there: that is what makes it cheap.
    eos_token_id : int or sequence of int
        What ends a completion.
    factor : float, default 0
        Share of the reward that is left beyond; 0.1 in the authors' code.

    Examples
    --------
    >>> from rarefy.rewards import RowReward
    >>> right = RowReward(lambda prompt, completion: float(completion.endswith("4")))
    >>> shaped = Truncation(right, 3, eos_token_id=2)
    >>> shaped(["2+2="] * 2, ["4", "=4"], completion_ids=[[9, 2], [8, 9, 7]])
    [1.0, 0.0]
    """

    eos_token_id: int | Sequence[int]
    factor: float = 0.0

    def _shaped(self, score: float, ids: Ids) -> float:
        ended = _ended(ids, self.eos_token_id)
        return score if ended and len(ids) <= self.limit else self.factor * score


@dataclass(frozen=True)
class DifficultyAwareTruncation(_Shaped):
    """DA-DLER's penalty: the oftener a prompt is solved, the shorter its limit.

    The completions of a prompt, whichever rows of the batch they are, are judged at the largest
    limit first; the share that earn 1 or more picks the tier, whose limit they are judged at then.

    Parameters
    ----------
    reward : RewardFunction
    limits : sequence of int
        Falling, one more than thresholds; (4000, 2000) in the paper.
    thresholds : sequence of float
        Rising shares; (0.5,) in the paper. A share at a threshold is of the tier above it.
    eos_token_id : int or sequence of int
    factor : float, default 0
        See :class:`Truncation`.

    Notes
    -----
    A trainer over several processes hands each its own rows: keep a prompt's completions together.

    Examples
    --------
    >>> from rarefy.rewards import RowReward
    >>> right = RowReward(lambda prompt, completion: float(completion.endswith("4")))
    >>> shaped = DifficultyAwareTruncation(right, (4, 2), (0.6,), eos_token_id=2)
    >>> ids = [[9, 2], [8, 9, 2], [9, 2], [8, 9, 2]]
    >>> shaped(["2+2=", "2+2=", "1+3=", "1+3="], ["4", "=4", "5", "=4"], completion_ids=ids)
    [1.0, 0.0, 0.0, 1.0]
    """

    limits: Sequence[int]
    thresholds: Sequence[float]
    eos_token_id: int | Sequence[int]
    factor: float = 0.0

    def __post_init__(self) -> None:
        limits, thresholds = list(self.limits), list(self.thresholds)
        if len(limits) != len(thresholds) + 1 or not thresholds:
            raise ValueError(
                f"there are {len(limits)} limits and {len(thresholds)} thresholds; at least one "
                "threshold, and one limit more than thresholds, are wanted"
            )
        if limits != sorted(limits, reverse=True) or limits[-1] < 1:
            raise ValueError(f"limits is {limits}; falling numbers of tokens are wanted")
        if thresholds != sorted(set(thresholds)):
            raise ValueError(f"thresholds is {thresholds}; rising shares are wanted")

    def _of_batch(
        self, prompts: Sequence[Any], scores: list[float | None], ids: Sequence[Ids]
    ) -> list[float | None]:
        rows_of: dict[str, list[int]] = {}
        for row, prompt in enumerate(prompts):
            if scores[row] is not None:
                rows_of.setdefault(completion_text(prompt), []).append(row)

        def at(row: int, limit: int) -> float:
            kept = _ended(ids[row], self.eos_token_id) and len(ids[row]) <= limit
            return (scores[row] or 0.0) * (1.0 if kept else self.factor)

        shaped: list[float | None] = [None] * len(prompts)
        for rows in rows_of.values():
            right = sum(at(row, self.limits[0]) >= 1 for row in rows) / len(rows)
            tier = sum(right >= threshold for threshold in self.thresholds)
            for row in rows:
                shaped[row] = at(row, self.limits[tier])
        return shaped


@dataclass(frozen=True)
class Laser(_OfLength):
    """Laser's bonus: more for what is right and short, and no less for what is long.

    Parameters
    ----------
    reward : RewardFunction
    limit : int
        Target in tokens; generation must be let run beyond it.
    alpha : float, default 0.5
        Size of the bonus.
    """

    alpha: float = 0.5

    def _shaped(self, score: float, ids: Ids) -> float:
        return score * (1 + self.alpha) if len(ids) <= self.limit else score


@dataclass(frozen=True)
class L1Max(_OfLength):
    """L1-Max's penalty: right answers lose value in proportion to their length.

    Parameters
    ----------
    reward : RewardFunction
    limit : int
        In tokens; where the reward is ``delta``.
    alpha : float, optional
        Loss for each token; ``1.2 / limit`` by default, which is 3e-4 at 4000.
    delta : float, default 0.5
    """

    alpha: float | None = None
    delta: float = 0.5

    def _shaped(self, score: float, ids: Ids) -> float:
        alpha = 1.2 / self.limit if self.alpha is None else self.alpha
        return score * min(max(alpha * (self.limit - len(ids)) + self.delta, 0.0), 1.0)


@dataclass(frozen=True)
class Cosine(_OfLength):
    """The cosine reward: from 1 for the shortest right answers to ``low`` at the limit and beyond.

    Parameters
    ----------
    reward : RewardFunction
    limit : int
        In tokens.
    low : float, default 0.5
    """

    low: float = 0.5

    def _shaped(self, score: float, ids: Ids) -> float:
        share = (1 + math.cos(math.pi * min(len(ids) / self.limit, 1.0))) / 2
        return score * (self.low + (1 - self.low) * share)


def _ended(ids: Ids, eos_token_id: int | Sequence[int]) -> bool:
    eos = [eos_token_id] if isinstance(eos_token_id, int) else eos_token_id
    return len(ids) > 0 and ids[-1] in eos


def _name(reward: RewardFunction) -> str:
    return str(getattr(reward, "__name__", type(reward).__name__))
