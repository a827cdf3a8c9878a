"""Two puzzles of lines through a grid: bridges, and shingoki's one loop.

Edges are the variables, 0 or 1 (bridges: 0 to 2); degrees and clues are relations, and that all
hangs together is a test on the domains.

Source: the tasks of MM-HELIX (arXiv 2510.08540) and their sizes. Departures: none.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import Cell, Unreadable, cells, write_cells
from rarefy.policy.tasks.helix.cells import SIDES, ModelTask, connected, inside, neighbours, squares
from rarefy.policy.tasks.helix.csp import Domains, Model, Relation, Row
from rarefy.policy.tasks.helix.cycles import adjacency, closes_only_over, follow, reach
from rarefy.policy.tasks.helix.scenes import Board, characters
from rarefy.policy.tasks.helix.task import State

Edge = tuple[Cell, Cell]
_SPAN = re.compile(
    r"\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)\s*-\s*\(\s*([0-9]{1,3})\s*,\s*([0-9]{1,3})\s*\)\s*:\s*([0-9])"
)


class Bridges(ModelTask):
    """Connect islands by bridges (hashiwokakero)."""

    name = "bridges"
    category = "puzzles"
    rules = (
        "Connect the islands (numbers) by bridges. A bridge runs straight along a row or column "
        "between two islands with none between them; at most two bridges join a pair, bridges do "
        "not cross, the number of an island counts its bridges, and all islands hang together. "
        "Answer with a line for each joined pair, (row,column)-(row,column):bridges, counted from "
        "1."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size, wanted = level + 4, (4, 6, 9, 12, 16)[level - 1]
        start = (rng.randrange(size), rng.randrange(size))
        islands, taken = {start: 0}, {start}
        for _ in range(40 * wanted):
            here = rng.choice(sorted(islands))
            dr, dc = rng.choice(SIDES)
            length = rng.randint(2, 4)
            span = [(here[0] + i * dr, here[1] + i * dc) for i in range(1, length + 1)]
            if not inside(span[-1], size, size) or set(span) & taken:
                continue
            # No island touches another, as in print.
            if any(n in islands for n in neighbours(span[-1], size, size)):
                continue
            bridges = rng.randint(1, 2)
            islands[here] += bridges
            islands[span[-1]] = bridges
            taken |= set(span)
            if len(islands) == wanted:
                return {
                    "size": size,
                    "islands": [[r, c, n] for (r, c), n in sorted(islands.items())],
                }
        return None

    def _model(self, state: State) -> Model:
        spans = _spans(state)

        def joined(domains: Domains) -> bool:
            return _joined(state, [span for span, d in zip(spans, domains, strict=True) if d > 1])

        model = Model([0b111] * len(spans), possible=joined)
        for r, c, count in state["islands"]:
            ends = [i for i, span in enumerate(spans) if (r, c) in span]
            model.add(ends, _degree(len(ends), count))
        for i, first in enumerate(spans):
            for j in range(i):
                if _cross(first, spans[j]):
                    model.add((i, j), _NOT_CROSSING)
        return model

    def _variable(self, state: State, index: int) -> str:
        (r, c), (u, v) = _spans(state)[index]
        return f"bridges ({r + 1},{c + 1})-({u + 1},{v + 1})"

    def _write(self, state: State, values: list[int]) -> str:
        return "\n".join(
            f"({r + 1},{c + 1})-({u + 1},{v + 1}):{value}"
            for ((r, c), (u, v)), value in zip(_spans(state), values, strict=True)
            if value
        )

    def _check(self, state: State, answer: str) -> bool:
        if _SPAN.sub("", answer).strip(" \t\r\n,;"):
            raise Unreadable(answer)
        built: dict[Edge, int] = {}
        possible = set(_spans(state))
        for found in _SPAN.findall(answer):
            r, c, u, v, count = map(int, found)
            a, b = sorted([(r - 1, c - 1), (u - 1, v - 1)])
            if (a, b) not in possible or (a, b) in built or count not in (1, 2):
                return False
            built[a, b] = count
        ordered = list(built)
        if any(_cross(ordered[i], ordered[j]) for i in range(len(ordered)) for j in range(i)):
            return False
        return _joined(state, ordered) and all(
            sum(count for span, count in built.items() if (r, c) in span) == wanted
            for r, c, wanted in state["islands"]
        )

    def _scene(self, state: State) -> Board:
        size = state["size"]
        table = [["."] * size for _ in range(size)]
        for r, c, count in state["islands"]:
            table[r][c] = str(count)
        return Board(characters(table))


def _spans(state: State) -> list[Edge]:
    """Pairs of islands that see each other along a row or column."""
    islands = sorted((r, c) for r, c, _ in state["islands"])
    spans = []
    for a in islands:
        right = [b for b in islands if b[0] == a[0] and b[1] > a[1]]
        below = [b for b in islands if b[1] == a[1] and b[0] > a[0]]
        spans += [(a, min(seen)) for seen in (right, below) if seen]
    return spans


def _cross(first: Edge, second: Edge) -> bool:
    (r, c), (u, v) = first
    (p, q), (s, t) = second
    if r == u and q == t:
        return p < r < s and c < q < v
    return c == v and p == s and r < p < u and q < c < t


def _joined(state: State, spans: list[Edge]) -> bool:
    """Whether the spans hold all islands together."""
    near = adjacency(spans)
    islands = [(r, c) for r, c, _ in state["islands"]]
    return all(cell in near for cell in islands) and len(reach(near, islands[0])) == len(islands)


@cache
def _degree(edges: int, count: int) -> Relation:
    return Relation(row for row in product(range(3), repeat=edges) if sum(row) == count)


_NOT_CROSSING = Relation([(0, 0), (1, 0), (2, 0), (0, 1), (0, 2)])


class Shingoki(ModelTask):
    """One loop past circles."""

    name = "shingoki"
    category = "puzzles"
    rules = (
        "Draw one closed loop along the points of the grid, from point to neighbouring point, that "
        "visits no point twice and passes every circle. It goes straight through white circles (w) "
        "and turns at black ones (b). A circle's number is the total length of the two straight "
        "segments that leave it, each up to the loop's next turn. Answer with the loop's points in "
        "order as (row,column), counted from 1, without repeating the first."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size = level + 2
        loop = _random_loop(size, rng)
        circles = [[r, c, *_circle(loop, i)] for i, (r, c) in enumerate(loop)]
        count = max(2, len(circles) * (55 - 5 * level) // 100)
        return {"size": size, "circles": sorted(rng.sample(circles, count))}

    def _model(self, state: State) -> Model:
        size = state["size"]
        edges = _grid_edges(size)
        index = {edge: i for i, edge in enumerate(edges)}
        circles = [(r, c) for r, c, *_ in state["circles"]]

        def one_loop(domains: Domains) -> bool:
            drawn = [edge for edge, d in zip(edges, domains, strict=True) if d == 2]
            return closes_only_over(drawn, circles)

        model = Model([0b11] * len(edges), possible=one_loop)
        for cell in squares(size):
            around = [index[_edge(cell, n)] for n in neighbours(cell, size, size)]
            model.add(around, _visited(len(around), cell in circles))
        for r, c, colour, length in state["circles"]:
            arms = [_arm((r, c), step, size) for step in SIDES]
            scope = [index[edge] for arm in arms for edge in arm]
            model.add(scope, _segments(tuple(len(arm) for arm in arms), colour, length))
        return model

    def _variable(self, state: State, index: int) -> str:
        (r, c), (u, v) = _grid_edges(state["size"])[index]
        return f"edge ({r + 1},{c + 1})-({u + 1},{v + 1})"

    def _write(self, state: State, values: list[int]) -> str:
        edges = _grid_edges(state["size"])
        drawn = [edge for edge, value in zip(edges, values, strict=True) if value]
        return write_cells(follow(drawn, drawn[0][0]))

    def _check(self, state: State, answer: str) -> bool:
        size, loop = state["size"], cells(answer)
        if len(loop) < 4 or len(set(loop)) < len(loop):
            return False
        if not all(inside(cell, size, size) for cell in loop):
            return False
        if any(loop[i] not in neighbours(loop[i - 1], size, size) for i in range(len(loop))):
            return False
        return all(
            (r, c) in loop and _circle(loop, loop.index((r, c))) == (colour, length)
            for r, c, colour, length in state["circles"]
        )

    def _scene(self, state: State) -> Board:
        table = [["."] * state["size"] for _ in range(state["size"])]
        for r, c, colour, length in state["circles"]:
            table[r][c] = f"{colour}{length}"
        return Board(characters(table))


@cache
def _grid_edges(size: int) -> list[Edge]:
    steps = ((0, 1), (1, 0))
    everything = squares(size)
    return [(cell, there) for cell in everything for there in neighbours(cell, size, size, steps)]


def _edge(a: Cell, b: Cell) -> Edge:
    return (a, b) if a < b else (b, a)


def _arm(cell: Cell, step: Cell, size: int) -> list[Edge]:
    """Edges from a point straight to the border."""
    arm = []
    there = (cell[0] + step[0], cell[1] + step[1])
    while inside(there, size, size):
        arm.append(_edge(cell, there))
        cell, there = there, (there[0] + step[0], there[1] + step[1])
    return arm


def _circle(loop: list[Cell], at: int) -> tuple[str, int]:
    """Colour and number of a circle at a point of a loop."""
    ahead, behind = loop[at:] + loop[:at], loop[at::-1] + loop[:at:-1]
    lengths, steps = [], []
    for way in (ahead, behind):
        turns = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(way, way[1:], strict=False)]
        straight = next((i for i, turn in enumerate(turns) if turn != turns[0]), len(turns))
        lengths.append(straight)
        steps.append(turns[0])
    opposite = (steps[0][0] + steps[1][0], steps[0][1] + steps[1][1]) == (0, 0)
    return "w" if opposite else "b", sum(lengths)


@cache
def _visited(edges: int, must: bool) -> Relation:
    wanted = (2,) if must else (0, 2)
    return Relation(row for row in product((0, 1), repeat=edges) if sum(row) in wanted)


@cache
def _segments(arms: tuple[int, ...], colour: str, length: int) -> Relation:
    """Rows of the four arms' edges: which are drawn up to where; what lies beyond is free."""
    rows = []
    for i, j in product(range(4), repeat=2):
        if i >= j or (j - i == 2) != (colour == "w"):
            continue
        for first in range(1, length):
            lengths = {i: first, j: length - first}
            if all(lengths.get(k, 0) <= arm for k, arm in enumerate(arms)):
                row: Row = ()
                for k, arm in enumerate(arms):
                    drawn = lengths.get(k, 0)
                    stopped: Row = (1,) * drawn + (0,) + (None,) * arm
                    row += stopped[:arm]
                rows.append(row)
    return Relation(rows)


