"""Paper 19: the recipe runs, its claims speak of what is measured, and its figures are as said."""

import random

import numpy as np
import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _drm_scorers as scorers
from rarefy.papers import drm as recipe
from rarefy.policy.tasks import COUNTDOWN


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    assert {claim.id.split("-")[0] for claim in recipe.PAPER.claims} == {
        f"c{i}" for i in range(1, 6)
    }


def sample(right, valid, scores):
    """Groups of eight of one task and level, each dimension with the same scores."""
    n = len(right)
    problem = COUNTDOWN.sample(2, random.Random(0))
    return scorers.Sample(
        [problem] * (n // 8),
        [f"3#{i % 3}" for i in range(n)],
        dict.fromkeys([*scorers.DIMENSIONS, "lexical", "per-step", "shortest"], np.array(scores)),
        np.array(right, dtype=bool),
        np.array(valid, dtype=bool),
        np.arange(n) // 8,
        np.zeros(n, dtype=np.int64),
    )


def test_the_studys_figures_are_those_of_a_hand_count():
    right = [1, 0, 0, 0, 0, 0, 0, 0] + [1, 1, 1, 1, 0, 0, 0, 0]
    valid = [1, 0, 0, 0, 0, 0, 0, 0] + [0, 0, 1, 0, 1, 0, 0, 0]
    scores = [7.0, 9, 1, 2, 3, 4, 5, 6] + [8.0, 7, 6, 5, 4, 3, 2, 1]
    found = scorers.measured(sample(right, valid, scores))
    # The first group's best is wrong; its right one beats six of seven. The second is in order.
    assert found["DRM"]["best_of_8"] == 0.5
    assert found["DRM"]["auc_right"] == pytest.approx((6 + 16) / (7 + 16))
    # Right: 7, 8, 7, 6, 5; valid of those: 7 and 6, which win 1 + .5 and 1 of 3 each.
    assert found["confidence"]["auc_valid"] == pytest.approx((1.5 + 1) / 6)
    assert found["verifier"]["auc_valid"] == 0.5 and found["verifier"]["best_of_8"] == 1.0
    assert found["DRM"]["flawed"] == 3 / 5
    assert found["random"] == {"best_of_8": 5 / 16, "valid_of_8": 3 / 16}
    # Answers go 0, 1, 2, ...: of 0 and 1 three each, and 0 is the first.
    assert found["majority"]["best_of_8"] == np.mean([right[0], right[8 + 1]])


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    from rarefy.papers._drm_training import job

    again = job("answer", steps=2, eta=1.0, seed=0, evaluated=3, completions=2)["answer"]
    assert again == smoke["answer"]


def test_the_figure_draws(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    assert len(recipe.figure(measured).axes) == 4


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="problems must be at least 8, got 3"):
        recipe.setup(trial, problems=3)
    with pytest.raises(ValueError, match="steps must be at least 2"):
        recipe.setup(trial, steps=1)
