"""Kronecker sparse Bayesian learning beside plain NumPy of the same update equations.

Two transcriptions: of the equations as printed, with the Kronecker product formed (on the small
problem: at the other it takes a second an iteration), and of their factorised form with one
``einsum`` a line. All run the same number of iterations on the same problem and must agree. Ratios
over 1 mean ours is faster; the goal is the issue's. The last row is growth: the time at twice the
size over what the operation count of the card's complexity predicts (over 1: it grows less).
"""

from __future__ import annotations

import warnings
from functools import reduce
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from _timing import interleaved, row
from rarefy.regression import KroneckerSBL, multiply_modes

ITERATIONS, NOISE = 20, 0.01


def rows() -> list[dict[str, Any]]:
    """Every comparison of this module."""
    large, small = _problem((8, 12, 15), 15), _problem((5, 7, 8), 10)
    found = []
    for method in ("svd", "am"):
        found += [
            _beside(method, "einsum", "NumPy, factorised", large, factorised=True),
            _beside(method, "printed", "NumPy, as printed", small, factorised=False),
            _growth(method),
        ]
    return found


def _beside(
    method: str, case: str, peer: str, problem: tuple[list[NDArray], NDArray], *, factorised: bool
) -> dict[str, Any]:
    def ours() -> NDArray:
        return _ours(method, *problem)

    def theirs() -> NDArray:
        return _transcription(method, *problem, factorised=factorised)

    if np.abs(theirs() - ours()).max() > 1e-6 * np.abs(ours()).max():
        raise RuntimeError(f"{method}: the transcription and the library disagree")
    quick, slow = interleaved(ours, theirs, repeats=7 if factorised else 2, warmup=1)
    return row(f"regression.kronecker_sbl.{method}.{case}", peer, quick, slow, 1.0)


def _growth(method: str) -> dict[str, Any]:
    """Time at twice every size over time at once, beside the ratio of operation counts."""
    small, large = (16, 24, 30), (32, 48, 60)
    one, two = _problem(small, 30), _problem(large, 60)
    first, second = interleaved(
        lambda: _ours(method, *one), lambda: _ours(method, *two), repeats=3, warmup=1
    )
    predicted = _operations(large, 60) / _operations(small, 30)
    name = f"regression.kronecker_sbl.{method}.growth"
    return row(name, "operation count", second / first, predicted, 1.0) | {"unit": "x"}


def _operations(rows: tuple[int, ...], columns: int) -> int:
    """Multiply-adds of an iteration: eigenvectors, and two products back through the modes."""
    through = sum(columns ** (i + 1) * prod(rows[i:]) for i in range(len(rows)))
    return sum(m**3 + m * m * columns for m in rows) + 2 * through + columns ** len(rows)


def _problem(rows: tuple[int, ...], columns: int) -> tuple[list[NDArray], NDArray]:
    rng = np.random.default_rng(0)
    factors = [rng.normal(size=(m, columns)) for m in rows]
    x = np.zeros((columns,) * len(rows))
    x[np.ix_(*[rng.choice(columns, 3, replace=False) for _ in rows])] = rng.normal(size=(3, 3, 3))
    clean = multiply_modes(x, factors)
    return factors, clean + NOISE**0.5 * rng.normal(size=clean.shape)


def _ours(method: str, factors: list[NDArray], y: NDArray) -> NDArray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sbl = KroneckerSBL(method, noise_var=NOISE, max_iter=ITERATIONS, tol=0.0, prune=0.0)
        return sbl.fit(factors, y).coef_


def _transcription(method: str, factors: list[NDArray], y: NDArray, *, factorised: bool) -> NDArray:
    """Three modes, no pruning; ``am`` sweeps until a relative change of 1e-5 like ours."""
    h1, h2, h3 = factors
    sizes = [h.shape[1] for h in factors]
    g1, g2, g3 = (np.ones(n) for n in sizes)
    g1, g2, g3 = g1 / sizes[0] ** 0.5, g2 / sizes[1] ** 0.5, g3 * (sizes[0] * sizes[1]) ** 0.5
    posterior = _factorised if factorised else _printed
    for _ in range(ITERATIONS):
        mean, variance = posterior(h1, h2, h3, g1, g2, g3, y)
        d = variance + mean**2
        if method == "svd":
            u, s, v = np.linalg.svd(d.reshape(sizes[0], -1), full_matrices=False)
            g1 = abs(u[:, 0])
            u, s, v = np.linalg.svd(abs(s[0] * v[0]).reshape(sizes[1:]), full_matrices=False)
            g2, g3 = abs(u[:, 0]), abs(s[0] * v[0])
            continue
        for _ in range(500):
            old = np.einsum("i,j,k->ijk", g1, g2, g3)
            g1 = np.einsum("ijk,j,k->i", d, 1 / g2, 1 / g3) / (sizes[1] * sizes[2])
            g2 = np.einsum("ijk,i,k->j", d, 1 / g1, 1 / g3) / (sizes[0] * sizes[2])
            g3 = np.einsum("ijk,i,j->k", d, 1 / g1, 1 / g2) / (sizes[0] * sizes[1])
            n1, n2 = np.linalg.norm(g1), np.linalg.norm(g2)
            g1, g2, g3 = g1 / n1, g2 / n2, g3 * n1 * n2
            change = np.linalg.norm(np.einsum("i,j,k->ijk", g1, g2, g3) - old)
            if change <= 1e-5 * np.linalg.norm(old):
                break
    return posterior(h1, h2, h3, g1, g2, g3, y)[0]


def _printed(
    h1: NDArray, h2: NDArray, h3: NDArray, g1: NDArray, g2: NDArray, g3: NDArray, y: NDArray
) -> tuple[NDArray, NDArray]:
    h, gamma = reduce(np.kron, (h1, h2, h3)), reduce(np.kron, (g1, g2, g3))
    inverse = np.linalg.inv(NOISE * np.eye(len(h)) + (h * gamma) @ h.T)
    gain = gamma[:, None] * (h.T @ inverse)
    shape = (len(g1), len(g2), len(g3))
    variance = gamma - np.einsum("ij,ji->i", gain, h) * gamma
    return (gain @ y.ravel()).reshape(shape), variance.reshape(shape)


def _factorised(
    h1: NDArray, h2: NDArray, h3: NDArray, g1: NDArray, g2: NDArray, g3: NDArray, y: NDArray
) -> tuple[NDArray, NDArray]:
    (p1, u1), (p2, u2), (p3, u3) = (
        np.linalg.eigh((h * g) @ h.T) for h, g in ((h1, g1), (h2, g2), (h3, g3))
    )
    w1, w2, w3 = (g[:, None] * (h.T @ u) for h, g, u in ((h1, g1, u1), (h2, g2, u2), (h3, g3, u3)))
    scale = 1 / (NOISE + np.einsum("i,j,k->ijk", p1, p2, p3))
    rotated = np.einsum("abc,ai,bj,ck->ijk", y, u1, u2, u3, optimize=True)
    mean = np.einsum("ijk,ai,bj,ck->abc", scale * rotated, w1, w2, w3, optimize=True)
    explained = np.einsum("ijk,ai,bj,ck->abc", scale, w1**2, w2**2, w3**2, optimize=True)
    return mean, np.einsum("i,j,k->ijk", g1, g2, g3) - explained
