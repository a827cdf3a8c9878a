"""Part A of paper 43: its arms are measured, its claims speak of what is measured."""

import numpy as np
import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import _robust_screening as part
from rarefy.papers._robust_screening_claims import SCREENING_ARMS, SCREENING_CLAIMS
from rarefy.papers._robust_screening_figure import draw_screening


@pytest.fixture(scope="module")
def smoke(trial):
    return {arm: part.measure_screening(arm, trial) for arm in SCREENING_ARMS}


def test_every_claim_speaks_of_a_measured_metric(smoke):
    for claim in SCREENING_CLAIMS:
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in smoke[arm], f"{claim.id}: {claim.metric} of {arm}"
    assert {claim.id.split("-")[0] for claim in SCREENING_CLAIMS} == {"c1", "c2", "c3"}


def test_an_arm_measured_alone_gives_the_same_numbers(smoke, trial):
    def luck(values):
        return {name: v for name, v in values.items() if not name.startswith("clock_")}

    for arm in ("screen/knn", "screen/kde"):
        assert luck(part.measure_screening(arm, trial)) == luck(smoke[arm])


def test_columns_have_the_correlation_they_are_said_to_have():
    x = part.correlated_columns(20_000, 4, np.random.default_rng(0))
    expected = 0.3 ** np.abs(np.subtract.outer(range(4), range(4)))
    assert np.cov(x.T) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("squares", [False, True])
def test_a_target_has_its_signal_and_its_noise(squares):
    rng = np.random.default_rng(1)
    x = part.correlated_columns(20_000, 12, rng)
    number = part.plant(x, 5, squares, False, rng)
    assert number.true.sum() == 5
    acting = x[:, number.true] ** 2 if squares else x[:, number.true]
    design = np.column_stack([np.ones(len(x)), acting])
    residual = number.y - design @ np.linalg.lstsq(design, number.y, rcond=None)[0]
    assert residual.var() == pytest.approx(1, abs=0.05)
    assert number.y.var() == pytest.approx(1 + part.SNR, abs=0.2)
    other = part.plant(x, 5, squares, True, rng)
    assert set(other.y) == {0, 1} and other.y.mean() == pytest.approx(0.5, abs=0.12)


def test_the_figure_draws_what_was_measured(smoke):
    from matplotlib.figure import Figure

    axis = Figure().subplots()
    measurements = Measurements(
        Measurement(arm, seed, metric, value)
        for seed in (0, 1)
        for arm, metrics in smoke.items()
        for metric, value in metrics.items()
    )
    draw_screening(axis, measurements)
    # four kinds for five arms, two for the one that is measured with classes only
    assert len(axis.patches) == 22
