"""How many survive, where and when: allocation rules and density schedules.

A rule is called with groups and a density and answers with a count for each group; a schedule is
called with the progress of training and answers with a density. All are plain frozen objects.
"""

from rarefy.budget.rules import (
    ErdosRenyi,
    ErdosRenyiKernel,
    ErdosRenyiKernelPlus,
    Fixed,
    ShapeRule,
    Uniform,
    UniformPlus,
)
from rarefy.budget.schedules import (
    Cosine,
    Cubic,
    Exponential,
    Linear,
    MaskDecay,
    OneShot,
    Step,
)
from rarefy.budget.scores import GlobalBudget, PerHead, ScoreRatios, TopP, lamp_scores

__all__ = [
    "Cosine",
    "Cubic",
    "ErdosRenyi",
    "ErdosRenyiKernel",
    "ErdosRenyiKernelPlus",
    "Exponential",
    "Fixed",
    "GlobalBudget",
    "Linear",
    "MaskDecay",
    "OneShot",
    "PerHead",
    "ScoreRatios",
    "ShapeRule",
    "Step",
    "TopP",
    "Uniform",
    "UniformPlus",
    "lamp_scores",
]
