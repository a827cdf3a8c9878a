"""Rewards by stages: the ladder by exhaustion, stages that do not apply, who is asked about."""

from itertools import product

import pytest

from rarefy.rewards import RowReward
from rarefy.rewards.staged import Stage, StagedReward, staged

GRID = (0.0, 0.25, 0.5, 1.0)
WEIGHTS = (0.2, 0.3, 0.5)


def passed(scores, gates):
    """Stages passed before the first that misses its gate."""
    return next((i for i, s in enumerate(scores) if s < gates[i]), len(scores))


def fixed(name, log=None):
    """A stage that reads its score from a column, and logs how many rows it was asked about."""

    def score(prompt, completion, value):
        if log is not None:
            log.append((name, completion))
        return value

    return RowReward(score, columns=(name,), name=name)


def test_with_gates_of_one_a_further_stage_never_scores_less():
    gates = (1.0, 1.0, 1.0)
    rows = [(passed(s, gates), staged(s, WEIGHTS, gates)) for s in product(GRID, repeat=3)]
    for stage, reward in rows:
        assert all(reward >= other for before, other in rows if before < stage)


@pytest.mark.parametrize("gates", [(1.0, 1.0, 1.0), (0.5, 0.25, 1.0)])
def test_a_rise_at_any_stage_never_lowers_the_reward(gates):
    for scores in product(GRID, repeat=3):
        for stage, higher in product(range(3), GRID):
            if higher > scores[stage]:
                risen = (*scores[:stage], higher, *scores[stage + 1 :])
                assert staged(risen, WEIGHTS, gates) >= staged(scores, WEIGHTS, gates)


def test_it_is_the_formula():
    gates = (0.5, 1.0, 0.25)
    for scores in product(GRID, repeat=3):
        expected = sum(
            w * s * all(scores[k] >= gates[k] for k in range(j))
            for j, (w, s) in enumerate(zip(WEIGHTS, scores, strict=True))
        )
        assert staged(scores, WEIGHTS, gates, r_max=2.0) == pytest.approx(2 * expected)


def test_a_stage_that_does_not_apply_is_skipped_and_bars_nobody():
    assert staged([1.0, None, 1.0], WEIGHTS, (1, 1, 1)) == 1
    assert staged([1.0, None, 0.0], WEIGHTS, (1, 1, 1)) == pytest.approx(0.2 / 0.7)
    assert staged([None, None, None], WEIGHTS, (1, 1, 1)) is None


def test_a_batch_is_its_rows_and_stages_are_asked_of_those_that_reach_them():
    asked = []
    reward = StagedReward([Stage(fixed(name, asked), w) for name, w in zip("abc", WEIGHTS,
                                                                        strict=True)])  # fmt: skip
    columns = {"a": [1.0, 0.5, 1.0, None], "b": [1.0, 1.0, 0.0, 1.0], "c": [0.5, 1.0, 1.0, None]}
    logged = {}
    added = {"trainer_state": object(), "log_metric": logged.__setitem__}
    rewards = reward(["p"] * 4, ["w", "x", "y", "z"], **columns, **added)
    expected = [staged([columns[s][i] for s in "abc"], WEIGHTS, (1, 1, 1)) for i in range(4)]
    assert rewards == pytest.approx(expected)
    assert [row for name, row in asked if name == "c"] == ["w", "z"]
    assert logged == {"stage/a": 2.5 / 3, "stage/b": 2 / 3, "stage/c": 0.5}


def test_weights_are_in_any_unit():
    small, large = ([Stage(fixed("a"), w), Stage(fixed("b"), 3 * w)] for w in (0.1, 7.0))
    columns = {"a": [1.0], "b": [0.5]}
    assert StagedReward(small)(["p"], ["c"], **columns) == StagedReward(large)(
        ["p"], ["c"], **columns
    )


def test_bad_input_is_refused():
    for weight, gate in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.5), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="above 0"):
            Stage(fixed("a"), weight, gate)
    with pytest.raises(ValueError, match="stages is empty"):
        StagedReward([])
    with pytest.raises(ValueError, match="r_max is 0"):
        StagedReward([Stage(fixed("a"), 1.0)], r_max=0)
    with pytest.raises(ValueError, match="stage 'a' gave 1.5"):
        StagedReward([Stage(fixed("a"), 1.0)])(["p"], ["c"], a=[1.5])
    with pytest.raises(ValueError, match="returned 1 values for 2"):
        StagedReward([Stage(lambda prompts, completions, **_: [1.0], 1.0)])(["p"] * 2, ["c"] * 2)
