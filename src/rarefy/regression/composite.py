r"""The problem that the first-order solvers share: a smooth function of X b plus a penalty.

.. math:: F(b) = f(Xb) + \sum_j \varphi_\lambda(b_j), \qquad
    \varphi_\lambda(b) = \lambda |b| + q(b)

with q smooth and concave: the nonconvex part of MCP and SCAD moves into the smooth part, and what
is left to the proximal map is soft thresholding.

Source: Yang, "Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data"
(PhD thesis, McGill 2025), part B; Yang, Asgharian and Lonnqvist 2024. Departures: the logistic loss
is a mean, where the authors' code divides by 2n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rarefy.operators import L1, MCP, SCAD, Penalty
from rarefy.regression.losses import Loss

Vector = NDArray[np.float64]


class Smooth(Protocol):
    """A smooth function of the predictor ``eta = X b``."""

    @property
    def bound(self) -> float:
        """Largest eigenvalue that its Hessian in eta may have."""

    def value(self, eta: Vector) -> float:
        """The function."""

    def slope(self, eta: Vector) -> Vector:
        """Its gradient in eta, shape (n,)."""


@dataclass(frozen=True)
class MeanLoss:
    """Mean over rows of a loss of a linear predictor.

    Parameters
    ----------
    loss : Loss
    y : ndarray, shape (n,)
    """

    loss: Loss
    y: Vector

    @property
    def bound(self) -> float:
        """The loss's largest curvature over n."""
        return self.loss.bound / len(self.y)

    def value(self, eta: Vector) -> float:
        """Mean loss."""
        return float(np.mean(self.loss.value(self.y, eta)))

    def slope(self, eta: Vector) -> Vector:
        """Each row's slope over n."""
        return self.loss.slope(self.y, eta) / len(self.y)


@dataclass(frozen=True)
class Composite:
    """``f(X b)`` plus a penalty on some of b.

    Parameters
    ----------
    X : ndarray of float64, shape (n, p)
        Columns of comparable scale: one step serves them all.
    smooth : Smooth
    penalty : L1, MCP or SCAD
        Those whose slope at 0 is ``lam``.
    penalised : ndarray of bool, shape (p,), optional
        False for an intercept's column; all True otherwise.

    Raises
    ------
    ValueError
        If the penalty is another, a shape does not fit, or the smooth part has no bound.
    """

    X: Vector
    smooth: Smooth
    penalty: Penalty
    penalised: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.penalty, L1 | MCP | SCAD) or getattr(
            self.penalty, "positive", False
        ):
            raise ValueError(f"penalty must be a two-sided L1, MCP or SCAD, got {self.penalty!r}")
        if self.X.ndim != 2 or not np.isfinite(self.X).all():
            raise ValueError(f"X must be a matrix of finite numbers, got shape {self.X.shape}")
        if not np.isfinite(self.smooth.bound):
            raise ValueError("the smooth part has no curvature bound, so no step size is safe")
        p = self.X.shape[1]
        if self.penalised is not None and self.penalised.shape != (p,):
            raise ValueError(f"penalised must have shape ({p},), got {self.penalised.shape}")

    @property
    def lam(self) -> float:
        """Slope of the penalty at 0."""
        return float(self.penalty.lam)

    @cached_property
    def lipschitz(self) -> float:
        """Constant of the smooth part's gradient, the penalty's concave part included."""
        n, p = self.X.shape
        gram = self.X @ self.X.T if n < p else self.X.T @ self.X
        convex = self.smooth.bound * float(np.linalg.eigvalsh(gram)[-1])
        concave = 0.0
        if isinstance(self.penalty, MCP):
            concave = 1.0 / self.penalty.gamma
        elif isinstance(self.penalty, SCAD):
            concave = 1.0 / (self.penalty.a - 1.0)
        return max(convex, concave, np.finfo(float).tiny)

    @cached_property
    def _cuts(self) -> Vector:
        """Strength of each coefficient's penalty."""
        p = self.X.shape[1]
        return np.where(np.ones(p, bool) if self.penalised is None else self.penalised, self.lam, 0)

    @property
    def penalises(self) -> NDArray[np.bool_]:
        """Which coefficients are penalised."""
        return self._cuts > 0

    def value(self, b: Vector, eta: Vector | None = None) -> float:
        """F at b; ``eta`` is X b where it is known."""
        fit = self.smooth.value(self.X @ b if eta is None else eta)
        return fit + float(self.penalty.value(b[self.penalises]))

    def gradient(self, b: Vector, eta: Vector | None = None) -> Vector:
        """Gradient of the smooth part, the penalty's concave part included."""
        slope = self.smooth.slope(self.X @ b if eta is None else eta)
        return self.X.T @ slope + self.concave_slope(b)

    def concave_slope(self, b: Vector) -> Vector:
        """Derivative of q, entry by entry."""
        size, lam = abs(b), self.lam
        if isinstance(self.penalty, MCP):
            slope = -np.minimum(size / self.penalty.gamma, lam)
        elif isinstance(self.penalty, SCAD):
            slope = -np.clip((size - lam) / (self.penalty.a - 1.0), 0.0, lam)
        else:
            return np.zeros_like(b)
        return np.where(self.penalises, np.sign(b) * slope, 0.0)

    def soft(self, b: Vector, step: float) -> Vector:
        """Proximal map of ``step * lam * |b|`` on the penalised entries."""
        return np.sign(b) * np.maximum(abs(b) - step * self._cuts, 0.0)

    def stationarity(self, b: Vector) -> float:
        """Largest distance of minus the gradient to ``lam``'s subdifferential; 0 at a solution."""
        gradient = self.gradient(b)
        active = np.where(b != 0, abs(gradient + self._cuts * np.sign(b)), 0.0)
        idle = np.where(b == 0, np.maximum(abs(gradient) - self._cuts, 0.0), 0.0)
        return float(np.max(active + idle, initial=0.0))


@dataclass(frozen=True)
class Descent:
    """Where a first-order method ended.

    Attributes
    ----------
    coef : ndarray, shape (p,)
    objectives : ndarray, shape (n_iter + 1,)
        F at the start and after every iteration.
    gradients : int ndarray, shape (n_iter + 1,)
        Gradients taken until then.
    stationarity : float
        As `Composite.stationarity`.
    converged : bool
        Whether the stopping rule was met.
    """

    coef: Vector
    objectives: Vector
    gradients: NDArray[np.int_]
    stationarity: float
    converged: bool

    @property
    def n_iter(self) -> int:
        """Iterations."""
        return len(self.objectives) - 1
