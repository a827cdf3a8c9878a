"""Problems of one source after another."""

import pytest

from rarefy.policy.batches import TaskProblems
from rarefy.policy.staged import StagedProblems
from rarefy.policy.tasks import COUNTDOWN


def source(level):
    return TaskProblems({(COUNTDOWN, level): 1.0}, seed=level)


def staged():
    return StagedProblems([source(1), source(2), source(4)], [3, 4])


def test_each_source_gives_its_problems_in_turn():
    alone = [*source(1).draw(3), *source(2).draw(4), *source(4).draw(5)]
    for size in (1, 2, 3, 4, 6, 12):
        problems = staged()
        drawn = [p for _ in range(12 // size) for p in problems.draw(size)]
        assert drawn == alone
    assert problems.stage == 2


def test_the_stage_is_that_of_the_next_problem():
    problems = staged()
    stages = []
    for _ in range(9):
        stages.append(problems.stage)
        problems.draw(1)
    assert stages == [0] * 3 + [1] * 4 + [2] * 2


@pytest.mark.parametrize("done", range(10))
def test_a_source_that_was_stopped_goes_on(done):
    whole, stopped, resumed = staged(), staged(), staged()
    whole.draw(done)
    stopped.draw(done)
    resumed.load_state_dict(stopped.state_dict())
    assert resumed.draw(6) == whole.draw(6)


@pytest.mark.parametrize("counts", [[], [3], [3, 4, 5], [3, 0]])
def test_stages_without_their_counts_are_refused(counts):
    with pytest.raises(ValueError, match="3 stages"):
        StagedProblems([source(1), source(2), source(4)], counts)
