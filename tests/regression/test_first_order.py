"""Accelerated and conjugate gradients against coordinate descent, finite differences and theory."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.linear_model import LogisticRegression

from rarefy.operators import L0, L1, MCP, SCAD, ElasticNet
from rarefy.regression.accelerated_gradient import accelerated_gradient
from rarefy.regression.composite import Composite, MeanLoss
from rarefy.regression.conjugate_gradient import conjugate_gradient
from rarefy.regression.first_order_path import first_order_path
from rarefy.regression.losses import LogisticLoss, PoissonLoss, SquaredLoss
from rarefy.regression.path import penalty_path

PENALTIES = [L1(0.1), MCP(0.1, 3.0), SCAD(0.1, 3.7)]
SOLVERS = {
    "optimal": lambda p, **o: accelerated_gradient(p, steps="optimal", **o),
    "no restart": lambda p, **o: accelerated_gradient(p, restart=False, **o),
    "ghadimi-lan": lambda p, **o: accelerated_gradient(p, steps="ghadimi-lan", **o),
    "plain": lambda p, **o: accelerated_gradient(p, steps="plain", **o),
    "both": lambda p, **o: conjugate_gradient(p, **o),
    "proximal": lambda p, **o: conjugate_gradient(p, phases="proximal", **o),
    "manifold": lambda p, **o: conjugate_gradient(p, phases="manifold", **o),
}


def data(seed, n=60, p=12):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 0.5 * rng.normal(size=(n, 1))
    X = (X - X.mean(0)) / X.std(0)
    b = np.zeros(p)
    b[[1, 3, 5]] = [1.5, -1.0, 0.6]
    y = X @ b + 0.5 * rng.normal(size=n)
    return X, y - y.mean()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_every_method_reaches_the_optimum_of_coordinate_descent(penalty, solver):
    X, y = data(40)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), penalty)
    found = SOLVERS[solver](problem, tol=1e-10, max_iter=20_000)
    # With more rows than columns and gamma this large the problem has one minimum.
    best = penalty_path(X, y, penalty, strengths=[penalty.lam], fit_intercept=False, tol=1e-10)
    np.testing.assert_allclose(found.coef, best.coefs[0], atol=1e-6)
    assert found.stationarity < 1e-6
    assert found.objectives[-1] == pytest.approx(problem.value(found.coef))
    # sublinear without restarts: it may run out of iterations near the optimum
    assert found.converged or solver in ("ghadimi-lan", "no restart")


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("loss", [SquaredLoss(), LogisticLoss()], ids=["squares", "logistic"])
def test_the_gradient_is_that_of_finite_differences(penalty, loss):
    X, y = data(41, n=20, p=6)
    problem = Composite(X, MeanLoss(loss, (y > 0).astype(float)), penalty)
    # away from 0, the two kinks of neither penalty among them
    b = np.array([0.05, -0.2, 0.5, -2.0, 0.15, 0.33])

    def smooth(at):
        return problem.value(at) - penalty.lam * np.sum(abs(at))

    np.testing.assert_allclose(problem.gradient(b), approx_fprime(b, smooth, 1e-7), atol=1e-6)


@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_a_step_of_one_over_the_constant_never_overshoots(penalty):
    X, y = data(42)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), penalty)
    plain = accelerated_gradient(problem, np.full(12, 3.0), steps="plain", max_iter=100)
    assert (np.diff(plain.objectives) <= 1e-12).all()


@pytest.mark.parametrize("phases", ["both", "proximal", "manifold"])
@pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: type(p).__name__)
def test_conjugate_gradient_never_rises(penalty, phases):
    X, y = data(43, n=40, p=90)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), penalty)
    found = conjugate_gradient(problem, X.T @ y / 40, phases=phases, tol=1e-9, max_iter=4000)
    assert (np.diff(found.objectives) <= 1e-12).all()
    assert found.converged and found.stationarity < 1e-7


def test_conjugate_gradient_needs_fewer_gradients():
    X, y = data(44, n=60, p=120)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), SCAD(0.05))
    conjugate = conjugate_gradient(problem, tol=1e-8, max_iter=5000)
    accelerated = accelerated_gradient(problem, tol=1e-8, max_iter=5000)
    plain = accelerated_gradient(problem, steps="plain", tol=1e-8, max_iter=5000)
    assert conjugate.gradients[-1] < 0.8 * accelerated.gradients[-1] < 0.8 * plain.gradients[-1]


def test_an_unpenalised_intercept_in_logistic_regression():
    X, y = data(45, n=100, p=6)
    labels = (y > 0.4).astype(float)
    design = np.column_stack([np.ones(100), X])
    mask = np.arange(7) > 0
    problem = Composite(design, MeanLoss(LogisticLoss(), labels), L1(0.03), mask)
    reference = LogisticRegression(
        l1_ratio=1.0, solver="saga", C=1 / (100 * 0.03), tol=1e-10, max_iter=100_000
    ).fit(X, labels)
    for solve in (conjugate_gradient, accelerated_gradient):
        coef = solve(problem, tol=1e-9, max_iter=5000).coef
        np.testing.assert_allclose(coef[1:], reference.coef_[0], atol=1e-5)
        assert coef[0] == pytest.approx(reference.intercept_[0], abs=1e-5)


def test_the_iterations_are_those_of_the_algorithm_box():
    # One coefficient with X^T X / n = 1, so L = 1: the box worked by hand for three iterations.
    X, y = np.ones((4, 1)), np.full(4, 2.0)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), L1(0.5))
    found = accelerated_gradient(problem, np.zeros(1), max_iter=3, tol=0.0, restart=False)
    b = ag = md = 0.0
    alpha, w = 1.0, 0.99
    expected = []
    for k in range(1, 4):
        if k > 1:
            alpha = 2 / (1 + (1 + 4 / alpha**2) ** 0.5)
        md = (1 - alpha) * ag + alpha * b
        g = md - 2
        b = max(b - w / alpha * g - w / alpha * 0.5, 0)
        ag = max(md - w * g - w * 0.5, 0)
        expected.append((2 - ag) ** 2 / 2 + 0.5 * ag)
    np.testing.assert_allclose(found.objectives[1:], expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda X, y: Composite(X, MeanLoss(SquaredLoss(), y), L0(0.1)), "penalty must be"),
        (lambda X, y: Composite(X, MeanLoss(SquaredLoss(), y), ElasticNet(0.1)), "penalty must be"),
        (lambda X, y: Composite(X, MeanLoss(PoissonLoss(), y), L1(0.1)), "no curvature bound"),
        (lambda X, y: Composite(X * np.nan, MeanLoss(SquaredLoss(), y), L1(0.1)), "X must be"),
        (lambda X, y: Composite(X[0], MeanLoss(SquaredLoss(), y), L1(0.1)), "X must be a matrix"),
        (
            lambda X, y: Composite(X, MeanLoss(SquaredLoss(), y), L1(0.1), np.ones(3, bool)),
            "penalised must have shape",
        ),
    ],
)
def test_a_problem_that_cannot_be_solved_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make(*data(46))


@pytest.mark.parametrize("solve", [accelerated_gradient, conjugate_gradient])
def test_bad_options_are_refused(solve):
    X, y = data(47)
    problem = Composite(X, MeanLoss(SquaredLoss(), y), L1(0.1))
    for options, words in (
        ({"start": np.zeros(3)}, "start must be 12 finite numbers"),
        ({"start": np.full(12, np.nan)}, "start must be 12 finite numbers"),
        ({"tol": -1.0}, "tol must be at least 0"),
        ({"max_iter": 0}, "max_iter at least 1"),
        ({"steps": "fast"} if solve is accelerated_gradient else {"phases": "x"}, "must be one of"),
    ):
        with pytest.raises(ValueError, match=words):
            solve(problem, **options)


@pytest.mark.parametrize("solve", [accelerated_gradient, conjugate_gradient])
def test_a_path_is_that_of_coordinate_descent(solve):
    X, y = data(48, n=50, p=80)
    smooth = MeanLoss(SquaredLoss(), y)
    strengths, coefs = first_order_path(
        X, smooth, L1(1.0), lambda p, b: solve(p, b, tol=1e-9, max_iter=20_000), n_strengths=12
    )
    reference = penalty_path(X, y, L1(1.0), strengths=strengths, fit_intercept=False, tol=1e-10)
    np.testing.assert_allclose(strengths[0], np.abs(X.T @ y).max() / 50)
    np.testing.assert_allclose(coefs, reference.coefs, atol=1e-4)


def test_columns_that_the_strong_rule_drops_wrongly_come_back():
    # The rule can fail only where two columns lean on each other: force it with a long step.
    X, y = data(49, n=40, p=30)
    smooth = MeanLoss(SquaredLoss(), y)
    top = np.abs(X.T @ y).max() / 40
    seen = []

    def solve(problem, start):
        seen.append(problem.X.shape[1])
        return conjugate_gradient(problem, start, tol=1e-10, max_iter=20_000)

    _, coefs = first_order_path(X, smooth, L1(1.0), solve, strengths=[0.9 * top, 0.55 * top])
    reference = penalty_path(X, y, L1(1.0), strengths=[0.55 * top], fit_intercept=False, tol=1e-10)
    np.testing.assert_allclose(coefs[1], reference.coefs[0], atol=1e-5)
    assert max(seen) < 30
    with pytest.raises(ValueError, match="strengths must be positive"):
        first_order_path(X, smooth, L1(1.0), solve, strengths=[0.0])
