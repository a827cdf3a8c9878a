"""Ways that visit everything once: Hamiltonian paths and cycles, and numbrix, their grid form.

A Hamiltonian cycle is a choice of edges, two at every node, that closes no smaller cycle; a path is
a cycle through one node more. Numbrix, with many places known, is modelled by places instead:
consecutive ones are neighbours, so that arc consistency along the chain knows what can be reached
in the steps between two fixed cells.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the sizes of its released generators.
Departures: none.
"""

from __future__ import annotations

from abc import abstractmethod
from random import Random

from rarefy.policy.tasks.helix.answers import number_grid, numbers, write_grid
from rarefy.policy.tasks.helix.cells import ModelTask, neighbours, squares
from rarefy.policy.tasks.helix.csp import Different, Domains, Model, Relation, exactly, mask
from rarefy.policy.tasks.helix.cycles import closes_only_over, follow
from rarefy.policy.tasks.helix.scenes import Board, Network, symbols
from rarefy.policy.tasks.helix.task import State

Edges = list[list[int]]


def with_random_edges(n: int, planted: Edges, share: float, rng: Random) -> Edges:
    """Add each further pair with the probability ``share``, and order all pairs."""
    edges = {(min(edge), max(edge)) for edge in planted}
    edges |= {(a, b) for a in range(n) for b in range(a + 1, n) if rng.random() < share}
    return sorted(map(list, edges))


def network(n: int, edges: Edges, notes: tuple[str, ...] = ()) -> Network:
    """Lay out an undirected graph on 0 to n - 1."""
    named = tuple((str(a), str(b), "") for a, b in edges)
    return Network(tuple(map(str, range(n))), named, notes=notes)


_DRAWN, _LEFT = 0b01, 0b10


class _Hamiltonian(ModelTask):
    """Visit every node once."""

    category = "graphs"
    closed: bool

    @abstractmethod
    def _nodes(self, level: int) -> int:
        """Number of nodes at a level."""

    def _generate(self, level: int, rng: Random) -> State:
        n = self._nodes(level)
        order = rng.sample(range(n), n)
        planted = [[order[i], order[i + 1]] for i in range(n - 1)]
        if self.closed:
            planted.append([order[-1], order[0]])
        return {"nodes": n, "edges": with_random_edges(n, planted, 0.2, rng)}

    def _model(self, state: State) -> Model:
        edges, nodes = self._edges(state), range(state["nodes"] + (not self.closed))

        def one_cycle(domains: Domains) -> bool:
            drawn = [edge for edge, d in zip(edges, domains, strict=True) if d == _DRAWN]
            return closes_only_over(drawn, nodes)

        model = Model([_DRAWN | _LEFT] * len(edges), possible=one_cycle)
        for node in nodes:
            ends = [i for i, edge in enumerate(edges) if node in edge]
            # Drawn is 0, so that it is tried first.
            model.add(ends, exactly(len(ends) - 2, len(ends)))
        return model

    def _variable(self, state: State, index: int) -> str:
        a, b = self._edges(state)[index]
        return f"edge {a}-{b} left out" if b < state["nodes"] else f"inside of the way {a}"

    def _write(self, state: State, values: list[int]) -> str:
        drawn = [e for e, value in zip(self._edges(state), values, strict=True) if not value]
        n = state["nodes"]
        # From the extra node round to it again, or from node 0.
        cycle = follow(drawn, 0 if self.closed else n)
        return " ".join(map(str, [*cycle, cycle[0]] if self.closed else cycle[1:]))

    def _edges(self, state: State) -> list[tuple[int, int]]:
        """Edges; a path is a cycle through one more node that is joined to every other."""
        n = state["nodes"]
        extra = [] if self.closed else [(node, n) for node in range(n)]
        return [(a, b) for a, b in state["edges"]] + extra

    def _check(self, state: State, answer: str) -> bool:
        way, n = numbers(answer), state["nodes"]
        if self.closed:
            if len(way) != n + 1 or way[0] != way[-1]:
                return False
        elif len(way) != n:
            return False
        edges = {frozenset(edge) for edge in state["edges"]}
        return set(way) == set(range(n)) and all(
            frozenset(step) in edges for step in zip(way, way[1:], strict=False)
        )

    def _scene(self, state: State) -> Network:
        return network(state["nodes"], state["edges"])


