"""A step of AHPO beside one of GRPO: what imitating experts for half of the prompts costs.

Both roll out 16 x 5 completions of the same problems, half of them with a trace, none of which the
policy solves; AHPO scores the experts besides. The learning rate is too small to change the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.policy.ahpo import AHPO
from rarefy.policy.grpo import GRPO
from rarefy.policy.losses import token_mean
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import PERMUTE, REWRITE, Problem, verified
from rarefy.policy.trainer import Objective, PolicyTrainer


class HalfTold(TaskProblems):
    """Long permutations with traces, rewriting without."""

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        return [p if p.task == "permute" else replace(p, trace="") for p in super().draw(n)]


def rows() -> list[dict[str, Any]]:
    """One row: a step."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        hybrid, plain = interleaved(
            _steps(AHPO()), _steps(GRPO(reduce=token_mean)), repeats=7, warmup=1
        )
    finally:
        torch.set_num_threads(threads)
    return [row("policy.ahpo step", "GRPO step", hybrid, plain, goal=1 / 1.3)]


def _steps(objective: Objective) -> Callable[[], Any]:
    model, tokenizer = open_model(SHIPPED / "policy-general")
    trainer = PolicyTrainer(
        model,
        tokenizer,
        HalfTold({(PERMUTE, 4): 0.5, (REWRITE, 4): 0.5}, seed=0),
        reward=verified,
        objective=objective,
        max_new_tokens=54,
        n_prompts=16,
        group_size=5,
        learning_rate=1e-9,
        seed=0,
    )
    return lambda: trainer.train(trainer.step + 1)
