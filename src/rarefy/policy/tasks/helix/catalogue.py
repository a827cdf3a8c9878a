"""The 42 tasks by name: nine algorithms, six games, eight graphs, nineteen puzzles."""

from __future__ import annotations

from rarefy.policy.tasks.helix import (
    arithmetic,
    digits,
    games,
    latin,
    lists,
    loops,
    networks,
    pushing,
    routes,
    shading,
    snake,
    walls,
    words,
)
from rarefy.policy.tasks.helix.task import Category, Task

_TASKS: tuple[Task, ...] = (
    lists.BuySellStock(),
    lists.ContainerWithMostWater(),
    lists.HillsAndValleys(),
    lists.HIndex(),
    lists.LargestRectangle(),
    lists.LongestIncreasingSubsequence(),
    lists.TrappingRainWater(),
    arithmetic.CryptoMath(),
    arithmetic.TwentyFour(),
    games.Hanoi(),
    games.Maze(),
    games.Nibbles(),
    pushing.SlidingPuzzle(),
    pushing.Sokoban(),
    shading.Minesweeper(),
    networks.EulerianCycle(),
    networks.EulerianPath(),
    networks.Isomorphism(),
    networks.MaxFlow(),
    networks.ShortestPath(),
    networks.TopologicalSort(),
    routes.HamiltonianCycle(),
    routes.HamiltonianPath(),
    digits.Eulero(),
    digits.Kakuro(),
    latin.Calcudoku(),
    latin.Futoshiki(),
    latin.Skyscrapers(),
    latin.Sudoku(),
    loops.Bridges(),
    loops.Shingoki(),
    routes.Numbrix(),
    shading.Aquarium(),
    shading.Binairo(),
    shading.Campsite(),
    shading.Kukurasu(),
    shading.Nonogram(),
    snake.Snake(),
    walls.Hitori(),
    walls.Tapa(),
    words.WordLadder(),
    words.WordSearch(),
)
_BY_NAME = {task.name: task for task in _TASKS}


def list_tasks(category: Category | None = None) -> list[str]:
    """Names of the tasks.

    Parameters
    ----------
    category : {"algorithms", "games", "graphs", "puzzles"}, optional
        All of them by default.

    Returns
    -------
    list of str
        In alphabetical order; empty if there is no such category.

    Examples
    --------
    >>> len(list_tasks()), list_tasks("games")[:2]
    (42, ['hanoi', 'maze'])
    """
    return sorted(task.name for task in _TASKS if category in (None, task.category))


def get_task(name: str) -> Task:
    """Task of a name.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> from random import Random
    >>> task = get_task("h-index")
    >>> problem = task.sample(1, Random(0))
    >>> task.verify(problem, task.solve(problem).answer)
    True
    """
    if name not in _BY_NAME:
        raise ValueError(f"name must be one of list_tasks(), got {name!r}")
    return _BY_NAME[name]
