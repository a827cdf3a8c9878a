"""Kronecker sparse Bayesian learning against the dense formulas and its own theory."""

import warnings
from functools import reduce

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from rarefy.regression import KroneckerOperator, KroneckerSBL, multiply_modes, sparse_bayes
from rarefy.regression.kronecker import outer
from rarefy.regression.kronecker_sbl import _alternate, _posterior, _rank_one


def problem(seed, rows, columns, nonzeros, *, is_complex=False, noise=0.01):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        real = rng.normal(size=shape)
        return real + 1j * rng.normal(size=shape) if is_complex else real

    factors = [draw(m, n) for m, n in zip(rows, columns, strict=True)]
    x = np.zeros(columns, complex if is_complex else float)
    support = [np.sort(rng.choice(n, nonzeros, replace=False)) for n in columns]
    x[np.ix_(*support)] = draw(*[nonzeros] * len(columns))
    clean = multiply_modes(x, factors)
    return factors, clean + noise * draw(*clean.shape), x, support


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(
    ("rows", "columns"), [((3, 2), (2, 5)), ((3, 4, 2), (5, 3, 4)), ((4,), (7,))]
)
def test_the_posterior_is_that_of_the_dense_formulas(rows, columns, is_complex):
    factors, y, _, _ = problem(3, rows, columns, 1, is_complex=is_complex)
    rng = np.random.default_rng(4)
    gammas = [rng.uniform(0.1, 2.0, n) for n in columns]
    noise = 0.3
    got = _posterior(factors, y, gammas, noise)

    h, gamma, vector = reduce(np.kron, factors), outer(gammas).ravel(), y.ravel()
    covariance = noise * np.eye(len(h)) + (h * gamma) @ h.conj().T
    inverse = np.linalg.inv(covariance)
    gain = gamma[:, None] * h.conj().T @ inverse
    posterior = np.diag(gamma) - gain @ h * gamma
    np.testing.assert_allclose(got.mean.ravel(), gain @ vector, atol=1e-8)
    np.testing.assert_allclose(got.variance.ravel(), np.diag(posterior).real, atol=1e-8)
    cost = np.linalg.slogdet(covariance)[1] + (vector.conj() @ inverse @ vector).real
    assert got.cost == pytest.approx(cost, rel=1e-10)
    error = np.linalg.norm(vector - h @ gain @ vector) ** 2 + np.trace(h @ posterior @ h.conj().T)
    assert got.expected_error == pytest.approx(error.real, rel=1e-8)


@pytest.mark.parametrize("method", ["svd", "am", "ksbl"])
@pytest.mark.parametrize("noise_var", [2e-4, "learn"])
def test_with_one_factor_it_is_sparse_bayesian_learning(method, noise_var):
    factors, y, _, _ = problem(5, (12,), (20,), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours = KroneckerSBL(method, noise_var=noise_var, max_iter=40, prune=1e-3).fit(factors, y)
        dense = sparse_bayes(factors[0], y, noise_var=noise_var, max_iter=40, prune=1e-3)
    np.testing.assert_allclose(ours.coef_, dense.mean, atol=1e-8)
    np.testing.assert_allclose(ours.posterior_var_, dense.variance, atol=1e-10)
    np.testing.assert_allclose(ours.cost_history_, dense.cost_history, rtol=1e-8)
    assert ours.noise_var_ == pytest.approx(dense.noise_var, rel=1e-6)


@pytest.mark.parametrize("method", ["svd", "am", "ksbl"])
@pytest.mark.parametrize("is_complex", [False, True])
def test_it_recovers_a_box_of_nonzeros(method, is_complex):
    factors, y, x, support = problem(6, (6, 7, 6), (10, 9, 8), 2, is_complex=is_complex)
    sbl = KroneckerSBL(method, noise_var=1e-4, max_iter=400).fit(factors, y)
    assert np.linalg.norm(sbl.coef_ - x) < 0.02 * np.linalg.norm(x)
    for found, there in zip(sbl.support_, support, strict=True):
        assert set(there) <= set(found)
    assert sbl.coef_.dtype == x.dtype


def test_alternating_minimisation_never_raises_its_cost():
    factors, y, _, _ = problem(7, (4, 5, 4), (7, 6, 7), 2, noise=0.1)
    with pytest.warns(ConvergenceWarning):
        sbl = KroneckerSBL("am", noise_var=0.02, prune=0.0, max_iter=60, tol=0.0).fit(factors, y)
    cost = sbl.cost_history_
    assert len(cost) == 60
    assert (np.diff(cost) <= 1e-9 * abs(cost[:-1])).all()
    assert cost[0] - cost[-1] > 1


def test_the_inner_loop_minimises_what_it_should():
    rng = np.random.default_rng(8)
    moment = rng.uniform(0.1, 3.0, (3, 4))
    g1, g2 = _alternate(
        moment, [np.ones(3), np.ones(4)], sweeps=500, tol=1e-12, couplings=[None] * 2
    )

    def cost(logs):
        gamma = np.exp(logs[:3, None] + logs[3:])
        return np.sum(np.log(gamma) + moment / gamma)

    best = minimize(cost, np.zeros(7), tol=1e-12)
    assert np.sum(np.log(np.outer(g1, g2)) + moment / np.outer(g1, g2)) == pytest.approx(best.fun)
    assert np.linalg.norm(g1) == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(3, 8), (8, 3), (5, 5)])
