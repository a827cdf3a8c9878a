"""Paper 37: the recipe runs, its claims speak of what is measured, and its arms are fair."""

import numpy as np
import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import kronecker_sbl as recipe
from rarefy.papers._kronecker_sbl_claims import ARMS, ORACLE, SVD
from rarefy.papers._kronecker_sbl_trials import minima, patches, planted, recover, stream
from rarefy.regression import multiply_modes, nmse


@pytest.fixture(scope="module")
def shared(trial):
    return recipe.setup(trial, trials=1, channels=1)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c3", "c4", "c5", "speed"} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    shared = recipe.setup(trial, trials=1, channels=1)
    again = recipe.measure(SVD, shared, trial)
    for metric, value in smoke[SVD].items():
        assert metric.startswith("clock") or again[metric] == value, metric


def test_the_oracle_is_the_best_fit_on_the_support():
    problem = planted(stream(200, "oracle"), (5, 6), 8, 2, 10)
    dense, chosen = np.kron(*problem.factors), np.flatnonzero(problem.x)
    best = np.linalg.lstsq(dense[:, chosen], problem.y.ravel(), rcond=None)[0]
    np.testing.assert_allclose(recover(ORACLE, problem).ravel()[chosen], best, atol=1e-9)


def test_the_signal_is_as_loud_as_said():
    problem = planted(stream(200, "noise"), (30, 40, 20), 15, 3, 10)
    clean = multiply_modes(problem.x, problem.factors)
    noise = np.mean((problem.y - clean) ** 2)
    assert noise == pytest.approx(problem.noise_var, rel=0.05)
    assert np.mean(clean**2) / problem.noise_var == pytest.approx(10)


def test_every_arm_recovers_an_easy_problem():
    problem = planted(stream(202, "easy"), (6, 6), 7, 1, 30)
    for arm in ARMS:
        if not arm.startswith("PC-Kro"):
            assert nmse(recover(arm, problem), problem.x) < 0.05, arm


def test_patches_are_seen_through_their_factors():
    for problem, patch in patches(stream(203, "patches"), 2):
        assert problem.y.shape == (10, 10) and [f.shape for f in problem.factors] == [(10, 24)] * 2
        assert patch.shape == (16, 16) and abs(patch.mean()) < 1e-12


def test_one_start_is_one_minimum():
    toy = planted(stream(204, "toy"), (3, 3), 4, 1, 20)
    assert minima(SVD, toy, stream(204, "start"), 1) == 1


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    drawn = recipe.figure(measured)
    assert len(drawn.axes) == 4 and len(drawn.axes[0].lines) == 5


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="trials must be at least 1"):
        recipe.setup(trial, trials=0)
