"""Sparse Bayesian learning against the textbook algorithm, written out with inverses."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import BayesianRidge
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.regression import SparseBayesianRegressor, pattern_coupled_sbl, sparse_bayes


def draw(rng, *shape, is_complex):
    real = rng.normal(size=shape)
    return real + 1j * rng.normal(size=shape) if is_complex else real


def textbook(h, y, noise, steps, *, learn):
    """EM with the full posterior covariance by a plain inverse of its precision."""
    gamma = np.ones(h.shape[1])
    for _ in range(steps):
        covariance = np.linalg.inv(h.conj().T @ h / noise + np.diag(1 / gamma))
        mean = covariance @ h.conj().T @ y / noise
        variance = np.diag(covariance).real
        if learn:
            left = np.linalg.norm(y - h @ mean) ** 2
            noise = (left + noise * np.sum(1 - variance / gamma)) / len(y)
        gamma = variance + abs(mean) ** 2
    covariance = np.linalg.inv(h.conj().T @ h / noise + np.diag(1 / gamma))
    return covariance @ h.conj().T @ y / noise, np.diag(covariance).real, gamma, noise


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("shape", [(8, 12), (15, 6)])
def test_it_is_the_textbook_em(shape, learn, is_complex):
    rng = np.random.default_rng(20)
    h = draw(rng, *shape, is_complex=is_complex)
    y = h[:, 1] - 2 * h[:, 4] + 0.3 * draw(rng, shape[0], is_complex=is_complex)
    start = 0.1 * float(np.var(y)) if learn else 0.09
    mean, variance, gamma, noise = textbook(h, y, start, 12, learn=learn)
    with pytest.warns(ConvergenceWarning):
        got = sparse_bayes(
            h, y, noise_var="learn" if learn else 0.09, prune=0.0, max_iter=12, tol=0.0
        )
    np.testing.assert_allclose(got.mean, mean, atol=1e-9)
    np.testing.assert_allclose(got.variance, variance, atol=1e-9)
    np.testing.assert_allclose(got.gamma, gamma, atol=1e-9)
    assert got.noise_var == pytest.approx(noise, rel=1e-8)


def test_its_cost_never_rises_and_is_the_evidence():
    rng = np.random.default_rng(21)
    h = rng.normal(size=(10, 18))
    y = h[:, 3] + 0.2 * rng.normal(size=10)
    with pytest.warns(ConvergenceWarning):
        got = sparse_bayes(h, y, noise_var=0.04, prune=0.0, max_iter=50, tol=0.0)
    assert (np.diff(got.cost_history) <= 1e-10).all()
    covariance = 0.04 * np.eye(10) + h @ h.T
    evidence = np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y)
    assert got.cost_history[0] == pytest.approx(evidence)


def test_pruning_does_not_change_what_survives():
    rng = np.random.default_rng(22)
    h = rng.normal(size=(30, 60))
    y = 3 * h[:, 7] - 2 * h[:, 50] + 0.05 * rng.normal(size=30)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pruned = sparse_bayes(h, y, noise_var=0.0025, max_iter=400)
        whole = sparse_bayes(h, y, noise_var=0.0025, max_iter=400, prune=0.0)
    assert {7, 50} <= set(pruned.support) and len(pruned.support) < 20
    np.testing.assert_allclose(pruned.mean[[7, 50]], whole.mean[[7, 50]], atol=5e-3)


def test_with_one_common_scale_left_it_is_close_to_ridge():
    # Every feature matters alike: automatic relevance finds nothing to drop.
    rng = np.random.default_rng(23)
    X = rng.normal(size=(400, 4))
    y = X @ [1.0, -1.2, 0.9, 1.1] + 3.0 + 0.1 * rng.normal(size=400)
    ours, ridge = SparseBayesianRegressor().fit(X, y), BayesianRidge().fit(X, y)
    np.testing.assert_allclose(ours.coef_, ridge.coef_, atol=2e-3)
    assert ours.intercept_ == pytest.approx(ridge.intercept_, abs=1e-3)
    assert ours.noise_var_ == pytest.approx(1 / ridge.alpha_, rel=0.1)


def test_units_do_not_matter():
    rng = np.random.default_rng(24)
    X = rng.normal(size=(40, 30))
    y = 2 * X[:, 3] - X[:, 9] + 0.1 * rng.normal(size=40)
    scale = 10.0 ** rng.uniform(-3, 3, 30)
    plain, scaled = (
        SparseBayesianRegressor().fit(X, y),
        SparseBayesianRegressor().fit(X * scale, 7 * y),
    )
    np.testing.assert_allclose(scaled.coef_ * scale, 7 * plain.coef_, atol=1e-6)


def test_coupling_fills_a_block():
    rng = np.random.default_rng(25)
    h = rng.normal(size=(30, 60))
    x = np.zeros(60)
    x[20:26] = [1.0, -1.0, 0.1, 1.0, -0.1, 1.0]
    y = h @ x + 0.02 * rng.normal(size=30)
    coupled = pattern_coupled_sbl(h, y, noise_var=4e-4)
    assert np.linalg.norm(coupled.mean - x) < 0.1
    assert set(range(20, 26)) <= set(coupled.support)


def test_without_coupling_precisions_are_those_of_plain_relevance():
    rng = np.random.default_rng(26)
    h = rng.normal(size=(20, 8))
    y = h @ rng.normal(size=8)
    got = pattern_coupled_sbl(h, y, noise_var=0.01, coupling=0.0, max_iter=300, tol=1e-10)
    # the fixed point of alpha = 1 / (0.5 (v + mu^2) + 1e-4)
    alpha = 1 / (0.5 * (got.variance + got.mean**2) + 1e-4)
    np.testing.assert_allclose(1 / got.gamma, alpha, rtol=1e-3)


@parametrize_with_checks([SparseBayesianRegressor()])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise_var": -1.0}, "noise_var must be positive"),
        ({"max_iter": 0}, "max_iter must be at least 1"),
        ({"prune": 2.0}, "prune in"),
        ({"start": np.zeros(5)}, "start must be 5 positive"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        sparse_bayes(np.ones((4, 5)), np.ones(4), **options)
    with pytest.raises(ValueError, match="y must be numbers of shape"):
        sparse_bayes(np.ones((4, 5)), np.ones(3))
    with pytest.raises(ValueError, match="noise_var must be a number"):
        pattern_coupled_sbl(np.ones((4, 5)), np.ones(4), noise_var="learn")
