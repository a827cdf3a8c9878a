"""Greedy pursuit over modes, measures of recovery, and the channel simulator's equation."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import orthogonal_mp

from rarefy.regression import (
    KroneckerOMP,
    irs_mimo_problem,
    multiply_modes,
    nmse,
    support_recovery_rate,
    symbol_error_rate,
)


def test_with_one_factor_it_is_orthogonal_matching_pursuit():
    rng = np.random.default_rng(30)
    h = rng.normal(size=(15, 40))
    h /= np.linalg.norm(h, axis=0)
    y = rng.normal(size=15)
    ours = KroneckerOMP(6, tol=0.0).fit([h], y)
    np.testing.assert_allclose(ours.coef_, orthogonal_mp(h, y, n_nonzero_coefs=6), atol=1e-10)


def test_it_fits_the_box_it_chose_by_least_squares():
    rng = np.random.default_rng(31)
    factors = [rng.normal(size=(5, 9)), rng.normal(size=(6, 8))]
    y = rng.normal(size=(5, 6))
    omp = KroneckerOMP((2, 3), tol=0.0).fit(factors, y)
    assert [len(s) for s in omp.support_] == [2, 3]
    dense = np.kron(*factors)
    chosen = np.flatnonzero(omp.coef_)
    assert len(chosen) == 6
    best = np.linalg.lstsq(dense[:, chosen], y.ravel(), rcond=None)[0]
    np.testing.assert_allclose(omp.coef_.ravel()[chosen], best, atol=1e-10)


def test_it_stops_at_the_tolerance():
    rng = np.random.default_rng(32)
    factors = [rng.normal(size=(8, 9)) for _ in range(2)]
    factors = [factor / np.linalg.norm(factor, axis=0) for factor in factors]
    x = np.zeros((9, 9))
    x[4, 2] = 1.0
    y = multiply_modes(x, factors)
    assert KroneckerOMP().fit(factors, y).n_iter_ == 1
    assert KroneckerOMP().fit(factors, 0 * y).n_iter_ == 0
    with pytest.raises(ValueError, match="n_nonzero_per_mode must be at least 1"):
        KroneckerOMP(0).fit(factors, y)


def test_measures_of_recovery():
    truth = np.array([0.0, 1.0, 2.0, 0.0])
    assert nmse(truth, truth) == 0 and support_recovery_rate(truth, truth) == 1
    assert nmse(np.zeros(4), truth) == 1
    assert nmse(1j * truth, truth) == pytest.approx(2)
    assert support_recovery_rate(np.array([1.0, 1.0, 1e-4, 0.0]), truth) == pytest.approx(1 / 3)
    assert support_recovery_rate(np.zeros(2), np.zeros(2)) == 1
    with pytest.raises(ValueError, match="truth is zero"):
        nmse(truth, np.zeros(4))
    with pytest.raises(ValueError, match="shape"):
        nmse(truth[:2], truth)
    with pytest.raises(ValueError, match="shape"):
        support_recovery_rate(truth[:2], truth)


def test_the_channel_is_in_the_span_of_the_dictionaries():
    problem = irs_mimo_problem(np.random.default_rng(33), snr_db=200.0)
    np.testing.assert_allclose(problem.cascades(problem.x_true), problem.channels, atol=1e-8)
    assert problem.nmse(problem.x_true) < 1e-20
    assert problem.nmse(0 * problem.x_true) == pytest.approx(1)
    assert [f.shape for f in problem.factors] == [(6, 18), (3, 18), (16, 18)]
    assert np.count_nonzero(problem.x_true) == 9
    # The pilots enter the measurements only: the user's factor is pilots @ conj(steering), so that
    # each pattern's measurements are its cascade times the pilots.
    pilots = problem.factors[1] @ np.linalg.pinv(problem.dictionaries[1])
    received = np.einsum("kbm,pm->kpb", problem.channels, pilots)
    np.testing.assert_allclose(received, problem.y, atol=1e-6)


def test_noise_is_as_loud_as_asked():
    rng = np.random.default_rng(34)
    problem = irs_mimo_problem(rng, snr_db=3.0, bs=400, patterns=12)
    clean = multiply_modes(problem.x_true, problem.factors)
    assert np.mean(abs(problem.y - clean) ** 2) == pytest.approx(problem.noise_var, rel=0.05)
    assert problem.noise_var == pytest.approx(np.mean(abs(clean) ** 2) / 10**0.3)
    with pytest.raises(ValueError, match="spread must be"):
        irs_mimo_problem(rng, snr_db=3.0, spread=30)


def test_symbol_errors_of_a_known_channel_are_those_of_qpsk():
    rng = np.random.default_rng(35)
    channels = rng.normal(size=(4, 5, 3)) + 1j * rng.normal(size=(4, 5, 3))
    rate = symbol_error_rate(channels, channels, rng, snr_db=6.0, n_symbols=40_000)
    bit = norm.sf(10**0.3)  # of each quadrature
    assert rate == pytest.approx(1 - (1 - bit) ** 2, rel=0.05)
    wrong = rng.normal(size=(4, 5, 3)) + 1j * rng.normal(size=(4, 5, 3))
    assert symbol_error_rate(wrong, channels, rng, snr_db=30.0) > 0.3
