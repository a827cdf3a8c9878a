"""Paper 17: the recipe runs, its claims speak of what is measured, and its arms are as said."""

import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import vspo as recipe
from rarefy.papers._vspo_claims import (
    GRPO_EM,
    GRPO_PRS,
    RANDOM,
    START,
    TRAINED,
    UNSMOOTHED,
    VSPO_PRS,
)
from rarefy.papers._vspo_training import ARM, EM, ENV, PRS, Size, _of_training, train_arm
from rarefy.policy.tasks.kbqa import KB_QA, knowledge_base


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c4", "c5"} <= ids


def test_arms_meet_the_same_number_of_rollouts_and_differ_as_said(smoke):
    assert {smoke[arm]["rollouts"] for arm in TRAINED} == {2 * 4 * 5}
    assert smoke[START]["kl"] == pytest.approx(0, abs=1e-6)
    assert all(smoke[arm]["kl"] != smoke[START]["kl"] for arm in TRAINED)
    assert [arm for arm in TRAINED if ARM[arm][0] is EM] == [GRPO_EM]
    refills = {arm: (ARM[arm][1].mode, ARM[arm][1].smoothing) for arm in TRAINED}
    assert [refills[arm][0] for arm in (GRPO_EM, GRPO_PRS, RANDOM)] == ["none", "none", "random"]
    assert refills[VSPO_PRS] == ("value", "log") and refills[UNSMOOTHED] == ("value", "none")


def test_an_arm_trained_alone_gives_the_same_numbers(smoke):
    again = train_arm(arm=GRPO_PRS, seed=0, size=Size(2, 4, 2, 2))
    for metric, value in smoke[GRPO_PRS].items():
        assert metric.startswith("clock") or again[metric] == value, metric


def test_the_rewards_are_a_ladder_and_exact_match():
    entity = next(e for e in knowledge_base().entities if " " in knowledge_base().facts["e", e])
    fact = knowledge_base().facts["e", entity]
    prompt = f"?e,{entity}="
    texts = [
        f"#{fact.split()[0]}",
        f"<e.{entity}>[!]#{fact}",
        f"<e,{entity}>[{fact}]",
        f"<e,{entity}>[{fact}]#zzz",
        f"<e,{entity}>[{fact}]#{fact.split()[0]}",
        f"<e,{entity}>[{fact}]#{fact}",
    ]
    rewards = PRS([prompt] * 6, texts, answer=[fact] * 6)
    assert rewards[:4] == pytest.approx([0, 0, 0.2, 0.4])
    assert rewards[3] < rewards[4] < rewards[5] == pytest.approx(1)
    assert EM([prompt] * 6, texts, answer=[fact] * 6) == [0, 1, 0, 0, 0, 1]
    assert ENV.max_calls > 4 and KB_QA.verify(prompt, texts[-1]) == 1


def test_steps_to_a_parse_rate_are_those_of_its_running_mean():
    rates = [0.5, 1.0, 0.8, 0.9, 1.0, 0.2]
    names = (
        "calls",
        "own_entropy",
        "drawn_zero_variance",
        "solved_variance",
        "seconds",
        "drawn_success",
    )
    history = [{"parse_rate": rate} | dict.fromkeys(names, 0.5) for rate in rates]
    values = _of_training(history)
    assert values["steps_to_90"] == 4  # (1.0 + 0.8 + 0.9) / 3
    assert values["parse_at_5"] == pytest.approx(sum(rates[:5]) / 5)
    assert _of_training(history[:2])["steps_to_90"] == 3


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    assert len(recipe.figure(measured).axes) == 3


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="steps must be at least 1"):
        recipe.setup(trial, steps=0)
