"""Where a trainer's problems come from.

``draw(n)`` hands out the next n problems, and ``state_dict`` holds all that the next answer depends
on: a run that is killed and restarted goes on with the same problems.

    TaskProblems     tasks and levels in shares
    RowProblems      a data set's rows, in a new order each epoch
    StagedProblems   one source after another

Source: card 00 of this project's notes; stages are GRPO-CL's, the curriculum baseline of GHPO
(arXiv 2507.10628, section 4). Departures: none.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

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


class StagedProblems:
    """Draw from one source of problems until its share is done, then from the next.

    Parameters
    ----------
    stages : sequence of Problems
        From easy to hard.
    counts : sequence of int
        Problems of each stage but the last, which never ends.

    Raises
    ------
    ValueError
        If there are not one fewer counts than stages, or a count is below 1.

    Examples
    --------
    >>> from rarefy.policy.tasks import COUNTDOWN
    >>> easy, hard = (TaskProblems({(COUNTDOWN, level): 1.0}, seed=0) for level in (2, 4))
    >>> [problem.level for problem in StagedProblems([easy, hard], [3]).draw(5)]
    [2, 2, 2, 4, 4]
    """

    def __init__(self, stages: Sequence[Problems], counts: Sequence[int]) -> None:
        if len(counts) != len(stages) - 1 or any(count < 1 for count in counts):
            raise ValueError(
                f"{len(stages)} stages came with the counts {list(counts)}; at least 1 problem for "
                "each stage but the last is wanted"
            )
        self.stages = list(stages)
        self._ends = list(accumulate(counts))
        self._drawn = 0

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        problems: list[Problem] = []
        while len(problems) < n:
            wanted, stage = n - len(problems), self.stage
            if stage < len(self._ends):
                wanted = min(wanted, self._ends[stage] - self._drawn)
            problems += self.stages[stage].draw(wanted)
            self._drawn += wanted
        return problems

    @property
    def stage(self) -> int:
        """That of the next problem, from 0."""
        return sum(self._drawn >= end for end in self._ends)

    def state_dict(self) -> dict[str, Any]:
        """How many were drawn, and the state of each source."""
        return {"drawn": self._drawn, "stages": [stage.state_dict() for stage in self.stages]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._drawn = state["drawn"]
        for stage, its in zip(self.stages, state["stages"], strict=True):
            stage.load_state_dict(its)


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
