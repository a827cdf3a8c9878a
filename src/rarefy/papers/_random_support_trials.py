"""Designs of paper 22, signals on random supports, and each arm's fit."""

from __future__ import annotations

import warnings
import zlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import OrthogonalMatchingPursuit

from rarefy.operators import L1
from rarefy.operators import MCP as McpPenalty
from rarefy.papers._random_support_claims import FIXED, LASSO, MCP, OMP, ORACLE, PIVOTS, SLOW
from rarefy.regression import (
    RandomPivotLasso,
    SparseLinearRegression,
    SparseLinearRegressionCV,
    preconditioner_quality,
    random_pivot_basis,
)

SIGMA, K = 0.5, 5


class Problem(NamedTuple):
    """Standardised columns, a target, its noiseless part, and the columns it comes from."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    signal: NDArray[np.float64]
    support: NDArray[np.int_]


def stream(seed: int, *what: str | int) -> np.random.Generator:
    """One generator for each purpose, the same whichever arm asks."""
    return np.random.default_rng([seed, zlib.crc32(repr(what).encode())])


def design(name: str, n: int, d: int, rng: np.random.Generator, *, base: float = 4.0) -> NDArray:
    """Columns that lean on each other: n rows, d of them."""
    if name == "scales":
        rotation = np.linalg.qr(rng.normal(size=(n, n)))[0]
        return rotation @ (
            base ** -np.minimum(np.arange(n), 12.0)[:, None] * rng.normal(size=(n, d))
        )
    if name == "lowrank":
        return rng.normal(size=(n, 2)) @ rng.normal(size=(2, d)) + 1e-3 * rng.normal(size=(n, d))
    if name == "pairs":
        half = rng.normal(size=(n, d // 2))
        return np.hstack([half, half + 0.01 * rng.normal(size=half.shape)])
    if name == "walk":
        return np.cumsum(rng.normal(size=(n, d)), axis=1)
    return rng.normal(size=(n, d))


def problem(
    X: NDArray, signal: str, rng: np.random.Generator, support: NDArray[np.int_] | None = None
) -> Problem:
    """Draw a support and a signal of variance 1 on it, and add the noise.

    ``worst`` is the combination of the chosen columns that cancels most, ``gauss`` a random one.
    """
    X = X - X.mean(axis=0)
    X = X / X.std(axis=0)
    chosen = rng.choice(X.shape[1], K, replace=False) if support is None else support
    part = X[:, chosen]
    w = np.linalg.svd(part)[2][-1] if signal == "worst" else rng.normal(size=len(chosen))
    clean = part @ w
    clean = clean / clean.std()
    return Problem(X, clean + SIGMA * rng.normal(size=len(X)), clean, chosen)


def fit(arm: str, at: Problem, seed: int, *, draws: int) -> Any:
    """Fit the arm's model, of which only the oracle knows the support."""
    n, d = at.X.shape
    rate = SIGMA * (2 * np.log(d) / n) ** 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # OMP says when a column depends on those before it
        warnings.simplefilter("ignore", RuntimeWarning)
        if arm == PIVOTS:
            return RandomPivotLasso(k=K, n_draws=draws, random_state=seed).fit(at.X, at.y)
        if arm in FIXED:
            m = K * 2 ** FIXED.index(arm)
            model = RandomPivotLasso(m, alpha="theory", sigma=SIGMA, n_draws=1, random_state=seed)
            return model.fit(at.X, at.y)
        if arm == LASSO:
            return SparseLinearRegressionCV(L1(1.0), n_strengths=40, tol=1e-3, max_iter=300).fit(
                at.X, at.y
            )
        if arm == SLOW:
            return SparseLinearRegression(L1(rate), tol=1e-4, max_iter=2000).fit(at.X, at.y)
        if arm == OMP:
            return OrthogonalMatchingPursuit(n_nonzero_coefs=2 * K).fit(at.X, at.y)
        if arm == MCP:
            return SparseLinearRegression(McpPenalty(rate), tol=1e-4, max_iter=2000).fit(at.X, at.y)
    if arm == ORACLE:
        return _Oracle(at)
    raise ValueError(f"no way to fit {arm!r}")


class _Oracle:
    def __init__(self, at: Problem) -> None:
        self.support, self.offset = at.support, at.y.mean()
        self.coef = np.linalg.lstsq(at.X[:, at.support], at.y - self.offset, rcond=None)[0]

    def predict(self, X: NDArray) -> NDArray:
        return X[:, self.support] @ self.coef + self.offset


def prediction_error(arm: str, at: Problem, seed: int, *, draws: int = 3) -> float:
    """Mean squared distance to the noiseless part, on the rows that were fitted."""
    return float(np.mean((fit(arm, at, seed, draws=draws).predict(at.X) - at.signal) ** 2))


def fresh_error(arm: str, X: NDArray, seed: int, *, rows: int, draws: int = 3) -> float:
    """The same on fresh rows: X holds both, the first ``rows`` to fit on."""
    rng = stream(seed, "fresh")
    whole = problem(X, "worst", rng)
    train = Problem(whole.X[:rows], whole.y[:rows], whole.signal[:rows], whole.support)
    predicted = fit(arm, train, seed, draws=draws).predict(whole.X[rows:])
    return float(np.mean((predicted - whole.signal[rows:]) ** 2))


def adversary(n: int, d: int, rng: np.random.Generator) -> Problem:
    """Independent columns but for K that nearly cancel, and just these are the support."""
    X = rng.normal(size=(n, d))
    X[:, K - 1] = X[:, : K - 1].sum(axis=1) / (K - 1) ** 0.5 + 1e-3 * rng.normal(size=n)
    return problem(X, "worst", rng, np.arange(K))


def rows_needed(
    arm: str, d: int, grid: tuple[int, ...], seed: int, *, error: float = 0.15
) -> float:
    """Least number of rows of the grid at which the median error of three signals is reached.

    Interpolated in the logarithms between the last that fails and the first that does not; the
    largest of the grid where none reaches it.
    """
    before = None
    for n in grid:
        errors = []
        for i in range(3):
            rng = stream(seed, "rows", d, n, i)
            errors.append(
                prediction_error(arm, problem(design("walk", n, d, rng), "worst", rng), i)
            )
        now = float(np.median(errors))
        if now <= error:
            if before is None:
                return float(n)
            share = np.log(before[1] / error) / np.log(before[1] / now)
            return float(np.exp(np.log(before[0]) + share * np.log(n / before[0])))
        before = (n, now)
    return float(grid[-1])


def guarantee(d: int, seed: int, *, supports: int) -> float:
    """Share of random supports under the bound, less the share that the proof promises."""
    rng = stream(seed, "guarantee")
    n, m = 200, 2 * K * (K - 1)
    X = design("walk", n, d, rng)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    held = [
        float(
            np.mean(
                preconditioner_quality(
                    X,
                    random_pivot_basis(X, m, random_state=100 * seed + i),
                    K,
                    n_supports=supports // 10,
                    random_state=100 * seed + i,
                )
                <= K
            )
        )
        for i in range(10)
    ]
    blocks = m / (K - 1)
    return float(np.mean(held)) - (1 - K / (blocks + 1) - K * m / d)
