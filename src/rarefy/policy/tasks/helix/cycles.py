"""Cycles made of edges: what Hamiltonian cycles and shingoki's loop share.

Source: own. Departures: none.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from typing import TypeVar

N = TypeVar("N", bound=Hashable)


def adjacency(edges: Iterable[tuple[N, N]]) -> dict[N, list[N]]:
    """Neighbours of every node that has an edge."""
    near: dict[N, list[N]] = {}
    for a, b in edges:
        near.setdefault(a, []).append(b)
        near.setdefault(b, []).append(a)
    return near


def reach(near: dict[N, list[N]], start: N) -> set[N]:
    """Nodes that hang together with one."""
    seen, stack = {start}, [start]
    while stack:
        for there in near[stack.pop()]:
            if there not in seen:
                seen.add(there)
                stack.append(there)
    return seen


def closes_only_over(edges: list[tuple[N, N]], nodes: Collection[N]) -> bool:
    """Whether edges of degree at most 2 close no cycle, or one of all edges through all nodes.

    >>> triangle = [(0, 1), (1, 2), (0, 2)]
    >>> closes_only_over(triangle, [0, 1]), closes_only_over(triangle, [0, 3])
    (True, False)
    """
    near = adjacency(edges)
    left = set(near)
    while left:
        part = reach(near, next(iter(left)))
        if all(len(near[node]) == 2 for node in part):
            return len(part) == len(edges) and part.issuperset(nodes)
        left -= part
    return True


def follow(edges: Iterable[tuple[N, N]], start: N) -> list[N]:
    """Nodes of a cycle in order, from one of them."""
    near = adjacency(edges)
    way, here = [start], near[start][0]
    while here != start:
        way.append(here)
        here = next(node for node in near[here] if node != way[-2])
    return way
