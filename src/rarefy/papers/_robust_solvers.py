"""Parts B and D of paper 43: how fast each method descends, and what the penalty recovers.

The thesis's generator, shrunk: five blocks of four signals of means 0.5 to 50, with zeros between
them, in columns whose correlation falls off as tau to the power of their distance.
"""

from __future__ import annotations

import time
from functools import lru_cache
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import toeplitz

from rarefy.operators import L1, MCP, SCAD, Penalty
from rarefy.papers._recipe import Trial
from rarefy.papers._robust_claims import AG, GL, NCG, NCG_M, NCG_R, PG, TAUS
from rarefy.regression import (
    Composite,
    Descent,
    MeanLoss,
    accelerated_gradient,
    conjugate_gradient,
    first_order_path,
    penalty_path,
)
from rarefy.regression.losses import SquaredLoss

_BLOCKS = ((0.5, 1.0), (5.0, 2.0), (10.0, 3.0), (20.0, 4.0), (50.0, 5.0))
_LAM = 0.2
_GAP = np.exp(3.0)
_PENALTIES: dict[str, Penalty] = {"scad": SCAD(_LAM, 3.7), "mcp": MCP(_LAM, 3.0)}


class Planted(NamedTuple):
    """Standardised columns, a centred target, and the signal on that scale."""

    X: NDArray[np.float64]
    y: NDArray[np.float64]
    b: NDArray[np.float64]


def planted(
    rng: np.random.Generator, *, n: int, zeros: int, tau: float, snr: float, rows: int = 0
) -> tuple[Planted, Planted]:
    """Plant a table of n rows, and one of ``rows`` more to choose strengths on."""
    b = np.concatenate([np.r_[rng.normal(m, s, 4), np.zeros(zeros)] for m, s in _BLOCKS])
    chol = np.linalg.cholesky(toeplitz(tau ** np.arange(len(b))))
    X = rng.normal(size=(n + rows, len(b))) @ chol.T
    eta = X @ b
    y = eta + rng.normal(size=n + rows) * eta.std() / snr**0.5
    centre, scale, offset = X[:n].mean(0), X[:n].std(0), y[:n].mean()
    X = (X - centre) / scale
    whole = Planted(X, y - offset, b * scale)
    return Planted(whole.X[:n], whole.y[:n], whole.b), Planted(whole.X[n:], whole.y[n:], whole.b)


def descend(arm: str, problem: Composite, start: NDArray, *, cap: int) -> Descent:
    """Run an arm to a step of 1e-6, from the thesis's start."""
    if arm in (AG, GL, PG):
        steps: dict[str, Literal["optimal", "ghadimi-lan", "plain"]]
        steps = {AG: "optimal", GL: "ghadimi-lan", PG: "plain"}
        return accelerated_gradient(problem, start, steps=steps[arm], tol=1e-6, max_iter=cap)
    phases: dict[str, Literal["both", "proximal", "manifold"]]
    phases = {NCG: "both", NCG_R: "proximal", NCG_M: "manifold"}
    return conjugate_gradient(problem, start, phases=phases[arm], tol=1e-6, max_iter=cap)


@lru_cache(maxsize=64)
def _problem(
    seed: int, i: int, size: tuple[int, int], tau: str, penalty: str
) -> tuple[Composite, NDArray]:
    """A problem and where the thesis starts."""
    n, zeros = size
    rng = np.random.default_rng([seed, 1, i, int(10 * float(tau))])
    table, _ = planted(rng, n=n, zeros=zeros, tau=float(tau), snr=5.0)
    problem = Composite(table.X, MeanLoss(SquaredLoss(), table.y), _PENALTIES[penalty])
    return problem, table.X.T @ table.y / np.sum(table.X**2, axis=0)


@lru_cache(maxsize=64)
def _descent(
    arm: str, seed: int, i: int, size: tuple[int, int], tau: str, penalty: str, cap: int
) -> Descent:
    """Run an arm on a problem; kept, since the best objective of two arms is every arm's mark."""
    return descend(arm, *_problem(seed, i, size, tau, penalty), cap=cap)


