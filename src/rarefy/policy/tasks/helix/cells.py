"""Puzzles as constraint models: what every puzzle with values in cells shares.

A puzzle writes its rules twice, by different means: :meth:`ModelTask._model` for the solver and
:meth:`Task._check` for the verifier. Tests hold the two together.

Source: own. Departures: none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from rarefy.policy.tasks.helix.answers import Cell
from rarefy.policy.tasks.helix.csp import Log, Model, TooLong, solutions
from rarefy.policy.tasks.helix.task import Anchor, GenerationError, Solution, State, Task

SIDES: tuple[Cell, ...] = ((-1, 0), (0, 1), (1, 0), (0, -1))
AROUND: tuple[Cell, ...] = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c)


class ModelTask(Task):
    """A task whose solver is the search of a constraint model."""

    @abstractmethod
    def _model(self, state: State) -> Model:
        """Model a state."""

    @abstractmethod
    def _write(self, state: State, values: list[int]) -> str:
        """Write an assignment of the model as an answer."""

    def _variable(self, state: State, index: int) -> str:
        """Name a variable in a trace: the cell of a square board, row by row."""
        row, col = divmod(index, state["size"])
        return f"({row + 1},{col + 1})"

    def answers(self, state: State) -> Iterator[str]:
        """Yield the answer of every assignment that satisfies the model."""
        for values in solutions(self._model(state), Log()):
            yield self._write(state, values)

    def _search(self, state: State) -> Solution:
        """Find the first assignment."""
        log = Log()
        try:
            values = next(solutions(self._model(state), log), None)
        except TooLong:
            values = None
        if values is None:
            raise GenerationError(f"{self.name}: not solved in {log.revisions} revisions")
        verbs = {"fix": ("state", ""), "try": ("try", "try "), "retract": ("retract", "not ")}
        anchors = []
        for event, index, value in log.events:
            kind, verb = verbs[event]
            anchors.append(Anchor(kind, f"{verb}{self._variable(state, index)} = {value}"))  # type: ignore[arg-type]
        return Solution(self._write(state, values), log.revisions, tuple(anchors))


def squares(size: int) -> list[Cell]:
    """Cells of a square board, row by row."""
    return [(r, c) for r in range(size) for c in range(size)]


def lines(size: int) -> list[tuple[int, ...]]:
    """Rows and then columns of a square board whose cells are numbered row by row."""
    rows = [tuple(range(r * size, r * size + size)) for r in range(size)]
    return rows + list(zip(*rows, strict=True))


def neighbours(cell: Cell, rows: int, cols: int, steps: Sequence[Cell] = SIDES) -> list[Cell]:
    """Cells of the board beside a cell."""
    return [
        (r, c)
        for dr, dc in steps
        if 0 <= (r := cell[0] + dr) < rows and 0 <= (c := cell[1] + dc) < cols
    ]


def inside(cell: Cell, rows: int, cols: int) -> bool:
    """Whether a cell lies on the board."""
    return 0 <= cell[0] < rows and 0 <= cell[1] < cols


def connected(cells: set[Cell], within: set[Cell] | None = None) -> bool:
    """Whether the cells hang together by their sides, on a way through ``within`` (the cells)."""
    if not cells:
        return True
    allowed = cells if within is None else within
    start = next(iter(cells))
    seen, stack = {start}, [start]
    while stack:
        row, col = stack.pop()
        for dr, dc in SIDES:
            there = (row + dr, col + dc)
            if there in allowed and there not in seen:
                seen.add(there)
                stack.append(there)
    return cells <= seen
