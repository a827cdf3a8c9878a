r"""The strength by cross-validation over a path.

The grid is that of all rows; each fold follows it on its own training rows, and the strength with
the least mean held-out loss is taken, walked to on all rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import check_cv
from sklearn.utils import check_array

from rarefy.operators import L1, Penalty
from rarefy.regression._model import SparseModel
from rarefy.regression._solver import Solution
from rarefy.regression.losses import Vector
from rarefy.regression.path import check_options, strength_grid, walk, warn_of


class CrossValidated(SparseModel):
    """At the strength of least held-out loss."""

    def __init__(
        self,
        penalty: Penalty | None = None,
        *,
        strengths: Sequence[float] | None = None,
        n_strengths: int = 100,
        eps: float = 1e-3,
        cv: Any = None,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        max_iter: int = 10_000,
        n_jobs: int | None = None,
    ) -> None:
        self.penalty = penalty
        self.strengths = strengths
        self.n_strengths = n_strengths
        self.eps = eps
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter
        self.n_jobs = n_jobs

    def _check_options(self) -> None:
        check_options(
            tol=self.tol, max_iter=self.max_iter, n_strengths=self.n_strengths, eps=self.eps
        )

    def _solve(self, X: Any, targets: list[Vector], weights: Vector) -> list[Solution]:
        penalty = L1(1.0) if self.penalty is None else self.penalty
        grid = self._grid(X, targets, weights, penalty)
        labels = np.argmax(np.stack([*targets, np.full(len(weights), 0.5)]), axis=0)
        classify = self.__sklearn_tags__().estimator_type == "classifier"
        folds = check_cv(self.cv, labels if classify else targets[0], classifier=classify)
        # threads: the kernels and the products with X let go of the interpreter, and X is shared
        losses = Parallel(n_jobs=self.n_jobs, prefer="threads")(
            delayed(self._held_out)(X, targets, weights, penalty, grid, train, test)
            for train, test in folds.split(np.zeros(len(weights)), labels)
        )
        self.strengths_ = grid
        self.loss_path_ = np.array(losses).T
        best = int(self.loss_path_.mean(axis=1).argmin())
        self.penalty_ = dataclasses.replace(penalty, lam=float(grid[best]))
        solutions = []
        for target in targets:
            *_, (solution, here) = walk(
                self._solver(X, target, weights), penalty, grid[: best + 1]
            )  # fmt: skip
            if not solution.converged:
                warn_of(solution, here)
            solutions.append(solution)
        return solutions

    def _grid(self, X: Any, targets: list[Vector], weights: Vector, penalty: Penalty) -> np.ndarray:
        if self.strengths is not None:
            return np.sort(check_array(self.strengths, ensure_2d=False, dtype=np.float64))[::-1]
        grids = [
            strength_grid(self._solver(X, target, weights), penalty, self.n_strengths, self.eps)
            for target in targets
        ]
        return max(grids, key=lambda grid: grid[0])

    def _held_out(
        self,
        X: Any,
        targets: list[Vector],
        weights: Vector,
        penalty: Penalty,
        grid: np.ndarray,
        train: np.ndarray,
        test: np.ndarray,
    ) -> np.ndarray:
        """Mean loss on the fold's rows at each strength, summed over the targets."""
        total = np.zeros(len(grid))
        fold = X[train]
        fold = fold.tocsc() if hasattr(fold, "tocsc") else fold
        for target in targets:
            solver = self._solver(fold, target[train], weights[train] / weights[train].sum())
            for place, (solution, _) in enumerate(walk(solver, penalty, grid)):
                eta = X[test] @ solution.coef + solution.intercept
                total[place] += np.average(
                    self.loss.value(target[test], eta), weights=weights[test]
                )  # fmt: skip
        return total
