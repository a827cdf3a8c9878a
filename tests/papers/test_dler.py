"""Paper 9: the recipe runs, its claims speak of what is measured, and its arms differ as said."""

import random

import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.models.opening import SHIPPED, open_model
from rarefy.papers import dler as recipe
from rarefy.papers._dler_claims import DA, DLER_ARM, GRPO_ARM, MERGED, WARM
from rarefy.papers._dler_training import Effort, Watched, held_out, measure_start
from rarefy.policy.dler import DLER
from rarefy.policy.tasks import COUNTDOWN, spans
from rarefy.policy.train_verbose_policy import examples_at, verbose_trace

TINY = Effort(
    tokens=1,
    more_tokens=1,
    n_prompts=4,
    group_size=4,
    n_problems=4,
    n_completions=2,
    learning_rate=2e-4,
)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c3", "c4", "c5", "c6", "c7", "c8", "c9"} <= ids


def test_arms_generate_equally_many_tokens_to_a_round(smoke, shared):
    first = smoke[GRPO_ARM]
    round_of = first["rollouts"] / first["steps"] * shared.limit
    # Dynamic sampling ends a step only when its batch is full: eight rounds at most.
    assert first["tokens"] <= smoke[DLER_ARM]["tokens"] + round_of
    assert smoke[DLER_ARM]["tokens"] <= first["tokens"] + 8 * round_of


def test_the_merge_and_the_continuation_are_neither_start_nor_end(smoke):
    assert smoke[WARM]["limit"] < smoke[WARM]["median_length"]
    for arm in (MERGED, DA):
        assert {"accuracy", "length", "pass_8"} <= set(smoke[arm])


def test_tighter_limits_leave_fewer_groups_with_anything():
    values = measure_start(3, TINY).values
    assert values["all_zero_60"] >= values["all_zero_80"] >= values["all_zero_100"]


def test_held_out_problems_are_those_of_the_seed():
    assert held_out(5, 3) == held_out(5, 3) != held_out(6, 3)
    assert len(held_out(5, 3)) == 6


def test_what_the_upper_clip_hits_is_watched():
    from types import SimpleNamespace

    mask = torch.tensor([[True, True], [True, False]])
    rollout = SimpleNamespace(
        completion_mask=mask,
        logps=torch.tensor([[0.1, 0.5], [0.25, 1.0]]).log(),
        entropies=torch.tensor([[2.0, 1.0], [0.5, 0.0]]),
    )
    batch = SimpleNamespace(rollout=rollout, advantages=torch.tensor([1.0, -1.0]), ref_logps=None)
    # Token (0, 0) rises by half; (1, 0) doubles, but its advantage is negative.
    now = torch.tensor([[0.15, 0.5], [0.5, 1.0]]).log()
    watched = Watched(DLER(kl_coef=0.0))
    watched.loss(SimpleNamespace(logps=now), batch, None)
    assert watched.values() == {
        "clipped_high": pytest.approx(1 / 3),
        "clipped_rarer": pytest.approx((0.5 + 0.25) / 2 - 0.1),
        "clipped_less_certain": pytest.approx(2.0 - 0.75),
    }


def test_a_verbose_trace_says_the_same():
    rng = random.Random(0)
    for _ in range(50):
        trace = COUNTDOWN.sample(3, rng).trace
        told = verbose_trace(trace, rng).split(";")
        assert [step for step in told if step[0] != "?"] == trace.split(";")
        said = set()
        for step in told:
            assert step[0] != "?" or step[1:] in said, "an echo is of a step before it"
            said.add(step)


def test_verbose_examples_are_right_and_twice_as_long():
    examples = [e for step in range(6) for e in examples_at(step, [COUNTDOWN], seed=1)]
    assert all(COUNTDOWN.verify(prompt, told) == 1 for prompt, told in examples)
    told = sum(len(spans(text).trace) for _, text in examples)
    needed = sum(
        len(";".join(s for s in spans(text).trace.split(";") if s[0] != "?"))
        for _, text in examples
    )
    assert 0.38 < needed / told < 0.52


def test_the_shipped_policy_is_verbose_and_often_right():
    model, tokenizer = open_model(SHIPPED / "policy-verbose")
    assert model.num_parameters() < 1_000_000
    start = measure_start(7, TINY)
    assert start.values["median_length"] > 22


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    assert len(recipe.figure(measured).axes) == 2


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="tokens is 0"):
        recipe.setup(trial, tokens=0)
