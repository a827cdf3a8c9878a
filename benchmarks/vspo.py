"""What VSPO adds to a step, and what rewards by stages cost.

``vspo.refill``: ours is the sampler's part of a step (values, draws, copying the groups), theirs
the whole step of the recipe's policy; the goal is a fiftieth. ``rewards.staged``: ours is the
reward of 1,000 trajectories with tool calls, theirs the 50 ms that it may take. One thread.
"""

from __future__ import annotations

import random
from typing import Any

import torch

from _timing import interleaved, row
from rarefy.models import SHIPPED, open_model
from rarefy.papers._vspo_training import ENV, PRS
from rarefy.policy.batches import Batch
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks.kbqa import KB_QA
from rarefy.policy.tools import ToolTrainer
from rarefy.policy.train_tool_policy import demonstration
from rarefy.policy.vspo import VSPO, ValueRefill

TRAJECTORIES, ALLOWED = 1000, 0.050


def rows() -> list[dict[str, Any]]:
    """Both."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [refill_row(), reward_row()]
    finally:
        torch.set_num_threads(threads)


def refill_row() -> dict[str, Any]:
    """16 tasks of 5 completions, half of them without variance."""
    model, tokenizer = open_model(SHIPPED / "policy-tools")
    trainer = ToolTrainer(
        model,
        tokenizer,
        TaskProblems({(KB_QA, 3): 1.0}, seed=0),
        reward=PRS,
        objective=VSPO(kl_coef=0.0),
        sampler=ValueRefill("none"),
        max_new_tokens=80,
        group_size=5,
        minibatches=4,
        learning_rate=1e-9,
        tools=ENV,
    )
    drawn = trainer.draw(16)
    drawn.rewards[: 8 * 5] = 0.0

    class Drawn:
        """A trainer whose rollout is done."""

        problems, generator = trainer.problems, trainer.generator
        notes: dict[str, float] = {}

        def draw(self, n: int) -> Batch:  # noqa: ARG002
            return drawn

    sampler, still, done = ValueRefill(), ValueRefill("none"), Drawn()

    def refilled() -> None:
        sampler(done, 16)  # type: ignore[arg-type]

    def left() -> None:
        still(done, 16)  # type: ignore[arg-type]

    def step() -> None:
        trainer.train(trainer.step + 1)

    with_refill, without, whole = interleaved(refilled, left, step, repeats=7, warmup=1)
    added = max(with_refill - without, 1e-9)
    return row("vspo.refill", "a step of GRPO", added, whole, goal=50.0)


def reward_row() -> dict[str, Any]:
    """Demonstrations of one to four hops, right and wrong."""
    rng = random.Random(0)
    problems = [KB_QA.sample(rng.randint(1, 4), rng) for _ in range(TRAJECTORIES)]
    prompts = [problem.prompt for problem in problems]
    answers = [problem.answer for problem in problems]
    texts = ["".join(text for text, _ in demonstration(prompt, rng)) for prompt in prompts]

    def reward() -> None:
        PRS(prompts, texts, answer=answers)

    (ours,) = interleaved(reward, repeats=15)
    return row("rewards.staged", "50 ms for 1,000", ours, ALLOWED, goal=1.0)
