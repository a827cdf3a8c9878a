"""What the numbers of a sparse network mean, after the Sparseland handbook (Liu and Wang 2023).

:func:`diagnose` puts together ``audit`` (fake sparsity), ``reachability`` (effective sparsity),
``structure``, ``latency``, ``trace`` (the kind of run) and ``fair`` (comparisons); ``ablation``
asks whether a mask matters or only its layer densities.
"""

from rarefy.weights.diagnosis.ablation import (
    VARIANTS,
    Ablation,
    mask_ablation,
    mask_variant,
)
from rarefy.weights.diagnosis.audit import Claimed, audit
from rarefy.weights.diagnosis.diagnose import diagnose, diagnose_tensors
from rarefy.weights.diagnosis.fair import RunCard, comparable, matched_width
from rarefy.weights.diagnosis.findings import Diagnosis, Finding, LayerHealth
from rarefy.weights.diagnosis.latency import LayerTimes, layer_times, speedup
from rarefy.weights.diagnosis.lessons import LESSONS, Lesson
from rarefy.weights.diagnosis.reachability import effective_masks
from rarefy.weights.diagnosis.structure import dead_units, granularity
from rarefy.weights.diagnosis.trace import SparsityTrace, Taxonomy

__all__ = [
    "LESSONS",
    "VARIANTS",
    "Ablation",
    "Claimed",
    "Diagnosis",
    "Finding",
    "LayerHealth",
    "LayerTimes",
    "Lesson",
    "RunCard",
    "SparsityTrace",
    "Taxonomy",
    "audit",
    "comparable",
    "dead_units",
    "diagnose",
    "diagnose_tensors",
    "effective_masks",
    "granularity",
    "layer_times",
    "mask_ablation",
    "mask_variant",
    "matched_width",
    "speedup",
]
