"""Sparse linear models, more columns than rows: scikit-learn estimators on rarefy's penalties.

``path``    solutions along a sequence of strengths, for any separable penalty;
"""

from rarefy.regression.path import PenaltyPath, penalty_path

__all__ = ["PenaltyPath", "penalty_path"]
