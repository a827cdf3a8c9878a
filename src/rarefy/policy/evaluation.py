"""How often a policy solves held-out problems, by level: sampled success and pass@k."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from rarefy.policy.metrics import pass_at_k
from rarefy.policy.rollout import Rollout, generate
from rarefy.policy.tasks import TASKS, Problem, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Evaluation:
    """What :func:`evaluate` sampled; rows are problems, columns their completions."""

    problems: list[Problem]
    texts: list[list[str]]
    correct: NDArray[np.bool_]
    """Right and ended by itself."""
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    entropy: float
    """Mean over all sampled tokens, in nats."""

    def at(self, level: int | None = None) -> NDArray[np.bool_]:
        """Rows of a level, of all levels by default."""
        return np.array([level is None or p.level == level for p in self.problems])

    def success(self, level: int | None = None) -> float:
        """Share of right completions."""
        return float(self.correct[self.at(level)].mean())

    def pass_at(self, k: int, level: int | None = None) -> float:
        """Mean over problems of the chance that one of k completions is right."""
        rows = self.correct[self.at(level)]
        return float(np.mean([pass_at_k(len(row), int(row.sum()), k) for row in rows]))


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    max_new_tokens: int,
    n_completions: int,
    seed: int,
    temperature: float = 1.0,
    tasks: Sequence[Task] = tuple(TASKS.values()),
) -> Evaluation:
    """Sample completions of each problem and verify them.

    Parameters
    ----------
    model : transformers model
    tokenizer : transformers tokenizer
    problems : sequence of Problem
        Each of one of the ``tasks``, by name. Hints are never used.
    max_new_tokens : int
    n_completions : int
        Of each problem; ``2 k`` at least for a steady pass@k.
    seed : int
    temperature : float, default 1
    tasks : sequence of Task, default all of the suite

    Returns
    -------
    Evaluation
    """
    rollout = generate(
        model,
        [tokenizer(problem.prompt)["input_ids"] for problem in problems],
        max_new_tokens=max_new_tokens,
        n_completions=n_completions,
        temperature=temperature,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator(model.device).manual_seed(seed),
    )
    return judged(rollout, tokenizer, problems, tasks=tasks)


def judged(
    rollout: Rollout,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    tasks: Sequence[Task] = tuple(TASKS.values()),
) -> Evaluation:
    """Verify completions, however they were sampled.

    Parameters
    ----------
    rollout : Rollout
        As many completions of each problem, side by side.
    tokenizer : transformers tokenizer
    problems : sequence of Problem
        Each of one of the ``tasks``, by name.
    tasks : sequence of Task, default all of the suite

    Returns
    -------
    Evaluation
    """
    by_name = {task.name: task for task in tasks}
    n_completions = len(rollout) // len(problems)
    flat = rollout.text(tokenizer)
    texts = [flat[i * n_completions :][:n_completions] for i in range(len(problems))]
    shape = (len(problems), n_completions)
    terminated = rollout.terminated.cpu().numpy().reshape(shape)
    right = [
        [by_name[problem.task].verify(problem.prompt, text) == 1 for text in row]
        for problem, row in zip(problems, texts, strict=True)
    ]
    return Evaluation(
        list(problems),
        texts,
        np.array(right).reshape(shape) & terminated,
        rollout.lengths.cpu().numpy().reshape(shape),
        terminated,
        float(rollout.entropies.sum() / rollout.completion_mask.sum()),
    )
