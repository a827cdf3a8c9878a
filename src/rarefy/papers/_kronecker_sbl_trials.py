"""Problems of paper 37 and how each arm solves one: drawn data, the channel, image patches."""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from statistics import median
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from rarefy.papers._kronecker_sbl_claims import (
    AM,
    ARD,
    DENSE,
    KOMP,
    KSBL,
    OMP,
    ORACLE,
    PATTERN,
    PC,
    SVD,
    WEAK_PC,
)
from rarefy.regression import (
    KroneckerOMP,
    KroneckerSBL,
    multiply_modes,
    nmse,
    pattern_coupled_sbl,
    sparse_bayes,
    support_recovery_rate,
)

STRUCTURED = (SVD, AM, KSBL)
METHODS: dict[str, Literal["svd", "am", "ksbl"]] = {SVD: "svd", AM: "am", KSBL: "ksbl"}


@dataclass(frozen=True)
class Problem:
    """Measurements of a Kronecker-sparse tensor; ``x`` is None where nobody knows it.

    ``nonzeros`` a mode are told to Kronecker OMP, which the others must find out.
    """

    factors: tuple[NDArray, ...]
    y: NDArray
    x: NDArray | None
    noise_var: float
    nonzeros: int = 10


def stream(seed: int, *what: str | int) -> np.random.Generator:
    """One generator for each purpose, the same whichever arm asks."""
    return np.random.default_rng([seed, zlib.crc32(repr(what).encode())])


def planted(
    rng: np.random.Generator, rows: tuple[int, ...], columns: int, nonzeros: int, snr_db: float
) -> Problem:
    """Gaussian factors and x the Kronecker product of sparse Gaussian vectors, as the authors'."""
    factors = tuple(rng.normal(size=(m, columns)) for m in rows)
    vectors = [np.zeros(columns) for _ in rows]
    for vector in vectors:
        vector[rng.choice(columns, nonzeros, replace=False)] = rng.normal(size=nonzeros)
    x = reduce(np.multiply.outer, vectors)
    clean = multiply_modes(x, factors)
    noise_var = float(np.mean(clean**2)) / 10 ** (snr_db / 10)
    noisy = clean + noise_var**0.5 * rng.normal(size=clean.shape)
    return Problem(factors, noisy, x, noise_var, nonzeros)


def patches(rng: np.random.Generator, count: int) -> list[tuple[Problem, NDArray]]:
    """Compressed 16 x 16 patches of a photograph over overcomplete cosines, and the patches."""
    from rarefy.data.photographs import photographs

    image = photographs()[0].numpy()
    i, j = np.arange(16)[:, None], np.arange(24)[None]
    cosines = np.cos(np.pi * (2 * i + 1) * j / 48)
    cosines /= np.linalg.norm(cosines, axis=0)
    found: list[tuple[Problem, NDArray]] = []
    while len(found) < count:
        top, left = (int(rng.integers(size - 16)) for size in image.shape)
        patch = image[top : top + 16, left : left + 16].astype(float)
        if patch.std() < 0.02:
            continue  # next to nothing to be coded
        # 10 of 16 rows a mode are 40 % of the pixels
        squeeze = [rng.normal(size=(10, 16)) / 4 for _ in range(2)]
        y = multiply_modes(patch - patch.mean(), squeeze)
        factors = tuple(projection @ cosines for projection in squeeze)
        problem = Problem(factors, y, None, float(np.mean(y**2)) / 1e3)
        found.append((problem, patch - patch.mean()))
    return found


def psnr(arm: str, problem: Problem, patch: NDArray) -> float:
    """Peak signal-to-noise ratio of the patch that the arm's code stands for, the peak being 1."""
    i, j = np.arange(16)[:, None], np.arange(24)[None]
    cosines = np.cos(np.pi * (2 * i + 1) * j / 48)
    cosines /= np.linalg.norm(cosines, axis=0)
    rebuilt = multiply_modes(recover(arm, problem), [cosines, cosines])
    return float(-10 * np.log10(np.mean((rebuilt - patch) ** 2)))


