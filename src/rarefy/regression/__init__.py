"""Sparse regression and recovery: more unknowns than rows, in scikit-learn's interface.

Bayes           ``sparse_bayes``          :class:`SparseBayesianRegressor`, :func:`sparse_bayes`,
                                          :func:`pattern_coupled_sbl`
                ``kronecker_sbl``         :class:`KroneckerSBL`: Kronecker dictionary and support
                ``kronecker_omp``         :class:`KroneckerOMP`: N-way orthogonal matching pursuit
                ``kronecker``             products with a Kronecker product that is never formed
                ``recovery``              :func:`nmse`, :func:`support_recovery_rate`
                ``irs_mimo``              a channel by way of a reflecting surface, and its symbol errors
Screening       ``screening``             :func:`mutual_info_screen`: which columns matter at all,
                                          :class:`MutualInfoScreener`, :func:`clump`
                ``mutual_information``    the estimators, :func:`linfoot`
                ``bandwidths``            :func:`isj_bandwidth`
"""

from rarefy.regression.bandwidths import isj_bandwidth
from rarefy.regression.irs_mimo import IrsMimo, irs_mimo_problem, symbol_error_rate
from rarefy.regression.kronecker import KroneckerOperator, multiply_modes
from rarefy.regression.kronecker_omp import KroneckerOMP
from rarefy.regression.kronecker_sbl import KroneckerSBL
from rarefy.regression.mutual_information import linfoot
from rarefy.regression.recovery import nmse, support_recovery_rate
from rarefy.regression.screening import MutualInfoScreener, clump, mutual_info_screen
from rarefy.regression.sparse_bayes import (
    SparseBayesFit,
    SparseBayesianRegressor,
    pattern_coupled_sbl,
    sparse_bayes,
)

__all__ = [
    "IrsMimo",
    "KroneckerOMP",
    "KroneckerOperator",
    "KroneckerSBL",
    "MutualInfoScreener",
    "SparseBayesFit",
    "SparseBayesianRegressor",
    "clump",
    "irs_mimo_problem",
    "isj_bandwidth",
    "linfoot",
    "multiply_modes",
    "mutual_info_screen",
    "nmse",
    "pattern_coupled_sbl",
    "sparse_bayes",
    "support_recovery_rate",
    "symbol_error_rate",
]
