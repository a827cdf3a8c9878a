r"""Imitation: likelihood of experts' completions, with no rollouts, as a method and as a control.

.. math:: L = -\frac{1}{Z} \sum_x \sum_t \log \pi(y^*_t \mid x, y^*_{<t})

:func:`experts` hands the trainer experts' completions in place of rollouts, so that supervised
fine-tuning, with :class:`SFT` for its objective, is the same loop with the same log. Problems
without a trace are drawn and left out: nothing is known of them that could be imitated.

Source: the SFT baseline of MM-HELIX (arXiv 2510.08540, section 5). Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rarefy.policy.batches import Batch
from rarefy.policy.losses import token_mean
from rarefy.policy.rollout import Rollout, Scores, left_pad
from rarefy.policy.tasks import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from rarefy.policy.trainer import PolicyTrainer


def has_expert(problem: Problem) -> bool:
    """Whether there is a trace to imitate; an answer alone is none."""
    return bool(problem.trace)


def expert_rollout(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: Sequence[Problem]
) -> Rollout:
    """Experts' completions, ended, as if they had been sampled with certainty.

    Parameters
    ----------
    model : transformers model
        Whose device and context count.
    tokenizer : transformers tokenizer
    problems : sequence of Problem
        At least one, all with a trace.

    Returns
    -------
    Rollout
        One row for each problem; log-probabilities and entropies are 0.

    Raises
    ------
    ValueError
        Where there is no problem, a problem has no trace, or a completion does not fit the context.
    """
    if not problems:
        raise ValueError("problems is empty: there is nothing to imitate")
    bare = [row for row, problem in enumerate(problems) if not has_expert(problem)]
    if bare:
        raise ValueError(f"problem {bare[0]} has no trace; leave out those without, by has_expert")
    asked = [tokenizer(problem.prompt)["input_ids"] for problem in problems]
    told = [
        [
            *tokenizer(problem.completion, add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        for problem in problems
    ]
    context = getattr(model.config, "max_position_embeddings", None)
    longest = max(len(a) + len(b) for a, b in zip(asked, told, strict=True))
    if context is not None and longest > context:
        raise ValueError(
            f"an expert's completion has {longest} tokens with its prompt, which does not fit the "
            f"model's context of {context}; leave out problems with traces that long"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    prompt_ids, prompt_mask = left_pad(asked, pad_token_id=pad, device=model.device)
    width = max(map(len, told))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in told], device=model.device)
    lengths = torch.tensor([len(row) for row in told], device=model.device)
    mask = torch.arange(width, device=model.device) < lengths[:, None]
    zeros = torch.zeros(ids.shape, device=model.device)
    ended = torch.ones(len(told), dtype=torch.bool, device=model.device)
    return Rollout(prompt_ids, prompt_mask, ids, mask, zeros, zeros.clone(), ended)


def experts(trainer: PolicyTrainer, n_prompts: int) -> Batch:
    """The next problems that have a trace, each with its expert's completion: a sampler.

    Of ``n_prompts`` problems drawn those without a trace are left out, so that methods with and
    without experts see the same problems step by step. Nothing is generated.
    """
    problems = [p for p in trainer.problems.draw(n_prompts) if has_expert(p)]
    trainer.notes["expert_prompts"] = float(len(problems))
    if not problems:
        nobody = torch.zeros((0, 1), device=trainer.model.device)
        none = nobody.bool()
        empty = Rollout(nobody.long(), none, nobody.long(), none, nobody, nobody, none[:, 0])
        return Batch([], [], empty, nobody[:, 0], none[:, 0], 1)
    rollout = expert_rollout(trainer.model, trainer.tokenizer, problems)
    right = torch.ones(len(problems), device=trainer.model.device)
    return Batch(problems, [p.prompt for p in problems], rollout, right, right.bool(), 1)


@dataclass(frozen=True)
class SFT:
    """Supervised fine-tuning on whatever the sampler hands over, such as :func:`experts`.

    Parameters
    ----------
    reduce : callable, default :func:`rarefy.policy.token_mean`
        Of a loss of tokens and their mask.
    """

    reduce: Callable[[Tensor, Tensor], Tensor] = token_mean

    def advantages(self, batch: Batch) -> Tensor:
        """One for each completion, (B,): all are to become likelier."""
        return torch.ones_like(batch.rewards)

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:  # noqa: ARG002
        """Negative log-likelihood."""
        return self.reduce(-scores.logps, batch.rollout.completion_mask)
