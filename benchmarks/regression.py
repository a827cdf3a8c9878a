"""Regression: paths of strengths beside celer, skglm, scikit-learn and abess.

Every contender follows the same grid from the largest useful strength on, warm-started, on one
thread, to the same accuracy: for l1 and elastic net a duality gap of ``GAP`` times the null
model's loss (skglm stops by KKT violation: at ``SKGLM_KKT`` of the largest one its worst gap is
near ``GAP``), for MCP and SCAD the same KKT violation, ``KKT``. The worst gap of each is printed;
ours above ``GAP``, or a tenth as good as a peer's, fails the run. Ratios over 1 mean ours is
faster; ``goal`` is what the issue asks.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from json import dumps, loads
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from _timing import interleaved, row

GAP = 1e-6
KKT = 1e-4
SKGLM_KKT = 2.5e-6
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def rows() -> list[dict[str, Any]]:
    """Every comparison, each in a process of its own: libraries keep threads and memory."""
    out: list[dict[str, Any]] = []
    for name in CASES:
        done = subprocess.run(
            [sys.executable, __file__, name], check=True, capture_output=True, text=True,
            env={**os.environ, **dict.fromkeys(_THREADS, "1")},
        )  # fmt: skip
        out.extend(loads(done.stdout.splitlines()[-1]))
    return out


def dense() -> tuple[np.ndarray, np.ndarray]:
    """1,000 rows, 20,000 columns, neighbours correlated at 0.5; 100 of them matter."""
    rng = np.random.default_rng(0)
    X = np.empty((1000, 20_000), order="F")
    X[:, 0] = rng.normal(size=1000)
    for j in range(1, X.shape[1]):
        X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * rng.normal(size=1000)
    return X, _target(X, rng)


def sparse() -> tuple[sp.csc_matrix, np.ndarray]:
    """10,000 rows, 200,000 columns, 0.1 % filled; 100 of them matter."""
    rng = np.random.default_rng(0)
    p, per_column = 200_000, 10
    rows_of = np.sort(rng.integers(0, 10_000, (p, per_column), dtype=np.int32), axis=1)
    starts = np.arange(0, p * per_column + 1, per_column, dtype=np.int32)
    X = sp.csc_matrix(
        (rng.normal(size=p * per_column), rows_of.ravel(), starts), shape=(10_000, p)
    )  # fmt: skip
    X.sum_duplicates()
    return X, _target(X, rng)


def _target(X: Any, rng: np.random.Generator) -> np.ndarray:
    coef = np.zeros(X.shape[1])
    coef[rng.choice(X.shape[1], 100, replace=False)] = rng.choice([-1.0, 1.0], 100)
    y = X @ coef
    y = y + np.std(y) / 5 * rng.normal(size=len(y))
    return y - y.mean()


def relative_gaps(
    X: Any, y: np.ndarray, coefs: np.ndarray, strengths: np.ndarray, ratio: float
) -> np.ndarray:
    """Duality gap of each solution over half the mean square of y."""
    out = []
    for coef, strength in zip(coefs, strengths, strict=True):
        residual = y - X @ coef
        ell1, ell2 = strength * ratio, strength * (1 - ratio)
        slopes = X.T @ residual / len(y) - ell2 * coef
        scale = min(1.0, ell1 / max(np.abs(slopes).max(), 1e-300))
        quadratic = residual @ residual / len(y) + ell2 * coef @ coef
        primal = quadratic / 2 + ell1 * np.abs(coef).sum()
        out.append(primal - scale * (y @ residual) / len(y) + scale**2 * quadratic / 2)
    return np.array(out) / (y @ y / len(y) / 2)


def convex_case(
    name: str, data: Callable[[], Any], ratio: float, peers: tuple[str, ...], eps: float, count: int
) -> list[dict[str, Any]]:
    """A Lasso or elastic-net path."""
    X, y = data()
    top = np.abs(X.T @ y).max() / len(y) / ratio
    strengths = top * np.geomspace(1, eps, count)
    functions = [
        partial(CONVEX[who], X, y, strengths, ratio, SKGLM_KKT * top) for who in ("rarefy", *peers)
    ]
    return _compare(name, X, y, strengths, ratio, peers, functions)


def _compare(
    name: str, X: Any, y: np.ndarray, strengths: np.ndarray, ratio: float,
    peers: tuple[str, ...], functions: list[Callable[[], np.ndarray]],
) -> list[dict[str, Any]]:  # fmt: skip
    worst = [relative_gaps(X, y, f(), strengths, ratio).max() for f in functions]
    print(name, dict(zip(("rarefy", *peers), worst, strict=True)), file=sys.stderr)
    if worst[0] > min(1.01 * GAP, min(worst[1:]) * 10):
        raise RuntimeError(f"{name}: a peer solves its path better, the gaps are {worst}")
    seconds = interleaved(*functions, repeats=2, warmup=0)
    return [
        row(f"regression.{name}.{peer}", peer, seconds[0], theirs,
            goal=3.0 if peer == "scikit-learn" else 1.0)
        for peer, theirs in zip(peers, seconds[1:], strict=True)
    ]  # fmt: skip


def nonconvex_case(name: str, kind: str, eps: float, count: int) -> list[dict[str, Any]]:
    """An MCP or SCAD path on standardised columns, beside skglm."""
    from skglm.penalties import SCAD as SKGLM_SCAD
    from skglm.penalties import MCPenalty

    from rarefy.operators import MCP, SCAD

    X, y = dense()
    X -= X.mean(0)
    X /= X.std(0)
    top = np.abs(X.T @ y).max() / len(y)
    strengths = top * np.geomspace(1, eps, count)
    ours, theirs = (
        (MCP(1.0, gamma=3.0), MCPenalty(1.0, 3.0))
        if kind == "mcp"
        else (SCAD(1.0, a=3.7), SKGLM_SCAD(1.0, 3.7))
    )
    functions = [
        partial(_rarefy_path, X, y, ours, strengths, KKT),
        partial(_skglm_path, X, y, theirs, strengths, KKT * top),
    ]
    coefs = [f() for f in functions]
    print(name, "supports", *[np.count_nonzero(c[-1]) for c in coefs],
          "largest difference", np.abs(coefs[0] - coefs[1]).max(), file=sys.stderr)  # fmt: skip
    seconds = interleaved(*functions, repeats=3, warmup=0)
    return [row(f"regression.{name}.skglm", "skglm", *seconds, goal=1.0)]


def abess_case(support: int = 100) -> list[dict[str, Any]]:
    """MCP down to the strength that keeps ``support`` columns, and abess told to keep as many."""
    from abess.linear import LinearRegression

    from rarefy.operators import MCP

    X, y = dense()
    X -= X.mean(0)
    X /= X.std(0)
    top = np.abs(X.T @ y).max() / len(y)
    grid = top * np.geomspace(1, 1e-2, 50)
    kept = np.count_nonzero(_rarefy_path(X, y, MCP(1.0), grid, KKT), axis=1)
    strengths = grid[: int(np.argmax(kept >= support)) + 1]
    size = int(kept[len(strengths) - 1])
    seconds = interleaved(
        lambda: _rarefy_path(X, y, MCP(1.0), strengths, KKT),
        lambda: LinearRegression(support_size=size, thread=1).fit(X, y),
        repeats=2,
        warmup=0,
    )
    return [row(f"regression.mcp.dense.abess-{size}", "abess", *seconds, goal=1.0)]


def _rarefy_path(X: Any, y: np.ndarray, penalty: Any, strengths: Any, tol: float) -> np.ndarray:
    from rarefy.regression import penalty_path

    return penalty_path(X, y, penalty, strengths=strengths, fit_intercept=False, tol=tol).coefs


def _skglm_path(X: Any, y: np.ndarray, penalty: Any, strengths: Any, tol: float) -> np.ndarray:
    from skglm.datafits import Quadratic
    from skglm.solvers import AndersonCD
    from skglm.utils.jit_compilation import compiled_clone

    solver = AndersonCD(tol=tol, fit_intercept=False, warm_start=True, max_iter=100)
    return solver.path(
        X, y, compiled_clone(Quadratic()), compiled_clone(penalty), alphas=strengths
    )[1].T  # fmt: skip


def _rarefy(X: Any, y: np.ndarray, strengths: Any, ratio: float, tol: float) -> np.ndarray:  # noqa: ARG001
    from rarefy.operators import L1, ElasticNet

    penalty = L1(1.0) if ratio == 1 else ElasticNet(1.0, l1_ratio=ratio)
    return _rarefy_path(X, y, penalty, strengths, GAP)


def _celer(X: Any, y: np.ndarray, strengths: Any, ratio: float, tol: float) -> np.ndarray:  # noqa: ARG001
    from celer import celer_path

    return celer_path(X, y, "lasso", alphas=strengths, l1_ratio=ratio, tol=GAP / 2, max_iter=100)[
        1
    ].T


def _skglm(X: Any, y: np.ndarray, strengths: Any, ratio: float, tol: float) -> np.ndarray:
    from skglm.penalties import L1, L1_plus_L2

    penalty = L1(1.0) if ratio == 1 else L1_plus_L2(1.0, ratio)
    return _skglm_path(X, y, penalty, strengths, tol)


def _scikit_learn(X: Any, y: np.ndarray, strengths: Any, ratio: float, tol: float) -> np.ndarray:  # noqa: ARG001
    from sklearn.linear_model import enet_path

    return enet_path(X, y, l1_ratio=ratio, alphas=strengths, tol=GAP / 2, max_iter=10_000)[1].T


CONVEX: dict[str, Callable[..., np.ndarray]] = {
    "rarefy": _rarefy,
    "celer": _celer,
    "skglm": _skglm,
    "scikit-learn": _scikit_learn,
}
CASES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "lasso.dense": lambda: convex_case("lasso.dense", dense, 1.0, ("celer", "skglm"), 1e-2, 50),
    "enet.dense": lambda: convex_case("enet.dense", dense, 0.5, ("celer", "skglm"), 1e-2, 30),
    "lasso.sparse": lambda: convex_case("lasso.sparse", sparse, 1.0, ("celer", "skglm"), 1e-2, 50),
    "enet.sparse": lambda: convex_case("enet.sparse", sparse, 0.5, ("celer", "skglm"), 1e-2, 50),
    "short.lasso.dense": lambda: convex_case(
        "short.lasso.dense", dense, 1.0, ("scikit-learn",), 1e-1, 15
    ),
    "short.enet.dense": lambda: convex_case(
        "short.enet.dense", dense, 0.5, ("scikit-learn",), 1e-1, 15
    ),
    "short.lasso.sparse": lambda: convex_case(
        "short.lasso.sparse", sparse, 1.0, ("scikit-learn",), 1e-1, 15
    ),
    "short.enet.sparse": lambda: convex_case(
        "short.enet.sparse", sparse, 0.5, ("scikit-learn",), 1e-1, 15
    ),
    "mcp.dense": lambda: nonconvex_case("mcp.dense", "mcp", 5e-2, 30),
    "scad.dense": lambda: nonconvex_case("scad.dense", "scad", 5e-2, 30),
    "mcp.abess": abess_case,
}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    warnings.simplefilter("ignore")
    print(dumps(CASES[sys.argv[1]]()))