def measure_solver(arm: str, trial: Trial) -> dict[str, float]:
    """Gradients until the gap is e^3 and until steps are 1e-6: medians over problems.

    The gap is to the least objective that accelerated and conjugate gradient reach. A method that
    does not arrive counts as having taken all it may.
    """
    size = trial.pick(smoke=(40, 5), default=(200, 60), full=(1000, 400))
    repeats = trial.pick(smoke=1, default=2, full=10)
    cap = trial.pick(smoke=200, default=1500, full=10_000)
    values: dict[str, float] = {}
    rises = 0
    for tau in TAUS:
        for penalty in _PENALTIES:
            trial.progress(f"{arm} at correlation {tau}")
            to_gap, to_tol = [], []
            for i in range(repeats):
                key = (trial.seed, i, size, tau, penalty, cap)
                found = _descent(arm, *key)
                best = min(float(_descent(mark, *key).objectives.min()) for mark in (AG, NCG))
                near = np.flatnonzero(found.objectives < best + _GAP)
                to_gap.append(float(found.gradients[near[0]] if len(near) else cap))
                to_tol.append(float(found.gradients[-1] if found.converged else cap))
                rises += int(np.sum(np.diff(found.objectives) > 1e-9 * abs(found.objectives[:-1])))
            values[f"to_gap_{penalty}_{tau}"] = max(median(to_gap), 1.0)
            values[f"to_tol_{penalty}_{tau}"] = median(to_tol)
    return values | {"rises": float(rises)}


def measure_recovery(arm: str, trial: Trial) -> dict[str, float]:
    """Recover planted signals by SCAD or the lasso, the strength chosen on fresh rows."""
    n, zeros = trial.pick(smoke=(40, 5), default=(200, 60), full=(1000, 400))
    repeats = trial.pick(smoke=1, default=2, full=10)
    values: dict[str, float] = {}
    seconds = []
    for snr in trial.pick(smoke=(1, 5), default=(1, 5), full=(1, 3, 5, 10)):
        errors, ppv, npv = [], [], []
        for i in range(repeats):
            trial.progress(f"{arm} at SNR {snr}")
            rng = np.random.default_rng([trial.seed, 2, i, snr])
            table, fresh = planted(rng, n=n, zeros=zeros, tau=0.5, snr=snr, rows=n)
            start = time.perf_counter()
            coefs = _path(arm, table)
            seconds.append(time.perf_counter() - start)
            tested = np.sum((fresh.y[:, None] - fresh.X @ coefs.T) ** 2, axis=0)
            b = coefs[int(tested.argmin())]
            chosen, true = b != 0, table.b != 0
            errors.append(float(np.sum((b - table.b) ** 2) / np.sum(table.b**2)))
            ppv.append(float(np.mean(true[chosen])) if chosen.any() else 1.0)
            npv.append(float(np.mean(~true[~chosen])) if not chosen.all() else 1.0)
        values[f"error_snr{snr}"] = float(np.exp(np.mean(np.log(errors))))
        values[f"ppv_snr{snr}"] = float(np.mean(ppv))
        values[f"npv_snr{snr}"] = float(np.mean(npv))
    return values | {"clock_path": median(seconds)}


def _path(arm: str, table: Planted) -> NDArray:
    smooth = MeanLoss(SquaredLoss(), table.y)
    top = float(abs(table.X.T @ table.y).max()) / len(table.y)
    strengths = np.linspace(top, 0.0, 51)[:-1]
    if arm == "recover/AG":
        return first_order_path(
            table.X, smooth, SCAD(1.0), accelerated_gradient, strengths=strengths
        )[1]
    penalty = SCAD(1.0) if arm == "recover/CD" else L1(1.0)
    return penalty_path(
        table.X, table.y, penalty, strengths=strengths, fit_intercept=False, tol=1e-4
    ).coefs
