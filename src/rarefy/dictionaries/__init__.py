"""Sparse dictionaries: learned, coded in, and judged.

Coding              ``sparse_coding``       :class:`SparseCoder`, :func:`sparse_codes`
Learning            ``dictionary_learning`` :class:`DictionaryLearner`
                    ``dictionary_updates``  the rules that move a dictionary
                    ``tune_penalty``        :func:`tune_penalty`: at a given sparsity or error
Judging             ``code_report``         :func:`code_report`: sparsity and error of codes
                    ``gabor``               :func:`fit_gabor`
                    ``receptive_fields``    :func:`receptive_field_report`: what units look for
"""

from rarefy.dictionaries.code_report import CodeReport, code_report, debias
from rarefy.dictionaries.dictionary_learning import DictionaryLearner
from rarefy.dictionaries.gabor import GaborFit, fit_gabor
from rarefy.dictionaries.receptive_fields import (
    ReceptiveFields,
    class_entropy,
    orientation_selectivity,
    receptive_field_report,
)
from rarefy.dictionaries.sparse_coding import Codes, SparseCoder, sparse_codes
from rarefy.dictionaries.tune_penalty import Tuned, tune_penalty

__all__ = [
    "CodeReport",
    "Codes",
    "DictionaryLearner",
    "GaborFit",
    "ReceptiveFields",
    "SparseCoder",
    "Tuned",
    "class_entropy",
    "code_report",
    "debias",
    "fit_gabor",
    "orientation_selectivity",
    "receptive_field_report",
    "sparse_codes",
    "tune_penalty",
]
