"""Problems of one source after another: a curriculum staged by hand.

    the first n_1 problems from source 1, the next n_2 from source 2, ..., then the last for good

Source: GRPO-CL, the curriculum baseline of GHPO (arXiv 2507.10628, section 4): the easy part of the
data first, then the hard part. Departures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from rarefy.policy.batches import Problems
from rarefy.policy.tasks import Problem


class StagedProblems:
    """Draw from one source of problems until its share is done, then from the next.

    Parameters
    ----------
    stages : sequence of Problems
        From easy to hard.
    counts : sequence of int
        Problems of each stage but the last, which never ends.

    Raises
    ------
    ValueError
        If there are not one fewer counts than stages, or a count is below 1.

    Examples
    --------
    >>> from rarefy.policy import TaskProblems
    >>> from rarefy.policy.tasks import COUNTDOWN
    >>> easy, hard = (TaskProblems({(COUNTDOWN, level): 1.0}, seed=0) for level in (2, 4))
    >>> [problem.level for problem in StagedProblems([easy, hard], [3]).draw(5)]
    [2, 2, 2, 4, 4]
    """

    def __init__(self, stages: Sequence[Problems], counts: Sequence[int]) -> None:
        if len(counts) != len(stages) - 1 or any(count < 1 for count in counts):
            raise ValueError(
                f"{len(stages)} stages came with the counts {list(counts)}; at least 1 problem for "
                "each stage but the last is wanted"
            )
        self.stages = list(stages)
        self._ends = list(accumulate(counts))
        self._drawn = 0

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        problems: list[Problem] = []
        while len(problems) < n:
            wanted, stage = n - len(problems), self.stage
            if stage < len(self._ends):
                wanted = min(wanted, self._ends[stage] - self._drawn)
            problems += self.stages[stage].draw(wanted)
            self._drawn += wanted
        return problems

    @property
    def stage(self) -> int:
        """That of the next problem, from 0."""
        return sum(self._drawn >= end for end in self._ends)

    def state_dict(self) -> dict[str, Any]:
        """How many were drawn, and the state of each source."""
        return {"drawn": self._drawn, "stages": [stage.state_dict() for stage in self.stages]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another left off."""
        self._drawn = state["drawn"]
        for stage, its in zip(self.stages, state["stages"], strict=True):
            stage.load_state_dict(its)
