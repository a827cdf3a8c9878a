"""Paper 45: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import pytest
import torch

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _top_afa_training as training
from rarefy.papers import top_afa as recipe


@pytest.fixture(scope="module")
def smoke(shared, trial):
    """Every arm at one seed, measured once for this file."""
    before = shared.patches.train.clone()
    measured = {arm: recipe.measure(arm, shared, trial) for arm in recipe.PAPER.arms}
    assert torch.equal(before, shared.patches.train)
    return measured


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c3", "c4", "norm", "adaptive"} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial)
    for arm in (recipe.SAME, "code model, topk"):
        assert recipe.measure(arm, shared, trial) == smoke[arm]


def test_the_arm_of_equal_l0_keeps_as_many(smoke):
    assert smoke[recipe.SAME]["l0"] == pytest.approx(smoke[recipe.OURS]["l0"], abs=0.6)


def test_the_sweep_reports_its_best(smoke):
    sweep = smoke[recipe.SWEEP]
    assert sweep["nmse"] == min(sweep[f"nmse_{k}"] for k in recipe.KS)


def test_codes_outside_the_bound_are_counted():
    norm = torch.ones(4, dtype=torch.float64)
    norm_z = torch.tensor([1.0, 2.0, 0.5, 1.01], dtype=torch.float64)
    assert training._outside(norm, norm_z, 0.1, 3) == 2


def test_figure_draws_three_panels(smoke):
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    ratios, matches, errors = recipe.figure(measurements).axes
    assert len(ratios.get_lines()) == 3 and len(matches.patches) == 6
    assert len(errors.get_lines()) == 1 + 4 + 1


def test_bad_options(trial):
    with pytest.raises(ValueError, match="n_latents must be at least 128, got 100"):
        recipe.setup(trial, n_latents=100)
