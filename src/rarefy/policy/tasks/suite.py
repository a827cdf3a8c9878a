"""The tasks together: by name, as rows for a trainer, and one reward for a mixture of them.

A row is ``{"prompt", "completion", "task", "level", "trace", "answer"}``: prompt and completion as
supervised trainers want them, and the trace for methods that hint or imitate.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rarefy.policy.tasks._task import LEVELS, Split, Task
from rarefy.policy.tasks.calculator import CALCULATOR
from rarefy.policy.tasks.countdown import COUNTDOWN
from rarefy.policy.tasks.path import PATH
from rarefy.policy.tasks.permute import PERMUTE
from rarefy.policy.tasks.rewrite import REWRITE
from rarefy.policy.tasks.sat import SAT
from rarefy.policy.tasks.sort import SORT
from rarefy.policy.tasks.sudoku4 import SUDOKU4
from rarefy.rewards import RowReward

if TYPE_CHECKING:
    from datasets import Dataset

TASKS = {
    task.name: task for task in (COUNTDOWN, CALCULATOR, PERMUTE, SORT, REWRITE, PATH, SAT, SUDOKU4)
}
"""All tasks by name."""

Row = dict[str, Any]


def task_of(prompt: str) -> Task | None:
    """The task that a prompt is of, None where it is of none.

    Examples
    --------
    >>> task_of("n3,5,2>16=").name
    'countdown'
    """
    return next((task for task in TASKS.values() if task.owns(prompt)), None)


def rows(
    tasks: Iterable[Task],
    *,
    per_level: int,
    seed: int,
    levels: Sequence[int] = LEVELS,
    split: Split = "train",
) -> list[Row]:
    """Draw problems as rows, the same for the same seed whatever else is drawn.

    Parameters
    ----------
    tasks : iterable of Task
    per_level : int
        Rows for each task and level; easy levels have few problems, which then repeat.
    seed : int
    levels : sequence of int, default all five
    split : {"train", "eval"}, default "train"

    Examples
    --------
    >>> from rarefy.policy.tasks import SORT
    >>> [row["level"] for row in rows([SORT], per_level=2, seed=0, levels=(1, 3))]
    [1, 1, 3, 3]
    """
    drawn = []
    for task in tasks:
        for level in levels:
            rng = random.Random(f"{seed} {task.name} {level}")
            for _ in range(per_level):
                problem = task.sample(level, rng, split=split)
                drawn.append(
                    {
                        "prompt": problem.prompt,
                        "completion": problem.completion,
                        "task": problem.task,
                        "level": problem.level,
                        "trace": problem.trace,
                        "answer": problem.answer,
                    }
                )
    return drawn


def as_dataset(rows: list[Row]) -> Dataset:
    """Rows as a ``datasets.Dataset``.

    Raises
    ------
    ImportError
        If ``datasets`` is not installed.
    """
    try:
        from datasets import Dataset
    except ImportError as error:
        raise ImportError("as_dataset needs datasets: pip install 'rarefy[policy]'") from error
    return Dataset.from_list(rows)


def write_jsonl(rows: list[Row], path: Path) -> None:
    """Write rows as JSON lines, which ``datasets`` and rarefy's command line read."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def _verify(prompt: str, completion: str) -> float | None:
    task = task_of(prompt)
    return task.verify(prompt, completion) if task else None


def _credit(prompt: str, completion: str) -> float | None:
    task = task_of(prompt)
    return task.credit(prompt, completion) if task else None


verified = RowReward(_verify, name="verified")
"""Reward of a mixture of tasks: 1 for a right completion, 0 for a wrong one, None elsewhere."""

credited = RowReward(_credit, name="credited")
"""Reward of a mixture of tasks: partial credit in [0, 1], None for prompts of no task."""
