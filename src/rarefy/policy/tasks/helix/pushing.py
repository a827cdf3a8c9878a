"""Two games that move more than the player: the fifteen puzzle and sokoban.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the sizes of its released generators.
Departures: sokoban rooms are drawn by playing backwards from the solved room.
"""

from __future__ import annotations

from itertools import product
from random import Random
from typing import Any

from rarefy.policy.tasks.helix.answers import Cell
from rarefy.policy.tasks.helix.cells import inside
from rarefy.policy.tasks.helix.games import MOVES_ANSWER, STEPS, GameTask
from rarefy.policy.tasks.helix.scenes import Board, characters, symbols
from rarefy.policy.tasks.helix.task import State

# Steps from each place to the home of each tile; the gap counts nothing.
_FAR = [
    [0] + [abs(i // 4 - home // 4) + abs(i % 4 - home % 4) for home in range(15)] for i in range(16)
]


class SlidingPuzzle(GameTask):
    """The fifteen puzzle."""

    name = "sliding-puzzle"
    # Four times the Manhattan distance finds answers in thousands of positions, not millions.
    weight = 4
    rules = (
        "Slide tiles into the gap (.) until the rows read 1 2 3 4, 5 6 7 8, 9 10 11 12 and 13 14 "
        f"15 with the gap last. A move names the direction in which the gap moves. {MOVES_ANSWER}"
    )
    _SHUFFLES = ((1, 6), (7, 12), (13, 20), (21, 30), (31, 45))

    def _generate(self, level: int, rng: Random) -> State | None:
        tiles = (*range(1, 16), 0)
        position: tuple[int, ...] = tiles
        last = ""
        back = {"U": "D", "D": "U", "L": "R", "R": "L"}
        for _ in range(rng.randint(*self._SHUFFLES[level - 1])):
            moves = {m: self._play({}, position, m) for m in STEPS if m != back.get(last)}
            last, position = rng.choice([(m, there) for m, there in moves.items() if there])
        return {"tiles": list(position)} if position != tiles else None

    def _start(self, state: State) -> tuple[int, ...]:
        return tuple(state["tiles"])

    def _play(self, state: State, position: Any, move: str) -> Any | None:  # noqa: ARG002
        gap = position.index(0)
        r, c = gap // 4 + STEPS[move][0], gap % 4 + STEPS[move][1]
        if not inside((r, c), 4, 4):
            return None
        tiles = list(position)
        tiles[gap], tiles[4 * r + c] = tiles[4 * r + c], 0
        return tuple(tiles)

    def _won(self, state: State, position: Any) -> bool:  # noqa: ARG002
        return position == (*range(1, 16), 0)

    def _estimate(self, state: State, position: Any) -> int:  # noqa: ARG002
        return sum(far[tile] for far, tile in zip(_FAR, position, strict=True))

    def _scene(self, state: State) -> Board:
        return Board(symbols(state["tiles"][i : i + 4] for i in range(0, 16, 4)))


class Sokoban(GameTask):
    """Push every box onto a target."""

    name = "sokoban"
    weight = 2
    rules = (
        "Push all boxes ($) onto targets (o); * is a box on a target, @ the player, + the player "
        "on a target, # wall. The player moves to the next cell and pushes a box there one cell "
        f"on, if that cell is free. {MOVES_ANSWER}"
    )
    # Cells a side, boxes, walls inside, steps backwards.
    _SIZES = ((4, 1, 1, 12), (5, 1, 2, 25), (5, 2, 3, 40), (6, 2, 4, 60), (6, 3, 4, 90))

    def _generate(self, level: int, rng: Random) -> State | None:
        size, boxes, blocks, steps = self._SIZES[level - 1]
        free = list(product(range(1, size + 1), repeat=2))
        walls = set(product(range(size + 2), repeat=2)) - set(free)
        walls |= set(rng.sample(free, blocks))
        free = [cell for cell in free if cell not in walls]
        targets = rng.sample(free, boxes)
        player = rng.choice([cell for cell in free if cell not in targets])
        # Played backwards, a push is a pull: the box follows the player.
        placed = set(targets)
        for _ in range(steps):
            dr, dc = rng.choice(tuple(STEPS.values()))
            there, behind = (player[0] + dr, player[1] + dc), (player[0] - dr, player[1] - dc)
            if there in walls or there in placed:
                continue
            if behind in placed and rng.random() < 0.9:
                placed.discard(behind)
                placed.add(player)
            player = there
        if len(placed - set(targets)) < (boxes + 1) // 2:
            return None
        table = [
            ["#" if (r, c) in walls else "." for c in range(size + 2)] for r in range(size + 2)
        ]
        for cells, symbol in ((targets, "o"), (placed, "$"), ([player], "@")):
            for r, c in cells:
                both = {("o", "$"): "*", ("o", "@"): "+"}
                table[r][c] = both.get((table[r][c], symbol), symbol)
        return {"rows": ["".join(row) for row in table]}

    def _start(self, state: State) -> tuple[Cell, frozenset[Cell]]:
        return min(_find(state, "@+")), frozenset(_find(state, "$*"))

    def _play(self, state: State, position: Any, move: str) -> Any | None:
        (r, c), boxes = position
        dr, dc = STEPS[move]
        there, beyond = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
        if state["rows"][there[0]][there[1]] == "#":
            return None
        if there not in boxes:
            return there, boxes
        if beyond in boxes or state["rows"][beyond[0]][beyond[1]] == "#":
            return None
        return there, boxes - {there} | {beyond}

    def _won(self, state: State, position: Any) -> bool:
        return all(state["rows"][r][c] in "o*+" for r, c in position[1])

    def _estimate(self, state: State, position: Any) -> int:
        targets = _find(state, "o*+")
        player, boxes = position
        far = sum(min(abs(r - u) + abs(c - v) for u, v in targets) for r, c in boxes)
        away = [abs(r - player[0]) + abs(c - player[1]) for r, c in boxes if (r, c) not in targets]
        return far + min(away, default=0)

    def _scene(self, state: State) -> Board:
        return Board(characters(state["rows"]))


def _find(state: State, symbols: str) -> list[Cell]:
    return [
        (r, c) for r, row in enumerate(state["rows"]) for c, x in enumerate(row) if x in symbols
    ]
