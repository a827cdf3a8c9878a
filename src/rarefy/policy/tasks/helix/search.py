r"""Best-first search over states reached by moves: breadth first, Dijkstra, A* and greedier.

The next state expanded has the least

.. math:: f(s) = g(s) + w\,h(s)

with g the cost so far and h a heuristic. With h = 0 the answer is cheapest, and so it is with w = 1
and an h that no move lowers by more than its cost; a larger w finds some answer after fewer states.

Source: Pohl 1970, *Heuristic search viewed as path finding in a graph*. Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from heapq import heappop, heappush
from typing import TypeVar

from rarefy.policy.tasks.helix.task import Anchor, GenerationError

S = TypeVar("S", bound=Hashable)
Moves = Callable[[S], Iterable[tuple[str, S, int]]]


def _nothing(state: Hashable) -> int:  # noqa: ARG001
    return 0


def best_first(
    start: S,
    moves: Moves[S],
    done: Callable[[S], bool],
    *,
    heuristic: Callable[[S], int] = _nothing,
    weight: int = 1,
    limit: int = 200_000,
) -> tuple[list[str], int, tuple[Anchor, ...]]:
    """Find moves from a state to one that is done.

    Parameters
    ----------
    start : hashable
    moves : Callable
        From a state the names, next states and costs of its moves.
    done : Callable
    heuristic : Callable, default 0 everywhere
        Estimate of the cost that is left.
    weight : int, default 1
    limit : int, default 200,000
        Most states expanded.

    Returns
    -------
    path : list of str
        Names of the moves.
    expanded : int
    anchors : tuple of Anchor
        Every state expanded that is not on the path is a try taken back; those on it are states.

    Raises
    ------
    GenerationError
        If there is no such path, or none within the limit.

    Examples
    --------
    >>> best_first(0, lambda n: [("add", n + 1, 1), ("double", 2 * n, 1)], lambda n: n == 5)[0]
    ['add', 'add', 'double', 'add']
    """
    cost = {start: 0}
    came: dict[S, tuple[S, str]] = {}
    # The counter breaks ties first in, first out, and keeps states from being compared.
    queue: list[tuple[int, int, S]] = [(weight * heuristic(start), 0, start)]
    counter = 0
    closed: list[S] = []
    seen: set[S] = set()
    while queue:
        state = heappop(queue)[2]
        if state in seen:
            continue
        seen.add(state)
        closed.append(state)
        if done(state):
            return _trace(state, came, closed)
        if len(closed) > limit:
            raise GenerationError(f"no path within {limit} states")
        for name, there, price in moves(state):
            through = cost[state] + price
            if there not in seen and through < cost.get(there, through + 1):
                cost[there] = through
                came[there] = (state, name)
                counter += 1
                heappush(queue, (through + weight * heuristic(there), counter, there))
    raise GenerationError("no path")


def _trace(
    last: S, came: dict[S, tuple[S, str]], closed: list[S]
) -> tuple[list[str], int, tuple[Anchor, ...]]:
    path: list[str] = []
    on_path = {last}
    state = last
    while state in came:
        state, name = came[state]
        path.append(name)
        on_path.add(state)
    anchors: list[Anchor] = []
    for state in closed:
        move = f"after {came[state][1]} from {came[state][0]}: " if state in came else ""
        if state in on_path:
            anchors.append(Anchor("state", f"{move}{state}"))
        else:
            anchors.append(Anchor("try", f"{move}{state}"))
            anchors.append(Anchor("retract", f"{state} is not on the way"))
    return path[::-1], len(closed), tuple(anchors)
