r"""Solutions of a penalised linear model along a sequence of strengths, each started at the last.

.. math:: \min_{b, b_0} \frac1{2n} \|y - Xb - b_0\|^2 + \sum_j \varphi_\lambda(b_j), \qquad
    \lambda_{\max} = \lambda_1 > \dots > \lambda_m = \epsilon \lambda_{\max}

on a geometric grid; :math:`\lambda_{\max}` is the least strength at which every coefficient is
zero. A penalty's strength is its ``lam``; the scale is that of scikit-learn's ``Lasso``.

Source: Friedman, Hastie and Tibshirani 2010. Departures: none.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_consistent_length, check_X_y
from sklearn.utils.validation import _check_sample_weight

from rarefy.kernels.cpu.coordinate_descent import violations
from rarefy.operators import L1, MCP, SCAD, ElasticNet, Penalty
from rarefy.operators._twins import twin
from rarefy.regression._solver import PathSolver, Solution, steps_of
from rarefy.regression.losses import LogisticLoss, Loss, PoissonLoss, SquaredLoss


@dataclasses.dataclass(frozen=True)
class PenaltyPath:
    """Solutions along a path of m strengths.

    Parameters
    ----------
    strengths : ndarray, shape (m,)
        Decreasing.
    coefs : ndarray, shape (m, p)
        One row for each strength.
    intercepts : ndarray, shape (m,)
    gaps : ndarray, shape (m,)
        Duality gaps, in the loss's unit; NaN where the penalty is not convex.
    violations : ndarray, shape (m,)
        Largest KKT violations, in the gradient's unit.
    iterations : int ndarray, shape (m,)
        Epochs of coordinate descent on a working set.
    """

    strengths: np.ndarray
    coefs: np.ndarray
    intercepts: np.ndarray
    gaps: np.ndarray
    violations: np.ndarray
    iterations: np.ndarray


def penalty_path(
    X: Any,
    y: Any,
    penalty: Penalty,
    *,
    loss: Literal["linear", "logistic", "poisson"] = "linear",
    strengths: Sequence[float] | np.ndarray | None = None,
    n_strengths: int = 100,
    eps: float = 1e-3,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    tol: float = 1e-6,
    max_iter: int = 10_000,
) -> PenaltyPath:
    """Solutions for a sequence of strengths of one penalty.

    Parameters
    ----------
    X : array or sparse matrix, shape (n, p)
        Never copied whole where it is a float array of either order or CSC; float32 stays.
    y : array, shape (n,)
        Numbers; 0 and 1 for the logistic loss, counts for the Poisson loss.
    penalty : Penalty
        From :mod:`rarefy.operators`; its ``lam`` is replaced, everything else kept.
    loss : {"linear", "logistic", "poisson"}, default "linear"
        Half the squared error, or the negative log-likelihood; its mean over the rows counts.
    strengths : sequence of floats, optional
        Taken from the largest to the smallest. Default: a geometric grid.
    n_strengths : int, default 100
        Length of the grid.
    eps : float, default 1e-3
        Its last strength over its first.
    fit_intercept : bool, default True
        The intercept is not penalised.
    sample_weight : array, shape (n,), optional
        Weights of the rows, of any scale; the loss is their weighted mean.
    tol : float, default 1e-6
        For l1 and elastic net: the duality gap over the null model's loss. Else: the largest KKT
        violation over that of the null model.
    max_iter : int, default 10,000
        Epochs for each strength, at most.

    Returns
    -------
    PenaltyPath

    Raises
    ------
    ValueError
        If X or y holds NaN or infinity or is empty, y is not what the loss takes, or an option is
        out of its range.

    Warns
    -----
    ConvergenceWarning
        If a strength is left before its tolerance is reached; the message says what was.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import L1
    >>> X = np.eye(4)
    >>> path = penalty_path(X, [8.0, 4, 0, 0], L1(1.0), strengths=[1.5, 0.5], fit_intercept=False)
    >>> path.coefs.round(6).tolist()
    [[2.0, 0.0, 0.0, 0.0], [6.0, 2.0, 0.0, 0.0]]
    """
    X, y = check_X_y(X, y, accept_sparse="csc", dtype=[np.float64, np.float32], y_numeric=True)
    weights = row_weights(sample_weight, X)
    _check_target(y, loss)
    check_options(n_strengths=n_strengths, eps=eps, tol=tol, max_iter=max_iter)
    solver = PathSolver(
        X,
        y.astype(np.float64),
        weights,
        _LOSSES[loss](),
        fit_intercept=fit_intercept,
        tol=tol,
        max_iter=max_iter,
    )
    if strengths is None:
        grid = strength_grid(solver, penalty, n_strengths, eps)
    else:
        grid = np.sort(check_array(strengths, ensure_2d=False, dtype=np.float64))[::-1]
    solutions = []
    for solution, here in walk(solver, penalty, grid):
        if not solution.converged:
            warn_of(solution, here)
        solutions.append(solution)
    return PenaltyPath(
        grid,
        np.array([s.coef for s in solutions]),
        np.array([s.intercept for s in solutions]),
        np.array([s.gap for s in solutions]),
        np.array([s.violation for s in solutions]),
        np.array([s.n_iter for s in solutions]),
    )


_LOSSES: dict[str, type[Loss]] = {
    "linear": SquaredLoss,
    "logistic": LogisticLoss,
    "poisson": PoissonLoss,
}


def _check_target(y: np.ndarray, loss: str) -> None:
    if loss not in _LOSSES:
        raise ValueError(f"loss must be one of {', '.join(_LOSSES)}, got {loss!r}")
    if loss == "logistic" and not np.array_equal(np.unique(y), [0, 1]):
        raise ValueError("y must hold 0 and 1, and both, for the logistic loss")
    if loss == "poisson" and not (y.min() >= 0 and y.max() > 0):
        raise ValueError("y must hold counts, one of them above 0, for the Poisson loss")


def walk(
    solver: PathSolver, penalty: Penalty, grid: np.ndarray
) -> Iterator[tuple[Solution, Penalty]]:
    """Solve at each strength of a decreasing grid from where the last ended."""
    last = grid[0]
    for strength in grid:
        here = dataclasses.replace(penalty, lam=float(strength))
        yield solver.solve(here, foresight=last / strength if strength > 0 else 1.0), here
        last = strength


def strength_grid(solver: PathSolver, penalty: Penalty, n_strengths: int, eps: float) -> np.ndarray:
    """A geometric grid from the largest useful strength down to ``eps`` times it."""
    return largest_strength(solver, penalty) * np.geomspace(1, eps, n_strengths)


def largest_strength(solver: PathSolver, penalty: Penalty) -> float:
    """The least strength at which no coefficient leaves zero."""
    slopes = -solver.gradient if penalty.positive else solver.null_gradient
    steepest = max(float(slopes.max(initial=0.0)), np.finfo(float).tiny)
    if isinstance(penalty, ElasticNet):
        if penalty.l1_ratio == 0:
            raise ValueError(
                "l1_ratio is 0, where no strength zeroes every coefficient: give strengths"
            )
        return steepest / penalty.l1_ratio
    if isinstance(penalty, (L1, MCP, SCAD)):
        return steepest
    # the violations at zero fall to nothing as the strength grows: bisect its logarithm
    steps = steps_of(solver.curvature(), penalty)

    def moves(strength: float) -> bool:
        of = twin(dataclasses.replace(penalty, lam=strength))
        return bool(violations(solver.coef, solver.gradient, steps, of).any())

    low = high = steepest
    while moves(high):
        low, high = high, high * 16
    while low > 1e-300 and not moves(low):
        high, low = low, low / 16
    while high > low * (1 + 1e-9):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if moves(middle) else (low, middle)
    return high


def check_options(*, tol: float, max_iter: int, n_strengths: int = 1, eps: float = 1e-3) -> None:
    """Refuse options out of their range."""
    if not tol >= 0:
        raise ValueError(f"tol must be at least 0, got {tol}")
    for name, count in (("max_iter", max_iter), ("n_strengths", n_strengths)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if not 0 < eps <= 1:
        raise ValueError(f"eps must be above 0 and at most 1, got {eps}")


def warn_of(solution: Solution, penalty: Penalty) -> None:
    """Say what was reached and what was wanted."""
    kind, reached = (
        ("KKT violation", solution.violation)
        if np.isnan(solution.gap)
        else ("duality gap", solution.gap)
    )
    warnings.warn(
        f"{penalty} stopped after {solution.n_iter} epochs at a {kind} of {reached:.3g}, wanted "
        f"{solution.target:.3g}: raise max_iter or tol",
        ConvergenceWarning,
        stacklevel=3,
    )


def row_weights(sample_weight: Any, X: Any) -> np.ndarray:
    """Weights of sum 1."""
    if sample_weight is None:
        return np.full(X.shape[0], 1 / X.shape[0])
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    check_consistent_length(weights, X)
    total = weights.sum()
    if not total > 0:
        raise ValueError("sample_weight must hold a positive weight, got only zeros")
    return weights / total
