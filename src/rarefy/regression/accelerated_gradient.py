r"""Accelerated gradient for a nonconvex penalty, with damping that minimises its complexity bound.

.. code-block:: text

    b = b_ag = b_0;  w = 0.99 / L;  alpha = 1
    for k = 1, 2, ...:
        alpha = 1 if restart else 2 / (1 + sqrt(1 + 4 / alpha^2))
        b_md = (1 - alpha) b_ag + alpha b
        g    = gradient of f and of the penalty's concave part, at b_md
        b    = soft(b - w/alpha g, w/alpha lam)
        b_ag = soft(b_md - w g, w lam)

It restarts when b_md slows down and three iterations have passed since it last did. The original
setting of Ghadimi and Lan (``alpha = 2 / (k + 1)``, ``w = 1 / 2L``, step ``k w / 2``) and plain
proximal gradient are here for comparison.

Source: Yang, PhD thesis (McGill 2025), part B; Ghadimi and Lan 2016. Departures: none.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from rarefy.regression.composite import Composite, Descent, Vector

Steps = Literal["optimal", "ghadimi-lan", "plain"]
_RESTART_AFTER = 3


def accelerated_gradient(
    problem: Composite,
    start: Vector | None = None,
    *,
    steps: Steps = "optimal",
    restart: bool = True,
    tol: float = 1e-4,
    max_iter: int = 1000,
) -> Descent:
    """Minimise a composite problem.

    Parameters
    ----------
    problem : Composite
    start : ndarray, shape (p,), optional
        Zeros otherwise.
    steps : {"optimal", "ghadimi-lan", "plain"}, default "optimal"
        The thesis's step rule, the original one, or proximal gradient with step 1 / L.
    restart : bool, default True
        Whether the thesis's rule forgets its momentum when it slows down.
    tol : float, default 1e-4
        Stop once no coefficient of the extrapolated point moves by as much.
    max_iter : int, default 1000

    Returns
    -------
    Descent

    Raises
    ------
    ValueError
        If an option is out of its range or the start does not fit.
    """
    if steps not in get_args(Steps):
        raise ValueError(f"steps must be one of {get_args(Steps)}, got {steps!r}")
    b = check_start(problem, start, tol, max_iter)
    ag, md, alpha = b, b, 1.0
    w = {"optimal": 0.99, "ghadimi-lan": 0.5, "plain": 1.0}[steps] / problem.lipschitz
    slower, restarted = False, 0
    speed = np.inf
    objectives, converged = [problem.value(b)], False
    for k in range(1, max_iter + 1):
        if steps == "ghadimi-lan":
            alpha = 2.0 / (k + 1.0)
        elif steps == "optimal" and restart and slower and k - restarted >= _RESTART_AFTER:
            alpha, restarted = 1.0, k
        elif steps == "optimal" and k > 1:
            alpha = 2.0 / (1.0 + np.sqrt(1.0 + 4.0 / alpha**2))
        previous, md = md, (1.0 - alpha) * ag + alpha * b
        gradient = problem.gradient(md)
        ag = problem.soft(md - w * gradient, w)
        if steps == "plain":
            b = ag
        else:
            step = k * w / 2.0 if steps == "ghadimi-lan" else w / alpha
            b = problem.soft(b - step * gradient, step)
        objectives.append(problem.value(ag))
        change = md - previous
        slower, speed = float(np.linalg.norm(change)) < speed, float(np.linalg.norm(change))
        if k > 1 and abs(change).max(initial=0.0) < tol:
            converged = True
            break
    gradients = np.arange(len(objectives))
    return Descent(ag, np.array(objectives), gradients, problem.stationarity(ag), converged)


def check_start(problem: Composite, start: Vector | None, tol: float, max_iter: int) -> Vector:
    """Refuse what no descent can begin with; the start as a new float64 vector."""
    p = problem.X.shape[1]
    b = np.zeros(p) if start is None else np.array(start, np.float64)
    if b.shape != (p,) or not np.isfinite(b).all():
        raise ValueError(f"start must be {p} finite numbers, got shape {b.shape}")
    if tol < 0 or max_iter < 1:
        raise ValueError(
            f"tol must be at least 0 and max_iter at least 1, got {tol} and {max_iter}"
        )
    return b
