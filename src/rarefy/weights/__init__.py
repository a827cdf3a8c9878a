"""Pruning and sparse training of a model's weights.

What to prune       ``select``        :func:`select`, :func:`block_weights`
Which weights stay  ``scores``        magnitude, SNIP, GraSP, SynFlow, Fisher, movement, Wanda
                    ``from_scores``   :func:`mask_from_scores`
                    ``random_masks``  :func:`random_masks`
Masks               ``masks``         :class:`Masks`, :func:`mask_similarity`
                    ``attach``        :func:`attach`: parametrized or projected
After training      ``calibrate``     :class:`LayerStats`, :func:`walk_blocks`
                    ``sparsegpt``     :func:`sparsegpt`
                    ``dsnot``         :func:`dsnot`
                    ``prune_lm``      :func:`prune_lm`: the three above, and Wanda, on a model
In training         ``finetune``      :func:`finetune` with masks held
                    ``imp``           :func:`iterative_magnitude`: lottery tickets
                    ``dynamic``       :class:`DynamicMasks`: SET, RigL, gradual magnitude
                    ``iso_flop``      :func:`iso_flop`: larger, sparse, at the same cost
                    ``iso_layers``    :class:`SparseParallel`, factorized, doped
Which method        ``compare``       :func:`compare`: several at several sparsities, and their cost
How much is free    ``curve``         :func:`sparsity_curve`: the essential range and its knee
                    ``monitor``       :class:`SparsificationMonitor`: when it emerges
What it all means   ``diagnosis``     :func:`diagnose`: what the doctor says, and its parts
Keeping it          ``export``        dense folders, packed files
                    ``nm``            N:M checks and storage
                    ``readers``       masks of other tools
                    ``macs``          :func:`count_macs`
"""

from rarefy.weights.attach import (
    MASKED,
    STRAIGHT_THROUGH,
    Attachment,
    Backward,
    MaskedWeight,
    attach,
    masked_call,
    masked_weight,
    sr_ste,
    strip_state_dict,
)
from rarefy.weights.calibrate import LayerStats, walk_blocks
from rarefy.weights.compare import Method, compare
from rarefy.weights.comparison import Comparison, Point
from rarefy.weights.curve import Knee, SparsityCurve, sparsity_curve
from rarefy.weights.diagnosis import (
    LESSONS,
    Ablation,
    Claimed,
    Diagnosis,
    Finding,
    LayerHealth,
    LayerTimes,
    Lesson,
    RunCard,
    SparsityTrace,
    Taxonomy,
    audit,
    comparable,
    dead_units,
    diagnose,
    diagnose_tensors,
    effective_masks,
    granularity,
    layer_times,
    mask_ablation,
    mask_variant,
    matched_width,
    speedup,
)
from rarefy.weights.dsnot import DSnoTResult, dsnot, random_swaps
from rarefy.weights.dynamic import (
    SET,
    DynamicMasks,
    GradualMagnitude,
    RigL,
    Rule,
    Static,
    Update,
    drop_and_grow,
    dynamic_callback,
)
from rarefy.weights.export import (
    load_sparse,
    load_sparse_masks,
    save_dense,
    save_pruned,
    save_sparse,
    sparsity_metadata,
)
from rarefy.weights.finetune import finetune, trainer_callback
from rarefy.weights.from_scores import global_magnitude_mask, mask_from_scores
from rarefy.weights.imp import iterative_magnitude
from rarefy.weights.iso_flop import IsoFlop, iso_flop
from rarefy.weights.iso_layers import (
    FeatureNorm,
    SparseDoped,
    SparseFactorized,
    SparseParallel,
)
from rarefy.weights.macs import LayerMacs, count_macs
from rarefy.weights.masks import LayerDensity, Masks, Similarity, mask_similarity
from rarefy.weights.monitor import ChangePoint, SparsificationMonitor, change_point
from rarefy.weights.nm import Compressed, is_nm, nm_compress, nm_expand, nm_violation
from rarefy.weights.prune_lm import (
    PrunedLayer,
    PrunedModel,
    output_error,
    output_errors,
    prune_lm,
)
from rarefy.weights.random_masks import random_mask, random_masks
from rarefy.weights.readers import from_ao, from_torch_prune
from rarefy.weights.scores import (
    Movement,
    fisher,
    grasp,
    magnitude,
    random,
    snip,
    synflow,
    synflow_masks,
    wanda,
)
from rarefy.weights.select import block_weights, input_axes, input_axis, select
from rarefy.weights.sparsegpt import SparseGPTResult, obs_factor, sparsegpt, sparsegpt_score
from rarefy.weights.widen import widened

__all__ = [
    "Ablation",
    "Attachment",
    "Backward",
    "ChangePoint",
    "Claimed",
    "Comparison",
    "Compressed",
    "DSnoTResult",
    "Diagnosis",
    "DynamicMasks",
    "FeatureNorm",
    "Finding",
    "GradualMagnitude",
    "IsoFlop",
    "Knee",
    "LESSONS",
    "LayerDensity",
    "LayerHealth",
    "LayerMacs",
    "LayerStats",
    "LayerTimes",
    "Lesson",
    "MASKED",
    "MaskedWeight",
    "Masks",
    "Method",
    "Movement",
    "Point",
    "PrunedLayer",
    "PrunedModel",
    "RigL",
    "Rule",
    "RunCard",
    "SET",
    "STRAIGHT_THROUGH",
    "Similarity",
    "SparseDoped",
    "SparseFactorized",
    "SparseGPTResult",
    "SparseParallel",
    "SparsificationMonitor",
    "SparsityCurve",
    "SparsityTrace",
    "Static",
    "Taxonomy",
    "Update",
    "attach",
    "audit",
    "block_weights",
    "change_point",
    "comparable",
    "compare",
    "count_macs",
    "dead_units",
    "diagnose",
    "diagnose_tensors",
    "drop_and_grow",
    "dsnot",
    "dynamic_callback",
    "effective_masks",
    "finetune",
    "fisher",
    "from_ao",
    "from_torch_prune",
    "global_magnitude_mask",
    "granularity",
    "grasp",
    "input_axes",
    "input_axis",
    "is_nm",
    "iso_flop",
    "iterative_magnitude",
    "layer_times",
    "load_sparse",
    "load_sparse_masks",
    "magnitude",
    "mask_ablation",
    "mask_from_scores",
    "mask_similarity",
    "mask_variant",
    "masked_call",
    "masked_weight",
    "matched_width",
    "nm_compress",
    "nm_expand",
    "nm_violation",
    "obs_factor",
    "output_error",
    "output_errors",
    "prune_lm",
    "random",
    "random_mask",
    "random_masks",
    "random_swaps",
    "save_dense",
    "save_pruned",
    "save_sparse",
    "select",
    "snip",
    "sparsegpt",
    "sparsegpt_score",
    "sparsity_curve",
    "sparsity_metadata",
    "speedup",
    "sr_ste",
    "strip_state_dict",
    "synflow",
    "synflow_masks",
    "trainer_callback",
    "walk_blocks",
    "wanda",
    "widened",
]
