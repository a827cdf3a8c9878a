"""Pruning and sparse training of a model's weights.

What to prune       ``select``         :func:`select`, :func:`block_weights`
Which weights stay  ``scores``         magnitude, SNIP, GraSP, SynFlow, Fisher, movement, Wanda
                    ``from_scores``    :func:`mask_from_scores`
                    ``random_masks``   :func:`random_masks`
                    ``random_pruning`` :func:`score_ratios`: how many by a score, which by chance
                    ``blocks``         :func:`block_mask`: neighbouring channels together
Masks               ``masks``          :class:`Masks`, :func:`mask_similarity`
                    ``attach``         :func:`attach`: parametrized or projected
After training      ``calibrate``      :class:`LayerStats`, :func:`walk_blocks`
                    ``sparsegpt``      :func:`sparsegpt`
                    ``dsnot``          :func:`dsnot`
                    ``prune_lm``       :func:`prune_lm`: the three above, and Wanda, on a model
                    ``gram_swaps``     :func:`gram_swaps`: DSnoT's yardstick, slower
In training         ``finetune``       :func:`finetune` with masks held
                    ``low_rank``       :func:`low_rank`: LoRA, within the mask
                    ``imp``            :func:`iterative_magnitude`: lottery tickets
                    ``sparse_mlp``     ``SparseMLPClassifier``, for scikit-learn; import it there
                    ``dynamic``        :class:`DynamicMasks`: SET, RigL, gradual magnitude
                    ``dynamic_callback``  :func:`dynamic_callback`, :func:`static_callback`
                    ``dense_gradients``  :class:`Gather`: which gradients a rule grows by
                    ``dsl``            :class:`DSL`: embedding tables, the budget kept
                    ``nm_training``    :class:`NMTraining`: N:M from scratch
                    ``nm_rules``       :class:`MdGf`, :class:`SdGf`: masks that harden
                    ``gradient_flow``  :class:`GradientFlow`: how noisy gradients are
                    ``learned_masks``  :class:`LearnedMasks`, :func:`prune_by_scores`
                    ``pep``            :class:`LearnedThresholds`: soft thresholds that are learned
                    ``iso_flop``       :func:`iso_flop`: larger, sparse, at the same cost
                    ``iso_layers``     :class:`SparseParallel`, factorized, doped, folded decay
Searching           ``search``         :class:`RandomSearch`: the neutral baseline, its protocol
                    ``search_space``   :class:`NodeSpace`, :class:`WeightSpace`
                    ``search_masks``   :func:`channel_space`, :func:`allocation_space`
                    ``search_proxies``  :func:`synflow_proxy`, :func:`snip_proxy`: no loss, no data
                    ``subnetwork``     :func:`subnetwork`: hidden units left out by slicing
                    ``stacked``        :class:`StackedPerceptrons`: many networks in one batch
                    ``cells``          :class:`CellSpace`: what a search for cells chooses from
                    ``genotype``       :class:`Genotype`: a cell, written down
                    ``cell_network``   :func:`build`: the network of a genotype
                    ``dass``           :func:`dass`: cells that stay accurate when pruned
Which, and how far  ``compare``        :func:`compare`: methods, sparsities, and what they cost
                    ``curve``          :func:`sparsity_curve`: the essential range and its knee
                    ``monitor``        :class:`SparsificationMonitor`: when it emerges
What it all means   ``diagnosis``      :func:`diagnose`: what the doctor says, and its parts
                    ``spectral``       :func:`ramanujan_gap`, :func:`weighted_gap` of a mask
Running it          ``convnet``        :func:`sparsify_for_inference`: fast on a CPU
                    ``sparse_embedding``    :class:`SparseEmbedding`: stored and scored sparse
                    ``sparse_recommender``  :class:`SparseRecommender`: fit, recommend, evaluate
Keeping it          ``export``         dense folders, packed files
                    ``nm``             N:M checks and storage
                    ``readers``        masks of other tools
                    ``macs``           :func:`count_macs`
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
from rarefy.weights.blocks import block_mask
from rarefy.weights.calibrate import LayerStats, walk_blocks
from rarefy.weights.cell_network import CellNetwork, build
from rarefy.weights.cells import CellSpace
from rarefy.weights.compare import Method, compare
from rarefy.weights.comparison import Comparison, Point
from rarefy.weights.conv_plan import LayerChoice
from rarefy.weights.convnet import SparseConv1x1, SparseConvNet, sparsify_for_inference
from rarefy.weights.curve import Knee, SparsityCurve, sparsity_curve
from rarefy.weights.dass import CellSearch, Epoch, dass
from rarefy.weights.dense_gradients import Gather
from rarefy.weights.diagnosis import (
    LESSONS,
    Ablation,
    Amount,
    Claimed,
    Diagnosis,
    Finding,
    LayerHealth,
    LayerTimes,
    Lesson,
    RunCard,
    SparsityTrace,
    Stored,
    Taxonomy,
    TrainingMemory,
    audit,
    calibration_error,
    comparable,
    convert,
    dead_units,
    diagnose,
    diagnose_run,
    diagnose_tensors,
    effective_masks,
    evaluate_suite,
    fast_gradient_sign,
    granularity,
    layer_mean_density,
    layer_times,
    mask_ablation,
    mask_variant,
    matched_width,
    read_runs,
    speedup,
    storage,
    trace_findings,
    training_memory,
)
from rarefy.weights.dsl import DSL
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
)
from rarefy.weights.dynamic_callback import dynamic_callback, static_callback
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
from rarefy.weights.genotype import DARTS_OPS, Genotype, Term
from rarefy.weights.gradient_flow import GradientFlow, GradientRecord
from rarefy.weights.gram_swaps import gram_swaps
from rarefy.weights.imp import iterative_magnitude
from rarefy.weights.iso_flop import IsoFlop, iso_flop
from rarefy.weights.iso_layers import (
    FeatureNorm,
    SparseDoped,
    SparseFactorized,
    SparseParallel,
    folded_decay,
    folded_parameters,
)
from rarefy.weights.learned_masks import LearnedMask, LearnedMasks, prune_by_scores
from rarefy.weights.low_rank import Adapters, LowRank, low_rank
from rarefy.weights.macs import LayerMacs, count_macs
from rarefy.weights.masks import LayerDensity, Masks, Similarity, mask_similarity
from rarefy.weights.monitor import ChangePoint, SparsificationMonitor, change_point
from rarefy.weights.nm import Compressed, is_nm, nm_compress, nm_expand, nm_violation
from rarefy.weights.nm_rules import Flow, FlowRule, MdGf, SdGf
from rarefy.weights.nm_training import NMTraining, nm_callback
from rarefy.weights.pep import LearnedThresholds, SoftThreshold
from rarefy.weights.prune_lm import (
    PrunedLayer,
    PrunedModel,
    output_error,
    output_errors,
    prune_lm,
)
from rarefy.weights.random_masks import random_mask, random_masks
from rarefy.weights.random_pruning import gradient_norm, scale_init_, score_ratios
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
from rarefy.weights.search import (
    BaselineComparison,
    RandomSearch,
    compare_to_random_search,
    mean_cross_entropy,
)
from rarefy.weights.search_masks import allocation_space, channel_space
from rarefy.weights.search_proxies import (
    Proxy,
    gradient_norm_proxy,
    mean_error,
    snip_proxy,
    synflow_proxy,
    trained_proxy,
)
from rarefy.weights.search_space import NodeSpace, SearchSpace, WeightSpace
from rarefy.weights.select import block_weights, input_axes, input_axis, select
from rarefy.weights.sparse_embedding import SparseEmbedding
from rarefy.weights.sparse_recommender import SparseRecommender
from rarefy.weights.sparsegpt import SparseGPTResult, obs_factor, sparsegpt, sparsegpt_score
from rarefy.weights.spectral import mean_subgraph_gap, ramanujan_gap, weighted_gap
from rarefy.weights.stacked import StackedPerceptrons
from rarefy.weights.subnetwork import Units, embed, perceptron, subnetwork, unit_masks
from rarefy.weights.widen import widened

__all__ = [
    "Ablation",
    "Adapters",
    "Amount",
    "Attachment",
    "Backward",
    "BaselineComparison",
    "CellNetwork",
    "CellSearch",
    "CellSpace",
    "ChangePoint",
    "Claimed",
    "Comparison",
    "Compressed",
    "DARTS_OPS",
    "DSL",
    "DSnoTResult",
    "Diagnosis",
    "DynamicMasks",
    "Epoch",
    "FeatureNorm",
    "Finding",
    "Flow",
    "FlowRule",
    "Gather",
    "Genotype",
    "GradientFlow",
    "GradientRecord",
    "GradualMagnitude",
    "IsoFlop",
    "Knee",
    "LESSONS",
    "LayerChoice",
    "LayerDensity",
    "LayerHealth",
    "LayerMacs",
    "LayerStats",
    "LayerTimes",
    "LearnedMask",
    "LearnedMasks",
    "LearnedThresholds",
    "Lesson",
    "LowRank",
    "MASKED",
    "MaskedWeight",
    "Masks",
    "MdGf",
    "Method",
    "Movement",
    "NMTraining",
    "NodeSpace",
    "Point",
    "Proxy",
    "PrunedLayer",
    "PrunedModel",
    "RandomSearch",
    "RigL",
    "Rule",
    "RunCard",
    "SET",
    "STRAIGHT_THROUGH",
    "SdGf",
    "SearchSpace",
    "Similarity",
    "SoftThreshold",
    "SparseConv1x1",
    "SparseConvNet",
    "SparseDoped",
    "SparseEmbedding",
    "SparseFactorized",
    "SparseGPTResult",
    "SparseParallel",
    "SparseRecommender",
    "SparsificationMonitor",
    "SparsityCurve",
    "SparsityTrace",
    "StackedPerceptrons",
    "Static",
    "Stored",
    "Taxonomy",
    "Term",
    "TrainingMemory",
    "Units",
    "Update",
    "WeightSpace",
    "allocation_space",
    "attach",
    "audit",
    "block_mask",
    "block_weights",
    "build",
    "calibration_error",
    "change_point",
    "channel_space",
    "comparable",
    "compare",
    "compare_to_random_search",
    "convert",
    "count_macs",
    "dass",
    "dead_units",
    "diagnose",
    "diagnose_run",
    "diagnose_tensors",
    "drop_and_grow",
    "dsnot",
    "dynamic_callback",
    "effective_masks",
    "embed",
    "evaluate_suite",
    "fast_gradient_sign",
    "finetune",
    "fisher",
    "folded_decay",
    "folded_parameters",
    "from_ao",
    "from_torch_prune",
    "global_magnitude_mask",
    "gradient_norm",
    "gradient_norm_proxy",
    "gram_swaps",
    "granularity",
    "grasp",
    "input_axes",
    "input_axis",
    "is_nm",
    "iso_flop",
    "iterative_magnitude",
    "layer_mean_density",
    "layer_times",
    "load_sparse",
    "load_sparse_masks",
    "low_rank",
    "magnitude",
    "mask_ablation",
    "mask_from_scores",
    "mask_similarity",
    "mask_variant",
    "masked_call",
    "masked_weight",
    "matched_width",
    "mean_cross_entropy",
    "mean_error",
    "mean_subgraph_gap",
    "nm_callback",
    "nm_compress",
    "nm_expand",
    "nm_violation",
    "obs_factor",
    "output_error",
    "output_errors",
    "perceptron",
    "prune_by_scores",
    "prune_lm",
    "ramanujan_gap",
    "random",
    "random_mask",
    "random_masks",
    "random_swaps",
    "read_runs",
    "save_dense",
    "save_pruned",
    "save_sparse",
    "scale_init_",
    "score_ratios",
    "select",
    "snip",
    "snip_proxy",
    "sparsegpt",
    "sparsegpt_score",
    "sparsify_for_inference",
    "sparsity_curve",
    "sparsity_metadata",
    "speedup",
    "sr_ste",
    "static_callback",
    "storage",
    "strip_state_dict",
    "subnetwork",
    "synflow",
    "synflow_masks",
    "synflow_proxy",
    "trace_findings",
    "trained_proxy",
    "trainer_callback",
    "training_memory",
    "unit_masks",
    "walk_blocks",
    "wanda",
    "weighted_gap",
    "widened",
]
