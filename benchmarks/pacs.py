"""A step of PACS beside one of GRPO and of PPO, whose critic is a second model.

Rollouts included: 16 prompts of countdown, 8 completions of each by the shipped policy, 4
mini-batches. The learning rate is 0, so that all contenders sample and learn from the same
completions. One thread; ratios over 1 mean that PACS is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.policy import GRPO, PolicyTrainer, TaskProblems
from rarefy.policy.pacs import PACS
from rarefy.policy.ppo import PPO
from rarefy.policy.tasks import COUNTDOWN, verified


def rows() -> list[dict[str, Any]]:
    """PACS and each of the two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ours, grpo, ppo = interleaved(
            *(_step(name) for name in ("PACS", "GRPO", "PPO")), repeats=9, warmup=1
        )
    finally:
        torch.set_num_threads(threads)
    return [
        row("policy.pacs.step", "GRPO", ours, grpo, goal=0.95),
        row("policy.pacs.step", "PPO", ours, ppo, goal=1.25),
    ]


def _step(name: str) -> Callable[[], Any]:
    model, tokenizer = open_model(SHIPPED / "policy")
    trainer = PolicyTrainer(
        model,
        tokenizer,
        TaskProblems({(COUNTDOWN, 2): 0.25, (COUNTDOWN, 3): 0.25, (COUNTDOWN, 4): 0.5}, seed=0),
        reward=verified,
        objective={"PACS": PACS, "GRPO": GRPO}[name]() if name != "PPO" else PPO(model),
        max_new_tokens=40,
        minibatches=4,
        learning_rate=0.0,
    )
    return lambda: trainer.train(trainer.step + 1)
