"""Sparse dictionaries: learn them, judge them, use them.

``attributes``       :func:`attribute_dictionary`: supervised, a vector for each attribute's value;
``sites``            :func:`collect`, :func:`patch`: activations of single heads and positions;
``editing``          :func:`greedy_edit`, :func:`guided_edit`, :func:`feature_weights`;
``properties``       :func:`feature_f1`, :func:`interpret_features`: what features speak of;
``task_evaluation``  :class:`Task`: sufficiency, necessity and control.
"""

from rarefy.dictionaries.attributes import AttributeDictionary, attribute_dictionary
from rarefy.dictionaries.editing import (
    Edit,
    feature_weights,
    greedy_edit,
    guided_edit,
    subtract_features,
)
from rarefy.dictionaries.properties import (
    F1,
    Interpretation,
    coverage,
    feature_f1,
    interpret_features,
    union_f1,
)
from rarefy.dictionaries.sites import Site, collect, patch
from rarefy.dictionaries.task_evaluation import Approximation, Control, Task

__all__ = [
    "F1",
    "Approximation",
    "AttributeDictionary",
    "Control",
    "Edit",
    "Interpretation",
    "Site",
    "Task",
    "attribute_dictionary",
    "collect",
    "coverage",
    "feature_f1",
    "feature_weights",
    "greedy_edit",
    "guided_edit",
    "interpret_features",
    "patch",
    "subtract_features",
    "union_f1",
]
