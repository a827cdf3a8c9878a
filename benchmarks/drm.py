"""What DRM costs: scoring 1,024 completions, and a step of GRPO with and without it.

The first row's "peer" is the second that card 19 allows; the second's is the same step without
scores of the reasoning, held to a ratio of 0.8: a quarter of a step more. All use one thread but
the scoring, which has the two that the card speaks of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from _timing import interleaved, row
from rarefy.models.opening import SHIPPED
from rarefy.policy import GRPO, PolicyTrainer, Sampler, TaskProblems, generate, plain
from rarefy.policy.drm import DRM, WithReasoning
from rarefy.policy.tasks import COUNTDOWN
from rarefy.rewards.dimensions import Coherence, Confidence, DimensionReward, Relevance
from rarefy.rewards.judge import TraceJudge

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

G = 8


def rows() -> list[dict[str, Any]]:
    """Scoring, then a step."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        scoring = scoring_row()
        torch.set_num_threads(1)
        return [scoring, step_row()]
    finally:
        torch.set_num_threads(threads)


def scoring_row() -> dict[str, Any]:
    """128 problems of countdown, eight completions each, three dimensions."""
    model, tokenizer = _policy()
    problems = TaskProblems({(COUNTDOWN, 3): 1.0}, seed=0).draw(128)
    rollout = generate(
        model,
        [tokenizer(problem.prompt)["input_ids"] for problem in problems],
        max_new_tokens=32,
        n_completions=G,
        generator=torch.Generator().manual_seed(0),
    )
    reward = _reward(tokenizer)
    prompts = [problem.prompt for problem in problems for _ in range(G)]
    texts, ids = rollout.text(tokenizer), rollout.completions()
    logps = [
        values[: len(tokens)] for values, tokens in zip(rollout.logps.tolist(), ids, strict=True)
    ]
    # The judge remembers its last batch; half the runs see another one, so none is remembered.
    half = len(prompts) // 2
    parts = [slice(0, half), slice(half, None)]

    def score() -> None:
        for part in parts:
            reward(prompts[part], texts[part], ids[part], logps=logps[part])

    (seconds,) = interleaved(score, repeats=5, warmup=1)
    return row("policy.drm.score_1024", "one second", seconds, 1.0, goal=1.0)


def step_row() -> dict[str, Any]:
    """16 prompts by 8 completions in 4 mini-batches, with the same problems and completions."""
    tokenizer = _policy()[1]
    with_scores = _trainer(DRM(), WithReasoning(_reward(tokenizer)))
    without = _trainer(GRPO(), plain)

    def step_of(trainer: PolicyTrainer) -> None:
        trainer.train(trainer.step + 1)

    ours, theirs = interleaved(
        lambda: step_of(with_scores), lambda: step_of(without), repeats=9, warmup=2
    )
    return row("policy.drm.step", "GRPO without DRM", ours, theirs, goal=0.8)


def _policy() -> tuple[Any, PreTrainedTokenizerBase]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = SHIPPED / "policy"
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def _reward(tokenizer: PreTrainedTokenizerBase) -> DimensionReward:
    judge = TraceJudge.shipped()
    relevance = Relevance({"QR": judge.follows, "RA": judge.entails}, pairs=("QR", "RA"))
    return DimensionReward(
        [Confidence(), relevance, Coherence(judge.coherence)], group_size=G, tokenizer=tokenizer
    )


def _trainer(objective: GRPO, sampler: Sampler) -> PolicyTrainer:
    # A learning rate of nothing, so that both sample the same completions throughout.
    model, tokenizer = _policy()
    return PolicyTrainer(
        model,
        tokenizer,
        TaskProblems({(COUNTDOWN, 3): 1.0}, seed=0),
        reward=COUNTDOWN.reward,
        objective=objective,
        sampler=sampler,
        max_new_tokens=32,
        group_size=G,
        minibatches=4,
        learning_rate=0.0,
    )