def recover(arm: str, problem: Problem, *, max_iter: int = 150) -> NDArray:
    """Estimate x the arm's way, noise variance given."""
    factors, y, noise = problem.factors, problem.y, problem.noise_var
    with warnings.catch_warnings():
        # The authors stop at 150 iterations whether or not they have converged.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if arm in STRUCTURED:
            sbl = KroneckerSBL(METHODS[arm], noise_var=noise, max_iter=max_iter)
            return sbl.fit(factors, y).coef_
        if arm == KOMP:
            return KroneckerOMP(problem.nonzeros, tol=1e-2).fit(factors, y).coef_
        if arm == ORACLE:
            return _least_squares(problem)
        shape = [factor.shape[1] for factor in factors]
        dense, vector = reduce(np.kron, factors), y.ravel()
        if arm == DENSE:
            return sparse_bayes(dense, vector, noise_var=noise, max_iter=max_iter).mean.reshape(
                shape
            )
        if arm == PATTERN:
            fit = pattern_coupled_sbl(dense, vector, noise_var=noise, max_iter=max_iter)
            return fit.mean.reshape(shape)
        if arm == OMP:
            stop = (len(vector) * noise) ** 0.5 / float(np.linalg.norm(vector))
            return KroneckerOMP(len(vector), tol=stop).fit([dense], vector).coef_.reshape(shape)
        if arm == ARD:
            from sklearn.linear_model import ARDRegression

            return ARDRegression(fit_intercept=False).fit(dense, vector).coef_.reshape(shape)
    raise ValueError(f"no way to recover by {arm!r}")


def channel_code(arm: str, problem: Problem) -> NDArray:
    """Recover a channel with the pruning of the authors' channel study."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if arm == SVD:
            # they prune next to nothing here
            sbl = KroneckerSBL("svd", noise_var=problem.noise_var, prune=0.0)
        elif arm == AM:
            sbl = KroneckerSBL("am", noise_var=problem.noise_var, prune=(1e-2, 1e-1, 1e-3))
        elif arm in (PC, WEAK_PC):
            beta = float(arm.split()[-1])
            sbl = KroneckerSBL(
                "am",
                noise_var=problem.noise_var,
                prune=(1e-2, 1e-1, 1e-2),
                coupling=(beta, 0.0, beta),
            )
        else:
            return recover(arm, problem)
        return sbl.fit(problem.factors, problem.y).coef_


def solve_all(
    arm: str, problems: list[Problem], *, max_iter: int = 150
) -> tuple[float, float, float]:
    """Median error, mean support recovery and median seconds of the arm over problems."""
    errors, supports, seconds = [], [], []
    for problem in problems:
        x = problem.x
        assert x is not None
        start = time.perf_counter()
        estimate = recover(arm, problem, max_iter=max_iter)
        seconds.append(time.perf_counter() - start)
        errors.append(nmse(estimate, x))
        supports.append(support_recovery_rate(estimate, x))
    return median(errors), float(np.mean(supports)), median(seconds)


def convergence(problem: Problem, iterations: int) -> dict[str, float]:
    """Cost of alternating minimisation without pruning: how often it rises, and its last step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sbl = KroneckerSBL(
            "am", noise_var=problem.noise_var, prune=0.0, max_iter=iterations, tol=0.0
        )
        cost = sbl.fit(problem.factors, problem.y).cost_history_
    steps = np.diff(cost)
    return {
        "cost_rises": float(np.sum(steps > 1e-9 * abs(cost[:-1]))),
        "last_change": float(abs(steps[-1] / cost[-1])),
    }


def minima(arm: str, problem: Problem, rng: np.random.Generator, starts: int) -> float:
    """How many different costs the arm comes to rest at, from random starts without pruning."""
    columns = [factor.shape[1] for factor in problem.factors]
    costs = []
    fit: Callable[[list[NDArray]], NDArray]
    if arm == DENSE:
        dense, y = reduce(np.kron, problem.factors), problem.y.ravel()

        def fit(start: list[NDArray]) -> NDArray:
            gamma = reduce(np.kron, start)
            return sparse_bayes(
                dense, y, noise_var=problem.noise_var, prune=0, max_iter=600, tol=1e-5, start=gamma
            ).cost_history
    else:

        def fit(start: list[NDArray]) -> NDArray:
            sbl = KroneckerSBL(
                METHODS[arm],
                noise_var=problem.noise_var,
                prune=0.0,
                max_iter=600,
                tol=1e-5,
            )
            return sbl.fit(problem.factors, problem.y, start=start).cost_history_

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for _ in range(starts):
            costs.append(fit([rng.exponential(size=n) + 1e-3 for n in columns])[-1])
    ordered = np.sort(costs)
    return 1.0 + float(np.sum(np.diff(ordered) > 1e-2))


def _least_squares(problem: Problem) -> NDArray:
    x = problem.x
    assert x is not None
    boxes = [np.unique(index) for index in np.nonzero(x)]
    parts = [factor[:, box] for factor, box in zip(problem.factors, boxes, strict=True)]
    estimate = np.zeros_like(x)
    estimate[np.ix_(*boxes)] = multiply_modes(problem.y, [np.linalg.pinv(part) for part in parts])
    return estimate
