"""What survives: penalties with their proximal maps, projections onto sparse supports, pursuits.

The first two kinds are plain immutable objects that take torch tensors and NumPy arrays of any
float type and give back the same kind, dtype and device. ``rarefy.operators._scalar`` holds
the penalties' compiled scalar twins for inner loops (importing it imports Numba).
"""

from rarefy.operators.norm_matched import NormMatched
from rarefy.operators.penalties import (
    CEL0,
    L0,
    L1,
    MCP,
    SCAD,
    CappedL1,
    ElasticNet,
    LogSum,
    Lq,
    Penalty,
)
from rarefy.operators.projections import (
    NM,
    BatchTopK,
    Blocks,
    FeatureTopK,
    MutualTopK,
    Projection,
    Threshold,
    TopK,
)
from rarefy.operators.pursuit import Pursuit, matching_pursuit, orthogonal_matching_pursuit

__all__ = [
    "CEL0",
    "L0",
    "L1",
    "MCP",
    "NM",
    "SCAD",
    "BatchTopK",
    "Blocks",
    "CappedL1",
    "ElasticNet",
    "FeatureTopK",
    "LogSum",
    "Lq",
    "MutualTopK",
    "NormMatched",
    "Penalty",
    "Projection",
    "Pursuit",
    "Threshold",
    "TopK",
    "matching_pursuit",
    "orthogonal_matching_pursuit",
]
