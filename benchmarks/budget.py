"""Allocation against the loop of the public Erdos-Renyi codes; 10,000 layers."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Any

from _timing import median_ratio
from rarefy.budget import ErdosRenyiKernel

Shapes = dict[str, tuple[int, ...]]


def rows() -> list[dict[str, Any]]:
    """Milliseconds; one row against our own limit of 50 ms, two against the loop.

    At density 0.05 hardly a layer is full, so the loop ends after its first round; at 0.5 it does
    not.
    """
    shapes = _shapes(10_000)
    found = []
    for density, goal in ((0.05, 0.8), (0.5, 1.5)):
        ours, theirs, _ = median_ratio(
            partial(ErdosRenyiKernel(), shapes, density=density),
            partial(_loop, shapes, density),
            repeats=7,
            warmup=1,
        )
        peer = "loop of the public RigL and Random_Pruning codes"
        found.append(_row(f"erdos-renyi-kernel.{density}", peer, ours, theirs, goal))
    found.append(_row("erdos-renyi-kernel.limit", "50 ms", ours, 0.05, 1.0))
    return found


def _row(name: str, peer: str, ours: float, theirs: float, goal: float) -> dict[str, Any]:
    return {
        "name": f"budget.{name}",
        "peer": peer,
        "ours": ours * 1e3,
        "theirs": theirs * 1e3,
        "unit": "ms",
        "ratio": theirs / ours,
        "goal": goal,
    }


def _shapes(layers: int) -> Shapes:
    draw = random.Random(0)
    return {
        f"layer{i}": (draw.choice((16, 64, 256)), draw.choice((3, 64, 512)), 3, 3)[
            : draw.choice((2, 4))
        ]
        for i in range(layers)
    }


def _loop(shapes: Shapes, density: float) -> dict[str, float]:
    """Rescale the layers that are not dense until none of them would exceed density 1."""
    raw = {name: sum(shape) / math.prod(shape) for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        left, divisor = 0.0, 0.0
        for name, shape in shapes.items():
            size = math.prod(shape)
            if name in dense:
                left -= size * (1 - density)
            else:
                left += density * size
                divisor += raw[name] * size
        epsilon = left / divisor
        largest = max(value for name, value in raw.items() if name not in dense)
        if largest * epsilon <= 1:
            break
        dense |= {name for name, value in raw.items() if value == largest}
    return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
