"""Interleaved timing: every contender runs once per round, and the medians are compared.

Two contenders timed one after the other see two different machines (another process wakes, the
clock drops). Taken in turns they share whatever the machine does, so the *ratio* of the medians
holds on a noisy machine although neither median does.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any


def interleaved(*functions: Callable[[], Any], repeats: int = 20, warmup: int = 3) -> list[float]:
    """Median seconds of each function over ``repeats`` rounds in which each runs once.

    The order turns by one place a round, so that nobody always runs behind the same neighbour
    and inherits its caches.
    """
    for _ in range(warmup):
        for function in functions:
            function()
    seconds: list[list[float]] = [[] for _ in functions]
    for round_ in range(repeats):
        for place in range(len(functions)):
            which = (round_ + place) % len(functions)
            start = perf_counter()
            functions[which]()
            seconds[which].append(perf_counter() - start)
    return [median(runs) for runs in seconds]


def median_ratio(
    ours: Callable[[], Any], theirs: Callable[[], Any], *, repeats: int = 20, warmup: int = 3
) -> tuple[float, float, float]:
    """Median seconds of ours and of theirs, and theirs / ours (over 1: ours is faster)."""
    our_seconds, their_seconds = interleaved(ours, theirs, repeats=repeats, warmup=warmup)
    return our_seconds, their_seconds, their_seconds / our_seconds


def row(
    name: str, peer: str, ours: float, theirs: float, goal: float | None = None
) -> dict[str, Any]:
    """One line of ``results.json``, in seconds; a ratio over 1 means that ours is faster."""
    return {
        "name": name,
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": theirs / ours,
        "goal": goal,
    }
