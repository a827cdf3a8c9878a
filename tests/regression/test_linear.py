"""The estimators: scikit-learn's own checks, and optimality by independent NumPy code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet as SklearnElasticNet
from sklearn.linear_model import LassoCV, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.operators import L0, L1, MCP, SCAD, ElasticNet, Penalty
from rarefy.regression import (
    SparseLinearRegression,
    SparseLinearRegressionCV,
    SparseLogisticRegression,
    SparseLogisticRegressionCV,
    SparsePoissonRegression,
    SparsePoissonRegressionCV,
)

# scikit-learn's checks want weighted and repeated rows to agree to 1e-7
TIGHT = {"tol": 1e-13}


@parametrize_with_checks(
    [
        SparseLinearRegression(L1(0.01), **TIGHT),
        SparseLinearRegression(MCP(0.01), tol=1e-9),
        SparseLogisticRegression(L1(0.01), **TIGHT),
        SparsePoissonRegression(L1(0.01), **TIGHT),
        SparseLinearRegressionCV(n_strengths=5, cv=3, **TIGHT),
        SparseLogisticRegressionCV(n_strengths=5, cv=3),
        SparsePoissonRegressionCV(n_strengths=5, cv=3),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def data(n: int = 80, p: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 0.5 * rng.normal(size=(n, 1)) + 0.3
    return X, X[:, :5] @ np.array([1.0, -1, 0.7, 0.5, -0.5])


def slope_of(penalty: Penalty, b: np.ndarray) -> np.ndarray:
    """Derivative of the penalty away from zero, by its textbook formula."""
    size, lam = np.abs(b), penalty.lam
    if isinstance(penalty, ElasticNet):
        slope = lam * (penalty.l1_ratio + (1 - penalty.l1_ratio) * size)
    elif isinstance(penalty, MCP):
        slope = np.maximum(lam - size / penalty.gamma, 0)
    elif isinstance(penalty, SCAD):
        slope = np.clip((penalty.a * lam - size) / (penalty.a - 1), 0, lam)
    else:
        slope = np.full_like(b, lam)
    return slope * np.sign(b)


def assert_kkt(gradient: np.ndarray, coef: np.ndarray, penalty: Penalty, atol: float) -> None:
    on = coef != 0
    assert on.any()
    np.testing.assert_allclose(gradient[on], -slope_of(penalty, coef[on]), atol=atol)
    edge = penalty.lam * (penalty.l1_ratio if isinstance(penalty, ElasticNet) else 1)
    assert (np.abs(gradient[~on]) <= edge + atol).all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix])
@pytest.mark.parametrize(
    "penalty", [L1(0.1), ElasticNet(0.15), MCP(0.1), SCAD(0.1)], ids=lambda p: type(p).__name__
)
def test_kkt_conditions_of_every_loss(penalty: Penalty, kind: Any) -> None:
    X, eta = data()
    rng = np.random.default_rng(1)
    weights = rng.random(len(eta))
    share = weights / weights.sum()
    tight: dict[str, Any] = {"tol": 1e-12 if penalty.convex else 1e-8}

    y = eta + rng.normal(size=len(eta))
    linear = SparseLinearRegression(penalty, **tight).fit(kind(X), y, weights)
    residual = X @ linear.coef_ + linear.intercept_ - y
    assert abs(share @ residual) < 1e-9
    assert_kkt(X.T @ (share * residual), linear.coef_, penalty, 1e-5)

    labels = np.where(rng.random(len(eta)) < expit(eta), "yes", "no")
    logistic = SparseLogisticRegression(penalty, **tight).fit(kind(X), labels, weights)
    slope = share * (expit(X @ logistic.coef_[0] + logistic.intercept_[0]) - (labels == "yes"))
    assert abs(slope.sum()) < 1e-6
    assert_kkt(X.T @ slope, logistic.coef_[0], penalty, 1e-5)

    counts = rng.poisson(np.exp(eta / 2))
    poisson = SparsePoissonRegression(penalty, **tight).fit(kind(X), counts, weights)
    slope = share * (np.exp(X @ poisson.coef_ + poisson.intercept_) - counts)
    assert abs(slope.sum()) < 1e-5
    assert_kkt(X.T @ slope, poisson.coef_, penalty, 1e-5)


def test_the_gap_bounds_what_is_left() -> None:
    X, eta = data()
    y = (eta > 0).astype(float)

    def objective(model: SparseLogisticRegression) -> float:
        z = X @ model.coef_[0] + model.intercept_[0]
        return float(np.mean(np.logaddexp(0, z) - y * z) + 0.02 * np.abs(model.coef_).sum())

    best = objective(SparseLogisticRegression(L1(0.02), tol=1e-12).fit(X, y))
    for tol in (1e-1, 1e-2, 1e-3):
        model = SparseLogisticRegression(L1(0.02), tol=tol).fit(X, y)
        assert -1e-12 < objective(model) - best <= model.dual_gap_[0]


def test_elastic_net_is_scikit_learns() -> None:
    X, y = data()
    ours = SparseLinearRegression(ElasticNet(0.1, l1_ratio=0.3), tol=1e-12).fit(X, y)
    theirs = SklearnElasticNet(alpha=0.1, l1_ratio=0.3, tol=1e-12, max_iter=100_000).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-6)


def test_logistic_is_scikit_learns() -> None:
    X, eta = data(60, 20)
    y = eta + np.random.default_rng(2).normal(size=60) > 0
    ours = SparseLogisticRegression(L1(0.05), tol=1e-11, fit_intercept=False).fit(X, y)
    theirs = LogisticRegression(
        l1_ratio=1, solver="liblinear", C=1 / (60 * 0.05), fit_intercept=False, tol=1e-9,
        max_iter=10_000,
    ).fit(X, y)  # fmt: skip
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


def test_several_classes_are_one_against_the_rest() -> None:
    X, eta = data(90, 20)
    y = np.digitize(eta, [-0.7, 0.7])
    model = SparseLogisticRegression(L1(0.02)).fit(X, y)
    assert model.coef_.shape == (3, 20)
    for k in range(3):
        alone = SparseLogisticRegression(L1(0.02)).fit(X, y == k)
        np.testing.assert_allclose(model.coef_[k], alone.coef_[0])
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    assert model.score(X, y) > 0.7


def test_cross_validation_is_scikit_learns() -> None:
    X, eta = data()
    y = eta + np.random.default_rng(3).normal(size=len(eta))
    strengths = np.geomspace(0.5, 0.01, 15)
    ours = SparseLinearRegressionCV(strengths=strengths, tol=1e-10, n_jobs=2).fit(X, y)
    theirs = LassoCV(alphas=strengths, tol=1e-8, max_iter=100_000).fit(X, y)
    assert ours.penalty_.lam == pytest.approx(theirs.alpha_)
    np.testing.assert_allclose(2 * ours.loss_path_, theirs.mse_path_, rtol=1e-5)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)


def test_a_path_from_the_largest_strength_ends_lower_on_average() -> None:
    def objective(X: np.ndarray, y: np.ndarray, length: int | None) -> float:
        model = SparseLinearRegression(L0(0.02), path_length=length).fit(X, y)
        return float(np.mean((model.predict(X) - y) ** 2) / 2 + 0.02 * (model.coef_ != 0).sum())

    gains = []
    for seed in range(5):
        X, eta = data(60, 200, seed=seed)
        y = eta + np.random.default_rng(seed).normal(size=60)
        gains.append(objective(X, y, 1) - objective(X, y, None))
    assert np.mean(gains) > 0.005


def test_grid_search_and_pipeline() -> None:
    X, y = data(40, 10)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), SparseLinearRegression()),
        {"sparselinearregression__penalty": [L1(0.5), MCP(0.01)]},
        cv=3,
    ).fit(X, y)
    assert search.best_params_["sparselinearregression__penalty"] == MCP(0.01)
    model = SparseLinearRegression(MCP(0.2))
    assert clone(model).penalty == model.penalty


def test_float32_is_kept() -> None:
    X, y = data(40, 10)
    model = SparseLinearRegression(L1(0.1), tol=1e-4).fit(X.astype(np.float32), y)
    assert model.coef_.dtype == np.float32
    assert model.predict(X.astype(np.float32)).dtype == np.float32


def test_the_gap_is_said_where_it_is_not_reached() -> None:
    X, eta = data()
    with pytest.warns(ConvergenceWarning, match="duality gap of"):
        model = SparseLogisticRegression(L1(1e-3), max_iter=2).fit(X, eta > 0)
    assert model.dual_gap_[0] > 1e-4
    with pytest.warns(ConvergenceWarning, match="KKT violation of"):
        SparseLinearRegression(SCAD(1e-3), max_iter=2, path_length=1).fit(X, eta)


def test_bad_input() -> None:
    X, y = data(20, 6)
    with pytest.raises(ValueError, match="two classes or more, got one class"):
        SparseLogisticRegression().fit(X, np.ones(20))
    with pytest.raises(ValueError, match="must hold counts"):
        SparsePoissonRegression().fit(X, -np.ones(20))
    with pytest.raises(ValueError, match="only zeros"):
        SparsePoissonRegression().fit(X, np.zeros(20))
    with pytest.raises(ValueError, match="path_length must be at least 1, got 0"):
        SparseLinearRegression(path_length=0).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        SparseLinearRegression().fit(X, np.full(20, np.nan))
