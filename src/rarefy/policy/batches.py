"""What a step of reinforcement learning holds: problems, their completions, and what those earned.

``Problems`` hands out the next problems; a :class:`Batch` is some of them after the rollout. Groups
stand side by side: the ``group_size`` completions of problem 0, then those of problem 1.

Source: card 00 of this project's notes. Departures from TRL: groups are never shuffled apart, so
that losses that compare the completions of a prompt need no identifiers.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from rarefy.policy.rollout import Rollout, concatenate
from rarefy.policy.tasks import Problem, Split, Task


class Problems(Protocol):
    """Where a trainer's problems come from."""

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""

    def state_dict(self) -> dict[str, Any]:
        """All that the next answers depend on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""


class TaskProblems:
    """Problems of tasks, mixed by weight; the same for the same seed, draw after draw.

    Parameters
    ----------
    shares : mapping of (Task, level) to float
        How often problems of a task and level come, in any unit.
    seed : int
    split : {"train", "eval"}, default "train"

    Examples
    --------
    >>> from rarefy.policy.tasks import COUNTDOWN
    >>> problems = TaskProblems({(COUNTDOWN, 3): 1.0, (COUNTDOWN, 4): 1.0}, seed=0)
    >>> [problem.level for problem in problems.draw(4)]
    [3, 3, 4, 4]
    """

    def __init__(
        self, shares: Mapping[tuple[Task, int], float], *, seed: int, split: Split = "train"
    ) -> None:
        if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
            raise ValueError(f"shares is {dict(shares)!r}; at least one positive share is wanted")
        self.shares = dict(shares)
        self.seed = seed
        self.split: Split = split
        self._drawn = 0

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        problems = []
        for row in range(self._drawn, self._drawn + n):
            # A stream for each problem, so that the place in the sequence is all there is to save.
            rng = random.Random(f"{self.seed} problem {row}")
            task, level = rng.choices(list(self.shares), list(self.shares.values()))[0]
            problems.append(task.sample(level, rng, split=self.split))
        self._drawn += n
        return problems

    def state_dict(self) -> dict[str, Any]:
        """How many were drawn."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._drawn = state["drawn"]


class RowProblems:
    """Rows of a data set, in a new random order each epoch.

    Parameters
    ----------
    rows : sequence of mappings
        Each with a ``prompt``; ``trace``, ``answer``, ``task`` and ``level`` where they are known.
        All other columns reach the reward as they are.
    seed : int
    """

    def __init__(self, rows: Sequence[Mapping[str, Any]], *, seed: int) -> None:
        if not rows:
            raise ValueError("rows is empty; at least one row with a prompt is wanted")
        for number, row in enumerate(rows):
            if not isinstance(row.get("prompt"), str) or not row["prompt"]:
                raise ValueError(
                    f"row {number} has the prompt {row.get('prompt')!r}; a text is wanted in the "
                    "column 'prompt'"
                )
        self.rows = rows
        self.seed = seed
        self._drawn = 0

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        picked = []
        for position in range(self._drawn, self._drawn + n):
            epoch, place = divmod(position, len(self.rows))
            order = random.Random(f"{self.seed} epoch {epoch}").sample(
                range(len(self.rows)), len(self.rows)
            )
            picked.append(_problem(self.rows[order[place]]))
        self._drawn += n
        return picked

    def state_dict(self) -> dict[str, Any]:
        """How many were drawn."""
        return {"drawn": self._drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._drawn = state["drawn"]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a file of JSON lines.

    Raises
    ------
    ValueError
        If a line is no JSON object.
    """
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: {error}; a JSON object is wanted") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: {line[:40]!r}; a JSON object is wanted")
        rows.append(row)
    return rows


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


def text_of(row: Mapping[str, Any], column: str) -> str:
    """A column as text, empty where it is missing or None; an answer of 0 is "0"."""
    return "" if row.get(column) is None else str(row[column])


def _problem(row: Mapping[str, Any]) -> Problem:
    known = {"prompt", "trace", "answer", "task", "level", "completion"}
    return Problem(
        str(row.get("task", "rows")),
        int(row.get("level", 1)),
        row["prompt"],
        text_of(row, "trace"),
        text_of(row, "answer"),
        {name: value for name, value in row.items() if name not in known},
    )
