"""Paper 22: the recipe runs, its claims speak of what is measured, and its problems are as said."""

import numpy as np
import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import random_support as recipe
from rarefy.papers._random_support_claims import FIXED, ORACLE, PIVOTS
from rarefy.papers._random_support_trials import (
    adversary,
    design,
    fit,
    prediction_error,
    problem,
    rows_needed,
    stream,
)


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in recipe.PAPER.claims:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_every_claim_of_the_card_is_there():
    ids = {claim.id.split("-")[0] for claim in recipe.PAPER.claims}
    assert {"c1", "c2", "c4", "c5", "safety"} <= ids


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    again = recipe.measure(PIVOTS, recipe.setup(trial), trial)
    for metric, value in smoke[PIVOTS].items():
        assert metric.startswith("clock") or again[metric] == value, metric


@pytest.mark.parametrize("signal", ["worst", "gauss"])
def test_a_problem_is_as_said(signal):
    rng = stream(400, "said")
    at = problem(design("walk", 400, 60, rng), signal, rng)
    assert at.signal.std() == pytest.approx(1) and abs(at.signal.mean()) < 1e-9
    assert np.std(at.y - at.signal) == pytest.approx(0.5, rel=0.1)
    part = at.X[:, at.support]
    left = at.signal - part @ np.linalg.lstsq(part, at.signal, rcond=None)[0]
    assert np.linalg.norm(left) < 1e-6
    np.testing.assert_allclose(at.X.std(axis=0), 1)


def test_the_worst_signal_needs_the_largest_coefficients():
    rng = stream(401, "worst")
    X = design("scales", 80, 40, rng)
    norms = {}
    for signal in ("worst", "gauss"):
        at = problem(X, signal, stream(401, "same"))
        norms[signal] = np.linalg.norm(np.linalg.lstsq(at.X[:, at.support], at.signal)[0])
    assert norms["worst"] > 5 * norms["gauss"]


def test_the_oracle_knows_the_support():
    rng = stream(402, "oracle")
    at = problem(design("iid", 300, 50, rng), "gauss", rng)
    assert prediction_error(ORACLE, at, 0) < 0.03
    assert set(fit(ORACLE, at, 0, draws=1).support) == set(at.support)


def test_the_adversary_hides_in_its_columns():
    at = adversary(100, 80, stream(403, "adversary"))
    assert set(at.support) == set(range(5))
    values = np.linalg.svd(at.X[:, :5], compute_uv=False)
    assert values[-1] < 1e-2 * values[0]


def test_rows_needed_lie_on_the_grid():
    assert rows_needed(FIXED[1], 60, (40, 50), 0, error=1e-9) == 50
    assert rows_needed(FIXED[1], 60, (40, 50), 0, error=10.0) == 40


def test_the_figure_draws_every_arm(smoke):
    measured = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in smoke.items()
        for metric, value in values.items()
    )
    assert len(recipe.figure(measured).axes) == 3


def test_bad_options_are_refused(trial):
    with pytest.raises(ValueError, match="rows must be at least 20"):
        recipe.setup(trial, rows=3)
