"""Random pivots: algebra against plain projections, the guarantee, and designs that break lasso."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.regression.pivots import (
    PivotPreconditioner,
    preconditioner_quality,
    random_pivot_basis,
)
from rarefy.regression.random_pivot_lasso import RandomPivotLasso


def near_plane(seed, n=80, p=150, k=3, sigma=0.3):
    """Columns near a plane, and the combination of k of them that cancels most."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 2)) @ rng.normal(size=(2, p)) + 1e-3 * rng.normal(size=(n, p))
    X = (X - X.mean(0)) / X.std(0)
    support = rng.choice(p, k, replace=False)
    signal = X[:, support] @ np.linalg.svd(X[:, support])[2][-1]
    signal /= signal.std()
    return X, signal, signal + sigma * rng.normal(size=n)


def test_residuals_are_what_least_squares_leaves():
    rng = np.random.default_rng(70)
    X = rng.normal(size=(30, 40))
    basis = random_pivot_basis(X, 7, random_state=0)
    fitted = LinearRegression(fit_intercept=False).fit(X[:, basis.pivots], X)
    left = X - fitted.predict(X[:, basis.pivots])
    np.testing.assert_allclose(basis.residuals(X), left, atol=1e-12)
    np.testing.assert_allclose(basis.residual_norms, np.linalg.norm(left, axis=0), atol=1e-12)
    np.testing.assert_allclose(X[:, basis.pivots] @ basis.coefficients + left, X, atol=1e-12)
    others = np.setdiff1d(np.arange(40), basis.pivots)
    norms = np.linalg.norm(left * basis.scales, axis=0)
    np.testing.assert_allclose(norms[others], 30**0.5)
    assert not basis.scales[basis.pivots].any()


def test_explained_columns_are_dropped():
    rng = np.random.default_rng(71)
    base = rng.normal(size=(20, 3))
    X = np.hstack([base, base @ rng.normal(size=(3, 10))])
    basis = random_pivot_basis(X, 6, random_state=1)
    assert len(basis.pivots) == 3 and not basis.scales.any()


@pytest.mark.parametrize("seed", range(3))
def test_the_quality_is_a_bound_on_the_new_coefficients(seed):
    rng = np.random.default_rng([72, seed])
    X = 3.0 ** -np.minimum(np.arange(40), 6)[:, None] * rng.normal(size=(40, 30))
    basis = random_pivot_basis(X, 6, random_state=seed)
    bound = preconditioner_quality(X, basis, 3, n_supports=1, random_state=seed + 5)[0]
    support = np.random.RandomState(seed + 5).choice(30, 3, replace=False)
    ratios = []
    for w in rng.normal(size=(300, 3)):
        v = w * basis.residual_norms[support] / 40**0.5
        ratios.append(abs(v).sum() / (np.linalg.norm(X[:, support] @ w) / 40**0.5))
    assert max(ratios) <= bound * (1 + 1e-9)
    assert bound < 100 * max(ratios)


def test_the_guarantee_holds_as_often_as_it_says():
    rng = np.random.default_rng(73)
    n, p, k, m = 60, 2000, 3, 20
    X = np.cumsum(rng.normal(size=(n, p)), axis=1)
    X /= np.linalg.norm(X, axis=0)
    held = np.concatenate(
        [
            preconditioner_quality(
                X, random_pivot_basis(X, m, random_state=i), k, n_supports=20, random_state=i
            )
            <= k
            for i in range(20)
        ]
    )
    assert held.mean() >= 1 - k / (m / (k - 1) + 1) - k * m / p
    # without pivots it fails on such columns
    plain = preconditioner_quality(X, random_pivot_basis(X, 0), k, random_state=0)
    assert np.mean(plain <= k) < 0.3


