"""Games of moves, and three of them: towers of Hanoi, mazes and nibbles.

A game writes one step function; the solver searches with it and the verifier plays with it.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the sizes of its released generators.
Departures: the tail of a snake makes room before its head moves.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Iterable
from functools import cache
from itertools import product
from random import Random
from typing import Any

from rarefy.policy.tasks.helix.answers import Cell, Unreadable, tokens
from rarefy.policy.tasks.helix.cells import inside, neighbours, squares
from rarefy.policy.tasks.helix.scenes import Board, characters
from rarefy.policy.tasks.helix.search import best_first
from rarefy.policy.tasks.helix.task import Solution, State, Task

STEPS: dict[str, Cell] = {"U": (-1, 0), "R": (0, 1), "D": (1, 0), "L": (0, -1)}
MOVES_ANSWER = "Answer with the moves U, D, L, R (up, down, left, right), separated by spaces."


class GameTask(Task):
    """Play from a position to one that is won."""

    category = "games"
    moves: tuple[str, ...] = tuple(STEPS)
    # How much the search trusts the estimate; above 1 the answer may be longer than need be.
    weight = 1

    @abstractmethod
    def _start(self, state: State) -> Any:
        """Position at the start, hashable."""

    @abstractmethod
    def _play(self, state: State, position: Any, move: str) -> Any | None:
        """Position after a move, None if it is illegal."""

    @abstractmethod
    def _won(self, state: State, position: Any) -> bool:
        """Whether the game is over and won."""

    def _estimate(self, state: State, position: Any) -> int:  # noqa: ARG002
        """Estimate of the moves that are left."""
        return 0

    def _search(self, state: State) -> Solution:
        def moves(position: Hashable) -> Iterable[tuple[str, Hashable, int]]:
            for move in self.moves:
                there = self._play(state, position, move)
                if there is not None:
                    yield move, there, 1

        path, expanded, anchors = best_first(
            self._start(state),
            moves,
            lambda position: self._won(state, position),
            heuristic=lambda position: self._estimate(state, position),
            weight=self.weight,
        )
        return Solution(" ".join(path), expanded, anchors)

    def _check(self, state: State, answer: str) -> bool:
        position = self._start(state)
        for move in self._read(answer):
            position = self._play(state, position, move)
            if position is None:
                return False
        return self._won(state, position)

    def _read(self, answer: str) -> list[str]:
        """Moves of an answer; directions may stand together."""
        moves = list("".join(tokens(answer)).upper())
        if not set(moves) <= set(self.moves):
            raise Unreadable(answer)
        return moves


class Hanoi(GameTask):
    """Towers of Hanoi from any position."""

    name = "hanoi"
    moves = tuple(f"{a}-{b}" for a, b in product("123", repeat=2) if a != b)
    rules = (
        "Move all disks to peg 3, one at a time and never a larger disk onto a smaller one. Disks "
        "are numbered by size, 1 the smallest; each line is a peg, its top disk first. Answer with "
        "the moves from-to, such as 1-3, separated by spaces."
    )
    # Disks, and fewest and most moves.
    _SIZES = ((3, 1, 2), (3, 3, 3), (3, 4, 5), (3, 6, 7), (4, 8, 15))

    def _generate(self, level: int, rng: Random) -> State:
        disks, fewest, most = self._SIZES[level - 1]
        found = [pegs for pegs, moves in _distances(disks).items() if fewest <= moves <= most]
        return {"disks": disks, "pegs": list(rng.choice(found))}

    def _start(self, state: State) -> tuple[int, ...]:
        return tuple(state["pegs"])

    def _play(self, state: State, position: tuple[int, ...], move: str) -> tuple[int, ...] | None:  # noqa: ARG002
        return _move_disk(position, int(move[0]), int(move[2]))

    def _won(self, state: State, position: tuple[int, ...]) -> bool:  # noqa: ARG002
        return set(position) == {3}

    def _read(self, answer: str) -> list[str]:
        moves = tokens(answer)
        if not set(moves) <= set(self.moves):
            raise Unreadable(answer)
        return moves

    def _scene(self, state: State) -> Board:
        disks = state["disks"]
        rows = []
        for peg in (1, 2, 3):
            held = [str(disk + 1) for disk, on in enumerate(state["pegs"]) if on == peg]
            rows.append(tuple(held + ["."] * (disks - len(held))))
        return Board(tuple(rows), left=("peg1", "peg2", "peg3"))


def _move_disk(pegs: tuple[int, ...], a: int, b: int) -> tuple[int, ...] | None:
    """Pegs of the disks, smallest first, after the top disk of a goes to b."""
    if a not in pegs or b in pegs[: pegs.index(a)]:
        return None
    disk = pegs.index(a)
    return (*pegs[:disk], b, *pegs[disk + 1 :])


@cache
def _distances(disks: int) -> dict[tuple[int, ...], int]:
    """Fewest moves to the full third peg from every position."""
    layer = [(3,) * disks]
    found = {layer[0]: 0}
    while layer:
        following = []
        for pegs in layer:
            for a, b in product((1, 2, 3), repeat=2):
                there = _move_disk(pegs, a, b)
                if there is not None and there not in found:
                    found[there] = found[pegs] + 1
                    following.append(there)
        layer = following
    return found


class Maze(GameTask):
    """Find the way through a maze."""

    name = "maze"
    rules = (
        "Go from S to E through open cells (.); # is wall. Each move goes to the next cell. "
        f"{MOVES_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State:
        rooms = 2 * level + 1
        size = 2 * rooms + 1
        table = [["#"] * size for _ in range(size)]
        stack = [(rng.randrange(rooms), rng.randrange(rooms))]
        seen = set(stack)
        while stack:
            r, c = stack[-1]
            table[2 * r + 1][2 * c + 1] = "."
            there = [n for n in neighbours((r, c), rooms, rooms) if n not in seen]
            if not there:
                stack.pop()
                continue
            u, v = rng.choice(there)
            table[r + u + 1][c + v + 1] = "."
            seen.add((u, v))
            stack.append((u, v))
        # A few walls fall, so that there is more than one way.
        for _ in range(level):
            r, c = rng.randrange(rooms), rng.randrange(rooms - 1)
            table[2 * r + 1][2 * c + 2] = "."
        table[1][1], table[-2][-2] = "S", "E"
        return {"size": size, "rows": ["".join(row) for row in table]}

    def _start(self, state: State) -> Cell:  # noqa: ARG002
        return (1, 1)

    def _play(self, state: State, position: Cell, move: str) -> Cell | None:
        r, c = position[0] + STEPS[move][0], position[1] + STEPS[move][1]
        return None if state["rows"][r][c] == "#" else (r, c)

    def _won(self, state: State, position: Cell) -> bool:
        return position == (state["size"] - 2, state["size"] - 2)

    def _scene(self, state: State) -> Board:
        return Board(characters(state["rows"]))


class Nibbles(GameTask):
    """Eat every apple."""

    name = "nibbles"
    rules = (
        "A snake lies on the board: H is its head, the numbers go on to its tail. Each move takes "
        "the head to the next cell and the body follows; on an apple (A) the snake grows by one "
        "cell, as its tail stays. It may not leave the board or run into itself (the cell that its "
        f"tail leaves in the same move is free). Eat all apples. {MOVES_ANSWER}"
    )

    def _generate(self, level: int, rng: Random) -> State | None:
        size = level + 5
        body = [(rng.randrange(size), rng.randrange(size))]
        while len(body) < 3:
            free = [n for n in neighbours(body[-1], size, size) if n not in body]
            body.append(rng.choice(free))
        open_ = [cell for cell in squares(size) if cell not in body]
        apples = sorted(rng.sample(open_, level))
        return {"size": size, "body": list(map(list, body)), "apples": list(map(list, apples))}

    def _start(self, state: State) -> tuple[tuple[Cell, ...], frozenset[Cell]]:
        return tuple((r, c) for r, c in state["body"]), frozenset(
            (r, c) for r, c in state["apples"]
        )

    def _play(self, state: State, position: Any, move: str) -> Any | None:
        body, apples = position
        head = (body[0][0] + STEPS[move][0], body[0][1] + STEPS[move][1])
        rest = body if head in apples else body[:-1]
        if not inside(head, state["size"], state["size"]) or head in rest:
            return None
        return (head, *rest), apples - {head}

    def _won(self, state: State, position: Any) -> bool:  # noqa: ARG002
        return not position[1]

    def _estimate(self, state: State, position: Any) -> int:
        (head, *_), apples = position
        if not apples:
            return 0
        nearest = min(abs(head[0] - r) + abs(head[1] - c) for r, c in apples)
        # Two board sides an apple that is left: eating one is always progress.
        return nearest + 2 * state["size"] * (len(apples) - 1)

    def _scene(self, state: State) -> Board:
        table = [["."] * state["size"] for _ in range(state["size"])]
        for i, (r, c) in enumerate(state["body"]):
            table[r][c] = str(i) if i else "H"
        for r, c in state["apples"]:
            table[r][c] = "A"
        return Board(characters(table))
