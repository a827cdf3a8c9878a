"""Paper 07: the recipe runs, its claims speak of what is measured, its measures are as said."""

from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.models import SHIPPED, open_model
from rarefy.papers import pacs as recipe
from rarefy.papers._pacs_claims import (
    ARMS,
    BETAS,
    DAPO,
    FIXED,
    PACS,
    PPO,
    SCORES,
    TRAINED,
    UNWEIGHTED,
    WARM,
)
from rarefy.papers._pacs_training import (
    SHARES,
    diversities,
    edit_distance,
    history_figures,
    mean_distance,
    method,
    step_seconds,
)
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.grpo import GRPO
from rarefy.policy.problems import TaskProblems
from rarefy.policy.tasks import COUNTDOWN
from rarefy.policy.trainer import PolicyTrainer


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_that_default_scale_measures_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c3", "c4", "c5", "c7", "critic", "speed"} <= ids


def test_all_arms_generate_as_much_and_learn_from_the_same_first_batch(smoke):
    for metric in ("n_rollouts", "curve_entropy_1", "curve_success_1"):
        assert len({smoke[arm][metric] for arm in TRAINED}) == 1, metric
    assert "n_rollouts" not in smoke[WARM]
    assert sum(SHARES[level] * smoke[PACS][f"success_{level}"] for level in SHARES) == (
        pytest.approx(smoke[PACS]["success"])
    )


def test_arms_of_full_scale_are_not_measured_at_others(smoke):
    for arm in ARMS:
        assert bool(smoke[arm]) == (arm in (WARM, *TRAINED, PPO))


def test_steps_that_are_timed_learn_nothing_and_have_the_same_completions(monkeypatch):
    seen = {}
    train = PolicyTrainer.train

    def noted(trainer, steps):
        row = train(trainer, steps)[-1]
        seen.setdefault(type(trainer.objective).__name__, []).append(
            (row["n_tokens"], row["success"], row["entropy"])
        )

    monkeypatch.setattr(PolicyTrainer, "train", noted)
    seconds = step_seconds(0, n_prompts=4, rounds=2, model=None, device="cpu")
    assert set(seconds) == {"GRPO", "PACS", "PPO"} and min(seconds.values()) > 0
    assert seen["GRPO"] == seen["PACS"] == seen["PPO"] and len(seen["PPO"]) == 2


def test_every_arm_has_a_method_of_its_own():
    model, _ = open_model(SHIPPED / "policy")
    methods = {arm: method(arm, model) for arm in ARMS}
    assert {methods[arm][0].beta for arm in BETAS} == set(BETAS.values())
    assert {methods[arm][0].score for arm in SCORES} == set(SCORES.values())
    assert len({methods[arm][0] for arm in (PACS, UNWEIGHTED, FIXED, *BETAS, *SCORES)}) == 9
    assert methods[DAPO][0].eps_high == 0.28 and methods[DAPO][1] == Dynamic()


@pytest.mark.parametrize("reward", ["mixed", "wrong"])
def test_dapo_learns_from_mixed_groups_alone(reward):
    model, tokenizer = open_model(SHIPPED / "policy")
    trainer = PolicyTrainer(
        model,
        tokenizer,
        TaskProblems({(COUNTDOWN, 1): 1.0}, seed=0),
        reward=lambda prompts, completions, completion_ids, **_: [  # noqa: ARG005
            float(reward == "mixed" and sum(ids) % 2) for ids in completion_ids
        ],
        objective=GRPO(),
        max_new_tokens=4,
        n_prompts=3,
        group_size=2,
    )
    batch = Dynamic()(trainer, 3)
    assert bool((batch.groups[:, 0] != batch.groups[:, 1]).all())
    assert len(batch) == (3 if reward == "mixed" else 0)
    if reward == "wrong":
        assert trainer.n_rollouts == 8 * 3 * 2


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_distance_is_its_definition(a, b):
    @cache
    def slow(i, j):
        if not i or not j:
            return i + j
        replaced = slow(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(slow(i - 1, j) + 1, slow(i, j - 1) + 1, replaced)

    assert edit_distance(a, b) == slow(len(a), len(b))
    matching = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    assert edit_distance(a, b) <= len(a) + len(b) - 2 * sum(block.size for block in matching)


def test_mean_distance_is_over_all_pairs():
    texts = ["ab", "abc", "ab", "b"]
    pairs = [edit_distance(a, b) / max(len(a), len(b)) for a, b in combinations(texts, 2)]
    assert mean_distance(texts) == pytest.approx(fmean(pairs))


def test_diversity_is_over_problems_that_every_arm_solved_twice():
    right = {"a": [["x", "y"], ["x", "y"], ["x"]], "b": [["x", "x", "x"], ["x"], ["x", "y"]]}
    assert diversities(right) == {"a": 1.0, "b": 0.0}


def test_curves_are_means_of_stretches_and_steps_without_a_figure_are_left_out():
    row = {"n_rollouts": 1.0, "n_tokens": 1.0, "ratio_max": 2.0, "entropy": 0.5}
    history = [
        row | {"success": float(i), "grad_norm": float("nan") if i else 3.0} for i in range(30)
    ]
    values = history_figures(history)
    curve = [values[f"curve_success_{end}"] for end in range(2, 31, 2)]
    assert curve == [0.5 + 2 * i for i in range(15)]
    assert values["grad_norm"] == 3.0 and "psi_abs" not in values


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    axes = recipe.figure(measured).axes
    assert [len(panel.lines) for panel in axes] == [5, 5, 6]
    assert list(axes[2].lines[0].get_xdata()) == [1, 2, 4, 8, 16, 32]


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        recipe.setup(replace(trial, seed=1), steps=0)
