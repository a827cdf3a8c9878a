"""Allocation against the loop of the public Erdos-Renyi codes; 10,000 layers."""

from __future__ import annotations

import math
import random
from typing import Any

from _timing import median_ratio
from rarefy.budget import ErdosRenyiKernel

Shapes = dict[str, tuple[int, ...]]


def rows() -> list[dict[str, Any]]:
    """One row per case; milliseconds. The limit of our own is 50 ms."""
    found = []
    for density in (0.05, 0.5):
        shapes = _shapes(10_000)
        rule = ErdosRenyiKernel()
        ours, theirs, ratio = median_ratio(
            lambda rule=rule, shapes=shapes, density=density: rule(shapes, density=density),
            lambda shapes=shapes, density=density: _loop(shapes, density),
            repeats=5,
            warmup=1,
        )
        found.append(
            {
                "name": f"budget.erdos-renyi-kernel.10k-layers-{density}",
                "peer": "loop of the public RigL and Random_Pruning codes",
                "ours": ours * 1e3,
                "theirs": theirs * 1e3,
                "unit": "ms",
                "ratio": ratio,
                "goal": 1.0,
            }
        )
    return found


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