def test_it_predicts_where_lasso_does_not():
    gain = []
    for seed in range(4):
        X, signal, y = near_plane([74, seed])
        pivots = RandomPivotLasso(k=3, random_state=seed, n_draws=3).fit(X, y)
        lam = 0.3 * (2 * np.log(150) / 80) ** 0.5
        lasso = Lasso(alpha=lam, max_iter=5000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lasso.fit(X, y)
        errors = [np.mean((model.predict(X) - signal) ** 2) for model in (pivots, lasso)]
        gain.append(errors[1] / errors[0])
        assert pivots.n_pivots_ > 0 and len(pivots.pivots_) == 3
        assert np.count_nonzero(pivots.coef_) < 150
    assert np.median(gain) > 3


def test_without_pivots_it_is_the_lasso():
    rng = np.random.default_rng(75)
    X = rng.normal(size=(60, 30)) * rng.uniform(0.5, 3, 30)
    y = X[:, 0] - X[:, 5] + 0.3 * rng.normal(size=60) + 2
    ours = RandomPivotLasso(0, alpha=0.1, tol=1e-10).fit(X, y)
    scale = X.std(axis=0)
    lasso = Lasso(alpha=0.1, tol=1e-10).fit(X / scale, y)
    np.testing.assert_allclose(ours.coef_, lasso.coef_ / scale, atol=1e-6)
    assert ours.intercept_ == pytest.approx(lasso.intercept_, abs=1e-5)
    assert ours.n_pivots_ == 0 and ours.alpha_ == 0.1


def test_on_independent_columns_it_falls_back():
    rng = np.random.default_rng(76)
    X = rng.normal(size=(100, 200))
    y = X[:, :3].sum(1) + 0.5 * rng.normal(size=100)
    assert RandomPivotLasso(random_state=0, n_draws=2).fit(X, y).n_pivots_ <= 4


def test_theory_takes_the_noise_or_estimates_it():
    rng = np.random.default_rng(77)
    X = rng.normal(size=(200, 50))
    y = X[:, 0] + 0.5 * rng.normal(size=200)
    rate = (2 * np.log(50) / 200) ** 0.5
    given = RandomPivotLasso(0, alpha="theory", sigma=0.5).fit(X, y)
    assert given.alpha_ == pytest.approx(0.5 * rate)
    estimated = RandomPivotLasso(0, alpha="theory").fit(X, y)
    assert estimated.alpha_ == pytest.approx(0.5 * rate, rel=0.15)


def test_refit_is_least_squares_on_what_was_chosen():
    X, signal, y = near_plane(78)
    model = RandomPivotLasso(6, alpha=0.3, n_draws=1, refit=True, random_state=0).fit(X, y)
    used = np.flatnonzero(model.coef_)
    best = np.linalg.lstsq(X[:, used], y - y.mean(), rcond=None)[0]
    np.testing.assert_allclose(X @ model.coef_, X[:, used] @ best, atol=1e-8)


def test_one_draw_is_the_best_of_them():
    X, _, y = near_plane(79)
    model = RandomPivotLasso(6, aggregate="best", random_state=3, n_draws=3).fit(X, y)
    assert len(model.pivots_) == 1


def test_unlabelled_rows_rescale_the_residuals():
    X, _, y = near_plane(80)
    half = RandomPivotLasso(6, alpha=0.1, random_state=0, n_draws=1)
    alone = clone(half).fit(X[:40], y[:40])
    same = clone(half).fit(X[:40], y[:40], X_unlabeled=X[:40])
    more = clone(half).fit(X[:40], y[:40], X_unlabeled=X[40:])
    np.testing.assert_allclose(same.coef_, alone.coef_, atol=1e-6)
    assert abs(more.coef_ - alone.coef_).max() > 1e-6


def test_the_preconditioner_changes_columns_and_back():
    X, _, y = near_plane(81)
    change = PivotPreconditioner(6, random_state=0).fit(X)
    new = change.transform(X)
    m = len(change.basis_.pivots)
    np.testing.assert_allclose(new[:, :m].T @ new[:, :m] / 80, np.eye(m), atol=1e-10)
    np.testing.assert_allclose(np.mean(new**2, axis=0), 1, rtol=1e-6)
    coef = np.random.default_rng(82).normal(size=new.shape[1])
    back = change.inverse_coef(coef)
    np.testing.assert_allclose((X - X.mean(0)) @ back, new @ coef, atol=1e-6)
    with pytest.raises(ValueError, match="coef must have shape"):
        change.inverse_coef(coef[1:])


@parametrize_with_checks([RandomPivotLasso(n_draws=2, random_state=0), PivotPreconditioner()])
def test_they_are_scikit_learn_estimators(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_pivots": 80}, "n_pivots must be < n_samples = 80"),
        ({"n_pivots": -1}, "n_pivots must be < n_samples"),
        ({"n_pivots": "all"}, "n_pivots must be numbers or 'auto'"),
        ({"alpha": 0.0}, "alpha must be positive"),
        ({"alpha": "bic"}, "alpha must be a number"),
        ({"aggregate": "median"}, "aggregate must be"),
        ({"n_draws": 0}, "n_draws must be at least 1"),
        ({"cv": 1}, "cv must be at least 2"),
        ({"sigma": -1.0}, "sigma must be positive"),
    ],
)
def test_bad_options_are_refused_in_one_sentence(options, words):
    X, _, y = near_plane(83)
    with pytest.raises(ValueError, match=words):
        RandomPivotLasso(**options).fit(X, y)


def test_bad_input_is_refused_and_many_pivots_are_warned_of():
    X, _, y = near_plane(84)
    with pytest.warns(UserWarning, match="over a quarter of the 80 rows"):
        RandomPivotLasso(30, alpha=0.1, n_draws=1, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="X_unlabeled must have 150 columns"):
        RandomPivotLasso().fit(X, y, X_unlabeled=X[:, 1:])
    with pytest.raises(ValueError, match="NaN"):
        RandomPivotLasso().fit(X * np.nan, y)
    with pytest.raises(ValueError, match="k must be from 1 to"):
        preconditioner_quality(X, random_pivot_basis(X, 2), 0)
    with pytest.raises(ValueError, match="at most n_features"):
        random_pivot_basis(X[:, :3], 5)
