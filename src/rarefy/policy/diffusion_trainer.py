"""Reinforcement learning of a masked-diffusion policy: the loop of ``trainer``, on canvases.

    for each step:
        batch = sampler(trainer, n_prompts)                 # canvases, verified and mended
        A = objective.advantages(batch)
        for each of the inner updates:                      # the same canvases again
            loss = objective.loss(log f(canvas | prompt, what is shown), batch)

What differs from autoregressive policies: completions are canvases filled by
:func:`rarefy.policy.canvas.fill`; log-probabilities are mean-field estimates of hidden tokens; and
a sampler may say, with ``keep`` in a batch's ``extra``, which tokens learn.

Sources: DiffuGRPO (d1, arXiv 2504.12216, algorithm 1), IGPO (arXiv 2509.10396, section 3).
Departures: none but what the parts name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rarefy.policy.batches import Batch
from rarefy.policy.canvas import Canvas, fill
from rarefy.policy.mean_field import Estimator, hidden_places, mask_shares, mean_field_scores
from rarefy.policy.problems import Problems
from rarefy.policy.rollout import Rollout, Scores
from rarefy.policy.tasks import Problem
from rarefy.policy.trainer import PolicyTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class DiffusionTrainer(PolicyTrainer):
    """Train a masked-diffusion policy on problems with a reward.

    Parameters
    ----------
    model, tokenizer, problems
        As for :class:`PolicyTrainer`; the tokenizer needs a mask token.
    canvas : Canvas
    inner : int, default 2
        Updates on the same completions; 4 in the paper.
    estimator : {"all_mask", "random"}, default "all_mask"
        What is hidden when log-probabilities are taken: all of the canvas, or another random part
        of it in each inner update (see :func:`rarefy.policy.mean_field.mask_shares`).
    prompt_share : float, default 0
        Chance of each token of the prompt to be hidden too; 0.15 in d1.
    behind_end : bool, default True
        Whether what stands behind a completion's end learns, as in the paper.
    sync_every : int, optional
        The reference becomes the policy of the day after so many steps; the paper's is 64. It
        stays as it is by default.
    **loop
        All that :class:`PolicyTrainer` takes, but ``max_new_tokens``.

    Raises
    ------
    ValueError
        If ``inner``, ``sync_every`` or the estimator are none of those.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        problems: Problems,
        *,
        canvas: Canvas,
        inner: int = 2,
        estimator: Estimator = "all_mask",
        prompt_share: float = 0.0,
        behind_end: bool = True,
        sync_every: int | None = None,
        **loop: Any,
    ) -> None:
        super().__init__(model, tokenizer, problems, max_new_tokens=canvas.length, **loop)
        if inner < 1 or (sync_every is not None and sync_every < 1):
            raise ValueError(
                f"inner is {inner} and sync_every {sync_every}; numbers of at least 1 are wanted"
            )
        if estimator not in ("all_mask", "random"):
            raise ValueError(f'estimator is {estimator!r}; "all_mask" or "random" is wanted')
        self.canvas = canvas
        self.inner = inner
        self.estimator: Estimator = estimator
        self.prompt_share = prompt_share
        self.behind_end = behind_end
        self.sync_every = sync_every
        self._hidden: Tensor | None = None

    def complete(
        self,
        problems: list[Problem],
        prompts: list[str] | None = None,
        *,
        fixed: Tensor | None = None,
    ) -> Batch:
        """Fill a group of canvases for each problem and score them.

        Parameters
        ----------
        problems : list of Problem
        prompts : list of str, optional
            What is asked instead of the problems' own prompts.
        fixed : Tensor of int64, shape (B, length), optional
            Tokens that are given, the mask token where none is.
        """
        asked = [problem.prompt for problem in problems] if prompts is None else prompts
        self._rounds += 1
        rollout = fill(
            self.model,
            self.tokenizer,
            asked,
            self.canvas,
            n_completions=self.group_size,
            temperature=self.temperature,
            generator=self.cpu_generator(f"rollout {self._rounds}"),
            fixed=fixed,
        )
        self.n_rollouts += len(rollout)
        self.n_tokens += int(rollout.lengths.sum())
        return self.judge(problems, asked, rollout)

    def cpu_generator(self, purpose: str) -> torch.Generator:
        """Return :meth:`generator`'s stream on the CPU, where canvases are drawn."""
        return torch.Generator().manual_seed(self.generator(purpose).initial_seed())

    def score(self, rollout: Rollout) -> Scores:
        """Mean-field log-probabilities and entropies under the policy now, with a gradient."""
        return self._scores(self.model, rollout, self._hidden)

    def _one_step(self) -> dict[str, float]:
        due = self.sync_every and self.step and self.step % self.sync_every == 0
        if due and self.reference is not None:
            self.reference.load_state_dict(self.model.state_dict())
        return super()._one_step()

    @torch.no_grad()
    def _prepared(self, batch: Batch) -> Batch:
        """Advantages, and for each inner update what is hidden and its old log-probabilities."""
        rollout = batch.rollout
        learnt = torch.ones_like(rollout.completion_mask)
        if not self.behind_end:
            learnt = rollout.completion_mask
        extra = {"learnt": learnt & batch.extra.get("keep", learnt)}
        generator = self.cpu_generator("hidden")
        shares = mask_shares(self.inner, estimator=self.estimator, generator=generator)
        for update, share in enumerate(shares if self._redrawn else shares[:1]):
            hidden = hidden_places(
                rollout.prompt_mask,
                self.canvas.length,
                share=share,
                prompt_share=self.prompt_share,
                generator=generator,
            )
            extra[f"hidden {update}"] = hidden
            # With everything hidden the rollout has them already.
            extra[f"old {update}"] = (
                self._scores(self.model, rollout, hidden).logps if self._redrawn else rollout.logps
            )
            if self.reference is not None:
                extra[f"ref {update}"] = self._scores(self.reference, rollout, hidden).logps
        return replace(batch.with_extra(**extra), advantages=self.objective.advantages(batch))

    def _update(self, batch: Batch) -> dict[str, float]:
        """Inner updates on the same canvases; the figures are the last one's."""
        figures: dict[str, float] = {}
        width = batch.rollout.prompt_ids.shape[1]
        for update in range(self.inner):
            pattern = update if self._redrawn else 0
            self._hidden = batch.extra[f"hidden {pattern}"]
            rollout = replace(
                batch.rollout,
                logps=batch.extra[f"old {pattern}"],
                completion_mask=batch.extra["learnt"] & self._hidden[:, width:],
            )
            ref = batch.extra.get(f"ref {pattern}")
            figures = super()._update(replace(batch, rollout=rollout, ref_logps=ref))
        self._hidden = None
        return figures

    @property
    def _redrawn(self) -> bool:
        """Whether each inner update hides something else than the last."""
        return self.estimator == "random" or self.prompt_share > 0

    def _scores(self, model: PreTrainedModel, rollout: Rollout, hidden: Tensor | None) -> Scores:
        return mean_field_scores(
            model,
            rollout.prompt_ids,
            rollout.prompt_mask.long(),
            rollout.completion_ids,
            mask_token_id=self.tokenizer.mask_token_id,
            hidden=hidden,
            temperature=self.temperature,
        )
