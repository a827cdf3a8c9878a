"""Sparse regression and recovery: more unknowns than measurements.

=====================  ===========================================================================
module                 what is in it
=====================  ===========================================================================
``sparse_bayes``       sparse Bayesian learning on a dense dictionary, plain and pattern-coupled
``kronecker``          products with a Kronecker product that is never formed
``kronecker_sbl``      sparse Bayesian learning with Kronecker-structured dictionary and support
``kronecker_omp``      N-way orthogonal matching pursuit
``recovery``           how well a sparse vector was recovered
``irs_mimo``           a wireless channel by way of a reflecting surface, and its symbol errors
=====================  ===========================================================================
"""

from rarefy.regression.irs_mimo import IrsMimo, irs_mimo_problem, symbol_error_rate
from rarefy.regression.kronecker import KroneckerOperator, multiply_modes
from rarefy.regression.kronecker_omp import KroneckerOMP
from rarefy.regression.kronecker_sbl import KroneckerSBL
from rarefy.regression.recovery import nmse, support_recovery_rate
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
    "SparseBayesFit",
    "SparseBayesianRegressor",
    "irs_mimo_problem",
    "multiply_modes",
    "nmse",
    "pattern_coupled_sbl",
    "sparse_bayes",
    "support_recovery_rate",
    "symbol_error_rate",
]
