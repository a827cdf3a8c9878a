"""Sparse regression and recovery: more unknowns than rows, in scikit-learn's interface.

Linear models   ``linear``                least squares, logistic and Poisson regression with any
                                          separable penalty, with and without cross-validation
                ``path``                  :func:`penalty_path`: solutions along strengths
                ``losses``                :class:`SquaredLoss`, :class:`LogisticLoss`,
                                          :class:`PoissonLoss` of a linear predictor
Random pivots   ``pivots``                :func:`random_pivot_basis`, :class:`PivotPreconditioner`,
                                          :func:`preconditioner_quality`
                ``random_pivot_lasso``    :class:`RandomPivotLasso`
First order     ``composite``             :class:`Composite`: a smooth function of X b and a penalty
                ``accelerated_gradient``  :func:`accelerated_gradient`, with its baselines
                ``conjugate_gradient``    :func:`conjugate_gradient`, proximal and on the manifold
                ``first_order_path``      :func:`first_order_path`: either along strengths
Mixed models    ``mixed_effects``         :class:`TsallisMixedRegressor`
Bayes           ``sparse_bayes``          :class:`SparseBayesianRegressor`, :func:`sparse_bayes`,
                                          :func:`pattern_coupled_sbl`
                ``kronecker_sbl``         :class:`KroneckerSBL`: Kronecker dictionary and support
                ``kronecker_omp``         :class:`KroneckerOMP`: N-way orthogonal matching pursuit
                ``kronecker``             products with a Kronecker product that is never formed
                ``recovery``              :func:`nmse`, :func:`support_recovery_rate`
                ``irs_mimo``              a channel by way of a reflecting surface
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
from rarefy.regression.irs_mimo import IrsMimo, irs_mimo_problem, symbol_error_rate
from rarefy.regression.kronecker import KroneckerOperator, multiply_modes
from rarefy.regression.kronecker_omp import KroneckerOMP
from rarefy.regression.kronecker_sbl import KroneckerSBL
from rarefy.regression.linear import (
    SparseLinearRegression,
    SparseLinearRegressionCV,
    SparseLogisticRegression,
    SparseLogisticRegressionCV,
    SparsePoissonRegression,
    SparsePoissonRegressionCV,
)
from rarefy.regression.losses import LogisticLoss, PoissonLoss, SquaredLoss
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
from rarefy.regression.recovery import nmse, support_recovery_rate
from rarefy.regression.screening import MutualInfoScreener, clump, mutual_info_screen
from rarefy.regression.sparse_bayes import (
    SparseBayesFit,
    SparseBayesianRegressor,
    pattern_coupled_sbl,
    sparse_bayes,
)

__all__ = [
    "LogisticLoss",
    "PoissonLoss",
    "SquaredLoss",
    "Composite",
    "Descent",
    "IrsMimo",
    "KroneckerOMP",
    "KroneckerOperator",
    "KroneckerSBL",
    "MeanLoss",
    "MutualInfoScreener",
    "PenaltyPath",
    "PivotBasis",
    "PivotPreconditioner",
    "RandomPivotLasso",
    "SparseBayesFit",
    "SparseBayesianRegressor",
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
    "irs_mimo_problem",
    "isj_bandwidth",
    "linfoot",
    "multiply_modes",
    "mutual_info_screen",
    "nmse",
    "pattern_coupled_sbl",
    "penalty_path",
    "preconditioner_quality",
    "random_pivot_basis",
    "sparse_bayes",
    "support_recovery_rate",
    "symbol_error_rate",
]
