"""Paper 43, parts B to D: planted tables are what they say, and each arm takes its own road."""

import numpy as np
import pytest

from rarefy.evidence.claims import Measurement, Measurements
from rarefy.papers import robust_high_dimensional as recipe
from rarefy.papers._recipe import Trial
from rarefy.papers._robust_claims import MIXED, RECOVERIES, SOLVER_ARMS, SOLVERS, solver_claims
from rarefy.papers._robust_mixed import measure_mixed, panel
from rarefy.papers._robust_solvers import measure_recovery, measure_solver, planted


@pytest.fixture(scope="module")
def measured():
    trial = Trial(seed=0, scale="smoke")
    return (
        {arm: measure_solver(arm, trial) for arm in SOLVERS}
        | {arm: measure_recovery(arm, trial) for arm in RECOVERIES}
        | {arm: measure_mixed(arm, trial) for arm in MIXED}
    )


def test_every_claim_speaks_of_a_measured_metric(measured):
    assert set(measured) == set(SOLVER_ARMS)
    for claim in solver_claims():
        for arm in filter(None, (claim.arm, claim.versus)):
            assert claim.metric in measured[arm], f"{claim.id}: {claim.metric} of {arm}"


def test_the_arms_take_different_roads(measured):
    roads = [tuple(measured[arm][m] for m in sorted(measured[arm])) for arm in SOLVERS]
    assert len(set(roads)) == len(roads)
    assert measured["solve/PNCG"]["rises"] == measured["solve/PG"]["rises"] == 0


def test_a_planted_table_is_as_said():
    rng = np.random.default_rng(301)
    table, fresh = planted(rng, n=4000, zeros=5, tau=0.5, snr=3.0, rows=10)
    assert table.X.shape == (4000, 45) and fresh.X.shape == (10, 45)
    assert np.count_nonzero(table.b) == 20
    eta = table.X @ table.b
    assert eta.var() / np.var(table.y - eta) == pytest.approx(3.0, rel=0.1)
    assert np.corrcoef(table.X[:, 3], table.X[:, 4])[0, 1] == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(table.X.std(0), 1)


def test_loud_subjects_are_as_many_as_said():
    X, y, groups, b = panel(np.random.default_rng(302), subjects=40, columns=6, share=0.1)
    spread = [np.std((y - X @ b)[groups == g]) for g in range(40)]
    assert sum(value > 4 for value in spread) == 4
    assert X.shape == (200, 6) and np.count_nonzero(b) == 5


def test_the_figure_has_a_panel_for_every_part(measured):
    found = Measurements(
        Measurement(arm, 0, metric, value)
        for arm, values in measured.items()
        for metric, value in values.items()
    )
    ranking, iterations, recovery, mixed = recipe.figure(found).axes
    assert ranking.get_ylabel().startswith("AUROC")
    assert (len(iterations.lines), len(recovery.containers), len(mixed.lines)) == (4, 3, 5)


def test_the_recipe_joins_all_parts():
    assert set(SOLVER_ARMS) < set(recipe.PAPER.arms)
    assert {claim.id.split("-")[0] for claim in recipe.PAPER.claims} >= {
        f"c{i}" for i in range(1, 8)
    }
