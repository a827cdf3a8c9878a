"""The methods by name: each is an objective, a sampler, and what TRL is to be told."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rarefy.policy.ahpo import AHPO
from rarefy.policy.dler import DLER
from rarefy.policy.drm import DRM, WithReasoning
from rarefy.policy.dynamic import Dynamic
from rarefy.policy.grpo import GRPO
from rarefy.policy.hints import HintPolicy, told
from rarefy.policy.pacs import PACS
from rarefy.policy.trainer import Objective, Sampler
from rarefy.policy.trl.trainer import ObjectiveTrainer
from rarefy.policy.vspo import VSPO, ValueRefill
from rarefy.rewards.dimensions import DimensionReward


class PACSTrainer(ObjectiveTrainer):
    """PACS: the policy predicts its own rewards, which are to lie in [0, 1].

    ``PACS()`` unless an objective is given; its ``reference="fixed"`` needs a ``beta`` other than
    0. Take ``steps_per_generation`` above ``gradient_accumulation_steps``, so that a batch is
    several optimizer steps: in the first of them PACS is RLOO with weights.
    """

    def default_objective(self) -> Objective:
        """The released code's: the reference is the policy that sampled."""
        return PACS()


class DLERTrainer(ObjectiveTrainer):
    """DLER: what does not end by itself within ``max_completion_length`` earns nothing.

    Every reward of a completion that was cut off becomes 0; groups without variance are drawn
    again, from the whole data set. Give ``sampler=Dynamic(...)`` for other filters or rounds.
    """

    def default_objective(self) -> Objective:
        """With ``beta`` as the weight of the divergence from the reference; the paper's is 5e-4."""
        return DLER(kl_coef=self.beta)

    def default_sampler(self) -> Sampler:
        """Up to eight rounds, then what there is."""
        return Dynamic()

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        for row, ids in enumerate(completion_ids_list):
            if not len(ids) or ids[-1] not in self.eos_token_ids:
                found[row] *= 0.0
        return found


class AHPOTrainer(ObjectiveTrainer):
    """AHPO: imitate an expert where the policy's own completions seldom succeed.

    The expert's completion is the data set's column ``completion`` where there is one, else
    ``trace``; rows with an empty trace are learnt from as in GRPO. Prompts are to be plain texts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        first = next(iter(self.train_dataset))
        if "trace" not in first:
            raise ValueError(
                f"train_dataset has the columns {', '.join(first)}; AHPO imitates the column "
                "'trace'"
            )
        if not isinstance(first["prompt"], str):
            raise ValueError(
                "train_dataset's prompts are conversations; AHPO wants plain texts: apply the "
                "tokenizer's chat template to them"
            )

    def default_objective(self) -> Objective:
        """The paper's gate: fewer than two right completions."""
        return AHPO()


class VSPOTrainer(ObjectiveTrainer):
    """VSPO: slots of prompts that teach nothing go to copies of the most valuable ones.

    Give ``sampler=ValueRefill(r_max=...)`` where rewards are not 0 to 1.
    """

    def default_objective(self) -> Objective:
        """With ``beta`` as the weight of the divergence from the reference."""
        return VSPO(kl_coef=self.beta)

    def default_sampler(self) -> Sampler:
        """Copies of completions that are there, at no rollout."""
        return ValueRefill()


class GHPOTrainer(ObjectiveTrainer):
    """GHPO: prompts that always fail are asked again with the first part of a known solution.

    The data set's column ``trace`` holds the solutions; rewards are handed the prompts without a
    hint. Give ``sampler=HintPolicy(...)`` for other ratios, another sentence around the hint, or
    another number of first steps without hints than 20.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.sampler, "score_prompt", "hinted") == "plain" and self.beta:
            raise ValueError(
                f"beta is {self.beta}, but the reference's log-probabilities are those under the "
                'hinted prompt; with score_prompt="plain" a beta of 0 is wanted'
            )

    def default_objective(self) -> Objective:
        """GRPO, with ``beta`` as the weight of the divergence from the reference."""
        return GRPO(kl_coef=self.beta)

    def default_sampler(self) -> Sampler:
        """The paper's ratios, and a sentence that says what the hint is."""
        return HintPolicy(template=told)


class DRMGRPOTrainer(ObjectiveTrainer):
    """DRM: an advantage for the reasoning is added to the one for the answer.

    Parameters
    ----------
    *args, **kwargs
        ``GRPOTrainer``'s and :class:`ObjectiveTrainer`'s; the reward functions judge the answer.
    reasoning : DimensionReward
        Scores the reasoning. It is handed the log-probabilities of the sampled tokens, and the
        column ``documents`` where the data set has it.
    """

    scores_when_sampling = True

    def __init__(self, *args: Any, reasoning: DimensionReward, **kwargs: Any) -> None:
        self._reasoning = reasoning
        super().__init__(*args, **kwargs)

    def default_objective(self) -> Objective:
        """Both advantages, with equal weight."""
        return DRM(kl_coef=self.beta)

    def default_sampler(self) -> Sampler:
        """Plain groups, with the scores of their reasoning."""
        return WithReasoning(self._reasoning)
