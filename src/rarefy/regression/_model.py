"""What the sparse linear estimators share: from checked data to solutions, and from them back.

An estimator joins a target (``targets``: which loss, what ``y`` may be, how to predict) with a way
to choose the strength: ``AtStrength`` here, ``CrossValidated`` in ``_cross_validation``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data

from rarefy.operators import L1, Penalty
from rarefy.regression._solver import PathSolver, Solution
from rarefy.regression.losses import Loss, Vector
from rarefy.regression.path import check_options, largest_strength, row_weights, walk, warn_of

NONCONVEX_PATH = 20


class SparseModel(BaseEstimator):
    """A penalised linear predictor of one or several targets."""

    loss: ClassVar[Loss]

    penalty: Penalty | None
    fit_intercept: bool
    tol: float
    max_iter: int

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)
        y : array, shape (n,)
        sample_weight : array, shape (n,), optional
            Weights of the rows, of any scale.

        Returns
        -------
        self
        """
        X, y = validate_data(
            self, X, y, accept_sparse="csc", dtype=[np.float64, np.float32],
            y_numeric=self.__sklearn_tags__().estimator_type == "regressor",
        )  # fmt: skip
        self._check_options()
        weights = row_weights(sample_weight, X)
        self._keep(self._solve(X, self._targets(y, weights), weights))
        return self

    def _check_options(self) -> None:
        check_options(tol=self.tol, max_iter=self.max_iter)

    @abstractmethod
    def _targets(self, y: np.ndarray, weights: Vector) -> list[Vector]:
        """The vectors to be fitted, one model for each."""

    @abstractmethod
    def _solve(self, X: Any, targets: list[Vector], weights: Vector) -> list[Solution]:
        """A solution for each target."""

    @abstractmethod
    def _keep(self, solutions: list[Solution]) -> None:
        """Set the fitted attributes."""

    def _solver(self, X: Any, y: Vector, weights: Vector) -> PathSolver:
        return PathSolver(X, y, weights, self.loss, fit_intercept=self.fit_intercept,
                          tol=self.tol, max_iter=self.max_iter)  # fmt: skip

    def _predictor(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32], reset=False
        )
        return X @ self.coef_.T + self.intercept_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class AtStrength(SparseModel):
    """At the penalty's own strength."""

    def __init__(
        self,
        penalty: Penalty | None = None,
        *,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 10_000,
        path_length: int | None = None,
    ) -> None:
        self.penalty = penalty
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.path_length = path_length

    def _solve(self, X: Any, targets: list[Vector], weights: Vector) -> list[Solution]:
        penalty = L1(1.0) if self.penalty is None else self.penalty
        length = self.path_length
        if length is None:
            length = 1 if penalty.convex else NONCONVEX_PATH
        if length < 1:
            raise ValueError(f"path_length must be at least 1, got {length}")
        return [
            self._at(self._solver(X, target, weights), penalty, length) for target in targets
        ]  # fmt: skip

    def _at(self, solver: PathSolver, penalty: Penalty, length: int) -> Solution:
        grid = np.array([penalty.lam])
        if length > 1 and penalty.lam > 0:
            top = largest_strength(solver, penalty)
            if top > penalty.lam:
                grid = np.geomspace(top, penalty.lam, length)
        *_, (solution, _) = walk(solver, penalty, grid)
        if not solution.converged:
            warn_of(solution, penalty)
        return solution
