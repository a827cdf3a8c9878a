"""Rewards of length: against formulas written out, tiers against a loop, and what they refuse."""

import math
import random

import pytest

from rarefy.rewards import RowReward
from rarefy.rewards.length import Cosine, DifficultyAwareTruncation, L1Max, Laser, Truncation

EOS = 2
right = RowReward(lambda prompt, completion: float(completion == "yes"), name="right")
some = RowReward(lambda prompt, completion: None if prompt == "skip" else 1.0, name="some")


def ids(length, *, ended=True):
    return [7] * (length - 1) + [EOS if ended else 7]


def score(reward, length, *, ended=True, text="yes"):
    return reward(["q"], [text], completion_ids=[ids(length, ended=ended)])[0]


@pytest.mark.parametrize(
    ("length", "ended", "text", "expected"),
    [
        (5, True, "yes", 1.0),
        (5, False, "yes", 0.1),  # the answer is there, but it did not end
        (6, True, "yes", 0.1),  # ended, but too late
        (5, True, "no", 0.0),
        (6, False, "no", 0.0),
    ],
)
def test_truncation_asks_for_the_end_within_the_limit(length, ended, text, expected):
    shaped = Truncation(right, 5, EOS, factor=0.1)
    assert score(shaped, length, ended=ended, text=text) == pytest.approx(expected)
    if expected == 0.1:
        assert score(Truncation(right, 5, EOS), length, ended=ended, text=text) == 0


def test_any_of_several_ends_counts_and_nothing_at_all_does_not():
    shaped = Truncation(right, 5, (3, EOS))
    assert shaped(["q"] * 3, ["yes"] * 3, completion_ids=[[7, 3], [7, 7], []]) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("length", [1, 4, 10, 11, 30])
def test_rivals_are_their_formulas(length):
    n, limit = length, 10
    assert score(Laser(right, limit, alpha=0.5), n) == (1.5 if n <= limit else 1.0)
    assert score(L1Max(right, limit), n) == pytest.approx(
        min(max(1.2 / limit * (limit - n) + 0.5, 0), 1)
    )
    share = 0.5 * (1 + math.cos(math.pi * min(n / limit, 1)))
    assert score(Cosine(right, limit, low=0.2), n) == pytest.approx(0.2 + 0.8 * share)
    for reward in (Laser(right, limit), L1Max(right, limit), Cosine(right, limit)):
        assert score(reward, n, text="no") == 0


def slow_tiers(prompts, texts, completion_ids, limits, thresholds):
    """Row by row, looking for its group each time."""
    scores = []
    for prompt, text, row in zip(prompts, texts, completion_ids, strict=True):
        group = [
            t == "yes" and len(i) <= limits[0] and i[-1] == EOS
            for p, t, i in zip(prompts, texts, completion_ids, strict=True)
            if p == prompt
        ]
        limit = limits[0]
        for threshold, shorter in zip(thresholds, limits[1:], strict=True):
            if sum(group) / len(group) >= threshold:
                limit = shorter
        scores.append(float(text == "yes" and len(row) <= limit and row[-1] == EOS))
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_tiers_equal_a_slow_loop_in_any_order_of_rows(seed):
    rng = random.Random(seed)
    prompts = [f"p{i}" for i in range(6) for _ in range(4)]
    rng.shuffle(prompts)
    texts = [rng.choice(["yes", "yes", "no"]) for _ in prompts]
    rows = [ids(rng.randint(1, 12), ended=rng.random() < 0.8) for _ in prompts]
    limits, thresholds = (10, 7, 3), (0.25, 0.75)
    shaped = DifficultyAwareTruncation(right, limits, thresholds, EOS)
    assert shaped(prompts, texts, rows) == slow_tiers(prompts, texts, rows, limits, thresholds)


def test_none_stays_none():
    rows = [ids(2), ids(2)]
    for shaped in (
        Truncation(some, 5, EOS),
        DifficultyAwareTruncation(some, (5, 3), (0.5,), EOS),
        Laser(some, 5),
    ):
        assert shaped(["skip", "q"], ["a", "b"], rows)[0] is None
        assert shaped(["skip", "q"], ["a", "b"], rows)[1] is not None


def test_columns_reach_the_inner_reward():
    same = RowReward(lambda p, c, answer: float(c == answer), columns=("answer",), name="same")
    shaped = Truncation(same, 5, EOS)
    assert shaped(["q", "q"], ["a", "b"], [ids(2)] * 2, answer=["a", "a"]) == [1.0, 0.0]
    assert shaped.__name__ == "same_truncation"


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match="completion_ids has none rows for 1 prompts"):
        Truncation(right, 5, EOS)(["q"], ["yes"])
    with pytest.raises(ValueError, match="completion_ids has 2 rows for 1 prompts"):
        Laser(right, 5)(["q"], ["yes"], [ids(1)] * 2)
    with pytest.raises(ValueError, match="limit is 0"):
        Cosine(right, 0)
    for limits, thresholds, message in (
        ((5,), (), "there are 1 limits and 0 thresholds"),
        ((5, 6), (0.5,), "falling numbers"),
        ((5, 4, 3), (0.5, 0.5), "rising shares"),
    ):
        with pytest.raises(ValueError, match=message):
            DifficultyAwareTruncation(right, limits, thresholds, EOS)
