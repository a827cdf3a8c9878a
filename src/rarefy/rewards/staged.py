r"""Progressive reward shaping: later stages count only once the earlier ones are met.

.. math:: R = \sum_j w_j\, s_j \prod_{l < j} \mathbf{1}[s_l \ge \theta_l], \qquad
    \sum_j w_j = R_\mathrm{max}

For a policy that calls tools: do its calls parse, is the answer where it belongs, how near is it to
a right one, what does a judge say. Each stage gives a gradient where the next is still all zero.

With gates of 1, the default, the stages are a ladder: whoever has passed one more scores no less,
and a rise of any stage never lowers the reward. With lower gates only the second holds.

Source: PRS (arXiv 2512.07478). Departures: weights and gates are not in print, so they are the
caller's. A stage that does not apply to a row (None) neither counts nor bars the way; the weights
of the others grow so that a perfect row still earns ``r_max``. A stage is only asked about rows
that reach it, so that a judge is not paid for answers that no one could read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.rewards.functions import RewardFunction, check_rewards


@dataclass(frozen=True)
class Stage:
    """One stage.

    Parameters
    ----------
    reward : RewardFunction
        In [0, 1], or None where it does not apply.
    weight : float
        Above 0, in any unit: weights are scaled to add up to the reward's maximum.
    gate : float in (0, 1], default 1
        What must be reached here for later stages to count.
    """

    reward: RewardFunction
    weight: float
    gate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(f"weight is {self.weight}; a number above 0 is wanted")
        if not 0 < self.gate <= 1:
            raise ValueError(f"gate is {self.gate}; a number above 0 and at most 1 is wanted")

    @property
    def name(self) -> str:
        """The reward's name."""
        return str(getattr(self.reward, "__name__", type(self.reward).__name__))


@dataclass(frozen=True)
class StagedReward:
    """A reward function of stages.

    Parameters
    ----------
    stages : sequence of Stage
        In the order in which they are met.
    r_max : float, default 1
        What a completion earns that is perfect at every stage.

    Examples
    --------
    >>> from rarefy.rewards import RowReward
    >>> called = RowReward(lambda prompt, completion: float("<" in completion), name="called")
    >>> right = RowReward(lambda prompt, completion: float("4" in completion), name="right")
    >>> reward = StagedReward([Stage(called, 1.0), Stage(right, 3.0)])
    >>> reward(["2+2"] * 3, ["4", "<2+2>", "<2+2>4"])
    [0.0, 0.25, 1.0]
    """

    stages: Sequence[Stage]
    r_max: float = 1.0

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty; at least one is wanted")
        if not 0 < self.r_max < math.inf:
            raise ValueError(f"r_max is {self.r_max}; a number above 0 is wanted")

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return ">".join(stage.name for stage in self.stages)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch; None where no stage applies.

        The mean of each stage, over the rows that reach it, goes to the trainer's ``log_metric``
        where there is one (TRL has it).

        Raises
        ------
        ValueError
            If a stage returns another number of values than it was asked for, or one that is
            neither None nor in [0, 1].
        """
        each: list[list[float | None]] = [[] for _ in prompts]
        rows = list(range(len(prompts)))
        for stage in self.stages:
            scores = self._ask(stage, rows, prompts, completions, completion_ids, columns)
            for row, score in zip(rows, scores, strict=True):
                each[row].append(score)
            reached = [score for score in scores if score is not None]
            if reached and "log_metric" in columns:
                columns["log_metric"](f"stage/{stage.name}", sum(reached) / len(reached))
            rows = [
                row
                for row, score in zip(rows, scores, strict=True)
                if score is None or score >= stage.gate
            ]
        weights = [stage.weight for stage in self.stages]
        gates = [stage.gate for stage in self.stages]
        return [staged(scores, weights, gates, r_max=self.r_max) for scores in each]

    def _ask(
        self,
        stage: Stage,
        rows: list[int],
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None,
        columns: dict[str, Any],
    ) -> list[float | None]:
        """The stage's scores of some of the rows."""
        if not rows:
            return []
        given: dict[str, Any] = {"completion_ids": completion_ids} | columns
        # Columns hold an entry for each row; what else a trainer passes goes on as it is.
        some = {
            name: [values[row] for row in rows]
            if isinstance(values, (list, tuple)) and len(values) == len(prompts)
            else values
            for name, values in given.items()
        }
        values = stage.reward(
            [prompts[row] for row in rows], [completions[row] for row in rows], **some
        )
        scores = check_rewards(values, rows=len(rows), name=stage.name)
        for score in scores:
            if score is not None and not 0 <= score <= 1:
                raise ValueError(
                    f"stage {stage.name!r} gave {score}; a score in [0, 1], or None where it does "
                    "not apply, is wanted"
                )
        return scores


def staged(
    scores: Sequence[float | None],
    weights: Sequence[float],
    gates: Sequence[float],
    *,
    r_max: float = 1.0,
) -> float | None:
    """The reward of one row from what its stages gave.

    Parameters
    ----------
    scores : sequence of float or None
        Of the stages in order; None where one does not apply. Those behind a stage that missed its
        gate may be left out.
    weights, gates : sequence of float
        One for each stage.
    r_max : float, default 1

    Returns
    -------
    float in [0, r_max], or None where no stage applies

    Examples
    --------
    >>> staged([1.0, 0.5, 1.0], [1, 1, 2], [1, 1, 1])
    0.375
    >>> staged([1.0, None, 0.5], [1, 1, 2], [1, 1, 1])
    0.6666666666666666
    """
    total = applicable = 0.0
    passed = True
    for stage, (weight, gate) in enumerate(zip(weights, gates, strict=True)):
        score = scores[stage] if passed else 0.0
        if score is None:
            continue
        applicable += weight
        total += weight * score
        passed = passed and score >= gate
    return r_max * total / applicable if applicable else None
