import copy
import math

import pytest
import torch

import rarefy.papers.dsnot as recipe
from rarefy.models import perplexity
from rarefy.papers import find, run
from rarefy.papers._recipe import Trial
from rarefy.weights import prune_lm


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return run(find("dsnot"), scale="smoke", out=tmp_path_factory.mktemp("dsnot"))


@pytest.fixture(scope="module")
def trial():
    return Trial(0, "smoke")


def test_every_claim_is_measured(report):
    for judged in report.judgements:
        assert judged.effect is not None, f"{judged.claim.id}: {judged.reason}"
    assert {j.claim.id.split("-")[0] for j in report.judgements} == {f"c{i}" for i in range(1, 7)}


def test_what_holds_by_construction_holds(report):
    verdicts = {j.claim.id: j.verdict for j in report.judgements if j.claim.deterministic}
    assert verdicts == dict.fromkeys(
        ("c3-magnitude-valid", "c3-wanda-valid", "c3-sparsegpt-valid", "c4-identical"),
        "reproduced",
    )


def test_only_wall_clock_is_named_seconds(report):
    names = {name for name in report.measurements.metrics if name.startswith("clock_")}
    assert names == {"clock_layer_seconds"}


def test_a_rise_claim_is_about_the_gain(report):
    value = {(m.arm, m.metric): m.value for m in report.measurements}
    (claim,) = (j for j in report.judgements if j.claim.id == "c2-wanda-80")
    gain = {
        s: value["wanda", f"log_ppl_{s}"] - value["wanda+dsnot", f"log_ppl_{s}"]
        for s in ("70", "80")
    }
    assert claim.effect.mean == pytest.approx(gain["80"] - gain["70"], abs=1e-9)


def test_an_arm_is_what_the_library_gives(shared, trial):
    found = recipe.measure("wanda+dsnot", shared, trial)
    by_hand = copy.deepcopy(shared.model)
    prune_lm(by_hand, shared.calibration, method="wanda", sparsity=0.7, refine="dsnot")
    assert found["log_ppl_70"] == pytest.approx(
        math.log(perplexity(by_hand, shared.evaluation)), abs=1e-4
    )


@pytest.mark.parametrize(
    "arm", ["wanda+random swaps", "wanda+fine-tuning", "wanda+dsnot, as released"]
)
def test_measuring_leaves_no_trace(arm, shared, trial):
    before = {name: p.clone() for name, p in shared.model.named_parameters()}
    first = recipe.measure(arm, shared, trial)
    recipe.measure("magnitude+random swaps", shared, trial)
    assert recipe.measure(arm, shared, trial) == first
    for name, parameter in shared.model.named_parameters():
        assert torch.equal(parameter, before[name])


def test_calibration_differs_by_seed_and_evaluation_does_not(shared):
    other = recipe.setup(Trial(1, "smoke"))
    assert not torch.equal(other.calibration, shared.calibration)
    assert torch.equal(other.evaluation, shared.evaluation)


def test_twice_the_text_is_other_text(shared):
    assert shared.further.shape == shared.calibration.shape
    assert not torch.equal(shared.further, shared.calibration)


def test_cycles_are_in_proportion_to_the_width(shared, trial):
    # At the shipped width 50 of 4,096 are what "auto" does; half and twice are not.
    variant = recipe.Variant("wanda", {"cycles": 50}, ("80",), swaps="in proportion")
    found = recipe._at_level("80", variant, shared, trial)
    by_default = recipe._at_level("80", recipe.VARIANTS["wanda+dsnot"], shared, trial)
    assert found == by_default
    twice = recipe.measure("wanda+dsnot, twice the cycles", shared, trial)
    assert twice["log_ppl_80"] != found["log_ppl_80"]


def test_text_of_the_user_is_used(tmp_path, trial):
    text = tmp_path / "text.py"
    text.write_text("x = 1\n" * 400)
    given = recipe.setup(trial, calibration=text, evaluation=text)
    assert len(given.calibration.unique()) < 10
    assert len(given.evaluation.unique()) < 10
