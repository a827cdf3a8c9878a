"""Reading answers: one shape each, white space forgiven, anything else refused.

Every reader takes time linear in the text and raises :class:`Unreadable` on whatever does not have
its shape. Digits are ASCII and numbers have at most nine of them.
"""

from __future__ import annotations

import re

Cell = tuple[int, int]

_CELL = re.compile(r"\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)")


class Unreadable(ValueError):
    """An answer that does not have the shape asked for."""


def number(text: str) -> int:
    """Read one whole number."""
    text = text.strip()
    if not re.fullmatch("-?[0-9]{1,9}", text):
        raise Unreadable(text)
    return int(text)


def tokens(text: str) -> list[str]:
    """Split at white space and commas.

    >>> tokens(" a, b c ")
    ['a', 'b', 'c']
    """
    return [token for token in re.split(r"[\s,]+", text) if token]


def numbers(text: str) -> list[int]:
    """Read whole numbers separated by white space or commas."""
    return [number(token) for token in tokens(text)]


def cells(text: str) -> list[Cell]:
    """Read cells written from (1,1); they are returned from (0, 0).

    >>> cells("(1,1) (2, 3)")
    [(0, 0), (1, 2)]
    """
    if _CELL.sub("", text).strip(" \t\r\n,;"):
        raise Unreadable(text)
    return [(int(row) - 1, int(col) - 1) for row, col in _CELL.findall(text)]


def grid(text: str, rows: int, cols: int) -> list[list[str]]:
    r"""Read a grid: a line a row, symbols apart or, where each is one character, together.

    >>> grid("1 2\n34", 2, 2)
    [['1', '2'], ['3', '4']]
    """
    lines = [tokens(line) for line in text.splitlines() if line.strip()]
    found = [list(line[0]) if len(line) == 1 != cols else line for line in lines]
    if len(found) != rows or any(len(line) != cols for line in found):
        raise Unreadable(text)
    return found


def number_grid(text: str, rows: int, cols: int) -> list[list[int]]:
    """Read a grid of whole numbers."""
    return [[number(symbol) for symbol in line] for line in grid(text, rows, cols)]


def binary_grid(text: str, rows: int, cols: int) -> list[list[int]]:
    """Read a grid of 0 and 1."""
    found = number_grid(text, rows, cols)
    if any(value not in (0, 1) for line in found for value in line):
        raise Unreadable(text)
    return found


def write_grid(values: list[int], cols: int) -> str:
    """Write a grid, row after row of ``values``."""
    rows = (values[start : start + cols] for start in range(0, len(values), cols))
    return "\n".join(" ".join(map(str, row)) for row in rows)


def write_cells(found: list[Cell]) -> str:
    """Write cells, counted from (1,1)."""
    return " ".join(f"({row + 1},{col + 1})" for row, col in found)
