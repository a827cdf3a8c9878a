"""Six puzzles of black and white cells, each a few lines of relations over binary variables.

Binairo, kukurasu, nonograms, aquariums, camp sites and minesweeper.

Source: the tasks of MM-HELIX (arXiv 2510.08540) and their sizes. Departures: camp sites follow the
released rules, in which a tree may serve two tents; minesweeper gives the number of mines.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cache
from itertools import groupby, product
from random import Random

from rarefy.policy.tasks.helix.answers import Cell, binary_grid, cells, write_cells, write_grid
from rarefy.policy.tasks.helix.cells import AROUND, ModelTask, inside, lines, neighbours, squares
from rarefy.policy.tasks.helix.csp import Domains, Log, Model, Relation, exactly, solutions
from rarefy.policy.tasks.helix.latin import Square, keep, letter, partition
from rarefy.policy.tasks.helix.scenes import Board, characters
from rarefy.policy.tasks.helix.task import State

OPEN = 0b11
GRID_ANSWER = "Answer with the full grid, a line a row, 1 or 0 in each cell, separated by spaces."


class ShadingTask(ModelTask):
    """A puzzle whose answer is a square of 0 and 1."""

    category = "puzzles"

    def _write(self, state: State, values: list[int]) -> str:
        return write_grid(values, state["size"])

    def _check(self, state: State, answer: str) -> bool:
        return self._holds(state, binary_grid(answer, state["size"], state["size"]))

    @abstractmethod
    def _holds(self, state: State, square: Square) -> bool:
        """Judge a grid of 0 and 1."""


class Binairo(ShadingTask):
    """Balanced rows without three alike in a row, all different."""

    name = "binairo"
    rules = (
        "Fill the empty cells (.) with 0 and 1. Each row and each column holds as many 0 as 1, no "
        "three neighbours in a row or column are alike, no two rows are equal and no two columns "
        f"are equal. {GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        # Three random rows and the first way to complete them.
        partial = [
            [v + 1 for v in rng.choice(_balanced(6))] if r % 2 else [0] * 6 for r in range(6)
        ]
        values = next(solutions(self._model({"size": 6, "givens": partial}), Log()), None)
        if values is None:
            return None
        square = [values[6 * r : 6 * r + 6] for r in range(6)]
        given = keep([[v + 1 for v in row] for row in square], 20 - 3 * level, rng)
        return {"size": 6, "givens": given}

    def _model(self, state: State) -> Model:
        size = state["size"]
        given = [v for row in state["givens"] for v in row]
        sides = lines(size)

        def distinct(domains: Domains) -> bool:
            for half in (sides[:size], sides[size:]):
                done = [tuple(domains[i] for i in line) for line in half]
                done = [line for line in done if OPEN not in line]
                if len(set(done)) < len(done):
                    return False
            return True

        model = Model([v if v else OPEN for v in given], possible=distinct)
        for line in sides:
            model.add(line, _balanced_relation(size))
        return model

    def _holds(self, state: State, square: Square) -> bool:
        return _is_binairo(square) and all(
            given in (0, value + 1)
            for row, givens in zip(square, state["givens"], strict=True)
            for value, given in zip(row, givens, strict=True)
        )

    def _scene(self, state: State) -> Board:
        return Board(characters(["".join(".01"[v] for v in row) for row in state["givens"]]))


@cache
def _balanced(size: int) -> list[tuple[int, ...]]:
    return [
        row
        for row in product((0, 1), repeat=size)
        if 2 * sum(row) == size and all(len(list(group)) < 3 for _, group in groupby(row))
    ]


@cache
def _balanced_relation(size: int) -> Relation:
    return Relation(_balanced(size))


def _is_binairo(square: Square) -> bool:
    size = len(square)
    for half in (list(map(tuple, square)), list(zip(*square, strict=True))):
        if len(set(half)) < size:
            return False
        for line in half:
            if 2 * sum(line) != size or any(len(list(group)) > 2 for _, group in groupby(line)):
                return False
    return True


class Kukurasu(ShadingTask):
    """Weighted sums of rows and columns."""

    name = "kukurasu"
    rules = (
        "Mark cells with 1, the others with 0. A marked cell counts its column number (1 is the "
        "first) towards its row's sum, given on the right, and its row number towards its column's "
        f"sum, given below. {GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 2
        square = [[int(rng.random() < 0.5) for _ in range(size)] for _ in range(size)]
        rows, cols = _weighted(square)
        return {"size": size, "rows": rows, "cols": cols}

    def _model(self, state: State) -> Model:
        size = state["size"]
        model = Model([OPEN] * size * size)
        for line, total in zip(lines(size), state["rows"] + state["cols"], strict=True):
            model.add(line, _weighing(size, total))
        return model

    def _holds(self, state: State, square: Square) -> bool:
        return _weighted(square) == (state["rows"], state["cols"])

    def _scene(self, state: State) -> Board:
        return Board(
            characters(["." * state["size"]] * state["size"]),
            right=tuple(map(str, state["rows"])),
            below=tuple(map(str, state["cols"])),
        )


def _weighted(square: Square) -> tuple[list[int], list[int]]:
    sums = [
        [sum((i + 1) * value for i, value in enumerate(line)) for line in half]
        for half in (square, zip(*square, strict=True))
    ]
    return sums[0], sums[1]


@cache
def _weighing(size: int, total: int) -> Relation:
    rows = product((0, 1), repeat=size)
    return Relation(row for row in rows if sum((i + 1) * v for i, v in enumerate(row)) == total)


class Nonogram(ShadingTask):
    """Runs of black cells in each row and column."""

    name = "nonogram"
    rules = (
        "Mark cells with 1, the others with 0. The clue of a row (left) or column (above) lists "
        "the lengths of its runs of marked cells in order, separated by commas; 0 is no run. "
        f"{GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = (4, 6, 8, 9, 10)[level - 1]
        square = [[int(rng.random() < 0.6) for _ in range(size)] for _ in range(size)]
        rows, cols = _clues(square)
        return {"size": size, "rows": rows, "cols": cols}

    def _model(self, state: State) -> Model:
        size = state["size"]
        model = Model([OPEN] * size * size)
        for line, clue in zip(lines(size), state["rows"] + state["cols"], strict=True):
            model.add(line, _placements(size, tuple(clue)))
        return model

    def _holds(self, state: State, square: Square) -> bool:
        return _clues(square) == (state["rows"], state["cols"])

    def _scene(self, state: State) -> Board:
        said = [tuple(",".join(map(str, c or [0])) for c in state[k]) for k in ("rows", "cols")]
        rows = ["." * state["size"]] * state["size"]
        return Board(characters(rows), left=said[0], above=said[1])


def clue_of(line: tuple[int, ...] | list[int]) -> list[int]:
    """Lengths of the runs of 1."""
    return [len(list(group)) for value, group in groupby(line) if value]


def _clues(square: Square) -> tuple[list[list[int]], list[list[int]]]:
    return [clue_of(row) for row in square], [clue_of(col) for col in zip(*square, strict=True)]


@cache
def _placements(size: int, clue: tuple[int, ...]) -> Relation:
    return Relation(_place(size, clue))


def _place(size: int, clue: tuple[int, ...]) -> list[tuple[int, ...]]:
    if not clue:
        return [(0,) * size]
    found = []
    for start in range(size - sum(clue) - len(clue) + 2):
        head = (0,) * start + (1,) * clue[0]
        rest = size - len(head)
        if rest == 0 or len(clue) == 1:
            found.append(head + (0,) * rest)
        else:
            found += [(*head, 0, *tail) for tail in _place(rest - 1, clue[1:])]
    return found


class Aquarium(ShadingTask):
    """Water finds one level in each region."""

    name = "aquarium"
    rules = (
        "Fill the regions with water (1; air is 0). Within a region water stands at one level: if "
        "a cell holds water, so do all cells of its region in its row and below. The numbers "
        f"beside the rows (left) and columns (above) count their cells with water. {GRID_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 3
        regions = partition(size, (2, 6), rng)
        square = [[0] * size for _ in range(size)]
        for region in regions:
            top = rng.randint(min(r for r, _ in region), max(r for r, _ in region) + 1)
            for r, c in region:
                square[r][c] = int(r >= top)
        rows, cols = _counts(square)
        return {"size": size, "regions": regions, "rows": rows, "cols": cols}

    def _model(self, state: State) -> Model:
        size = state["size"]
        model = _counting(state)
        for region in state["regions"]:
            # Cells of a region from the bottom up: a row is level, and needs the row below.
            ordered = sorted(map(tuple, region), reverse=True)
            for (r, c), (u, v) in zip(ordered, ordered[1:], strict=False):
                model.add((r * size + c, u * size + v), _EQUAL if r == u else _NEEDS)
        return model

    def _holds(self, state: State, square: Square) -> bool:
        if _counts(square) != (state["rows"], state["cols"]):
            return False
        for region in state["regions"]:
            wet = [r for r, c in region if square[r][c]]
            if wet and any(not square[r][c] for r, c in region if r >= min(wet)):
                return False
        return True

    def _scene(self, state: State) -> Board:
        regions, _ = letter(state["regions"], state["size"])
        return _counted(state, ["." * state["size"]] * state["size"], regions=regions)


_EQUAL = Relation([(0, 0), (1, 1)])
_NEEDS = Relation([(0, 0), (1, 0), (1, 1)])


def _counts(square: Square) -> tuple[list[int], list[int]]:
    return [sum(row) for row in square], [sum(col) for col in zip(*square, strict=True)]


def _counting(state: State) -> Model:
    """Model of a square board with the number of 1 in each row and column."""
    size = state["size"]
    model = Model([OPEN] * size * size)
    for line, count in zip(lines(size), state["rows"] + state["cols"], strict=True):
        model.add(line, exactly(count, size))
    return model


def _counted(state: State, rows: list[str], regions: tuple[tuple[str, ...], ...] = ()) -> Board:
    return Board(
        characters(rows),
        left=tuple(map(str, state["rows"])),
        above=tuple(map(str, state["cols"])),
        regions=regions,
    )


class Campsite(ModelTask):
    """Tents beside trees."""

    name = "campsite"
    category = "puzzles"
    rules = (
        "Place tents on empty cells (.). Each tent has a tree (T) beside it (not diagonally), no "
        "two tents touch, not even diagonally, and the numbers beside the rows (left) and columns "
        "(above) count their tents. Answer with the cells of the tents as (row,column), counted "
        "from 1, separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 3
        everything = squares(size)
        tents: set[Cell] = set()
        trees: set[Cell] = set()
        for cell in rng.sample(everything, len(everything)):
            near = set(neighbours(cell, size, size, AROUND))
            beside = [n for n in neighbours(cell, size, size) if n not in tents | trees]
            if cell in trees or tents & near or not beside or len(tents) >= size * size // 5:
                continue
            tents.add(cell)
            trees.add(rng.choice(beside))
        square = [[int((r, c) in tents) for c in range(size)] for r in range(size)]
        rows, cols = _counts(square)
        return {"size": size, "trees": sorted(map(list, trees)), "rows": rows, "cols": cols}

    def _model(self, state: State) -> Model:
        size = state["size"]
        trees = set(map(tuple, state["trees"]))
        model = _counting(state)
        for r, c in squares(size):
            if (r, c) in trees or not trees & set(neighbours((r, c), size, size)):
                model.domains[r * size + c] = 1
        for r, c in squares(size - 1):
            corner = r * size + c
            model.add((corner, corner + 1, corner + size, corner + size + 1), _AT_MOST_ONE)
        return model

    def _write(self, state: State, values: list[int]) -> str:
        return write_cells([divmod(i, state["size"]) for i, value in enumerate(values) if value])

    def _check(self, state: State, answer: str) -> bool:
        size, listed = state["size"], cells(answer)
        tents, trees = set(listed), set(map(tuple, state["trees"]))
        if len(tents) < len(listed) or not all(inside(cell, size, size) for cell in tents):
            return False
        square = [[int((r, c) in tents) for c in range(size)] for r in range(size)]
        return _counts(square) == (state["rows"], state["cols"]) and all(
            tent not in trees
            and trees & set(neighbours(tent, size, size))
            and not tents & set(neighbours(tent, size, size, AROUND))
            for tent in tents
        )

    def _scene(self, state: State) -> Board:
        size, trees = state["size"], state["trees"]
        symbols = [
            "".join("T" if [r, c] in trees else "." for c in range(size)) for r in range(size)
        ]
        return _counted(state, symbols)


_AT_MOST_ONE = Relation(row for row in product((0, 1), repeat=4) if sum(row) <= 1)


class Minesweeper(ModelTask):
    """Find all mines from the numbers around them."""

    name = "minesweeper"
    category = "games"
    rules = (
        "The board hides mines under covered cells (.). A number says how many mines lie in the "
        "eight cells around it; numbered cells hold none. Find a placement of all mines that "
        "agrees with every number. Answer with the cells of the mines as (row,column), counted "
        "from 1, separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size, mines = level + 4, (3, 5, 6, 8, 9)[level - 1]
        everything = squares(size)
        mined = set(rng.sample(everything, mines))
        clear = [cell for cell in everything if cell not in mined]
        shown = sorted(rng.sample(clear, len(clear) * 3 // 5))
        numbers = [
            [r, c, len(mined & set(neighbours((r, c), size, size, AROUND)))] for r, c in shown
        ]
        return {"size": size, "mines": mines, "numbers": numbers}

    def _model(self, state: State) -> Model:
        size, mines = state["size"], state["mines"]

        def counted(domains: Domains) -> bool:
            return domains.count(2) <= mines <= len(domains) - domains.count(1)

        model = Model([OPEN] * size * size, possible=counted)
        for r, c, _ in state["numbers"]:
            model.domains[r * size + c] = 1
        for r, c, count in state["numbers"]:
            around = [u * size + v for u, v in neighbours((r, c), size, size, AROUND)]
            covered = [i for i in around if model.domains[i] == OPEN]
            if covered:
                model.add(covered, exactly(count, len(covered)))
        return model

    def _write(self, state: State, values: list[int]) -> str:
        return write_cells([divmod(i, state["size"]) for i, value in enumerate(values) if value])

    def _check(self, state: State, answer: str) -> bool:
        size, listed = state["size"], cells(answer)
        mined, shown = set(listed), {(r, c) for r, c, _ in state["numbers"]}
        return (
            len(listed) == len(mined) == state["mines"]
            and all(inside(cell, size, size) for cell in mined)
            and not mined & shown
            and all(
                len(mined & set(neighbours((r, c), size, size, AROUND))) == count
                for r, c, count in state["numbers"]
            )
        )

    def _scene(self, state: State) -> Board:
        size = state["size"]
        table = [["."] * size for _ in range(size)]
        for r, c, count in state["numbers"]:
            table[r][c] = str(count)
        return Board(characters(table), notes=(f"mines: {state['mines']}",))
