"""Sparse linear models, more columns than rows: scikit-learn estimators on rarefy's penalties.

``linear``  least squares, logistic and Poisson regression with any separable penalty, and the same
            with cross-validation;
``path``    solutions along a sequence of strengths.
"""

from rarefy.regression.linear import (
    SparseLinearRegression,
    SparseLinearRegressionCV,
    SparseLogisticRegression,
    SparseLogisticRegressionCV,
    SparsePoissonRegression,
    SparsePoissonRegressionCV,
)
from rarefy.regression.path import PenaltyPath, penalty_path

__all__ = [
    "PenaltyPath",
    "SparseLinearRegression",
    "SparseLinearRegressionCV",
    "SparseLogisticRegression",
    "SparseLogisticRegressionCV",
    "SparsePoissonRegression",
    "SparsePoissonRegressionCV",
    "penalty_path",
]
