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
from rarefy.weights.dsnot import DSnoTResult, dsnot, random_swaps
from rarefy.weights.from_scores import mask_from_scores
from rarefy.weights.masks import LayerDensity, Masks, Similarity, mask_similarity
from rarefy.weights.prune_lm import PrunedLayer, PrunedModel, output_errors, prune_lm
from rarefy.weights.random_masks import random_mask, random_masks
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

__all__ = [
    "LayerStats",
    "walk_blocks",
    "DSnoTResult",
    "dsnot",
    "random_swaps",
    "PrunedLayer",
    "PrunedModel",
    "output_errors",
    "prune_lm",
    "SparseGPTResult",
    "obs_factor",
    "sparsegpt",
    "sparsegpt_score",
    "MASKED",
    "STRAIGHT_THROUGH",
    "Attachment",
    "Backward",
    "LayerDensity",
    "MaskedWeight",
    "Masks",
    "Movement",
    "Similarity",
    "attach",
    "block_weights",
    "fisher",
    "grasp",
    "input_axes",
    "input_axis",
    "magnitude",
    "mask_from_scores",
    "mask_similarity",
    "masked_call",
    "masked_weight",
    "random",
    "random_mask",
    "random_masks",
    "select",
    "snip",
    "sr_ste",
    "strip_state_dict",
    "synflow",
    "synflow_masks",
    "wanda",
]
