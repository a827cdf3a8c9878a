"""A step of GHPO beside one of GRPO, by the completions each rolled out.

Hinting may cost its extra rollouts and at most a tenth more. Both train the shipped policy at a
rate of zero, on the same problems, so that each step has as many hard groups as the last. Ours and
theirs are seconds for each completion; one thread.
"""

from __future__ import annotations

from typing import Any

import torch

from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, PolicyTrainer, TaskProblems
from rarefy.policy.hints import HintPolicy
from rarefy.policy.tasks import COUNTDOWN, verified
from rarefy.policy.trainer import Sampler, plain


def rows() -> list[dict[str, Any]]:
    """One comparison; a ratio above 1 means a completion costs less with hints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [_step()]
    finally:
        torch.set_num_threads(threads)


def _step() -> dict[str, Any]:
    ours, theirs = _trainer(HintPolicy(cold_start=0)), _trainer(plain)
    seconds = interleaved(
        lambda: ours.train(ours.step + 1),
        lambda: theirs.train(theirs.step + 1),
        repeats=7,
        warmup=1,
    )
    each = [
        taken * trainer.step / trainer.n_rollouts
        for taken, trainer in zip(seconds, (ours, theirs), strict=True)
    ]
    return row("ghpo.step", "our GRPO, for each completion", each[0], each[1], goal=1 / 1.1)


def _trainer(sampler: Sampler) -> PolicyTrainer:
    return PolicyTrainer(
        *open_model(SHIPPED / "policy"),
        TaskProblems({(COUNTDOWN, 2): 1, (COUNTDOWN, 3): 1, (COUNTDOWN, 4): 2}, seed=0),
        reward=verified,
        objective=GRPO(),
        sampler=sampler,
        max_new_tokens=32,
        minibatches=4,
        learning_rate=0.0,
        seed=0,
    )
