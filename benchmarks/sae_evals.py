"""Judging dictionaries: the greedy edit beside all candidates formed, F1 beside scikit-learn.

Ratios over 1 mean ours is faster. ``goal`` is the ratio that the method card asks for.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.metrics import f1_score

from _timing import interleaved
from rarefy.dictionaries import feature_f1, greedy_edit

PROMPTS, FEATURES, WIDTH, CHANGES = 1000, 1024, 64, 6
NAMES, SCORED = 40, 8


def rows() -> list[dict[str, Any]]:
    """Every comparison of this part, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [greedy_row(), f1_row()]
    finally:
        torch.set_num_threads(threads)


def greedy_row() -> dict[str, Any]:
    """6 changes of 1,024 features on 1,000 prompts, against a (prompts, features, width) tensor."""
    g = torch.Generator().manual_seed(0)
    decoder = torch.randn(FEATURES, WIDTH, generator=g)
    shape = (2, PROMPTS, FEATURES)
    codes = torch.rand(shape, generator=g) * (torch.rand(shape, generator=g) < 0.02)
    source, target = codes @ decoder

    def ours() -> torch.Tensor:
        return greedy_edit(source, target, codes[0], codes[1], decoder, k=CHANGES).activations

    def theirs() -> torch.Tensor:
        moves = (codes[1] - codes[0])[:, :, None] * decoder
        edit = torch.zeros_like(source)
        each = torch.arange(PROMPTS)
        for _ in range(CHANGES):
            best = (edit[:, None] + moves - (target - source)[:, None]).norm(dim=2).argmin(1)
            edit += moves[each, best]
            moves[each, best] = 0
        return source + edit

    close = torch.isclose(ours(), theirs(), atol=1e-3).all(1).float().mean()
    # Two candidates as near as rounding are a tie, which either may take.
    if close < 0.99:
        raise RuntimeError(f"the two greedy edits agree on {close:.1%} of the prompts only")
    quick, slow = interleaved(ours, theirs, repeats=3, warmup=0)
    return _row("greedy-edit", "all candidates formed", quick, slow, goal=10.0)


def f1_row() -> dict[str, Any]:
    """8 features for 40 names on 1,000 prompts; scikit-learn scores one pair at a time."""
    g = torch.Generator().manual_seed(0)
    active = torch.rand(PROMPTS, SCORED, generator=g) < 0.1
    labels = torch.randint(NAMES, (PROMPTS,), generator=g)
    fires, named = active.numpy(), labels.numpy()

    def theirs() -> torch.Tensor:
        pairs = [
            [f1_score(named == name, fires[:, j], zero_division=0.0) for name in range(NAMES)]
            for j in range(SCORED)
        ]
        return torch.tensor(pairs)

    if not torch.allclose(feature_f1(active, labels).f1, theirs().float(), atol=1e-6):
        raise RuntimeError("F1 scores differ from scikit-learn's")
    quick, slow = interleaved(lambda: feature_f1(active, labels), theirs, repeats=3, warmup=0)
    return _row("f1", "scikit-learn f1_score", quick, slow, goal=20.0)


def _row(name: str, peer: str, ours: float, theirs: float, *, goal: float) -> dict[str, Any]:
    return {
        "name": f"dictionaries.sae-evals.{name}",
        "peer": peer,
        "ours": ours,
        "theirs": theirs,
        "unit": "s",
        "ratio": theirs / ours,
        "goal": goal,
    }
