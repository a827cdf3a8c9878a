r"""Losses of a linear predictor :math:`\eta = Xb + b_0`, row by row.

A loss f gives its value, slope :math:`f'(\eta)`, curvature :math:`f''(\eta)` and conjugate
:math:`f^*(u) = \sup_\eta u\eta - f(\eta)`; ``null_intercept`` is its minimiser over constants.

Source: McCullagh and Nelder 1989; the conjugates as in Ndiaye et al. 2017. Departures: none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy

Vector = NDArray[np.float64]


class Loss(ABC):
    """What the solver asks of a loss; arrays have shape (n,)."""

    bound: ClassVar[float]
    """Largest curvature there is; infinite where there is none."""

    @abstractmethod
    def value(self, y: Vector, eta: Vector) -> Vector:
        """Loss of each row."""

    @abstractmethod
    def slope(self, y: Vector, eta: Vector) -> Vector:
        """Derivative in eta."""

    @abstractmethod
    def curvature(self, y: Vector, eta: Vector) -> Vector:
        """Second derivative in eta."""

    @abstractmethod
    def conjugate(self, y: Vector, slope: Vector) -> Vector:
        """Convex conjugate at a slope."""

    @abstractmethod
    def saturated(self, y: Vector) -> Vector:
        """Least loss of each row."""

    @abstractmethod
    def null_intercept(self, mean: float) -> float:
        """The best constant eta where y has this mean."""


class SquaredLoss(Loss):
    """Half the squared error."""

    bound = 1.0

    def value(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return (y - eta) ** 2 / 2

    def slope(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return eta - y

    def curvature(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return np.ones_like(y + eta)

    def conjugate(self, y: Vector, slope: Vector) -> Vector:
        """As the base class says."""
        return slope * (slope / 2 + y)

    def saturated(self, y: Vector) -> Vector:
        """As the base class says."""
        return np.zeros_like(y)

    def null_intercept(self, mean: float) -> float:
        """As the base class says."""
        return mean


class LogisticLoss(Loss):
    """Negative log-likelihood of y in {0, 1} at log-odds eta."""

    bound = 0.25

    def value(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return np.logaddexp(0, eta) - y * eta

    def slope(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return expit(eta) - y

    def curvature(self, y: Vector, eta: Vector) -> Vector:  # noqa: ARG002
        """As the base class says."""
        return expit(eta) * expit(-eta)

    def conjugate(self, y: Vector, slope: Vector) -> Vector:
        """As the base class says."""
        q = np.clip(slope + y, 0, 1)
        return xlogy(q, q) + xlogy(1 - q, 1 - q)

    def saturated(self, y: Vector) -> Vector:
        """As the base class says."""
        return np.zeros_like(y)

    def null_intercept(self, mean: float) -> float:
        """As the base class says."""
        return math.log(mean / (1 - mean))


class PoissonLoss(Loss):
    """Negative log-likelihood, up to a constant, of a count y of mean exp(eta)."""

    bound = math.inf

    def value(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        with np.errstate(over="ignore"):
            return np.exp(eta) - y * eta

    def slope(self, y: Vector, eta: Vector) -> Vector:
        """As the base class says."""
        return np.exp(eta) - y

    def curvature(self, y: Vector, eta: Vector) -> Vector:  # noqa: ARG002
        """As the base class says."""
        return np.exp(eta)

    def conjugate(self, y: Vector, slope: Vector) -> Vector:
        """As the base class says."""
        mean = np.maximum(slope + y, 0)
        return xlogy(mean, mean) - mean

    def saturated(self, y: Vector) -> Vector:
        """As the base class says."""
        return y - xlogy(y, y)

    def null_intercept(self, mean: float) -> float:
        """As the base class says."""
        return math.log(mean)
