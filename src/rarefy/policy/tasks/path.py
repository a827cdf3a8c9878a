"""Path: a shortest way between two nodes of an undirected graph.

    gab,bc,cd,be>ad=   ->   ab;bc,be;cd#abcd

The trace is breadth-first search: the edges that reach new nodes, layer by layer. Levels: 4, 6, 8,
9, 10 nodes, the ends 2, 3, 4, 5, 6 edges apart, one shortest way. Difficulty: edges on it.
Departures: the distance grows with the graph, for among a few nodes near each other a guess is
right too often.
"""

from __future__ import annotations

import random
import re
from itertools import pairwise

from rarefy.policy.tasks._task import ILLEGAL, Draft, Grade, Task

_NODES = (4, 6, 8, 9, 10)
_DISTANCE = (2, 3, 4, 5, 6)
_NAMES = "abcdefghij"
_FORM = re.compile(r"g[a-j]{2}(?:,[a-j]{2})*>[a-j]{2}=")

Graph = dict[str, list[str]]


def _draw(level: int, rng: random.Random) -> Draft:
    nodes = rng.sample(_NAMES, _NODES[level - 1])
    way = nodes[: _DISTANCE[level - 1] + 1]
    edges = [a + b for a, b in pairwise(way)]
    # The others hang on what is there, then as many edges more as leave the way the only shortest.
    for i in range(len(way), len(nodes)):
        edges.append(nodes[i] + rng.choice(nodes[:i]))
    for _ in range(len(nodes) // 2):
        more = "".join(rng.sample(nodes, 2))
        if more not in edges and more[::-1] not in edges:
            longer = _graph([*edges, more])
            if len(_layers(longer, way[0], way[-1])) == len(way) - 1 and _count(longer, way) == 1:
                edges.append(more)
    rng.shuffle(edges)
    shown = ["".join(rng.sample(edge, 2)) for edge in edges]
    layers = _layers(_graph(shown), way[0], way[-1])
    trace = ";".join(",".join(layer) for layer in layers)
    return Draft(f"g{','.join(shown)}>{way[0]}{way[-1]}=", trace, "".join(way))


def _graph(edges: list[str]) -> Graph:
    graph: Graph = {}
    for edge in edges:
        a, b = edge[0], edge[1]
        graph.setdefault(a, []).append(b)
        graph.setdefault(b, []).append(a)
    return graph


def _layers(graph: Graph, start: str, end: str) -> list[list[str]]:
    """Edges to new nodes, by layers, until the end is reached: as many layers as edges to it."""
    seen, frontier, layers = {start}, [start], []
    while frontier and end not in seen:
        layer = []
        for node in frontier:
            for neighbour in sorted(graph.get(node, ())):
                if neighbour not in seen:
                    seen.add(neighbour)
                    layer.append(node + neighbour)
        layers.append(layer)
        frontier = [edge[1] for edge in layer]
    return layers


def _count(graph: Graph, way: list[str]) -> int:
    """Ways of ``len(way) - 1`` edges from the first to the last node of the way."""
    counts = {way[0]: 1}
    for _ in way[1:]:
        following: dict[str, int] = {}
        for node, count in counts.items():
            for neighbour in graph[node]:
                following[neighbour] = following.get(neighbour, 0) + count
        counts = following
    return counts.get(way[-1], 0)


def _read(prompt: str) -> tuple[Graph, str, str]:
    edges, _, ends = prompt[1:-1].partition(">")
    return _graph(edges.split(",")), ends[0], ends[1]


def _grade(prompt: str, answer: str) -> Grade:
    graph, start, end = _read(prompt)
    if len(answer) < 2 or answer[0] != start or answer[-1] != end:
        return ILLEGAL
    kept = sum(b in graph.get(a, ()) for a, b in pairwise(answer))
    steps = len(answer) - 1
    return Grade(kept / steps, len(_layers(graph, start, end)) / steps)


def _difficulty(prompt: str) -> float:
    return len(_layers(*_read(prompt)))


PATH = Task("path", _FORM, _draw, _grade, _difficulty)
