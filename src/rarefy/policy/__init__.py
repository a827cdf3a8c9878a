"""Token policies that learn from rewards which are almost always zero.

Functions of tensors, to be lifted into any trainer
    ``advantages``   rewards to advantages: :func:`group_norm`, :func:`rloo`, :func:`batch_norm`,
                     :func:`batch_whiten`, :func:`gae`;
    ``losses``       :func:`clipped_surrogate`, :func:`cispo`, and how tokens are added up;
    ``kl``           :func:`kl_estimate`: k1, k2, k3;
    ``metrics``      pass@k, groups without a signal, clipped tokens, lengths.
Sampling
    ``rollout``      :func:`generate`, and :func:`score` with a gradient;
    ``sampling``     :class:`DynamicSampler`: draw until enough groups pass a filter;
    ``curricula``    :class:`Uniform`, :class:`Staged`, :class:`SuccessBand`.
Training
    ``batches``      :class:`TaskProblems`, :class:`RowProblems`, and the :class:`Batch` of a step;
    ``trainer``      :class:`PolicyTrainer`: the loop, with an objective and a sampler;
    ``evaluation``   :func:`evaluate`: success and pass@k by level.
Objectives
    ``grpo``         :class:`GRPO`, :class:`RLOO`.
Tasks and policies
    ``tasks/``       problems at five levels with verifiers, partial credit and expert traces;
    ``diffusion``    masked diffusion over a canvas: the loss, and the sampler that fills it;
    ``train_policy``, ``train_diffusion_policy``
                     how character-level policies are warmed up.
"""

from rarefy.policy.advantages import (
    TokenAdvantages,
    batch_norm,
    batch_whiten,
    gae,
    group_norm,
    grouped,
    reward_tensor,
    rloo,
)
from rarefy.policy.batches import Batch, Problems, RowProblems, TaskProblems, join, read_jsonl
from rarefy.policy.curricula import Curriculum, Staged, SuccessBand, Uniform
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.grpo import GRPO, RLOO
from rarefy.policy.kl import kl_estimate
from rarefy.policy.losses import (
    cispo,
    clipped_surrogate,
    constant_mean,
    importance_ratio,
    reinforce,
    sequence_mean,
    sequence_sum,
    token_mean,
    value_loss,
)
from rarefy.policy.metrics import (
    ClipStats,
    CompletionStats,
    GroupOutcomes,
    PassAtK,
    clip_stats,
    completion_stats,
    group_outcomes,
    mean_pass_at_k,
    pass_at_k,
)
from rarefy.policy.rollout import Rollout, Scores, concatenate, generate, left_pad, score
from rarefy.policy.sampling import (
    Draw,
    DynamicSampler,
    Filled,
    GroupFilter,
    MeanBetween,
    NotEnoughGroups,
    has_variance,
)
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain

__all__ = [
    "GRPO",
    "RLOO",
    "Batch",
    "ClipStats",
    "CompletionStats",
    "Curriculum",
    "Draw",
    "DynamicSampler",
    "Evaluation",
    "Filled",
    "GroupFilter",
    "GroupOutcomes",
    "MeanBetween",
    "NotEnoughGroups",
    "Objective",
    "PassAtK",
    "PolicyTrainer",
    "Problems",
    "Rollout",
    "RowProblems",
    "Sampler",
    "Scores",
    "Staged",
    "SuccessBand",
    "TaskProblems",
    "TokenAdvantages",
    "Uniform",
    "batch_norm",
    "batch_whiten",
    "cispo",
    "clip_stats",
    "clipped_surrogate",
    "completion_stats",
    "concatenate",
    "constant_mean",
    "evaluate",
    "gae",
    "generate",
    "group_norm",
    "group_outcomes",
    "grouped",
    "has_variance",
    "importance_ratio",
    "join",
    "kl_estimate",
    "left_pad",
    "mean_pass_at_k",
    "pass_at_k",
    "plain",
    "read_jsonl",
    "reinforce",
    "reward_tensor",
    "rloo",
    "score",
    "sequence_mean",
    "sequence_sum",
    "token_mean",
    "value_loss",
]