def test_rank_one_is_the_singular_vectors(shape):
    moment = np.random.default_rng(9).uniform(0.0, 1.0, shape)
    left, right = _rank_one(moment, [])
    u, s, v = np.linalg.svd(moment)
    np.testing.assert_allclose(np.outer(left, right), s[0] * np.outer(u[:, 0], v[0]), atol=1e-12)


def test_rank_one_keeps_a_kronecker_tensor():
    rng = np.random.default_rng(10)
    tensor = outer([rng.uniform(0.1, 1.0, n) for n in (3, 4, 2)])
    np.testing.assert_allclose(outer(_rank_one(tensor, [])), tensor, rtol=1e-10)


def test_coupled_hyperparameters_are_spread_over_neighbours():
    rng = np.random.default_rng(11)
    factors = [rng.normal(size=(8, 14)), rng.normal(size=(6, 8))]
    x = np.zeros((14, 8))
    x[5:8, 3] = [1.0, 0.02, -1.0]  # a block with a weak middle
    noise = 0.05
    y = multiply_modes(x, factors) + noise * rng.normal(size=(8, 6))
    plain = KroneckerSBL("am", noise_var=noise**2, max_iter=400).fit(factors, y)
    coupled = KroneckerSBL("am", noise_var=noise**2, coupling=(0.8, 0), max_iter=400).fit(
        factors, y
    )
    share = [sbl.gammas_[0][6] / sbl.gammas_[0].max() for sbl in (plain, coupled)]
    assert share[1] > 0.5 > 10 * share[0]


def test_the_operator_is_the_kronecker_product():
    rng = np.random.default_rng(12)
    factors = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((2, 3), (4, 2), (3, 3))]
    operator, dense = KroneckerOperator(factors), reduce(np.kron, factors)
    x, y = rng.normal(size=18), rng.normal(size=24)
    assert operator.shape == dense.shape
    np.testing.assert_allclose(operator @ x, dense @ x)
    np.testing.assert_allclose(operator.H @ y, dense.conj().T @ y)
    np.testing.assert_allclose(operator @ np.eye(18), dense)


def test_dtype_is_kept():
    factors, y, _, _ = problem(13, (5, 5), (6, 6), 1)
    sbl = KroneckerSBL(noise_var=1e-3).fit([f.astype(np.float32) for f in factors], y.astype("f4"))
    assert sbl.coef_.dtype == sbl.posterior_var_.dtype == np.float32
    mixed = KroneckerSBL(noise_var=1e-3).fit([factors[0], factors[1] * 1j], y)
    assert mixed.coef_.dtype == np.complex128 and mixed.posterior_var_.dtype == np.float64


def test_nothing_measured_is_nothing_found():
    factors, y, _, _ = problem(14, (4, 4), (5, 5), 1)
    with pytest.warns(ConvergenceWarning, match="all zero"):
        sbl = KroneckerSBL().fit(factors, np.zeros_like(y))
    assert not sbl.coef_.any() and sbl.n_iter_ == 0


def test_too_few_iterations_are_said():
    factors, y, _, _ = problem(15, (6, 6), (9, 9), 2)
    with pytest.warns(ConvergenceWarning, match="after 2 iterations"):
        KroneckerSBL(max_iter=2).fit(factors, y)


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({"method": "em"}, {}, "method must be one of"),
        ({"noise_var": 0.0}, {}, "noise_var must be positive"),
        ({"noise_var": float("nan")}, {}, "noise_var must be positive"),
        ({"max_iter": 0}, {}, "max_iter must be at least 1"),
        ({"prune": 1.0}, {}, "prune must be"),
        ({"prune": (0.1, 0.1, 0.1)}, {}, "prune must be"),
        ({"coupling": (0.5, 0.5)}, {}, "coupling needs method 'am'"),
        ({"method": "am", "coupling": (0.5,)}, {}, "coupling must be 2 numbers"),
        ({}, {"factors": []}, "factors is empty"),
        ({}, {"factors": [np.ones(3)]}, r"factors\[0\] must be a matrix"),
        ({}, {"factors": [np.full((4, 5), np.nan), np.ones((4, 5))]}, "not finite"),
        ({}, {"y": np.ones((4, 5))}, r"y must be numbers of shape \(4, 4\) or \(16,\)"),
        ({}, {"y": np.full((4, 4), np.inf)}, "y has entries that are not finite"),
        ({}, {"start": [np.ones(5)]}, "start must be vectors of lengths"),
        ({}, {"start": [np.zeros(5), np.ones(5)]}, "start must be positive"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, data, words):
    factors, y, _, _ = problem(16, (4, 4), (5, 5), 1)
    with pytest.raises(ValueError, match=words):
        KroneckerSBL(**options).fit(**({"factors": factors, "y": y} | data))


def test_a_nearly_singular_coupling_is_warned_of():
    factors, y, _, _ = problem(17, (4, 4), (5, 5), 1)
    with pytest.warns(UserWarning, match="nearly singular"):
        KroneckerSBL("am", coupling=(1.0, 0), noise_var=0.01, max_iter=500).fit(factors, y)
