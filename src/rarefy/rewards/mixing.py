r"""Several rewards as one: the weighted sum of those that apply to a row.

.. math:: r = \sum_{j :\, r_j \ne \text{None}} w_j r_j

A row that no reward applies to gets None. This is what TRL's ``GRPOTrainer`` does with a list of
reward functions and ``reward_weights`` under ``sum_then_normalize``. Departures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rarefy.rewards.functions import RewardFunction, check_rewards


@dataclass(frozen=True)
class WeightedSum:
    """A reward function that adds others up.

    Parameters
    ----------
    rewards : sequence of RewardFunction
    weights : sequence of float
        One for each.

    Raises
    ------
    ValueError
        If there is no reward, or not one weight for each; on a call, if a reward returns another
        number of values than there are completions, or a value that is not finite.

    Examples
    --------
    >>> from rarefy.rewards import RowReward
    >>> short = RowReward(lambda prompt, completion: float(len(completion) < 5))
    >>> right = RowReward(lambda prompt, completion: float(completion == "4") if prompt else None)
    >>> WeightedSum([right, short], weights=[1.0, 0.5])(["2+2=", ""], ["4", "longer"])
    [1.5, 0.0]
    """

    rewards: Sequence[RewardFunction]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if not self.rewards or len(self.rewards) != len(self.weights):
            raise ValueError(
                f"weights has {len(self.weights)} entries for {len(self.rewards)} rewards; "
                "at least one reward and one weight for each are wanted"
            )

    @property
    def __name__(self) -> str:
        """The name that trainers log the reward under."""
        return "+".join(_name(reward) for reward in self.rewards)

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score each row of the batch."""
        totals: list[float | None] = [None] * len(prompts)
        for weight, reward in zip(self.weights, self.rewards, strict=True):
            values = check_rewards(
                reward(
                    prompts=prompts,
                    completions=completions,
                    completion_ids=completion_ids,
                    **columns,
                ),
                rows=len(prompts),
                name=_name(reward),
            )
            for row, value in enumerate(values):
                if value is not None:
                    totals[row] = (totals[row] or 0.0) + weight * value
        return totals


def _name(reward: RewardFunction) -> str:
    return str(getattr(reward, "__name__", type(reward).__name__))
