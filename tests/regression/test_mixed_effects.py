"""The mixed model against a dense likelihood, statsmodels, and what outliers should (not) do."""

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso
from sklearn.utils.estimator_checks import parametrize_with_checks

from rarefy.operators import L1, SCAD
from rarefy.regression.mixed_effects import TsallisMixedRegressor

TRUTH = np.array([1.0, -2.0, 0.5])


def panel(seed, groups=25, rows=4, *, slopes=False, outliers=0):
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    X = rng.normal(size=(len(g), 3)) + 2.0
    u = rng.normal(size=(groups, 2)) @ np.array([[0.9, 0.3], [0.0, 0.5]])
    Z = np.column_stack([np.ones(len(g)), X[:, 0]]) if slopes else np.ones((len(g), 1))
    noise = np.where(rng.permutation(groups) < outliers, 10.0, 0.6)[g] * rng.normal(size=len(g))
    y = 0.7 + X @ TRUTH + np.sum(Z * u[g, : Z.shape[1]], axis=1) + noise
    return X, y, g, Z


def dense_log_likelihood(model, X, y, g, Z):
    total = 0.0
    for label in np.unique(g):
        rows = g == label
        mean = X[rows] @ model.coef_ + model.intercept_
        cov = Z[rows] @ model.random_cov_ @ Z[rows].T + model.noise_var_ * np.eye(rows.sum())
        if np.isinf(model.nu_):
            total += multivariate_normal.logpdf(y[rows], mean, cov)
        else:
            total += multivariate_t.logpdf(y[rows], mean, cov, df=model.nu_)
    return total


@pytest.mark.parametrize("slopes", [False, True])
@pytest.mark.parametrize("nu", [4.0, np.inf])
def test_its_likelihood_is_scipys_and_no_neighbour_is_likelier(nu, slopes):
    X, y, g, Z = panel(50, slopes=slopes)
    model = TsallisMixedRegressor(nu).fit(X, y, groups=g, Z=Z)
    best = dense_log_likelihood(model, X, y, g, Z)
    assert model.log_likelihood_ == pytest.approx(best, abs=1e-8)
    assert (np.diff(model.objective_history_) <= 1e-9).all()
    rng = np.random.default_rng(51)
    kept = model.coef_, model.intercept_, model.noise_var_, model.random_cov_
    for _ in range(40):
        model.coef_ = kept[0] + 0.02 * rng.normal(size=3)
        model.intercept_ = kept[1] + 0.02 * rng.normal()
        model.noise_var_ = kept[2] * np.exp(0.05 * rng.normal())
        push = np.eye(len(kept[3])) + 0.05 * rng.normal(size=kept[3].shape)
        model.random_cov_ = push @ kept[3] @ push.T
        assert dense_log_likelihood(model, X, y, g, Z) < best + 1e-6


@pytest.mark.parametrize("slopes", [False, True])
def test_the_gaussian_limit_is_statsmodels_mixedlm(slopes):
    models = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    X, y, g, Z = panel(52, slopes=slopes)
    ours = TsallisMixedRegressor(np.inf, tol=1e-12).fit(X, y, groups=g, Z=Z)
    design = np.column_stack([np.ones(len(y)), X])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = models.MixedLM(y, design, g, exog_re=Z).fit(reml=False, method="lbfgs", gtol=1e-10)
    np.testing.assert_allclose(ours.coef_, theirs.fe_params[1:], atol=1e-4)
    assert ours.intercept_ == pytest.approx(theirs.fe_params[0], abs=1e-4)
    np.testing.assert_allclose(ours.random_cov_, theirs.cov_re, atol=1e-3)
    assert ours.noise_var_ == pytest.approx(theirs.scale, rel=1e-3)
    assert ours.log_likelihood_ == pytest.approx(theirs.llf, abs=1e-5)
    np.testing.assert_allclose(ours.bse_, theirs.bse_fe[1:], rtol=1.5e-2)
    for label, effect in theirs.random_effects.items():
        np.testing.assert_allclose(ours.random_effects_[label], effect, atol=2e-3)


def test_many_degrees_of_freedom_are_the_gaussian_limit():
    X, y, g, _ = panel(53)
    limit = TsallisMixedRegressor(np.inf, tol=1e-12).fit(X, y, groups=g)
    near = TsallisMixedRegressor(1e7, tol=1e-12).fit(X, y, groups=g)
    np.testing.assert_allclose(near.coef_, limit.coef_, atol=1e-6)
    assert near.log_likelihood_ == pytest.approx(limit.log_likelihood_, abs=1e-3)


