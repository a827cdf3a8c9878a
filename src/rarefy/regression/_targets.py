"""What ``y`` may be, and how the predictor becomes a prediction: numbers, classes, counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import d2_tweedie_score
from sklearn.utils.multiclass import check_classification_targets

from rarefy.regression._model import SparseModel
from rarefy.regression._solver import Solution
from rarefy.regression.losses import LogisticLoss, PoissonLoss, SquaredLoss, Vector


class _OneTarget(RegressorMixin, SparseModel):
    """A regression: flat coefficients and plain numbers."""

    def _targets(self, y: np.ndarray, weights: Vector) -> list[Vector]:  # noqa: ARG002
        return [y.astype(np.float64)]

    def _keep(self, solutions: list[Solution]) -> None:
        (solution,) = solutions
        self.coef_ = solution.coef
        self.intercept_ = solution.intercept
        self.n_iter_ = solution.n_iter
        self.dual_gap_ = solution.gap
        self.kkt_violation_ = solution.violation


class Numbers(_OneTarget):
    """Least squares."""

    loss = SquaredLoss()

    def predict(self, X: Any) -> np.ndarray:
        """Expected value of each row.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)

        Returns
        -------
        ndarray, shape (n,)
        """
        return self._predictor(X)


class Counts(_OneTarget):
    """Poisson regression with a logarithmic link."""

    loss = PoissonLoss()

    def _targets(self, y: np.ndarray, weights: Vector) -> list[Vector]:
        if (y < 0).any():
            raise ValueError(f"y must hold counts, at least 0, got {y.min():g}")
        if not weights @ y > 0:
            raise ValueError("y must hold a count above 0, got only zeros")
        return super()._targets(y, weights)

    def predict(self, X: Any) -> np.ndarray:
        """Expected count of each row.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)

        Returns
        -------
        ndarray, shape (n,)
        """
        return np.exp(self._predictor(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the Poisson deviance that is explained (D squared).

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)
        y : array, shape (n,)
        sample_weight : array, shape (n,), optional

        Returns
        -------
        float
            At most 1; 0 for the model that predicts the mean.
        """
        return float(d2_tweedie_score(y, self.predict(X), sample_weight=sample_weight, power=1))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


class Classes(ClassifierMixin, SparseModel):
    """Logistic regression; more than two classes are one against the rest each."""

    loss = LogisticLoss()

    def _targets(self, y: np.ndarray, weights: Vector) -> list[Vector]:
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        present = np.bincount(codes, weights) > 0
        if present.sum() < 2:
            only = self.classes_[present][0]
            raise ValueError(f"y must hold two classes or more, got one class, {only!r}")
        if not present.all():
            raise ValueError(
                f"every class of y must have weight, the class {self.classes_[~present][0]!r} has "
                "none"
            )
        wanted = [1] if len(self.classes_) == 2 else range(len(self.classes_))
        return [(codes == k).astype(np.float64) for k in wanted]

    def _keep(self, solutions: list[Solution]) -> None:
        self.coef_ = np.array([s.coef for s in solutions])
        self.intercept_ = np.array([s.intercept for s in solutions])
        self.n_iter_ = np.array([s.n_iter for s in solutions])
        self.dual_gap_ = np.array([s.gap for s in solutions])
        self.kkt_violation_ = np.array([s.violation for s in solutions])

    def decision_function(self, X: Any) -> np.ndarray:
        """Log-odds of each class against the rest.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)

        Returns
        -------
        ndarray, shape (n, classes)
            (n,) where there are two classes: the log-odds of the second.
        """
        scores = self._predictor(X)
        return scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)

        Returns
        -------
        ndarray, shape (n,)
        """
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class; with more than two, normalised one-against-the-rest ones.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, p)

        Returns
        -------
        ndarray, shape (n, classes)
            Rows of sum 1.
        """
        chances = expit(self.decision_function(X))
        if chances.ndim == 1:
            return np.stack([1 - chances, chances], axis=1)
        return chances / chances.sum(axis=1, keepdims=True)
