"""Four Latin squares with something more: sudoku, futoshiki, calcudoku, skyscrapers.

Boards are planted by permuting a regular square, so that drawing costs nothing; solvers narrow rows
and columns by :class:`Different` and everything else by a :class:`Relation`.

Source: the tasks of MM-HELIX (arXiv 2510.08540) and their sizes. Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations, permutations, product
from math import prod
from random import Random

from rarefy.policy.tasks.helix.answers import number_grid, write_grid
from rarefy.policy.tasks.helix.cells import ModelTask, lines, neighbours, squares
from rarefy.policy.tasks.helix.csp import Different, Model, Relation, mask
from rarefy.policy.tasks.helix.scenes import Board, symbols
from rarefy.policy.tasks.helix.task import State

Square = list[list[int]]


def latin_square(size: int, rng: Random) -> Square:
    """Draw a Latin square of 1 to ``size``: the cyclic one with rows, columns, symbols shuffled."""
    rows, cols, symbols = (rng.sample(range(size), size) for _ in range(3))
    return [[symbols[(r + c) % size] + 1 for c in cols] for r in rows]


def keep(square: Square, count: int, rng: Random) -> Square:
    """Blank all but ``count`` cells."""
    size = len(square)
    kept = set(rng.sample(range(size * size), count))
    return [
        [v if r * size + c in kept else 0 for c, v in enumerate(row)]
        for r, row in enumerate(square)
    ]


class _LatinTask(ModelTask):
    """Every row and column holds each of 1 to n once; subclasses add what else holds."""

    category = "puzzles"

    def _model(self, state: State) -> Model:
        size = state["size"]
        given = [v for row in state["givens"] for v in row]
        model = Model([1 << v if v else mask(range(1, size + 1)) for v in given])
        for line in lines(size):
            model.add(line, Different(size))
        self._constrain(state, model)
        return model

    def _constrain(self, state: State, model: Model) -> None:
        """Add the constraints of this puzzle."""

    def _write(self, state: State, values: list[int]) -> str:
        return write_grid(values, state["size"])

    def _check(self, state: State, answer: str) -> bool:
        size = state["size"]
        square = number_grid(answer, size, size)
        wanted = list(range(1, size + 1))
        return (
            all(sorted(line) == wanted for line in (*square, *zip(*square, strict=True)))
            and all(
                given in (0, value)
                for row, givens in zip(square, state["givens"], strict=True)
                for value, given in zip(row, givens, strict=True)
            )
            and self._holds(state, square)
        )

    def _holds(self, state: State, square: Square) -> bool:  # noqa: ARG002
        """Judge what else must hold."""
        return True

    def _scene(self, state: State) -> Board:
        return Board(symbols(state["givens"]))


class Sudoku(_LatinTask):
    """Each row, column and 3 by 3 box holds 1 to 9."""

    name = "sudoku"
    rules = (
        "Fill the empty cells (.) with 1 to 9 so that each row, each column and each of the nine "
        "3 by 3 boxes holds every digit once. Answer with the full grid, a line a row, digits "
        "separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        bands = [3 * band + i for band in rng.sample(range(3), 3) for i in rng.sample(range(3), 3)]
        stacks = [3 * s + i for s in rng.sample(range(3), 3) for i in rng.sample(range(3), 3)]
        digits = rng.sample(range(1, 10), 9)
        square = [[digits[(3 * (r % 3) + r // 3 + c) % 9] for c in stacks] for r in bands]
        return {"size": 9, "givens": keep(square, 44 - 4 * level, rng)}

    def _constrain(self, state: State, model: Model) -> None:  # noqa: ARG002
        for r, c in product((0, 3, 6), repeat=2):
            box = [9 * (r + i) + c + j for i, j in product(range(3), repeat=2)]
            model.add(box, Different(9))

    def _holds(self, state: State, square: Square) -> bool:  # noqa: ARG002
        return all(
            len({square[r + i][c + j] for i, j in product(range(3), repeat=2)}) == 9
            for r, c in product((0, 3, 6), repeat=2)
        )

    def _scene(self, state: State) -> Board:
        boxes = tuple(tuple("ABCDEFGHI"[r // 3 * 3 + c // 3] for c in range(9)) for r in range(9))
        return Board(symbols(state["givens"]), regions=boxes)


class Futoshiki(_LatinTask):
    """A Latin square with inequalities between neighbours."""

    name = "futoshiki"
    rules = (
        "Fill the n by n grid with 1 to n so that no row or column repeats a number and every "
        "inequality between neighbouring cells holds; (r,c) is row r, column c, counted from 1. "
        "Answer with the full grid, a line a row, numbers separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 3
        square = latin_square(size, rng)
        pairs = [
            ((r, c), there)
            for r, c in squares(size)
            for there in neighbours((r, c), size, size, ((0, 1), (1, 0)))
        ]
        signs = []
        for (r, c), (u, v) in sorted(rng.sample(pairs, size * size // 2)):
            signs.append([r, c, u, v] if square[r][c] < square[u][v] else [u, v, r, c])
        return {"size": size, "givens": keep(square, level, rng), "less": signs}

    def _constrain(self, state: State, model: Model) -> None:
        size = state["size"]
        for r, c, u, v in state["less"]:
            model.add((r * size + c, u * size + v), _less(size))

    def _holds(self, state: State, square: Square) -> bool:
        return all(square[r][c] < square[u][v] for r, c, u, v in state["less"])

    def _scene(self, state: State) -> Board:
        said = [f"({r + 1},{c + 1}) < ({u + 1},{v + 1})" for r, c, u, v in state["less"]]
        notes = tuple("  ".join(said[i : i + 4]) for i in range(0, len(said), 4))
        return Board(symbols(state["givens"]), notes=notes)


@cache
def _less(size: int) -> Relation:
    return Relation(combinations(range(1, size + 1), 2))


_OPERATIONS: dict[str, Callable[[Sequence[int]], int]] = {
    "+": sum,
    "x": prod,
    "-": lambda values: 2 * max(values) - sum(values),
    # Division asks for a whole quotient; 0 is no target.
    "/": lambda values: 0 if max(values) % min(values) else max(values) // min(values),
}


class Calcudoku(_LatinTask):
    """A Latin square whose cages compute to targets."""

    name = "calcudoku"
    rules = (
        "Fill the n by n grid with 1 to n so that no row or column repeats a number. The numbers "
        "of each cage (region letter) give its target under its operation: sum (+), product (x), "
        "larger minus smaller (-) or larger divided by smaller (/). Answer with the full grid, a "
        "line a row, numbers separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = (3, 4, 5, 6, 8)[level - 1]
        square = latin_square(size, rng)
        cages = []
        for cage in partition(size, (1, 3), rng):
            values = [square[r][c] for r, c in cage]
            fitting = ["+", "x"] if len(cage) != 2 else ["+", "x", "-", "/"]
            operation = rng.choice([o for o in fitting if _OPERATIONS[o](values)])
            target = _OPERATIONS[operation](values)
            cages.append({"cells": cage, "operation": operation, "target": target})
        return {"size": size, "givens": [[0] * size for _ in range(size)], "cages": cages}

    def _constrain(self, state: State, model: Model) -> None:
        size = state["size"]
        for cage in state["cages"]:
            scope = [r * size + c for r, c in cage["cells"]]
            compute, target = _OPERATIONS[cage["operation"]], cage["target"]
            rows = product(range(1, size + 1), repeat=len(scope))
            model.add(scope, Relation(row for row in rows if compute(row) == target))

    def _holds(self, state: State, square: Square) -> bool:
        return all(
            _OPERATIONS[cage["operation"]]([square[r][c] for r, c in cage["cells"]])
            == cage["target"]
            for cage in state["cages"]
        )

    def _scene(self, state: State) -> Board:
        regions, letters = letter([cage["cells"] for cage in state["cages"]], state["size"])
        said = [
            f"{name}: {cage['target']}{cage['operation'] if len(cage['cells']) > 1 else ''}"
            for name, cage in zip(letters, state["cages"], strict=True)
        ]
        notes = tuple("  ".join(said[i : i + 6]) for i in range(0, len(said), 6))
        return Board(symbols(state["givens"]), regions=regions, notes=notes)


class Skyscrapers(_LatinTask):
    """A Latin square of heights with clues of how many are seen from each side."""

    name = "skyscrapers"
    rules = (
        "Fill the n by n grid with heights 1 to n so that no row or column repeats one. A clue "
        "beside the grid says how many buildings are seen from there along its row or column; "
        "higher ones hide lower ones behind them. Answer with the full grid, a line a row, heights "
        "separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 2
        square = latin_square(size, rng)
        cols = [list(col) for col in zip(*square, strict=True)]
        return {
            "size": size,
            "givens": keep(square, (0, 1, 2, 4, 7)[level - 1], rng),
            "above": [seen(col) for col in cols],
            "below": [seen(col[::-1]) for col in cols],
            "left": [seen(row) for row in square],
            "right": [seen(row[::-1]) for row in square],
        }

    def _constrain(self, state: State, model: Model) -> None:
        size = state["size"]
        before, after = state["left"] + state["above"], state["right"] + state["below"]
        for line, first, last in zip(lines(size), before, after, strict=True):
            model.add(line, _skyline(size, first, last))

    def _holds(self, state: State, square: Square) -> bool:
        cols = [list(col) for col in zip(*square, strict=True)]
        return (
            [seen(col) for col in cols] == state["above"]
            and [seen(col[::-1]) for col in cols] == state["below"]
            and [seen(row) for row in square] == state["left"]
            and [seen(row[::-1]) for row in square] == state["right"]
        )

    def _scene(self, state: State) -> Board:
        return Board(
            symbols(state["givens"]),
            above=tuple(map(str, state["above"])),
            below=tuple(map(str, state["below"])),
            left=tuple(map(str, state["left"])),
            right=tuple(map(str, state["right"])),
        )


def seen(heights: Sequence[int]) -> int:
    """How many heights exceed all before them.

    >>> seen([2, 1, 4, 3])
    2
    """
    highest = count = 0
    for height in heights:
        if height > highest:
            highest, count = height, count + 1
    return count


@cache
def _skyline(size: int, first: int, last: int) -> Relation:
    return Relation(_skylines(size).get((first, last), ()))


@cache
def _skylines(size: int) -> dict[tuple[int, int], list[tuple[int, ...]]]:
    by_clues: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for row in permutations(range(1, size + 1)):
        by_clues.setdefault((seen(row), seen(row[::-1])), []).append(row)
    return by_clues


def partition(size: int, sizes: tuple[int, int], rng: Random) -> list[list[list[int]]]:
    """Cut a square board into connected regions, most of them within the two sizes."""
    free = {(r, c) for r in range(size) for c in range(size)}
    found = []
    while free:
        region = [min(free)]
        free.discard(region[0])
        wanted = rng.randint(*sizes)
        while len(region) < wanted:
            edge = sorted({n for cell in region for n in neighbours(cell, size, size)} & free)
            if not edge:
                break
            region.append(rng.choice(edge))
            free.discard(region[-1])
        found.append([list(cell) for cell in sorted(region)])
    return found


def letter(
    regions: list[list[list[int]]], size: int
) -> tuple[tuple[tuple[str, ...], ...], list[str]]:
    """Board of region letters, and the letter of each region."""
    names = [chr(65 + i) if i < 26 else chr(71 + i) for i in range(len(regions))]
    table = [["" for _ in range(size)] for _ in range(size)]
    for name, region in zip(names, regions, strict=True):
        for r, c in region:
            table[r][c] = name
    return tuple(map(tuple, table)), names