def test_without_groups_it_is_the_t_regression_of_its_likelihood():
    rng = np.random.default_rng(54)
    X = rng.normal(size=(80, 2))
    y = X @ [2.0, -1.0] + rng.standard_t(3, size=80)

    def cost(p):
        residual = y - X @ p[:2] - p[2]
        return np.sum(p[3] / 2 + 2.5 * np.log1p(residual**2 / (4 * np.exp(p[3]))))

    best = minimize(cost, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    model = TsallisMixedRegressor(4.0, tol=1e-13).fit(X, y)
    np.testing.assert_allclose(model.coef_, best[:2], atol=1e-5)
    assert model.noise_var_ == pytest.approx(np.exp(best[3]), rel=1e-4)
    assert not model.random_cov_.any()


def test_outlying_groups_weigh_little_and_bend_nothing():
    X, y, g, _ = panel(55, groups=60, outliers=9)
    robust = TsallisMixedRegressor(4.0).fit(X, y, groups=g)
    gaussian = TsallisMixedRegressor(np.inf).fit(X, y, groups=g)
    clean = np.random.default_rng(55)
    clean.normal(size=(240, 3)), clean.normal(size=(60, 2))
    bad = clean.permutation(60) < 9
    weights = np.array([robust.weights_[label] for label in range(60)])
    assert weights[bad].max() < weights[~bad].min()
    errors = [np.sum((m.coef_ - TRUTH) ** 2) for m in (robust, gaussian)]
    assert errors[0] < 0.35 * errors[1]
    assert set(gaussian.weights_.values()) == {1.0}


def test_the_profile_takes_the_likeliest():
    X, y, g, _ = panel(56, outliers=4)
    profile = TsallisMixedRegressor("profile").fit(X, y, groups=g)
    tried = {nu: TsallisMixedRegressor(nu).fit(X, y, groups=g).log_likelihood_ for nu in (3, 30)}
    assert profile.nu_ < 10 and profile.log_likelihood_ >= max(tried.values())


def test_standard_errors_are_those_of_repetition():
    coefs, errors = [], []
    for seed in range(40):
        X, y, g, _ = panel([57, seed], groups=30, outliers=0)
        model = TsallisMixedRegressor(np.inf, tol=1e-6).fit(X, y, groups=g)
        coefs.append(model.coef_)
        errors.append(model.bse_)
    np.testing.assert_allclose(np.mean(errors, 0), np.std(coefs, 0), rtol=0.35)


def test_a_penalty_chooses_and_is_stationary():
    rng = np.random.default_rng(58)
    g = np.repeat(np.arange(30), 4)
    X = rng.normal(size=(120, 200))
    y = 3 * X[:, 5] - 2 * X[:, 60] + rng.normal(size=30)[g] + 0.5 * rng.normal(size=120)
    y[:8] += 30
    model = TsallisMixedRegressor(4.0, penalty=SCAD(1.0)).fit(X, y, groups=g)
    assert np.flatnonzero(model.coef_).tolist() == [5, 60]
    np.testing.assert_allclose(model.coef_[[5, 60]], [3, -2], atol=0.25)
    assert (model.bse_ > 0).sum() == 2


def test_with_a_penalty_and_no_groups_it_is_the_lasso():
    rng = np.random.default_rng(59)
    X = rng.normal(size=(50, 10))
    y = X[:, 0] - X[:, 3] + 0.3 * rng.normal(size=50)
    model = TsallisMixedRegressor(np.inf, penalty=L1(0.5), tol=1e-13).fit(X, y)
    # F is mean(d)/2 + log(s)/2 + 0.5 |b|/sqrt(s): the lasso at strength 0.5 * sqrt(s)
    scale = X.std(axis=0)
    lasso = Lasso(alpha=0.5 * model.noise_var_**0.5, tol=1e-12).fit((X - X.mean(0)) / scale, y)
    np.testing.assert_allclose(model.coef_, lasso.coef_ / scale, atol=1e-5)


def test_groups_may_come_in_any_order():
    X, y, g, Z = panel(60, slopes=True)
    order = np.random.default_rng(61).permutation(len(y))
    names = np.array([f"s{label:02d}" for label in g])
    one = TsallisMixedRegressor().fit(X, y, groups=names, Z=Z)
    two = TsallisMixedRegressor().fit(X[order], y[order], groups=names[order], Z=Z[order])
    np.testing.assert_allclose(one.coef_, two.coef_, atol=1e-6)
    np.testing.assert_allclose(one.random_effects_["s03"], two.random_effects_["s03"], atol=1e-5)


def test_known_groups_add_their_effects():
    X, y, g, _ = panel(62)
    model = TsallisMixedRegressor().fit(X, y, groups=g)
    plain = model.predict(X[:2])
    np.testing.assert_allclose(
        model.predict(X[:2], groups=[0, 999]) - plain,
        [model.random_effects_[0][0], 0.0],
        atol=1e-12,
    )
    with pytest.raises(ValueError, match="Z must have shape"):
        model.predict(X[:2], groups=[0, 1], Z=np.ones((2, 3)))


@parametrize_with_checks([TsallisMixedRegressor()])
def test_it_is_a_scikit_learn_estimator(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    ("options", "data", "words"),
    [
        ({"nu": 0.0}, {}, "nu must be positive"),
        ({"nu": "t"}, {}, "nu must be positive"),
        ({"tol": -1.0}, {}, "tol must be at least 0"),
        ({"max_iter": 0}, {}, "max_iter at least 1"),
        ({}, {"groups": np.zeros(3)}, "groups must have shape"),
        ({}, {"Z": np.ones((3, 1))}, "Z must have 100 rows"),
        ({}, {"Z": np.ones((100, 2))}, "collinear"),
        ({}, {"Z": np.full((100, 1), np.nan)}, "NaN"),
        ({}, {"X": np.full((100, 3), np.nan)}, "NaN"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, data, words):
    X, y, g, _ = panel(63)
    with pytest.raises(ValueError, match=words):
        TsallisMixedRegressor(**options).fit(**({"X": X, "y": y, "groups": g} | data))
    with pytest.raises(TypeError, match="penalty must be a Penalty"):
        TsallisMixedRegressor(penalty="l1").fit(X, y, groups=g)


def test_too_few_rounds_are_said():
    X, y, g, _ = panel(64, outliers=5)
    with pytest.warns(ConvergenceWarning, match="after 1 rounds"):
        TsallisMixedRegressor(max_iter=1).fit(X, y, groups=g)
