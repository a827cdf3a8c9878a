"""The snake puzzle: a line of cells that never touches itself.

Cells are binary variables; a cell of the snake has two neighbours in it (one at its ends), two by
two cells hold no touching corners, and that the snake is one is a test on the domains.

Source: the task of MM-HELIX (arXiv 2510.08540). Departures: boards end at 10 by 10.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import Cell, cells, write_cells
from rarefy.policy.tasks.helix.cells import (
    AROUND,
    ModelTask,
    connected,
    inside,
    lines,
    neighbours,
    squares,
)
from rarefy.policy.tasks.helix.csp import Domains, Model, Relation, Row, exactly
from rarefy.policy.tasks.helix.scenes import Board
from rarefy.policy.tasks.helix.task import State


class Snake(ModelTask):
    """One snake that never touches itself."""

    name = "snake"
    category = "puzzles"
    rules = (
        "Draw a snake from S to E: a way from cell to neighbouring cell that never touches itself, "
        "not even diagonally (but around its own corners). The numbers beside the rows (left) and "
        "columns (above) count the snake's cells. Answer with its cells from S to E as "
        "(row,column), counted from 1, separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size = (5, 7, 8, 9, 10)[level - 1]
        way = _random_snake(size, rng)
        if len(way) < 2 * size:
            return None
        rows = [sum(r == i for r, _ in way) for i in range(size)]
        cols = [sum(c == i for _, c in way) for i in range(size)]
        return {"size": size, "ends": [list(way[0]), list(way[-1])], "rows": rows, "cols": cols}

    def _model(self, state: State) -> Model:
        size = state["size"]
        ends = [tuple(end) for end in state["ends"]]

        def whole(domains: Domains) -> bool:
            held = {divmod(i, size) for i, d in enumerate(domains) if d == 2}
            return connected(held, {divmod(i, size) for i, d in enumerate(domains) if d > 1})

        model = Model([0b11] * size * size, possible=whole)
        for line, count in zip(lines(size), state["rows"] + state["cols"], strict=True):
            model.add(line, exactly(count, size))
        for r, c in squares(size):
            beside = [u * size + v for u, v in neighbours((r, c), size, size)]
            at_end = (r, c) in ends
            if at_end:
                model.domains[r * size + c] = 0b10
            model.add((r * size + c, *beside), _body(len(beside), 1 if at_end else 2))
        for r, c in squares(size - 1):
            corner = r * size + c
            model.add((corner, corner + 1, corner + size, corner + size + 1), _NOT_TOUCHING)
        return model

    def _write(self, state: State, values: list[int]) -> str:
        size = state["size"]
        body = {divmod(i, size) for i, value in enumerate(values) if value}
        start = tuple(state["ends"][0])
        way = [start]
        body.discard(start)
        while body:
            way.append(next(n for n in neighbours(way[-1], size, size) if n in body))
            body.discard(way[-1])
        return write_cells(way)

    def _check(self, state: State, answer: str) -> bool:
        size, way = state["size"], cells(answer)
        place = {cell: i for i, cell in enumerate(way)}
        if len(place) < len(way) or [list(cell) for cell in way[:1] + way[-1:]] != state["ends"]:
            return False
        if not all(inside(cell, size, size) for cell in way):
            return False
        for cell, i in place.items():
            if i and way[i - 1] not in neighbours(cell, size, size):
                return False
            for there in neighbours(cell, size, size, AROUND):
                # Cells that share a side are an odd number of steps apart, those at a corner two.
                if there in place and abs(place[there] - i) > 2:
                    return False
        return state["rows"] == [sum(r == i for r, _ in way) for i in range(size)] and state[
            "cols"
        ] == [sum(c == i for _, c in way) for i in range(size)]

    def _scene(self, state: State) -> Board:
        size = state["size"]
        table = [["."] * size for _ in range(size)]
        for (r, c), symbol in zip(state["ends"], "SE", strict=True):
            table[r][c] = symbol
        return Board(
            tuple(map(tuple, table)),
            left=tuple(map(str, state["rows"])),
            above=tuple(map(str, state["cols"])),
        )


@cache
def _body(beside: int, wanted: int) -> Relation:
    """A cell and its neighbours: a cell of the snake has exactly so many of them."""
    away: Row = (0,) + (None,) * beside
    on = [(1, *row) for row in product((0, 1), repeat=beside) if sum(row) == wanted]
    return Relation([away, *on])


# Two by two cells hold no two that touch by a corner alone, and not four.
_NOT_TOUCHING = Relation(
    row
    for row in product((0, 1), repeat=4)
    if row not in ((1, 0, 0, 1), (0, 1, 1, 0), (1, 1, 1, 1))
)


def _random_snake(size: int, rng: Random) -> list[Cell]:
    """Self-avoiding walk that never touches itself, until it is stuck or long enough."""
    way = [(rng.randrange(size), rng.randrange(size))]
    while len(way) < 4 * size:
        body = set(way[:-1])
        corner = set(way[-2:-1])
        steps = [
            cell
            for cell in neighbours(way[-1], size, size)
            if cell not in body
            and not (set(neighbours(cell, size, size)) - {way[-1]}) & body
            and not (set(neighbours(cell, size, size, AROUND)) & body) - corner
        ]
        if not steps:
            break
        way.append(rng.choice(steps))
    return way
