"""Coordinate descent: the three compiled forms against plain NumPy epochs."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from rarefy.kernels.cpu.coordinate_descent import (
    WINDOW,
    descend_dense,
    descend_gram,
    descend_reference,
    descend_sparse,
    violations,
)
from rarefy.operators import CEL0, L0, L1, MCP, SCAD, ElasticNet, Lq, Penalty
from rarefy.operators._twins import twin

PENALTIES = [L1(0.1), ElasticNet(0.1), MCP(0.1), SCAD(0.1), L0(0.01), Lq(0.05), CEL0(0.01)]
IDS = [type(p).__name__ for p in PENALTIES]


def problem(rows: int = 30, width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Z = np.asfortranarray(rng.normal(size=(rows, width)) / rows**0.5)
    return Z, Z[:, :3].sum(1) + 0.1 * rng.normal(size=rows)


def steps_of(Z: np.ndarray, penalty: Penalty) -> np.ndarray:
    return np.minimum(1 / (Z**2).sum(0), 0.9 * penalty.max_step)


@pytest.mark.parametrize(
    ("penalty", "dtype"), [*((p, np.float64) for p in PENALTIES), (L1(0.1), np.float32)]
)
def test_epochs_are_those_of_the_reference(penalty: Penalty, dtype: type) -> None:
    Z, t = (array.astype(dtype) for array in problem())
    start = np.linspace(-1, 1, 12).astype(dtype)
    # fewer than a window: nothing is extrapolated yet
    expected = descend_reference(Z, t, start, penalty, epochs=WINDOW - 1)
    steps, of = steps_of(Z, penalty).astype(dtype), twin(penalty)
    near = {"atol": 1e-12 if dtype == np.float64 else 1e-5}

    coef, residual = start.copy(), t - Z @ start
    assert descend_dense(Z, coef, residual, steps, of, WINDOW - 1, 0.0) == WINDOW - 1
    np.testing.assert_allclose(coef, expected, **near)
    np.testing.assert_allclose(residual, t - Z @ coef, **near)

    gram, linear, coef = np.ascontiguousarray(Z.T @ Z), Z.T @ t, start.copy()
    gradient = gram @ start - linear
    descend_gram(gram, linear, coef, gradient, steps, of, WINDOW - 1, 0.0)
    np.testing.assert_allclose(coef, expected, **near)
    np.testing.assert_allclose(gradient, gram @ coef - linear, **near)


@pytest.mark.parametrize("penalty", PENALTIES, ids=IDS)
def test_sparse_columns_are_centred_without_being_filled(penalty: Penalty) -> None:
    Z, t = problem()
    rng = np.random.default_rng(1)
    raw = (Z + 0.4) * (rng.random(Z.shape) < 0.6)
    rows = rng.random(len(t)) + 0.5
    means = raw.T @ rows / (rows @ rows)
    centred = raw - np.outer(rows, means)
    target = t - rows * (rows @ t) / (rows @ rows)
    expected = descend_reference(centred, target, np.zeros(12), penalty, epochs=WINDOW - 1)
    part, coef, residual = sp.csc_array(raw), np.zeros(12), target.copy()
    descend_sparse(part.data, part.indices, part.indptr, rows, means, coef, residual,
                   steps_of(centred, penalty), twin(penalty), WINDOW - 1, 0.0)  # fmt: skip
    np.testing.assert_allclose(coef, expected, atol=1e-12)
    np.testing.assert_allclose(residual, target - centred @ coef, atol=1e-12)


@pytest.mark.parametrize("penalty", PENALTIES, ids=IDS)
def test_extrapolation_ends_where_plain_epochs_do(penalty: Penalty) -> None:
    Z, t = problem()
    coef, residual, steps = np.zeros(12), t.copy(), steps_of(Z, penalty)
    epochs = descend_dense(Z, coef, residual, steps, twin(penalty), 10_000, 1e-13)
    assert epochs < 10_000
    expected = descend_reference(Z, t, np.zeros(12), penalty, epochs=2000)
    np.testing.assert_allclose(coef, expected, atol=1e-8)
    assert violations(coef, Z.T @ (Z @ coef - t), steps, twin(penalty)).max() < 1e-12


def test_extrapolation_saves_epochs_and_no_epoch_raises_the_objective() -> None:
    rng = np.random.default_rng(2)
    Z = np.asfortranarray(rng.normal(size=(60, 50)) + 2 * rng.normal(size=(60, 1))) / 20
    t, penalty = Z[:, :5].sum(1) + 0.1 * rng.normal(size=60), L1(1e-3)

    def objective(b: np.ndarray) -> float:
        return float(np.sum((t - Z @ b) ** 2) / 2 + penalty.value(b))

    coef, residual = np.zeros(50), t.copy()
    costs = [objective(coef)]
    for _ in range(100):
        descend_dense(Z, coef, residual, steps_of(Z, penalty), twin(penalty), 2 * WINDOW, 0.0)
        costs.append(objective(coef))
    assert (np.diff(costs) <= 1e-12).all()
    plain = objective(descend_reference(Z, t, np.zeros(50), penalty, epochs=200 * WINDOW))
    # as many epochs: plain is still 7e-5 away
    assert costs[-1] < plain - 1e-5


def test_a_step_of_zero_leaves_a_coordinate_alone() -> None:
    Z, t = problem()
    coef, residual = np.full(12, 0.25), t - Z @ np.full(12, 0.25)
    steps = steps_of(Z, L1(0.1))
    steps[4] = 0.0
    descend_dense(Z, coef, residual, steps, twin(L1(0.1)), 20, 0.0)
    assert coef[4] == 0.25
