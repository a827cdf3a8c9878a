"""Two puzzles of digits beside the Latin ones: Graeco-Latin squares and kakuro.

Source: the tasks of MM-HELIX (arXiv 2510.08540) and their sizes. Departures: Graeco-Latin squares
skip order 6, of which there is none (Tarry 1901), and end at 8.
"""

from __future__ import annotations

from functools import cache
from itertools import groupby, permutations, product
from random import Random

from rarefy.policy.tasks.helix.answers import Unreadable, grid
from rarefy.policy.tasks.helix.cells import ModelTask, lines
from rarefy.policy.tasks.helix.csp import Different, Log, Model, Relation, mask, solutions
from rarefy.policy.tasks.helix.latin import Square, keep
from rarefy.policy.tasks.helix.scenes import Board, characters
from rarefy.policy.tasks.helix.task import State


class Eulero(ModelTask):
    """A Graeco-Latin square."""

    name = "eulero"
    category = "puzzles"
    rules = (
        "Fill the n by n grid with a letter (the first n) and a digit (1 to n) in each cell so "
        "that no row or column repeats a letter or a digit, and no pair of letter and digit occurs "
        "twice. Answer with the full grid, a line a row, pairs such as B3 separated by spaces."
    )
    _ORDERS = (3, 4, 5, 7, 8)

    def _generate(self, level: int, rng: Random) -> State:
        size = self._ORDERS[level - 1]
        rows, cols, letters, digits = (rng.sample(range(size), size) for _ in range(4))
        square = [
            [
                size * letters[_sum(size, r, c)] + digits[_sum(size, r, _twice(size, c))] + 1
                for c in cols
            ]
            for r in rows
        ]
        return {"size": size, "givens": keep(square, size * size * 2 // 5, rng)}

    def _model(self, state: State) -> Model:
        size = state["size"]
        n = size * size
        letter_ = digit = mask(range(size))
        given = [v for row in state["givens"] for v in row]
        pairs = [1 << (v - 1) if v else mask(range(n)) for v in given]
        model = Model([letter_] * n + [digit] * n + pairs)
        model.add(range(2 * n, 3 * n), Different(n))
        for line in lines(size):
            model.add(line, Different(size))
            model.add((n + cell for cell in line), Different(size))
        for cell in range(n):
            model.add((cell, n + cell, 2 * n + cell), _pairing(size))
        return model

    def _variable(self, state: State, index: int) -> str:
        size = state["size"]
        kind, cell = divmod(index, size * size)
        return f"{('letter', 'digit', 'pair')[kind]} of ({cell // size + 1},{cell % size + 1})"

    def _write(self, state: State, values: list[int]) -> str:
        size = state["size"]
        pairs = [_pair(size, v + 1) for v in values[2 * size * size :]]
        return "\n".join(" ".join(pairs[i : i + size]) for i in range(0, size * size, size))

    def _check(self, state: State, answer: str) -> bool:
        size = state["size"]
        square = grid(answer, size, size)
        names = [_pair(size, v + 1) for v in range(size * size)]
        if sorted(name for row in square for name in row) != sorted(names):
            return False
        alike = all(
            len({name[part] for name in line}) == size
            for line in (*square, *zip(*square, strict=True))
            for part in (0, 1)
        )
        return alike and all(
            given == 0 or name == _pair(size, given)
            for row, givens in zip(square, state["givens"], strict=True)
            for name, given in zip(row, givens, strict=True)
        )

    def _scene(self, state: State) -> Board:
        size = state["size"]
        return Board(
            tuple(tuple(_pair(size, v) if v else "." for v in row) for row in state["givens"])
        )


def _pair(size: int, value: int) -> str:
    return f"{'ABCDEFGH'[(value - 1) // size]}{(value - 1) % size + 1}"


@cache
def _pairing(size: int) -> Relation:
    return Relation((a, b, a * size + b) for a, b in product(range(size), repeat=2))


def _sum(size: int, a: int, b: int) -> int:
    """Sum in the field of ``size`` elements: integers modulo an odd prime, else bits."""
    return (a + b) % size if size % 2 else a ^ b


def _twice(size: int, a: int) -> int:
    """Product with an element other than 0 and 1: 2, or x modulo x^2+x+1 or x^3+x+1."""
    if size % 2:
        return 2 * a % size
    return (2 * a) ^ ({4: 0b111, 8: 0b1011}[size] if 2 * a >= size else 0)


class Kakuro(ModelTask):
    """A crossword of digits with sums."""

    name = "kakuro"
    category = "puzzles"
    rules = (
        "Fill the empty cells (.) with digits 1 to 9. A cell a\\b holds the sum of the run of "
        "empty cells below it (a) and of the run to its right (b); - is no run. No run repeats a "
        "digit. Answer with the whole grid, a line a row, symbols separated by spaces, # for every "
        "cell that is not to be filled."
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size = level + 1
        # A few cells are blocked at random, others as the lengths of runs then ask for.
        crossing = Model([0b11] * size * size)
        for line in lines(size):
            crossing.add(line, _crossing(size))
        for cell in rng.sample(range(size * size), max(0, level - 2)):
            crossing.domains[cell] = 0b10
        blocked = next(solutions(crossing, Log()), None)
        if blocked is None or all(blocked):
            return None
        plan = [[0] * (size + 1)] + [
            [0] + [1 - blocked[r * size + c] for c in range(size)] for r in range(size)
        ]
        found = runs(plan)
        # Shifted rows of a permuted cyclic square repeat no digit in any run.
        digits, rows, cols = (rng.sample(range(9), 9) for _ in range(3))
        sums = [sum(digits[(rows[r] + cols[c]) % 9] + 1 for r, c in run) for run in found]
        return {"size": size + 1, "plan": plan, "sums": sums}

    def _model(self, state: State) -> Model:
        size = state["size"]
        white = [v for row in state["plan"] for v in row]
        model = Model([mask(range(1, 10)) if v else 1 for v in white])
        for run, total in zip(runs(state["plan"]), state["sums"], strict=True):
            model.add((r * size + c for r, c in run), _sums(len(run), total))
        return model

    def _write(self, state: State, values: list[int]) -> str:
        size = state["size"]
        symbols = [str(v) if v else "#" for v in values]
        return "\n".join(" ".join(symbols[i : i + size]) for i in range(0, len(symbols), size))

    def _check(self, state: State, answer: str) -> bool:
        size = state["size"]
        square = grid(answer, size, size)
        for symbol, white in zip(sum(square, []), sum(state["plan"], []), strict=True):
            if symbol not in ("123456789" if white else "#") or len(symbol) != 1:
                raise Unreadable(answer)
        filled = [[int(square[r][c]) for r, c in run] for run in runs(state["plan"])]
        return all(len(set(run)) == len(run) for run in filled) and state["sums"] == [
            sum(run) for run in filled
        ]

    def _scene(self, state: State) -> Board:
        plan = state["plan"]
        cells = [["." if white else "#" for white in row] for row in plan]
        for run, total in zip(runs(plan), state["sums"], strict=True):
            (r, c), down = run[0], run[0][1] == run[1][1]
            r, c = (r - 1, c) if down else (r, c - 1)
            above, beside = ("-", "-") if cells[r][c] == "#" else cells[r][c].split("\\")
            cells[r][c] = f"{total}\\{beside}" if down else f"{above}\\{total}"
        return Board(characters(cells))


@cache
def _crossing(size: int) -> Relation:
    """Lines of white (0) and blocked (1) cells whose white runs have two to five cells."""
    return Relation(
        row
        for row in product((0, 1), repeat=size)
        if all(v or 2 <= len(list(run)) <= 5 for v, run in groupby(row))
    )


def runs(plan: Square) -> list[list[tuple[int, int]]]:
    """Runs of white cells across and then down, those of a single cell too."""
    size = len(plan)
    cells = [[(r, c) for c in range(size)] for r in range(size)]
    found: list[list[tuple[int, int]]] = []
    for line in (*cells, *map(list, zip(*cells, strict=True))):
        run: list[tuple[int, int]] = []
        # The corner is never white: it ends the last run.
        for r, c in [*line, (0, 0)]:
            if plan[r][c]:
                run.append((r, c))
            elif run:
                found.append(run)
                run = []
    return found


@cache
def _sums(length: int, total: int) -> Relation:
    return Relation(_by_sum(length).get(total, ()))


@cache
def _by_sum(length: int) -> dict[int, list[tuple[int, ...]]]:
    by_total: dict[int, list[tuple[int, ...]]] = {}
    for row in permutations(range(1, 10), length):
        by_total.setdefault(sum(row), []).append(row)
    return by_total
