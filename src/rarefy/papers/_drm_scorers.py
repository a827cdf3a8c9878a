"""Paper 19's first experiment: which completion would each score pick, and does it know why.

Completions of the warm start are labelled by simulation: answer right, trace valid step by step.
Scores are compared within the completions of a problem, and, where right answers with valid and
with flawed traces are told apart, within a task and level, since few problems have both.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rarefy.models.opening import SHIPPED
from rarefy.policy.rollout import Rollout, generate
from rarefy.policy.tasks import TASKS, Problem
from rarefy.policy.tasks.traces import trace_valid
from rarefy.rewards.dimensions import (
    Coherence,
    Confidence,
    DimensionReward,
    Reasoned,
    Relevance,
    standardise,
)
from rarefy.rewards.judge import TraceJudge
from rarefy.rewards.reasoning import split_reasoning
from rarefy.rewards.scorers import LexicalScorer
from rarefy.rewards.weighting import grid_search_weights, pair_accuracy

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rarefy.rewards.dimensions import Floats

G = 8
NEW_TOKENS = {"countdown": 32, "permute": 64}
DIMENSIONS = ("confidence", "relevance", "coherence")
CELLS = {
    ("countdown", 1): 0.2,
    ("countdown", 2): 0.25,
    ("countdown", 3): 0.3,
    ("permute", 3): 0.25,
}
"""Tasks and levels of the sample, and their shares."""


class Sample(NamedTuple):
    """Completions of one seed, the group of a problem side by side."""

    problems: list[Problem]
    texts: list[str]
    scores: dict[str, Floats]
    """Of each dimension and of other heuristics."""
    right: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    groups: NDArray[np.int64]
    cells: NDArray[np.int64]


@cache
def judge() -> TraceJudge:
    """Return the shipped judge, opened once a process."""
    return TraceJudge.shipped()


def warm_start() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the shipped policy, a new copy each time."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = SHIPPED / "policy"
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def dimension_reward(
    tokenizer: PreTrainedTokenizerBase, weights: Mapping[str, float] | None = None
) -> DimensionReward:
    """Return DRM's reward with the offline scorers."""
    relevance = Relevance({"QR": judge().follows, "RA": judge().entails}, pairs=("QR", "RA"))
    return DimensionReward(
        [Confidence(), relevance, Coherence(judge().coherence)],
        weights=weights,
        group_size=G,
        tokenizer=tokenizer,
    )


def sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: list[Problem],
    *,
    seed: int,
) -> Rollout:
    """Sample the groups of problems of one task."""
    return generate(
        model,
        [tokenizer(problem.prompt)["input_ids"] for problem in problems],
        max_new_tokens=NEW_TOKENS[problems[0].task],
        n_completions=G,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        generator=torch.Generator().manual_seed(seed),
    )


