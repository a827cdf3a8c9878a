"""Six tasks on graphs: cheapest paths, flows, orders, walks over every edge, and isomorphisms.

Source: the tasks of MM-HELIX (arXiv 2510.08540), with the sizes of its released generators.
Departures: an isomorphism is to be given, not only decided.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import product
from random import Random

from rarefy.policy.tasks.helix.answers import number, numbers
from rarefy.policy.tasks.helix.cells import ModelTask
from rarefy.policy.tasks.helix.csp import Different, Model, Relation, mask
from rarefy.policy.tasks.helix.routes import Edges, network, with_random_edges
from rarefy.policy.tasks.helix.scenes import Network
from rarefy.policy.tasks.helix.search import best_first
from rarefy.policy.tasks.helix.task import Solution, State, Task, states


class ShortestPath(Task):
    """Cheapest path between two nodes."""

    name = "shortest-path"
    category = "graphs"
    rules = (
        "Find a path of least total weight between the two nodes named below; a-b:w is an "
        "undirected edge of weight w. Answer with the nodes of the path in order, separated by "
        "spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        n = (6, 9, 12, 16, 20)[level - 1]
        order = rng.sample(range(n), n)
        planted = [[order[i], rng.choice(order[:i])] for i in range(1, n)]
        edges = with_random_edges(n, planted, 0.2 if level < 3 else 0.15, rng)
        weighted = [[a, b, rng.randint(1, 5 if level < 3 else 8)] for a, b in edges]
        # The last node joined to the tree tends to lie far from the first.
        return {"nodes": n, "edges": weighted, "from": order[0], "to": order[-1]}

    def _search(self, state: State) -> Solution:
        near = _weights(state)
        path, expanded, anchors = best_first(
            state["from"],
            lambda a: [(str(b), b, weight) for b, weight in sorted(near[a].items())],
            lambda a: a == state["to"],
        )
        return Solution(" ".join([str(state["from"]), *path]), expanded, anchors)

    def _check(self, state: State, answer: str) -> bool:
        way, near = numbers(answer), _weights(state)
        if not way or way[0] != state["from"] or way[-1] != state["to"]:
            return False
        steps = list(zip(way, way[1:], strict=False))
        if any(b not in near.get(a, {}) for a, b in steps):
            return False
        return sum(near[a][b] for a, b in steps) == _distance(state)

    def _scene(self, state: State) -> Network:
        return Network(
            tuple(map(str, range(state["nodes"]))),
            tuple((str(a), str(b), str(weight)) for a, b, weight in state["edges"]),
            notes=(f"from {state['from']} to {state['to']}",),
        )


def _weights(state: State) -> dict[int, dict[int, int]]:
    near: dict[int, dict[int, int]] = {node: {} for node in range(state["nodes"])}
    for a, b, weight in state["edges"]:
        near[a][b] = near[b][a] = weight
    return near


def _distance(state: State) -> int:
    """Least total weight, by relaxing every edge once a node (Bellman and Ford)."""
    far = 1 + sum(weight for *_, weight in state["edges"])
    distance = [far] * state["nodes"]
    distance[state["from"]] = 0
    for _ in range(state["nodes"]):
        for a, b, weight in state["edges"]:
            distance[b] = min(distance[b], distance[a] + weight)
            distance[a] = min(distance[a], distance[b] + weight)
    return distance[state["to"]]


class MaxFlow(Task):
    """Largest flow through a layered network."""

    name = "max-flow"
    category = "graphs"
    rules = (
        "What is the largest flow from node s to node t? a->b:w is a directed edge of capacity w. "
        "Answer with one number."
    )
    _LAYERS = ((1, 2, 1), (1, 2, 2, 1), (1, 3, 3, 1), (1, 3, 4, 3, 1), (1, 3, 4, 4, 3, 1))

    def _generate(self, level: int, rng: Random) -> State:
        layers: list[list[int]] = []
        for width in self._LAYERS[level - 1]:
            start = layers[-1][-1] + 1 if layers else 0
            layers.append(list(range(start, start + width)))
        edges = set()
        for here, there in zip(layers, layers[1:], strict=False):
            # Every node keeps a way in and a way out.
            edges |= {(a, rng.choice(there)) for a in here} | {(rng.choice(here), b) for b in there}
            edges |= {(a, b) for a, b in product(here, there) if rng.random() < 0.5}
        weighted = [[a, b, rng.randint(1, 4 + 3 * level)] for a, b in sorted(edges)]
        return {"nodes": layers[-1][-1] + 1, "edges": weighted}

    def _search(self, state: State) -> Solution:
        value, steps, said = _edmonds_karp(state)
        return Solution(str(value), steps, states(said))

    def _check(self, state: State, answer: str) -> bool:
        return number(answer) == _edmonds_karp(state)[0]

    def _scene(self, state: State) -> Network:
        last = state["nodes"] - 1
        names = ["s", *map(str, range(1, last)), "t"]
        edges = tuple((names[a], names[b], str(weight)) for a, b, weight in state["edges"])
        return Network(tuple(names), edges, directed=True)


def _edmonds_karp(state: State) -> tuple[int, int, list[str]]:
    """Flow value, nodes visited and a sentence for each augmenting path."""
    n = state["nodes"]
    residual = [[0] * n for _ in range(n)]
    for a, b, weight in state["edges"]:
        residual[a][b] = weight
    value = visited = 0
    said: list[str] = []
    while True:
        came = {0: 0}
        queue = deque([0])
        while queue and n - 1 not in came:
            a = queue.popleft()
            visited += 1
            for b in range(n):
                if residual[a][b] and b not in came:
                    came[b] = a
                    queue.append(b)
        if n - 1 not in came:
            return value, visited, [*said, f"no path is left: the flow is {value}"]
        path = [n - 1]
        while path[-1]:
            path.append(came[path[-1]])
        path.reverse()
        steps = list(zip(path, path[1:], strict=False))
        extra = min(residual[a][b] for a, b in steps)
        for a, b in steps:
            residual[a][b] -= extra
            residual[b][a] += extra
        value += extra
        names = ["s", *map(str, path[1:-1]), "t"]
        said.append(f"{' -> '.join(names)} carries {extra} more: {value} so far")


class TopologicalSort(Task):
    """Order in which every edge points forward."""

    name = "topological-sort"
    category = "graphs"
    rules = (
        "Order all nodes so that for every directed edge a->b node a comes before node b. Answer "
        "with the nodes in order, separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        n, extra = ((6, 3), (9, 3), (12, 3), (16, 2), (25, 2))[level - 1]
        order = rng.sample(range(n), n)
        edges = {(order[rng.randrange(i)], order[i]) for i in range(1, n)}
        edges |= {
            (order[i], order[j]) for i, j in (sorted(rng.sample(range(n), 2)) for _ in range(extra))
        }
        return {"nodes": n, "edges": sorted(map(list, edges))}

    def _search(self, state: State) -> Solution:
        waiting = Counter(b for _, b in state["edges"])
        ready = [node for node in range(state["nodes"]) if not waiting[node]]
        order, said = [], []
        for node in ready:
            order.append(node)
            for a, b in state["edges"]:
                if a == node:
                    waiting[b] -= 1
                    if not waiting[b]:
                        ready.append(b)
            said.append(f"place {node}; free now: {ready[len(order) :]}")
        return Solution(" ".join(map(str, order)), len(order) + len(state["edges"]), states(said))

    def _check(self, state: State, answer: str) -> bool:
        order = numbers(answer)
        if sorted(order) != list(range(state["nodes"])):
            return False
        place = {node: i for i, node in enumerate(order)}
        return all(place[a] < place[b] for a, b in state["edges"])

    def _scene(self, state: State) -> Network:
        edges = tuple((str(a), str(b), "") for a, b in state["edges"])
        return Network(tuple(map(str, range(state["nodes"]))), edges, directed=True)


class _Eulerian(Task):
    """Walk over every edge once."""

    category = "graphs"
    closed: bool
    sizes: tuple[int, ...]

    def _generate(self, level: int, rng: Random) -> State | None:
        n = self.sizes[level - 1]
        order = rng.sample(range(n), n)
        ends = order + order[:1] if self.closed else order
        edges = {frozenset(step) for step in zip(ends, ends[1:], strict=False)}
        # Closed triangles leave every degree even or odd as it was.
        for _ in range(n):
            triangle = rng.sample(range(n), 3)
            new = {frozenset((triangle[i], triangle[i - 1])) for i in range(3)}
            if not new & edges and rng.random() < 0.6:
                edges |= new
        return {"nodes": n, "edges": sorted(sorted(edge) for edge in edges)}

    def _search(self, state: State) -> Solution:
        near: dict[int, list[int]] = {node: [] for node in range(state["nodes"])}
        for a, b in state["edges"]:
            near[a].append(b)
            near[b].append(a)
        odd = [node for node, beside in near.items() if len(beside) % 2]
        stack, way = [odd[0] if odd else 0], []
        said: list[str] = []
        while stack:
            here = stack[-1]
            if near[here]:
                there = near[here].pop()
                near[there].remove(here)
                said.append(f"walk {here}-{there}")
                stack.append(there)
            else:
                said.append(f"no edge is left at {here}: it is next from the end")
                way.append(stack.pop())
        return Solution(" ".join(map(str, way)), len(said), states(said))

    def _check(self, state: State, answer: str) -> bool:
        way = numbers(answer)
        walked = Counter(frozenset(step) for step in zip(way, way[1:], strict=False))
        if walked != Counter(frozenset(edge) for edge in state["edges"]):
            return False
        return not self.closed or way[0] == way[-1]

    def _scene(self, state: State) -> Network:
        return network(state["nodes"], state["edges"])


class EulerianPath(_Eulerian):
    """Walk over every edge once, ending elsewhere."""

    name = "eulerian-path"
    closed = False
    sizes = (6, 8, 10, 12, 16)
    rules = (
        "Find a walk in the undirected graph that uses every edge exactly once. Answer with the "
        "nodes it passes in order, separated by spaces."
    )


class EulerianCycle(_Eulerian):
    """Walk over every edge once and return."""

    name = "eulerian-cycle"
    closed = True
    sizes = (8, 10, 12, 14, 16)
    rules = (
        "Find a closed walk in the undirected graph that uses every edge exactly once and returns "
        "to its first node. Answer with the nodes it passes in order, the first one repeated at "
        "the end, separated by spaces."
    )


class Isomorphism(ModelTask):
    """Map one graph onto another."""

    name = "graph-isomorphism"
    category = "graphs"
    rules = (
        "The picture holds two graphs: one on the nodes 0, 1, 2, ... and one on the nodes a, b, c, "
        "... Find a matching of their nodes under which two nodes of the first share an edge "
        "exactly if their partners do. Answer with the partners of 0, 1, 2, ... in order, "
        "separated by spaces."
    )

    def _generate(self, level: int, rng: Random) -> State:
        n = level + 5
        order = rng.sample(range(n), n)
        planted = [[order[i], rng.choice(order[:i])] for i in range(1, n)]
        edges = with_random_edges(n, planted, 0.25, rng)
        to = rng.sample(range(n), n)
        return {
            "nodes": n,
            "first": edges,
            "second": sorted(sorted((to[a], to[b])) for a, b in edges),
        }

    def _model(self, state: State) -> Model:
        n = state["nodes"]
        second = _pairs(state["second"])
        everything = [(a, b) for a, b in product(range(n), repeat=2) if a != b]
        linked = Relation(pair for pair in everything if pair in second)
        apart = Relation(pair for pair in everything if pair not in second)
        model = Model([mask(range(n))] * n)
        model.add(range(n), Different(n))
        first = _pairs(state["first"])
        for a in range(n):
            for b in range(a + 1, n):
                model.add((a, b), linked if (a, b) in first else apart)
        return model

    def _variable(self, state: State, index: int) -> str:  # noqa: ARG002
        return f"partner of {index}"

    def _write(self, state: State, values: list[int]) -> str:  # noqa: ARG002
        return " ".join(chr(97 + value) for value in values)

    def _check(self, state: State, answer: str) -> bool:
        names = [chr(97 + i) for i in range(state["nodes"])]
        partners = answer.replace(",", " ").split()
        if sorted(partners) != names:
            return False
        to = [names.index(partner) for partner in partners]
        return {(to[a], to[b]) for a, b in _pairs(state["first"])} == _pairs(state["second"])

    def _scene(self, state: State) -> Network:
        n = state["nodes"]
        edges = [(str(a), str(b), "") for a, b in state["first"]]
        edges += [(chr(97 + a), chr(97 + b), "") for a, b in state["second"]]
        nodes = [str(i) for i in range(n)] + [chr(97 + i) for i in range(n)]
        return Network(tuple(nodes), tuple(edges))


def _pairs(edges: Edges) -> set[tuple[int, int]]:
    return {(a, b) for u, v in edges for a, b in ((u, v), (v, u))}
