"""What the numbers of a sparse network mean, after the Sparseland handbook (Liu and Wang 2023).

:func:`diagnose` puts together ``audit`` (fake sparsity), ``reachability`` (effective sparsity),
``structure``, ``latency``, ``memory`` (what training holds), ``trace`` (the kind of run), ``fair``
(comparisons) and ``records`` (the files a run leaves); ``ablation`` asks whether a mask matters or
only its layer densities, and ``units`` says what an amount of sparsity is in other words, and what
it saves; ``beyond`` measures what accuracy does not show.
"""

from rarefy.weights.diagnosis.ablation import (
    VARIANTS,
    Ablation,
    mask_ablation,
    mask_variant,
)
from rarefy.weights.diagnosis.audit import Claimed, audit
from rarefy.weights.diagnosis.beyond import (
    calibration_error,
    evaluate_suite,
    fast_gradient_sign,
)
from rarefy.weights.diagnosis.diagnose import diagnose, diagnose_run, diagnose_tensors
from rarefy.weights.diagnosis.fair import RunCard, comparable, matched_width
from rarefy.weights.diagnosis.findings import Diagnosis, Finding, LayerHealth
from rarefy.weights.diagnosis.latency import LayerTimes, layer_times, speedup
from rarefy.weights.diagnosis.lessons import LESSONS, Lesson
from rarefy.weights.diagnosis.memory import TrainingMemory, training_memory
from rarefy.weights.diagnosis.reachability import effective_masks
from rarefy.weights.diagnosis.records import read_runs, trace_findings
from rarefy.weights.diagnosis.structure import dead_units, granularity
from rarefy.weights.diagnosis.trace import SparsityTrace, Taxonomy
from rarefy.weights.diagnosis.units import Amount, Stored, convert, layer_mean_density, storage

__all__ = [
    "LESSONS",
    "VARIANTS",
    "Ablation",
    "Amount",
    "Claimed",
    "Diagnosis",
    "Finding",
    "LayerHealth",
    "LayerTimes",
    "Lesson",
    "RunCard",
    "SparsityTrace",
    "Stored",
    "Taxonomy",
    "TrainingMemory",
    "audit",
    "calibration_error",
    "comparable",
    "convert",
    "dead_units",
    "diagnose",
    "diagnose_run",
    "diagnose_tensors",
    "effective_masks",
    "evaluate_suite",
    "fast_gradient_sign",
    "granularity",
    "layer_mean_density",
    "layer_times",
    "mask_ablation",
    "mask_variant",
    "matched_width",
    "read_runs",
    "speedup",
    "storage",
    "trace_findings",
    "training_memory",
]
