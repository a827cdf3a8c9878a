"""Reward functions: rows, columns, what is refused; sums as TRL forms them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.rewards import RowReward, WeightedSum, check_rewards


def matches(prompt, completion, answer):
    return None if answer is None else float(completion == answer)


def test_a_row_reward_takes_its_columns_in_order_and_ignores_the_rest():
    reward = RowReward(matches, columns=("answer",))
    assert reward.__name__ == "matches"
    values = reward(["a", "b", "c"], ["1", "2", "3"], answer=["1", "3", None], level=[1, 2, 3])
    assert values == [1.0, 0.0, None]


def test_missing_columns_and_lengths_that_differ_are_named():
    reward = RowReward(matches, columns=("answer",))
    with pytest.raises(ValueError, match=r"needs the column 'answer'; the batch has \['level'\]"):
        reward(["a"], ["1"], level=[1])
    with pytest.raises(ValueError, match="answer has 1 rows; there are 2 prompts"):
        reward(["a", "b"], ["1", "2"], answer=["1"])
    with pytest.raises(ValueError, match="completions has 1 rows; there are 2 prompts"):
        reward(["a", "b"], ["1"], answer=["1", "2"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0], "returned 1 values for 2 completions"),
        (1.0, "returned 1.0; a list is wanted"),
        ([0.0, math.nan], "gave nan in row 1"),
        ([math.inf, 0.0], "gave inf in row 0"),
        ([0.0, "good"], "gave 'good' in row 1"),
    ],
)
def test_what_is_no_list_of_rewards_is_refused(values, message):
    with pytest.raises(ValueError, match=f"reward 'mine' {message}"):
        check_rewards(values, rows=2, name="mine")


def test_tensors_and_integers_are_rewards():
    values = check_rewards(torch.tensor([1, 0]), rows=2, name="mine")
    assert values == [1.0, 0.0] and all(type(value) is float for value in values)


@given(
    st.lists(
        st.tuples(st.floats(-3, 3), st.lists(st.none() | st.floats(-9, 9), min_size=3, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_a_weighted_sum_is_the_one_trl_forms(drawn):
    weights = [weight for weight, _ in drawn]
    columns = [values for _, values in drawn]
    rewards = [lambda prompts, completions, v=v, **_: v for v in columns]
    ours = WeightedSum(rewards, weights=weights)(["?"] * 3, ["!"] * 3)
    # GRPOTrainer: None becomes NaN, and nansum runs over the weighted functions.
    per_function = torch.tensor(
        [[math.nan if x is None else x for x in values] for values in columns], dtype=torch.float64
    ).T
    theirs = (per_function * torch.tensor(weights, dtype=torch.float64)).nansum(dim=1)
    for row, value in enumerate(ours):
        assert (value is None) == bool(per_function[row].isnan().all())
        assert (value or 0.0) == pytest.approx(float(theirs[row]), abs=1e-9)


def test_a_sum_wants_a_weight_for_each_reward_and_finite_values():
    with pytest.raises(ValueError, match="weights has 1 entries for 2 rewards"):
        WeightedSum([matches, matches], weights=[1.0])
    broken = WeightedSum([RowReward(lambda p, c: math.nan, name="mine")], weights=[1.0])
    with pytest.raises(ValueError, match="reward 'mine' gave nan in row 0"):
        broken(["?"], ["!"])
