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
    ``problems``     :class:`TaskProblems`, :class:`RowProblems`, :class:`StagedProblems`;
    ``batches``      the :class:`Batch` of a step;
    ``trainer``      :class:`PolicyTrainer`: the loop, with an objective and a sampler;
    ``evaluation``   :func:`evaluate`: success and pass@k by level.
    ``frontier``     accuracy against length, and what more attempts are worth;
    ``trl/``         the methods as subclasses of TRL's ``GRPOTrainer``, imported on their own.
Methods: objectives, and samplers that mend batches
    ``grpo``, ``ppo``  :class:`GRPO`, :class:`RLOO`, :class:`PPO`;
    ``pacs``         :class:`PACS`: predict the reward, with the policy as its own critic;
    ``dler``, ``dynamic``  :class:`DLER` and :class:`Dynamic`: shorter without the usual damage;
    ``hints``        :class:`HintPolicy`: GHPO's part of a known solution where all is wrong;
    ``ahpo``, ``imitation``  :class:`AHPO`, :class:`LUFFY`, :class:`SFT`: experts where needed;
    ``vspo``, ``values``  :class:`VSPO`, :class:`ValueRefill`: slots go to tasks worth them;
    ``drm``, ``preference``  :class:`DRM`: the reasoning's own reward, on-policy and in pairs;
    ``tools``        :class:`ToolTrainer`: rollouts in which tools answer.
Masked diffusion
    ``canvas``, ``mean_field``, ``inpainting``  completions on a canvas, scored, and pieces of it;
    ``diffusion_trainer``, ``igpo``, ``diffusion_sft``  :class:`DiffusionTrainer`, :class:`IGPO`.
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
from rarefy.policy.ahpo import AHPO, LUFFY, ahpo_loss, luffy_loss
from rarefy.policy.batches import Batch, join
from rarefy.policy.canvas import Canvas, evaluate_canvas
from rarefy.policy.curricula import Curriculum, Staged, SuccessBand, Uniform
from rarefy.policy.diffusion_sft import fine_tune
from rarefy.policy.diffusion_trainer import DiffusionTrainer
from rarefy.policy.dler import DLER, dler_advantages, dler_loss
from rarefy.policy.drm import DRM, WithReasoning, combine
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.evaluation import Evaluation, evaluate
from rarefy.policy.frontier import ParallelCurve, accuracy_at_budget, parallel_curve, pareto_front
from rarefy.policy.grpo import GRPO, RLOO
from rarefy.policy.hints import FixedHint, HintPolicy, hint_prefix
from rarefy.policy.igpo import IGPO, Inpainting, igpo_loss
from rarefy.policy.imitation import SFT, experts
from rarefy.policy.inpainting import chunk, place
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
from rarefy.policy.mean_field import mean_field_scores
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
from rarefy.policy.pacs import PACS, pacs_loss
from rarefy.policy.ppo import PPO
from rarefy.policy.preference import dpo_loss, pairs_from_scores, train_on_pairs
from rarefy.policy.problems import Problems, RowProblems, StagedProblems, TaskProblems, read_jsonl
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
from rarefy.policy.tools import ToolEnv, ToolTrainer, evaluate_with_tools, generate_with_tools
from rarefy.policy.trainer import Objective, PolicyTrainer, Sampler, plain
from rarefy.policy.values import TaskValueStore
from rarefy.policy.vspo import VSPO, ValueRefill, task_value, vspo_loss

__all__ = [
    "AHPO",
    "DLER",
    "DRM",
    "GRPO",
    "IGPO",
    "LUFFY",
    "PACS",
    "PPO",
    "RLOO",
    "SFT",
    "VSPO",
    "Batch",
    "Canvas",
    "ClipStats",
    "CompletionStats",
    "Curriculum",
    "DiffusionTrainer",
    "Draw",
    "Dynamic",
    "DynamicSampler",
    "Evaluation",
    "Filled",
    "FixedHint",
    "GroupFilter",
    "GroupOutcomes",
    "HintPolicy",
    "Inpainting",
    "MeanBetween",
    "NotEnoughGroups",
    "Objective",
    "ParallelCurve",
    "PassAtK",
    "PolicyTrainer",
    "Problems",
    "Rollout",
    "RowProblems",
    "Sampler",
    "Scores",
    "Staged",
    "StagedProblems",
    "SuccessBand",
    "TaskProblems",
    "TaskValueStore",
    "TokenAdvantages",
    "ToolEnv",
    "ToolTrainer",
    "Uniform",
    "ValueRefill",
    "WithReasoning",
    "accuracy_at_budget",
    "ahpo_loss",
    "batch_norm",
    "batch_whiten",
    "chunk",
    "cispo",
    "clip_stats",
    "clipped_surrogate",
    "combine",
    "completion_stats",
    "concatenate",
    "constant_mean",
    "dler_advantages",
    "dler_loss",
    "dpo_loss",
    "evaluate",
    "evaluate_canvas",
    "evaluate_with_tools",
    "experts",
    "fine_tune",
    "gae",
    "generate",
    "generate_with_tools",
    "group_norm",
    "group_outcomes",
    "grouped",
    "has_variance",
    "hint_prefix",
    "igpo_loss",
    "importance_ratio",
    "join",
    "kl_estimate",
    "left_pad",
    "luffy_loss",
    "mean_field_scores",
    "mean_pass_at_k",
    "pacs_loss",
    "pairs_from_scores",
    "parallel_curve",
    "pareto_front",
    "pass_at_k",
    "place",
    "plain",
    "read_jsonl",
    "reinforce",
    "reward_tensor",
    "rloo",
    "score",
    "sequence_mean",
    "sequence_sum",
    "task_value",
    "token_mean",
    "train_on_pairs",
    "value_loss",
    "vspo_loss",
]
