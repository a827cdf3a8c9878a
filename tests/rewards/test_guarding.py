"""A reward that raises, hangs, dies or gives no number scores 0, and the run goes on."""

import math
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from rarefy.policy.tasks import verified
from rarefy.rewards import Guarded, RewardFunction


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let a fresh Python import this file by the name that pytest gives it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))


def moody(prompts, completions, completion_ids=None, *, answer, **columns):
    assert "trainer_state" not in columns
    values = []
    for completion, wanted in zip(completions, answer, strict=True):
        match completion:
            case "raise":
                raise KeyError("no such move")
            case "hang":
                while True:
                    pass
            case "hoard":
                values.append(float(len(bytearray(10**9)) > 0))
            case "die":
                os._exit(1)
            case "nan":
                values.append(math.nan)
            case "many":
                values.extend([1.0, 1.0])
            case "skip":
                values.append(None)
            case _:
                values.append(float(completion == wanted))
    return values


@pytest.fixture
def guarded():
    reward = Guarded(moody, seconds=0.3)
    yield reward
    reward.close()


def score(reward: RewardFunction, *completions: str):
    n = len(completions)
    return reward(
        ["?"] * n, list(completions), [[0]] * n, answer=["yes"] * n, trainer_state=object()
    )


def test_what_works_is_scored_and_what_fails_is_zero_and_counted(guarded):
    assert score(guarded, "yes", "no", "skip") == [1.0, 0.0, None]
    assert not guarded.failures
    with pytest.warns(RuntimeWarning, match="'moody' failed on 2 of 3 .* KeyError: 'no such move'"):
        assert score(guarded, "raise", "yes", "nan") == [0.0, 1.0, 0.0]
    with pytest.warns(RuntimeWarning, match="2 values for 1 completions"):
        assert score(guarded, "many") == [0.0]
    assert guarded.failures == {"raised": 3}


def test_a_hang_ends_at_the_limit_and_the_next_row_is_scored(guarded):
    score(guarded, "yes")
    began = time.perf_counter()
    with pytest.warns(RuntimeWarning, match=r"failed on 1 of 2 .* no answer within 0.3 s"):
        assert score(guarded, "hang", "yes") == [0.0, 1.0]
    assert time.perf_counter() - began > 0.3
    assert guarded.failures == {"timed out": 1}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited on Linux")
def test_memory_ends_at_the_limit_and_the_next_row_is_scored():
    reward = Guarded(moody, seconds=5, megabytes=200)
    with pytest.warns(RuntimeWarning, match="MemoryError"):
        assert reward(["q"] * 2, ["hoard", "4"], answer=["4", "4"]) == [0.0, 1.0]
    assert reward.failures == {"raised": 1}
    reward.close()
    assert Guarded(moody, seconds=5)(["q"], ["hoard"], answer=["4"]) == [1.0]
    with pytest.raises(ValueError, match="megabytes is 0"):
        Guarded(moody, megabytes=0)


def test_a_dead_process_is_replaced(guarded):
    with pytest.warns(RuntimeWarning, match="failed on 1 of 3 .* it ended its process"):
        assert score(guarded, "yes", "die", "yes") == [1.0, 0.0, 1.0]
    assert guarded.failures == {"died": 1}


def test_no_process_stays_behind(guarded):
    before = len(multiprocessing.active_children())
    score(guarded, "yes")
    assert len(multiprocessing.active_children()) == before + 1
    guarded.close()
    assert len(multiprocessing.active_children()) == before


def test_the_tasks_own_rewards_can_be_guarded():
    reward = Guarded(verified)
    assert reward.__name__ == "verified"
    assert reward(["n3,5,2>16=", "?"], ["#3+5*2", "#"]) == [1.0, None]
    reward.close()


def test_a_function_inside_another_and_a_limit_of_zero_are_refused():
    with pytest.raises(ValueError, match="a function defined at the top of a module is wanted"):
        Guarded(lambda prompts, completions: [0.0])(["?"], ["!"])
    with pytest.raises(ValueError, match="seconds is 0; a positive time limit is wanted"):
        Guarded(moody, seconds=0)
