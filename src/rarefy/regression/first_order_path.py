r"""Solutions along strengths by a first-order method, with the sequential strong rule.

At a new strength only the columns with

.. math:: |x_j^T r| / n \ge 2 \lambda_{new} - \lambda_{old}

at the old solution are looked at; the others are checked against the stationarity conditions
afterwards, and those that break them come in.

Source: Tibshirani et al. 2012; Yang, PhD thesis (McGill 2025), part B. Departures: the check and
the second entry, which the authors' released code leaves out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rarefy.operators import Penalty
from rarefy.regression.composite import Composite, Descent, Smooth, Vector

Solver = Callable[[Composite, Vector], Descent]


def first_order_path(
    X: Vector,
    smooth: Smooth,
    penalty: Penalty,
    solve: Solver,
    *,
    strengths: Sequence[float] | Vector | None = None,
    n_strengths: int = 50,
    slack: float = 1e-3,
) -> tuple[Vector, Vector]:
    """Minimise for decreasing strengths, each started at the last.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Centred and of comparable scale.
    smooth : Smooth
        Of ``X b``; for centred least squares ``MeanLoss(SquaredLoss(), y - y.mean())``.
    penalty : L1, MCP or SCAD
        Its ``lam`` is replaced.
    solve : callable
        ``solve(problem, start)``, such as :func:`accelerated_gradient`.
    strengths : sequence of floats, optional
        Otherwise ``n_strengths`` evenly spaced from the least that keeps every coefficient at 0
        down to, but without, 0, as in the thesis.
    n_strengths : int, default 50
    slack : float, default 1e-3
        A column left out comes in when its slope exceeds the strength by this share of it.

    Returns
    -------
    strengths : ndarray, shape (m,)
        Decreasing.
    coefs : ndarray, shape (m, p)

    Raises
    ------
    ValueError
        If a strength is not positive.

    Examples
    --------
    >>> from rarefy.operators import L1
    >>> from rarefy.regression import MeanLoss, conjugate_gradient
    >>> from rarefy.regression.losses import SquaredLoss
    >>> smooth = MeanLoss(SquaredLoss(), np.array([8.0, 4, 0, 0]))
    >>> _, coefs = first_order_path(np.eye(4), smooth, L1(1.0), conjugate_gradient, strengths=[1.5])
    >>> coefs.round(5).tolist()
    [[2.0, 0.0, 0.0, 0.0]]
    """
    p = X.shape[1]
    b = np.zeros(p)
    slopes = abs(X.T @ smooth.slope(X @ b))
    top = float(slopes.max())
    if strengths is None:
        strengths = np.linspace(top, 0.0, n_strengths + 1)[:-1]
    grid = np.sort(np.asarray(strengths, float))[::-1]
    if not (grid > 0).all():
        raise ValueError(f"strengths must be positive, got {grid.min():g}")
    coefs, old = [], max(top, grid[0])
    for lam in grid:
        at = dataclasses.replace(penalty, lam=float(lam))
        kept = (slopes >= 2 * lam - old) | (b != 0)
        while True:
            columns = np.flatnonzero(kept)
            b = np.zeros(p) if not len(columns) else _restricted(X, smooth, at, solve, b, columns)
            slopes = abs(X.T @ smooth.slope(X @ b))
            broken = ~kept & (slopes > (1 + slack) * lam)
            if not broken.any():
                break
            kept |= broken
        coefs.append(b)
        old = lam
    return grid, np.array(coefs)


def _restricted(
    X: Vector, smooth: Smooth, penalty: Penalty, solve: Solver, b: Vector, columns: NDArray[np.int_]
) -> Vector:
    found = solve(Composite(X[:, columns], smooth, penalty), b[columns])
    whole = np.zeros_like(b)
    whole[columns] = found.coef
    return whole