def labelled(n_problems: int, *, seed: int) -> Sample:
    """Sample the warm start and score and label what it says."""
    model, tokenizer = warm_start()
    reward = dimension_reward(tokenizer)
    columns: dict[str, list[np.ndarray]] = {}
    problems: list[Problem] = []
    texts: list[str] = []
    right: list[bool] = []
    cells: list[int] = []
    for cell, ((task, level), share) in enumerate(CELLS.items()):
        rng = random.Random(f"{seed} drm {task} {level}")
        n = max(2, round(share * n_problems))
        some = [TASKS[task].sample(level, rng, split="eval") for _ in range(n)]
        rollout = sample(model, tokenizer, some, seed=1000 * seed + cell)
        told = rollout.text(tokenizer)
        for name, values in scores_of(reward, some, rollout, told).items():
            columns.setdefault(name, []).append(values)
        prompts = [problem.prompt for problem in some for _ in range(G)]
        right += [
            TASKS[task].verify(prompt, text) == 1 and ended
            for prompt, text, ended in zip(prompts, told, rollout.terminated.tolist(), strict=True)
        ]
        problems += some
        texts += told
        cells += [cell] * len(told)
    valid = [
        trace_valid(problems[i // G].prompt, split_reasoning(text).reasoning)
        for i, text in enumerate(texts)
    ]
    return Sample(
        problems,
        texts,
        {name: np.concatenate(parts) for name, parts in columns.items()},
        np.array(right),
        np.array(valid),
        np.arange(len(texts)) // G,
        np.array(cells),
    )


def scores_of(
    reward: DimensionReward, problems: list[Problem], rollout: Rollout, texts: list[str]
) -> dict[str, Floats]:
    """Dimensions, and what else could pick one: length, characters in common, the worst step."""
    prompts = [problem.prompt for problem in problems for _ in range(G)]
    rows = [
        row[:length]
        for row, length in zip(rollout.logps.tolist(), rollout.lengths.tolist(), strict=True)
    ]
    reward(prompts, texts, rollout.completions(), logps=rows)
    parts = [split_reasoning(text) for text in texts]
    lexical = Relevance(LexicalScorer(analyzer="char"), pairs=("QR", "RA"))
    worst = {
        pair: min(judge().by_step(*pair))
        for pair in {(prompt, part.reasoning) for prompt, part in zip(prompts, parts, strict=True)}
    }
    found = lexical(Reasoned(prompts, parts, [[]] * len(parts)))
    return {
        **reward.scores,
        "lexical": np.where(np.isnan(found), -1.0, found),
        "per-step": np.array(
            [worst[prompt, part.reasoning] for prompt, part in zip(prompts, parts, strict=True)]
        ),
        "shortest": -np.array([float(len(text)) for text in texts]),
    }


def selectors(at: Sample) -> dict[str, tuple[Floats, Floats]]:
    """Scores that compare within a problem, and within a task and level, of each selector."""
    by_group = {name: standardise(values, at.groups) for name, values in at.scores.items()}
    by_cell = {name: standardise(values, at.cells) for name, values in at.scores.items()}

    def both(weights: Mapping[str, float]) -> tuple[Floats, Floats]:
        return (
            np.sum([w * by_group[name] for name, w in weights.items()], axis=0),
            np.sum([w * by_cell[name] for name, w in weights.items()], axis=0),
        )

    countdown = np.array([problem.task == "countdown" for problem in at.problems]).repeat(G)
    searched = grid_search_weights(
        {name: at.scores[name][countdown] for name in DIMENSIONS},
        at.right[countdown],
        at.groups[countdown],
    )
    return {
        "DRM": both(dict.fromkeys(DIMENSIONS, 1 / 3)),
        **{name: both({name: 1.0}) for name in (*DIMENSIONS, "lexical", "per-step", "shortest")},
        **{
            f"DRM without {name}": both({other: 0.5 for other in DIMENSIONS if other != name})
            for name in DIMENSIONS
        },
        "DRM, weights of countdown": both(searched.weights),
        "verifier": (at.right.astype(float), at.right.astype(float)),
    }


def measured(at: Sample) -> dict[str, dict[str, float]]:
    """Figures of each selector.

    ``best_of_8``: right answers among those picked; ``auc_right``: share of pairs of a problem, a
    right answer and a wrong one, that are put in order, and ``auc_right_permute`` of permute's
    alone; ``auc_valid``: the same of right answers with a valid and with a flawed trace.
    """
    permute = np.array([problem.task == "permute" for problem in at.problems]).repeat(G)
    figures = {}
    for name, (within, pooled) in selectors(at).items():
        chosen = within.reshape(-1, G).argmax(1) + G * np.arange(len(within) // G)
        figures[name] = {
            "best_of_8": float(at.right[chosen].mean()),
            "valid_of_8": float(at.valid[chosen].mean()),
            "auc_right": pair_accuracy(within, at.right, at.groups),
            "auc_right_permute": pair_accuracy(
                within[permute], at.right[permute], at.groups[permute]
            ),
            "auc_valid": pair_accuracy(pooled[at.right], at.valid[at.right], at.cells[at.right]),
        }
    figures["random"] = {"best_of_8": float(at.right.mean()), "valid_of_8": float(at.valid.mean())}
    figures["majority"] = {"best_of_8": _majority(at)}
    figures["DRM"]["flawed"] = float((at.right & ~at.valid).sum() / max(at.right.sum(), 1))
    return figures


def _majority(at: Sample) -> float:
    """Success of the answer that most completions of a problem give, the first of equals."""
    hits = []
    for start in range(0, len(at.texts), G):
        answers = [split_reasoning(text).answer for text in at.texts[start : start + G]]
        counts = Counter(answer for answer in answers if answer)
        most = counts.most_common(1)[0][0] if counts else ""
        hits.append(at.right[start + answers.index(most)] if most else False)
    return float(np.mean(hits))
