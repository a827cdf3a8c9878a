"""What our TRL trainers add to a step of ``GRPOTrainer``.

Four steps each time, from the same weights and random numbers; under 5 % is held to. Left out are
trainers that generate more by design (DLER, GHPO) or read more (AHPO its experts, DRM its scores).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from _timing import interleaved, row
from _trl_trainers import train, trl_trainer


def rows() -> list[dict[str, Any]]:
    """The same objective through us, and objectives that learn from the same completions."""
    from trl import GRPOTrainer

    from rarefy.policy.trl import ObjectiveTrainer, PACSTrainer, VSPOTrainer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        kinds = [GRPOTrainer, ObjectiveTrainer, PACSTrainer, VSPOTrainer]
        runs = [partial(train, trl_trainer(kind)) for kind in kinds]
        theirs, *ours = interleaved(*runs, repeats=9, warmup=1)
    finally:
        torch.set_num_threads(threads)
    return [
        row(f"policy.trl.{kind.__name__}", "trl GRPOTrainer", seconds, theirs, goal=0.95)
        for kind, seconds in zip(kinds[1:], ours, strict=True)
    ]
