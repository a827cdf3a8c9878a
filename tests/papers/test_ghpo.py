"""Paper 10: the recipe runs, its claims speak of what is measured, and its arms are as said."""

import math

import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import ghpo as recipe
from rarefy.papers._ghpo_claims import ARMS, CLH, DEFAULT, GHPO, GRPO, WARM
from rarefy.papers._ghpo_training import (
    Size,
    held_out,
    history_figures,
    problems_of,
    sampler_of,
    trained,
)

TINY = Size(1, 4, 1, 8)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert arm in DEFAULT
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"
            assert math.isfinite(smoke[arm][claim.metric])


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c4", "c5", "mechanism", "transfer", "control", "speed"} <= ids


def test_ghpo_rolls_out_more_and_is_compared_at_grpos_rollouts(smoke):
    assert smoke[GRPO]["n_rollouts"] == 2 * 4 * 8 < smoke[GHPO]["n_rollouts"]
    assert smoke[GHPO]["steps_matched"] < 2 == smoke[GRPO]["steps_matched"]
    for name in ("success_hard", "pass8_4"):
        assert smoke[GRPO][f"{name}_matched"] == smoke[GRPO][name]


def test_before_its_first_step_an_arm_is_the_warm_start():
    """Its one step needs more rollouts than GRPO's, so that it is compared as it began."""
    done = trained(GHPO, 0, Size(1, 8, 2, 8), model=None, learning_rate=1e-2, device="cpu")
    warm = trained(WARM, 0, Size(1, 8, 2, 8), model=None, learning_rate=1e-2, device="cpu")
    assert done["steps_matched"] == 0
    for name in ("success", "pass8"):
        assert done[f"{name}_matched"] == warm[name]


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in DEFAULT])
def test_arms_of_full_scale_run(arm):
    values = trained(arm, 0, TINY, model=None, learning_rate=1e-4, device="cpu")
    assert 0 <= values["success"] <= 1 and values["n_rollouts"] >= 16


def test_an_arm_alone_gives_the_same_numbers(smoke):
    again = trained(CLH, 0, Size(2, 4, 2, 8), model=None, learning_rate=1e-4, device="cpu")
    assert {k: v for k, v in again.items() if k != "step_seconds"} == {
        k: v for k, v in smoke[CLH].items() if k != "step_seconds"
    }


def test_the_curriculum_has_the_hardest_level_last():
    size = Size(4, 10, 1, 8)
    levels = [p.level for p in problems_of(CLH, 0, size).draw(40)]
    assert set(levels[:20]) == {2, 3} and set(levels[20:]) == {4}
    assert [p.prompt for p in problems_of(GHPO, 0, size).draw(9)] == [
        p.prompt for p in problems_of(GRPO, 0, size).draw(9)
    ]


def test_held_out_problems_have_no_hint_and_are_not_trained_on():
    asked = [p.prompt for p in held_out(0, 4, 40)]
    assert not any("~" in prompt for prompt in asked)
    drawn = {p.prompt for p in problems_of(GRPO, 0, Size(1, 1, 1, 8)).draw(400)}
    assert not drawn & set(asked)


def test_hints_wait_for_a_tenth_of_the_steps():
    assert [Size(n, 1, 1, 8).cold_start for n in (2, 20, 400)] == [0, 2, 20]
    assert sampler_of(GHPO, 7).cold_start == 7


def test_figures_of_a_history_by_hand():
    base = {"seconds": 1.0, "n_rollouts": 8.0, "n_tokens": 9.0, "mean_length": 3.0}
    rows = [
        base | {"grad_norm": 1.0, "zero_variance": 0.5, "reward_mean": 0.1, "success": 0.25},
        base
        | {"grad_norm": 3.0, "zero_variance": 0.0, "reward_mean": 0.3, "success": 0.5}
        | {"plain_success": 0.125, "all_wrong_before": 0.5, "all_wrong_after": 0.125}
        | {"hinted_0.25": 0.5, "rescued_0.25": 0.75, "hinted_success": 0.4, "all_wrong": 0.5},
    ]
    found = history_figures(rows)
    assert found["grad_norm"] == 2 and found["grad_norm_contributing"] == 2 / 0.75
    assert found["all_wrong_left"] == 0.25 and found["rescued_0.25"] == 0.75
    assert found["curve_success_1"] == 0.25 and found["curve_success_2"] == 0.125
    assert found["curve_hinted_0.25_1"] == 0 and found["curve_hinted_0.25_2"] == 0.5
    assert found["reward_late"] == 0.3 and "entropy_late" not in found


def test_the_figure_draws_arms_and_hints(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    drawn = recipe.figure(measured)
    assert [len(axes.lines) for axes in drawn.axes] == [4, 4, 3]
    assert all(len(line.get_xdata()) == 2 for axes in drawn.axes for line in axes.lines)


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        recipe.setup(trial, steps=0)
