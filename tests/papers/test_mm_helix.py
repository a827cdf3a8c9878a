"""Paper 13: the recipe runs, its claims speak of what is measured, and its arms are as said."""

import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import mm_helix as recipe
from rarefy.papers._mm_helix_claims import (
    AHPO,
    DEFAULT_ARMS,
    FULL_ARMS,
    GRPO,
    HELIX,
    SFT,
    STATIC,
    WARM,
)
from rarefy.papers._mm_helix_training import METHODS, TARGET, Mixture, Size, trained
from rarefy.papers._recipe import Trial
from rarefy.policy.tasks import COUNTDOWN, verified


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c3", "c4", "i1"} <= ids


def test_the_platform_is_sound(smoke):
    assert smoke[HELIX]["problems"] == 210
    assert smoke[HELIX]["verified"] == smoke[HELIX]["accepted"] == 1


def test_arms_that_only_full_scale_runs_measure_nothing_else(smoke):
    assert all(smoke[arm] == {} for arm in FULL_ARMS)
    assert all(smoke[arm] for arm in DEFAULT_ARMS)
    assert set(METHODS) | {WARM, HELIX} == set(recipe.PAPER.arms)


def test_an_arm_trained_alone_gives_the_same_numbers(smoke):
    size = Size(steps=2, prompts=2, target_problems=2, general_problems=1, completions=8)
    again = trained(AHPO, 0, size)
    for metric, value in smoke[AHPO].items():
        assert metric.startswith("clock") or again[metric] == value, metric


def test_arms_roll_out_equally_and_imitation_not_at_all(smoke):
    assert smoke[AHPO]["rollouts"] == smoke[GRPO]["rollouts"] == 20
    assert smoke[SFT]["rollouts"] == 0


@pytest.mark.parametrize("arm", FULL_ARMS)
def test_arms_of_full_scale_train_too(arm):
    size = Size(steps=2, prompts=2, target_problems=1, general_problems=1, completions=8)
    values = trained(arm, 100, size)
    assert values["rollouts"] == (10 if arm == "SFT then GRPO" else 20)
    if arm == STATIC:
        assert values["xi_late"] == pytest.approx(1)


def test_only_target_problems_have_traces():
    problems = Mixture(seed=100).draw(60)
    told = [p for p in problems if p.trace]
    assert {p.task for p in told} == {TARGET.name} and 25 < len(told) < 47
    assert {p.task for p in problems} == {"permute", "sort", "rewrite", "countdown"}
    texts = [p.completion for p in told]
    assert verified([p.prompt for p in told], texts) == [1.0] * len(told)


def test_polished_traces_are_of_the_same_problems():
    settings = {"seed": 100, "target": COUNTDOWN, "general": False}
    plain, polished = (Mixture(**settings, branches=b).draw(30) for b in (None, 2))
    assert [p.prompt for p in plain] == [p.prompt for p in polished]
    assert sum("!" in p.trace for p in polished) > 10 and not any("!" in p.trace for p in plain)
    assert all(COUNTDOWN.verify(p.prompt, p.completion) for p in polished)


def test_bad_options():
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        recipe.setup(Trial(seed=0, scale="smoke"), steps=0)


def test_figure(smoke):
    measurements = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    drawn = recipe.figure(measurements)
    assert len(drawn.axes) == 3 and len(drawn.axes[1].lines) == 3
    assert {text.get_text() for text in drawn.axes[0].texts} >= {*(WARM, GRPO, SFT, AHPO, STATIC)}