class HamiltonianPath(_Hamiltonian):
    """Visit every node once, from any to any."""

    name = "hamiltonian-path"
    closed = False
    rules = (
        "Find a path in the undirected graph that visits every node exactly once. Answer with its "
        "nodes in order, separated by spaces."
    )

    def _nodes(self, level: int) -> int:
        return (4, 6, 8, 12, 16)[level - 1]


class HamiltonianCycle(_Hamiltonian):
    """Visit every node once and return."""

    name = "hamiltonian-cycle"
    closed = True
    rules = (
        "Find a cycle in the undirected graph that visits every node exactly once and returns to "
        "its first node. Answer with its nodes in order, the first one repeated at the end, "
        "separated by spaces."
    )

    def _nodes(self, level: int) -> int:
        return (6, 9, 12, 14, 16)[level - 1]


class Numbrix(ModelTask):
    """Number the cells along a path."""

    name = "numbrix"
    category = "puzzles"
    rules = (
        "Fill the n by n grid with 1 to n squared, each once, so that consecutive numbers are in "
        "cells that share a side. Answer with the full grid, a line a row, numbers separated by "
        "spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        size = level + 2
        n = size * size
        way = _random_walk(size, rng)
        kept = set(rng.sample(range(n), n * (8 - level) // 14))
        flat = [0] * n
        for place, cell in enumerate(way):
            flat[cell] = place + 1 if place in kept else 0
        return {"size": size, "givens": [flat[i : i + size] for i in range(0, n, size)]}

    def _model(self, state: State) -> Model:
        size = state["size"]
        n = size * size
        linked = Relation((a, b) for u, v in _grid_edges(size) for a, b in ((u, v), (v, u)))
        model = Model([])
        for place in range(n - 1):
            model.add((place, place + 1), linked)
        model.add(range(n), Different(n))
        given = [number for row in state["givens"] for number in row]
        hidden = mask(cell for cell, number in enumerate(given) if not number)
        model.domains = [hidden] * n
        for cell, number in enumerate(given):
            if number:
                model.domains[number - 1] = 1 << cell
        return model

    def _variable(self, state: State, index: int) -> str:  # noqa: ARG002
        return f"cell of {index + 1}"

    def _write(self, state: State, values: list[int]) -> str:
        flat = [0] * len(values)
        for place, cell in enumerate(values):
            flat[cell] = place + 1
        return write_grid(flat, state["size"])

    def _check(self, state: State, answer: str) -> bool:
        size = state["size"]
        square = number_grid(answer, size, size)
        place = {value: (r, c) for r, row in enumerate(square) for c, value in enumerate(row)}
        n = size * size
        return (
            set(place) == set(range(1, n + 1))
            and all(place[i + 1] in neighbours(place[i], size, size) for i in range(1, n))
            and all(
                given in (0, value)
                for given, value in zip(sum(state["givens"], []), sum(square, []), strict=True)
            )
        )

    def _scene(self, state: State) -> Board:
        return Board(symbols(state["givens"]))


def _grid_edges(size: int) -> Edges:
    return [
        [r * size + c, u * size + v]
        for r, c in squares(size)
        for u, v in neighbours((r, c), size, size, ((0, 1), (1, 0)))
    ]


def _random_walk(size: int, rng: Random) -> list[int]:
    """Hamiltonian path of a square grid: a winding one under random backbites.

    A backbite joins the last cell to a neighbour on the path and turns round what lies between,
    which leaves a Hamiltonian path (Oberdorf et al. 2006).
    """
    way = [(r, c if r % 2 == 0 else size - 1 - c) for r in range(size) for c in range(size)]
    for _ in range(10 * size * size):
        if rng.random() < 0.5:
            way.reverse()
        joined = way.index(rng.choice(neighbours(way[-1], size, size)))
        way[joined + 1 :] = way[:joined:-1]
    return [r * size + c for r, c in way]
