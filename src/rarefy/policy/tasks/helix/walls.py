"""Two puzzles of black and white cells in which one colour hangs together: hitori and tapa.

That cells hang together is a test on the domains: those sure to have the colour must be joined by
those that still may.

Source: the tasks of MM-HELIX (arXiv 2510.08540) and their sizes. Departures: none.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import Cell
from rarefy.policy.tasks.helix.cells import connected, inside, lines, neighbours, squares
from rarefy.policy.tasks.helix.csp import Domains, Model, Relation
from rarefy.policy.tasks.helix.latin import Square, latin_square
from rarefy.policy.tasks.helix.scenes import Board, characters, symbols
from rarefy.policy.tasks.helix.shading import GRID_ANSWER, OPEN, ShadingTask, clue_of
from rarefy.policy.tasks.helix.task import State


def _ones(square: Square) -> set[Cell]:
    return {(r, c) for r, row in enumerate(square) for c, value in enumerate(row) if value}


def _where(domains: Domains, size: int, value: int) -> set[Cell]:
    """Cells of a board whose domain still holds the value."""
    return {divmod(i, size) for i, d in enumerate(domains) if d >> value & 1}


class Hitori(ShadingTask):
    """Shade repeated numbers, keep the rest connected."""

    name = "hitori"
    rules = (
        "Shade cells (1; the others 0) so that no number is left unshaded twice in a row or "
        "column, no two shaded cells are neighbours, and all unshaded cells hang together by "
        f"their sides. {GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 3
        everything = squares(size)
        shaded: set[Cell] = set()
        for cell in rng.sample(everything, len(everything)):
            apart = not shaded & set(neighbours(cell, size, size))
            if apart and connected(set(everything) - shaded - {cell}):
                shaded.add(cell)
            if len(shaded) >= size * size // 5:
                break
        # A shaded cell repeats a number that stays in its row.
        numbers = latin_square(size, rng)
        for r, c in sorted(shaded):
            kept = [v for u, v in enumerate(numbers[r]) if (r, u) not in shaded]
            numbers[r][c] = rng.choice(kept)
        return {"size": size, "numbers": numbers}

    def _model(self, state: State) -> Model:
        size = state["size"]

        def whole(domains: Domains) -> bool:
            sure = {divmod(i, size) for i, d in enumerate(domains) if d == 1}
            return connected(sure, _where(domains, size, 0))

        model = Model([OPEN] * size * size, possible=whole)
        flat = [number for row in state["numbers"] for number in row]
        for line in lines(size):
            for i, first in enumerate(line):
                if i + 1 < size:
                    model.add((first, line[i + 1]), _NOT_BOTH)
                for other in line[i + 1 :]:
                    if flat[first] == flat[other]:
                        model.add((first, other), _NOT_NEITHER)
        return model

    def _holds(self, state: State, square: Square) -> bool:
        size, shaded = state["size"], _ones(square)
        if any(shaded & set(neighbours(cell, size, size)) for cell in shaded):
            return False
        kept = [
            [state["numbers"][i // size][i % size] for i in line if divmod(i, size) not in shaded]
            for line in lines(size)
        ]
        return all(len(set(line)) == len(line) for line in kept) and connected(
            set(squares(size)) - shaded
        )

    def _scene(self, state: State) -> Board:
        return Board(symbols(state["numbers"]))


_NOT_BOTH = Relation([(0, 0), (0, 1), (1, 0)])
_NOT_NEITHER = Relation([(1, 1), (0, 1), (1, 0)])
# Around a cell, clockwise.
_RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))


class Tapa(ShadingTask):
    """One wall around clues."""

    name = "tapa"
    rules = (
        "Paint cells (1; the others 0) so that all painted cells hang together by their sides and "
        "no 2 by 2 square is painted whole. Cells with clues stay unpainted; a clue lists the "
        "lengths of the runs of painted cells around it, in any order, separated by commas; 0 is "
        f"none. {GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 2
        everything = squares(size)
        painted = {rng.choice(everything)}
        for _ in range(6 * size * size):
            r, c = rng.choice(everything)
            if painted & set(neighbours((r, c), size, size)) and not _square_at(
                painted | {(r, c)}, size
            ):
                painted.add((r, c))
            if len(painted) >= size * size // 2:
                break
        blank = [cell for cell in everything if cell not in painted]
        chosen = sorted(rng.sample(blank, max(2, len(blank) // 2)))
        return {"size": size, "clues": [[r, c, _ring_clue((r, c), painted)] for r, c in chosen]}

    def _model(self, state: State) -> Model:
        size = state["size"]

        def whole(domains: Domains) -> bool:
            sure = {divmod(i, size) for i, d in enumerate(domains) if d == 2}
            return connected(sure, _where(domains, size, 1))

        model = Model([OPEN] * size * size, possible=whole)
        for r, c in squares(size - 1):
            corner = r * size + c
            model.add((corner, corner + 1, corner + size, corner + size + 1), _NOT_ALL)
        for r, c, clue in state["clues"]:
            model.domains[r * size + c] = 1
            ring = [(r + dr, c + dc) for dr, dc in _RING]
            on = tuple(inside(cell, size, size) for cell in ring)
            scope = [u * size + v for (u, v), here in zip(ring, on, strict=True) if here]
            model.add(scope, _ring(on, tuple(clue)))
        return model

    def _holds(self, state: State, square: Square) -> bool:
        painted = _ones(square)
        return (
            connected(painted)
            and not _square_at(painted, state["size"])
            and all(
                (r, c) not in painted and _ring_clue((r, c), painted) == clue
                for r, c, clue in state["clues"]
            )
        )

    def _scene(self, state: State) -> Board:
        size = state["size"]
        table = [["."] * size for _ in range(size)]
        for r, c, clue in state["clues"]:
            table[r][c] = ",".join(map(str, clue or [0]))
        return Board(characters(table))


_NOT_ALL = Relation(row for row in product((0, 1), repeat=4) if not all(row))


def _square_at(painted: set[Cell], size: int) -> bool:
    """Whether some 2 by 2 square is painted whole."""
    return any(
        all((r + i, c + j) in painted for i, j in product((0, 1), repeat=2))
        for r, c in squares(size - 1)
    )


def _ring_clue(cell: Cell, painted: set[Cell]) -> list[int]:
    return _circular([int((cell[0] + dr, cell[1] + dc) in painted) for dr, dc in _RING])


def _circular(ring: list[int]) -> list[int]:
    """Lengths of the runs of 1 around a ring, rising."""
    if all(ring):
        return [len(ring)]
    start = ring.index(0)
    return sorted(clue_of(ring[start:] + ring[:start]))


@cache
def _ring(on: tuple[bool, ...], clue: tuple[int, ...]) -> Relation:
    """Rows of the cells on the board around a clue; those off it are unpainted."""
    rings = product(*((0, 1) if here else (0,) for here in on))
    return Relation(
        tuple(v for v, here in zip(ring, on, strict=True) if here)
        for ring in rings
        if _circular(list(ring)) == list(clue)
    )
