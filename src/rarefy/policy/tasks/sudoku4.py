"""Sudoku of four by four: each digit once in every row, column and box.

    q12..3.1.21.343.1=   ->   c3;d4;...#1234341221434321

Cells are read by rows and named a to p in traces, "." is a blank. The trace fills, each time, the
blank with the fewest digits left. Levels: 3, 5, 7, 9, 11 blanks. Difficulty: blanks. Puzzles may
have several solutions, and each counts; progress is the share of cells that agree with the nearest.
"""

from __future__ import annotations

import random
import re
from functools import cache

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_BLANKS = (3, 5, 7, 9, 11)
_DIGITS = "1234"
_CELLS = 16
_FORM = re.compile(r"q[1-4.]{16}=")


def _peers(cell: int) -> frozenset[int]:
    row, column = divmod(cell, 4)
    return frozenset(
        other
        for other in range(_CELLS)
        if other != cell
        and (
            other // 4 == row
            or other % 4 == column
            or (other // 8 == row // 2 and other % 4 // 2 == column // 2)
        )
    )


_PEERS = [_peers(cell) for cell in range(_CELLS)]


@cache
def _grids() -> tuple[str, ...]:
    """All 288 full grids."""
    partial = [""]
    for cell in range(_CELLS):
        before = [peer for peer in _PEERS[cell] if peer < cell]
        partial = [
            grid + digit
            for grid in partial
            for digit in _DIGITS
            if all(grid[peer] != digit for peer in before)
        ]
    return tuple(partial)


def _draw(level: int, rng: random.Random) -> Draft:
    grid = rng.choice(_grids())
    blanks = set(rng.sample(range(_CELLS), _BLANKS[level - 1]))
    shown = "".join("." if cell in blanks else grid[cell] for cell in range(_CELLS))
    steps, state = [], list(shown)
    while blanks:
        cell = min(sorted(blanks), key=lambda cell: _left(state, cell))
        state[cell] = grid[cell]
        blanks.remove(cell)
        steps.append(f"{chr(ord('a') + cell)}{grid[cell]}")
    return Draft(f"q{shown}=", ";".join(steps), grid)


def _left(state: list[str], cell: int) -> int:
    """Digits that no peer of the cell has."""
    return len(set(_DIGITS) - {state[peer] for peer in _PEERS[cell]})


def _grade(prompt: str, answer: str) -> Grade:
    shown = prompt[1:-1]
    if len(answer) != _CELLS or not set(answer) <= set(_DIGITS):
        return ILLEGAL
    givens = [cell for cell in range(_CELLS) if shown[cell] != "."]
    kept = sum(answer[cell] == shown[cell] for cell in givens)
    agreeing = max(
        (
            sum(map(str.__eq__, answer, grid))
            for grid in _grids()
            if all(grid[cell] == shown[cell] for cell in givens)
        ),
        default=0,
    )
    return Grade((kept + _CELLS - len(givens)) / _CELLS, agreeing / _CELLS)


def _difficulty(prompt: str) -> float:
    return prompt.count(".")


SUDOKU4 = Task("sudoku4", _FORM, _draw, _grade, _difficulty)
