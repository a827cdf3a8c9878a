"""Problems as files: JSON lines with or without images, and a page with one problem of each task.

Each problem has a random stream of its own, named by (seed, task, level, index), so that a file
does not change when tasks are added or left out.

Source: own. Departures: none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from random import Random

from rarefy.policy.tasks.helix.catalogue import get_task, list_tasks
from rarefy.policy.tasks.helix.task import LEVELS, Category, Problem, Task


def draw(task: Task, level: int, index: int, *, seed: int = 0) -> Problem:
    """Draw a numbered problem: the same one whatever else is drawn."""
    return task.sample(level, Random(f"{seed}/{task.name}/{level}/{index}"))


def export(
    folder: Path | str,
    *,
    tasks: Iterable[str] | None = None,
    per_level: int = 6,
    seed: int = 0,
    images: bool = False,
) -> Path:
    """Write ``helix.jsonl`` and, if asked for, a PNG a problem beside it.

    Parameters
    ----------
    folder : path
        Made if need be.
    tasks : iterable of str, optional
        All 42 by default.
    per_level : int, default 6
        Problems of each of the five levels; with 42 tasks the paper's 1,260.
    seed : int, default 0
    images : bool, default False
        Whether to draw the images too (needs Pillow).

    Returns
    -------
    Path
        The JSONL file. A line has ``id``, ``task``, ``category``, ``level``, ``prompt``,
        ``answer`` (the solver's; others may be right), ``state`` and, with images, ``image``.

    Raises
    ------
    ValueError
        If ``per_level`` is not positive or there is no such task.
    """
    if per_level < 1:
        raise ValueError(f"per_level must be at least 1, got {per_level}")
    chosen = [get_task(name) for name in (list_tasks() if tasks is None else tasks)]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "helix.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for task, level, index in product(chosen, LEVELS, range(per_level)):
            problem = draw(task, level, index, seed=seed)
            name = f"{task.name}-{level}-{index}"
            line = {
                "id": name,
                "task": task.name,
                "category": task.category,
                "level": level,
                "prompt": problem.prompt,
                "answer": task.solve(problem).answer,
                "state": problem.state,
            }
            if images:
                line["image"] = f"{name}.png"
                task.render(problem).save(folder / f"{name}.png")
            file.write(json.dumps(line) + "\n")
    return path


def sample_page(*, level: int = 2, seed: int = 0) -> str:
    """Write a Markdown page with one problem of each task, by category.

    Parameters
    ----------
    level : int, default 2
    seed : int, default 0

    Returns
    -------
    str
    """
    parts = [
        "# The 42 tasks of `rarefy.policy.tasks.helix`\n\n"
        f"One problem of each at level {level}, with the answer that its solver finds and the "
        "steps that it takes. Where several answers are right, the verifier accepts them all. The "
        "page is `sample_page()`."
    ]
    categories: tuple[Category, ...] = ("algorithms", "graphs", "puzzles", "games")
    for category in categories:
        chosen = [get_task(name) for name in list_tasks(category)]
        parts.append(f"## {category.capitalize()} ({len(chosen)})")
        for task in chosen:
            problem = draw(task, level, 0, seed=seed)
            solution = task.solve(problem)
            _, scene = problem.prompt.split("\n\n", 1)
            steps = f"{solution.steps:,} step" + "s" * (solution.steps != 1)
            parts.append(
                f"### {task.name}\n\n{task.rules}\n\n```text\n{scene}\n```\n\n"
                f"Answer ({steps}):\n\n```text\n{solution.answer}\n```"
            )
    return "\n\n".join(parts) + "\n"
