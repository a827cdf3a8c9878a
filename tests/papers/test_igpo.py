"""Paper 14: the recipe runs, its claims speak of what is measured, and its arms are as said."""

import random

import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _igpo_training as training
from rarefy.papers import igpo as recipe
from rarefy.papers._igpo_claims import (
    FULL_ONLY,
    GRPO,
    IGPO,
    NOISY,
    RESAMPLED,
    SFT,
    START,
    WHOLE,
)
from rarefy.papers._recipe import Trial
from rarefy.policy.tasks import COUNTDOWN, without_hint
from rarefy.policy.trainer import plain


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"premise", "c1", "c2", "c3", "c4", "c5", "c6", "c7"} <= ids


def test_an_arm_trained_alone_gives_the_same_numbers(smoke):
    plan = training.Plan(steps=1, prompts=2, sft_steps=1, held_out=2)
    again = training.all_arms([IGPO], seed=0, plan=plan, pooled=False)[IGPO]
    for metric, value in smoke[IGPO].items():
        assert metric.startswith("clock") or again[metric] == value, metric


def test_arms_compared_at_equal_samples_draw_as_many_where_all_is_wrong(smoke):
    assert smoke[GRPO]["rollouts"] == 16
    assert smoke[RESAMPLED]["rollouts"] == smoke[IGPO]["rollouts"] > 16


def test_arms_differ_in_what_is_given():
    assert training.sampler(GRPO) is plain
    assert training.sampler(RESAMPLED).eta == (0, 0) and training.sampler(WHOLE).eta == (1, 1)
    assert training.sampler(IGPO).eta == (0.2, 0.6) and training.sampler(NOISY).tau == 0.2


def test_arms_of_a_seed_see_the_same_problems_and_noise_is_in_the_traces_only():
    clean, noisy = training.problems(3).draw(40), training.problems(3, noisy=True).draw(40)
    assert [p.prompt for p in clean] == [p.prompt for p in noisy]
    digits = changed = 0
    for ours, theirs in zip(clean, noisy, strict=True):
        assert len(ours.trace) == len(theirs.trace) and ours.answer == theirs.answer
        for a, b in zip(ours.trace, theirs.trace, strict=True):
            assert a == b or (a.isdigit() and b.isdigit())
            digits += a.isdigit()
            changed += a != b
    assert changed / digits == pytest.approx(0.2, abs=0.07)


def test_padded_traces_say_the_same_in_more_tokens_and_fit():
    rng = random.Random(0)
    for level in (2, 3, 4):
        for _ in range(200):
            problem = COUNTDOWN.sample(level, rng)
            longer = training.padded(problem)
            assert len(problem.completion) < len(longer) < training.CANVAS.length
            assert COUNTDOWN.verify(problem.prompt, longer) == 1
    assert training._equal_tokens(100, 0) < 95


def test_held_out_problems_are_of_the_evaluation_split():
    plan = training.Plan(steps=1, prompts=2, sft_steps=1, held_out=30)
    held = {p.prompt for p in training.held_out(0, plan)}
    trained = {without_hint(p.prompt) for p in training.problems(0).draw(500)}
    assert not held & trained


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    drawn = recipe.figure(measured)
    assert len(drawn.axes) == 2
    assert START in [label.get_text() for label in drawn.axes[0].get_yticklabels()]


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        recipe.setup(trial, steps=0)


def test_no_claim_speaks_of_an_arm_that_three_minutes_leave_out(monkeypatch):
    seen = []
    monkeypatch.setattr(
        training, "all_arms", lambda arms, **given: (seen.append((arms, given["pooled"])), {})[1]
    )
    trial = Trial(seed=0, scale="default")
    shared = recipe.setup(trial)
    ((arms, pooled),) = seen
    trained = {*arms, SFT}
    assert pooled and trained == set(recipe.PAPER.arms) - set(FULL_ONLY)
    for claim in recipe.PAPER.claims:
        assert {claim.arm, claim.versus or claim.arm} <= trained
    assert recipe.measure(NOISY, shared, trial) == {}
