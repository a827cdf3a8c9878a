"""What N:M training adds to a step: a feed-forward pair of 512 and 2,048, 1,024 tokens, one thread.

Contenders take turns, so that they share whatever the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import nn

from rarefy.operators import NM
from rarefy.papers._recipe import Trial
from rarefy.papers._threads import one_thread
from rarefy.weights import MdGf, NMTraining

PATTERNS = (NM(2, 4), NM(1, 8), NM(1, 32))


def measure_cost(trial: Trial) -> dict[str, float]:
    """Seconds of a training step at each pattern over those of a dense one."""
    with one_thread():
        steps = [_step(trial, pattern) for pattern in (None, *PATTERNS)]
        best = [float("inf")] * len(steps)
        # The first turn warms up.
        for turn in range(trial.pick(smoke=2, default=3, full=10)):
            for i, step in enumerate(steps):
                start = time.perf_counter()
                step()
                if turn:
                    best[i] = min(best[i], time.perf_counter() - start)
    return {
        f"clock_step_{p.n}_{p.m}": seconds / best[0]
        for p, seconds in zip(PATTERNS, best[1:], strict=True)
    }


def _step(trial: Trial, pattern: NM | None) -> Callable[[], None]:
    width = trial.pick(smoke=64, default=512, full=512)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        pair = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
    x = torch.randn(1024, width, generator=trial.generator())
    optimizer = torch.optim.AdamW(pair.parameters(), lr=1e-4, fused=True)
    if pattern is not None:
        # So many steps that the mask is soft in all that are timed: the dearest moment.
        NMTraining(pair, pattern, optimizer, rule=MdGf(), steps=1000)

    def step() -> None:
        optimizer.zero_grad()
        pair(x).square().mean().backward()
        optimizer.step()

    return step
