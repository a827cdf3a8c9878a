"""penalty_path: against scikit-learn, and the optimality conditions by independent NumPy code."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import enet_path, ridge_regression

from rarefy.operators import (
    CEL0,
    L0,
    L1,
    MCP,
    SCAD,
    CappedL1,
    ElasticNet,
    LogSum,
    Lq,
    Penalty,
)
from rarefy.regression import PenaltyPath, penalty_path

PENALTIES = [
    L1(1.0),
    ElasticNet(1.0, l1_ratio=0.7),
    MCP(1.0),
    SCAD(1.0),
    L0(1.0),
    Lq(1.0),
    CEL0(1.0),
    CappedL1(1.0, theta=0.5),
    LogSum(1.0),
]


def data(n: int = 60, p: int = 100, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 0.7 * rng.normal(size=(n, 1)) + 2
    X *= rng.random((n, p)) < 0.7
    return X, X[:, :6] @ rng.normal(size=6) + rng.normal(size=n) + 3


def assert_optimal(
    X: np.ndarray, y: np.ndarray, path: PenaltyPath, penalty: Penalty, atol: float,
    weights: np.ndarray | None = None,
) -> None:  # fmt: skip
    """No coordinate gains by moving alone: its objective on a fine grid, by brute force."""
    weights = np.full(len(y), 1 / len(y)) if weights is None else weights / weights.sum()
    for strength, coef, intercept in zip(
        path.strengths[::9], path.coefs[::9], path.intercepts[::9], strict=True
    ):
        here = dataclasses.replace(penalty, lam=float(strength))
        residual = y - X @ coef - intercept
        assert abs(weights @ residual) < 1e-9 * np.abs(y).max()
        for j in range(X.shape[1]):
            column = X[:, j] - weights @ X[:, j]
            grid = np.concatenate([coef[j] + np.linspace(-0.5, 0.5, 101), [0.0]])
            loss = [weights @ (residual - column * (b - coef[j])) ** 2 / 2 for b in grid]
            costs = [cost + here.value(np.array([b])) for cost, b in zip(loss, grid, strict=True)]
            now = weights @ residual**2 / 2 + here.value(coef[j : j + 1])
            assert now <= min(costs) + atol, (penalty, strength, j)


@pytest.mark.parametrize("ratio", [1.0, 0.5])
@pytest.mark.parametrize("kind", [np.ascontiguousarray, np.asfortranarray, sp.csc_array])
def test_convex_paths_are_those_of_scikit_learn(ratio: float, kind: object) -> None:
    X, y = data()
    penalty = L1(1.0) if ratio == 1 else ElasticNet(1.0, l1_ratio=ratio)
    path = penalty_path(kind(X), y, penalty, eps=1e-2, tol=1e-11, n_strengths=40)
    _, coefs, _ = enet_path(X - X.mean(0), y - y.mean(), l1_ratio=ratio, alphas=path.strengths,
                            tol=1e-13, max_iter=100_000)  # fmt: skip
    np.testing.assert_allclose(path.coefs, coefs.T, atol=1e-6)
    np.testing.assert_allclose(path.intercepts, y.mean() - X.mean(0) @ coefs, atol=1e-6)
    assert (path.gaps <= 1e-11 * y.var() / 2).all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csc_array])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_no_coordinate_gains_by_moving_alone(penalty: Penalty, kind: object) -> None:
    X, y = data(40, 30)
    X /= X.std(0)
    path = penalty_path(kind(X), y, penalty, eps=1e-2, tol=1e-9, n_strengths=28)
    assert not path.coefs[0].any()
    assert path.coefs[1].any()
    assert_optimal(X, y, path, penalty, atol=1e-7)


@pytest.mark.parametrize("kind", [np.asfortranarray, sp.csc_matrix])
def test_lasso_paths_are_those_of_celer(kind: object) -> None:
    celer = pytest.importorskip("celer")
    X, y = data()
    path = penalty_path(kind(X), y, L1(1.0), eps=1e-2, tol=1e-12, n_strengths=20,
                        fit_intercept=False)  # fmt: skip
    _, coefs, _ = celer.celer_path(
        kind(X), y, "lasso", alphas=path.strengths, tol=1e-13, prune=True
    )  # fmt: skip
    np.testing.assert_allclose(path.coefs, coefs.T, atol=1e-6)


# penalties that jump have many stationary points, and the order of the columns picks one
@pytest.mark.parametrize("penalty", PENALTIES[:4], ids=lambda p: type(p).__name__)
def test_a_sparse_matrix_gives_the_dense_path(penalty: Penalty) -> None:
    X, y = data()
    dense = penalty_path(X, y, penalty, eps=0.1, tol=1e-10, n_strengths=15)
    sparse = penalty_path(sp.csr_array(X), y, penalty, eps=0.1, tol=1e-10, n_strengths=15)
    np.testing.assert_allclose(dense.coefs, sparse.coefs, atol=1e-6)


def test_weights_count_rows() -> None:
    X, y = data(40, 20)
    counts = np.random.default_rng(1).integers(1, 4, size=40)
    repeated = penalty_path(np.repeat(X, counts, axis=0), np.repeat(y, counts), MCP(1.0), tol=1e-10)
    for kind in (np.asarray, sp.csc_array):
        weighted = penalty_path(kind(X), y, MCP(1.0), sample_weight=counts, tol=1e-10)
        np.testing.assert_allclose(weighted.coefs, repeated.coefs, atol=1e-6)


def test_positive_coefficients() -> None:
    X, y = data(40, 30)
    penalty = L1(1.0, positive=True)
    path = penalty_path(X, y, penalty, tol=1e-10, n_strengths=30, eps=1e-2)
    assert (path.coefs >= 0).all()
    assert path.coefs[1].any()
    assert_optimal(X, y, path, penalty, atol=1e-7)


def test_strength_zero_is_least_squares() -> None:
    X, y = data(60, 10)
    path = penalty_path(X, y, L1(1.0), strengths=[0.1, 0.0], tol=1e-12)
    solved = ridge_regression(X - X.mean(0), y - y.mean(), alpha=0.0)
    np.testing.assert_allclose(path.coefs[1], solved, atol=1e-6)


def test_float32_stays() -> None:
    X, y = data()
    single = penalty_path(X.astype(np.float32), y, L1(1.0), tol=1e-5, eps=1e-2)
    assert single.coefs.dtype == np.float32
    double = penalty_path(X, y, L1(1.0), strengths=single.strengths, tol=1e-5)
    np.testing.assert_allclose(single.coefs, double.coefs, atol=1e-2)


def test_constant_and_duplicate_columns() -> None:
    X, y = data(40, 20)
    X[:, 3] = 7.3
    X[:, 5] = X[:, 4]
    path = penalty_path(X, y, L1(1.0), tol=1e-9)
    assert not path.coefs[:, 3].any()
    assert_optimal(X, y, path, L1(1.0), atol=1e-7)


def test_stopping_early_is_said() -> None:
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="a duality gap of .*, wanted"):
        penalty_path(X, y, L1(1.0), strengths=[0.01], tol=1e-12, max_iter=3)
    with pytest.warns(ConvergenceWarning, match="a KKT violation of .*, wanted"):
        penalty_path(X, y, MCP(1.0), strengths=[0.01], tol=1e-12, max_iter=3)


def test_bad_input() -> None:
    X, y = data(10, 6)
    with pytest.raises(ValueError, match="NaN"):
        penalty_path(np.where(X > 3, np.nan, X), y, L1(1.0))
    with pytest.raises(ValueError, match="0 feature"):
        penalty_path(X[:, :0], y, L1(1.0))
    with pytest.raises(ValueError, match="l1_ratio is 0"):
        penalty_path(X, y, ElasticNet(1.0, l1_ratio=0.0))
    with pytest.raises(ValueError, match="only zeros|non-zero"):
        penalty_path(X, y, L1(1.0), sample_weight=np.zeros(10))
    with pytest.raises(TypeError, match="penalty must be one of"):
        penalty_path(X, y, type("Mine", (L1,), {})(1.0))
