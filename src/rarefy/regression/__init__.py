"""Estimators for more columns than rows, in scikit-learn's interface.

Screening           ``screening``           :func:`mutual_info_screen`: which columns matter at all,
                                            :class:`MutualInfoScreener`, :func:`clump`
                    ``mutual_information``  the estimators, :func:`linfoot`
                    ``bandwidths``          :func:`isj_bandwidth`
"""

from rarefy.regression.bandwidths import isj_bandwidth
from rarefy.regression.mutual_information import linfoot
from rarefy.regression.screening import MutualInfoScreener, clump, mutual_info_screen

__all__ = ["MutualInfoScreener", "clump", "isj_bandwidth", "linfoot", "mutual_info_screen"]
