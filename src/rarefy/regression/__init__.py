"""Sparse regression and recovery: more unknowns than rows, in scikit-learn's interface.

Linear models   ``linear``                least squares, logistic and Poisson regression with any
                                          separable penalty, with and without cross-validation
                ``path``                  :func:`penalty_path`: solutions along strengths
Random pivots   ``pivots``                :func:`random_pivot_basis`, :class:`PivotPreconditioner`,
                                          :func:`preconditioner_quality`
                ``random_pivot_lasso``    :class:`RandomPivotLasso`
First order     ``composite``             :class:`Composite`: a smooth function of X b and a penalty
                ``accelerated_gradient``  :func:`accelerated_gradient`, with its baselines
                ``conjugate_gradient``    :func:`conjugate_gradient`, proximal and on the manifold
                ``first_order_path``      :func:`first_order_path`: either along strengths
Mixed models    ``mixed_effects``         :class:`TsallisMixedRegressor`
Screening       ``screening``             :func:`mutual_info_screen`: which columns matter at all,
                                          :class:`MutualInfoScreener`, :func:`clump`
                ``mutual_information``    the estimators, :func:`linfoot`
                ``bandwidths``            :func:`isj_bandwidth`
"""

from rarefy.regression.accelerated_gradient import accelerated_gradient
from rarefy.regression.bandwidths import isj_bandwidth
from rarefy.regression.composite import Composite, Descent, MeanLoss
from rarefy.regression.conjugate_gradient import conjugate_gradient
from rarefy.regression.first_order_path import first_order_path
from rarefy.regression.linear import (
    SparseLinearRegression,
    SparseLinearRegressionCV,
    SparseLogisticRegression,
    SparseLogisticRegressionCV,
    SparsePoissonRegression,
    SparsePoissonRegressionCV,
)
from rarefy.regression.mixed_effects import TsallisMixedRegressor
from rarefy.regression.mutual_information import linfoot
from rarefy.regression.path import PenaltyPath, penalty_path
from rarefy.regression.pivots import (
    PivotBasis,
    PivotPreconditioner,
    preconditioner_quality,
    random_pivot_basis,
)
from rarefy.regression.random_pivot_lasso import RandomPivotLasso
from rarefy.regression.screening import MutualInfoScreener, clump, mutual_info_screen

__all__ = [
    "Composite",
    "Descent",
    "MeanLoss",
    "MutualInfoScreener",
    "PenaltyPath",
    "PivotBasis",
    "PivotPreconditioner",
    "RandomPivotLasso",
    "SparseLinearRegression",
    "SparseLinearRegressionCV",
    "SparseLogisticRegression",
    "SparseLogisticRegressionCV",
    "SparsePoissonRegression",
    "SparsePoissonRegressionCV",
    "TsallisMixedRegressor",
    "accelerated_gradient",
    "clump",
    "conjugate_gradient",
    "first_order_path",
    "isj_bandwidth",
    "linfoot",
    "mutual_info_screen",
    "penalty_path",
    "preconditioner_quality",
    "random_pivot_basis",
]