def _random_loop(size: int, rng: Random) -> list[Cell]:
    """Border of a random patch of squares that hang together and enclose nothing else."""
    squares = size - 1
    everything = {(r, c) for r in range(-1, size) for c in range(-1, size)}
    patch = {(rng.randrange(squares), rng.randrange(squares))}
    for _ in range(4 * squares * squares):
        cell = (rng.randrange(squares), rng.randrange(squares))
        grown = patch | {cell}
        if cell in patch or not patch & set(neighbours(cell, squares, squares)):
            continue
        outside = everything - grown
        if connected(outside) and not _pinched(grown, cell):
            patch = grown
        if len(patch) > squares * squares * 2 // 3:
            break
    # A point's edge belongs to the border where it separates the patch from the rest.
    border = []
    for (r, c), (u, v) in _grid_edges(size):
        beside = ((r - 1, c), (r, c)) if r == u else ((r, c - 1), (r, c))
        if (beside[0] in patch) != (beside[1] in patch):
            border.append(((r, c), (u, v)))
    return follow(border, border[0][0])


def _pinched(patch: set[Cell], cell: Cell) -> bool:
    """Whether the square just added touches another by a corner alone."""
    r, c = cell
    return any(
        (r + dr, c + dc) in patch and (r + dr, c) not in patch and (r, c + dc) not in patch
        for dr, dc in product((-1, 1), repeat=2)
    )
