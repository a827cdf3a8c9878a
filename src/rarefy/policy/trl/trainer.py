"""TRL's ``GRPOTrainer`` with an objective and a sampler of :mod:`rarefy.policy`.

    batch = sampler(bridge, n_prompts)       # TRL generates and rewards; the sampler mends
    A = objective.advantages(batch)
    for each micro-batch of whole groups:    # TRL's, but not shuffled apart
        loss = objective.loss(scores, batch, bridge) / accumulation steps

Source: TRL 1.16, ``GRPOTrainer``; its flow, hooks and metrics. Departures from TRL: micro-batches
hold whole groups, in the data loader's order, which is random already; where the loss is a mean
over tokens it is that of a micro-batch; evaluation is TRL's own.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from trl import GRPOTrainer

from rarefy.policy.batches import Batch
from rarefy.policy.grpo import GRPO
from rarefy.policy.metrics import clip_stats
from rarefy.policy.rollout import Rollout, Scores
from rarefy.policy.trainer import Objective, Sampler, plain
from rarefy.policy.trl.bridge import Bridge


class ObjectiveTrainer(GRPOTrainer):
    """A ``GRPOTrainer`` that learns by an objective from what a sampler rolled out.

    Parameters
    ----------
    *args, **kwargs
        ``GRPOTrainer``'s. Of its configuration, what concerns advantages and loss is the
        objective's to say: ``loss_type``, ``scale_rewards``, ``epsilon``, ``epsilon_high``,
        ``delta`` and ``importance_sampling_level`` are not looked at. ``beta`` is the weight of the
        divergence from the reference where the objective is not given.
    objective : Objective, optional
        :class:`rarefy.policy.GRPO` by default; in the subclasses, their method's.
    sampler : Sampler, optional
        :func:`rarefy.policy.plain` by default; in the subclasses, their method's. Others than
        ``plain`` run on one process, since they roll out as often as they must.

    Raises
    ------
    ValueError
        If options are set that the objective would pass over, or a micro-batch cannot hold whole
        groups; later, if the reward functions give no number for a completion.

    Warns
    -----
    UserWarning
        TRL's own, of its configuration.
    """

    scores_when_sampling = False
    """Whether the sampler looks at log-probabilities, which TRL leaves out where it can."""

    def __init__(
        self,
        *args: Any,
        objective: Objective | None = None,
        sampler: Sampler | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.objective = self.default_objective() if objective is None else objective
        self.sampler = self.default_sampler() if sampler is None else sampler
        self.bridge = Bridge(self)
        self._refuse()

    def default_objective(self) -> Objective:
        """What is minimised where no objective is given."""
        return GRPO(kl_coef=self.beta)

    def default_sampler(self) -> Sampler:
        """What rolls out where no sampler is given."""
        return plain

    def scores(self, model: nn.Module, rollout: Rollout, attended: Tensor) -> Scores:
        """TRL's log-probabilities and entropies of completions; zero outside their mask."""
        logps, entropies, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([rollout.prompt_ids, rollout.completion_ids], dim=1),
            torch.cat([rollout.prompt_mask, attended], dim=1).long(),
            rollout.completion_ids.shape[1],
            compute_entropy=True,
        )
        outside = ~rollout.completion_mask
        return Scores(logps.masked_fill(outside, 0.0), entropies.masked_fill(outside, 0.0))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self.bridge.sample(generation_batch)
            groups = torch.arange(len(batch)).tensor_split(parts)
            kept: Any = [{"batch": batch.select(some)} for some in groups]
            self._buffered_inputs = kept
            self._log_batch(batch)
        buffered: Any = self._buffered_inputs
        return buffered[self._step % parts]

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        found = super()._tokenize_prompts(prompts)
        self.bridge.check_lengths(found[0])
        return found

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> Tensor:
        prompts = self.bridge.prompts_of_rewards(prompts)
        found = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.bridge.keep_rewards(found)
        return found

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        batch: Batch | None = inputs.get("batch")
        if batch is None:
            return super()._compute_loss(model, inputs)
        if not len(batch):  # nothing was worth learning from
            return 0.0 * next(p for p in model.parameters() if p.requires_grad).sum()
        attended = batch.extra.get("attended", batch.rollout.completion_mask)
        scores = self.scores(model, batch.rollout, attended)
        if self.bridge.on_policy:
            batch = replace(batch, rollout=replace(batch.rollout, logps=scores.logps.detach()))
        loss = self.objective.loss(scores, batch, self.bridge.face)
        self._log_loss(scores, batch)
        return loss / self.current_gradient_accumulation_steps

    def _log_batch(self, batch: Batch) -> None:
        found: dict[str, float] = {"rollouts": self.bridge.n_rollouts, "trained_groups": len(batch)}
        if len(batch):
            found["success"] = float(batch.solved.float().mean())
        for name, value in found.items():
            self._metrics["train"][name].append(float(value))

    @torch.no_grad()
    def _log_loss(self, scores: Scores, batch: Batch) -> None:
        assert batch.advantages is not None
        mask = batch.rollout.completion_mask
        clipped = clip_stats(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            mask,
            eps_low=getattr(self.objective, "eps_low", 0.2),
            eps_high=getattr(self.objective, "eps_high", 0.2),
        )
        metrics = self._metrics["train"]
        metrics["entropy"].append(float(scores.entropies.sum() / mask.sum().clamp(min=1)))
        metrics["clip_ratio/low_mean"].append(clipped.low)
        metrics["clip_ratio/high_mean"].append(clipped.high)
        parts = self.args.steps_per_generation
        if self._step % parts == parts - 1:  # objectives add to their notes up to here
            for name, value in self.bridge.notes.items():
                metrics[name].append(value)
            self.bridge.notes = {}

    def _refuse(self) -> None:
        """Say what would be passed over in silence."""
        args = self.args
        passed_over = {
            "top_entropy_quantile": self.top_entropy_quantile < 1.0,
            "off_policy_mask_threshold": self.off_policy_mask_threshold is not None,
            "entropy_coef": self._entropy_bonus_enabled,
            "router_aux_loss_coef": self.aux_loss_enabled,
            "multi_objective_aggregation": self.multi_objective_aggregation != "sum_then_normalize",
            "use_liger_kernel": bool(getattr(args, "use_liger_kernel", False)),
        }
        for name, is_set in passed_over.items():
            if is_set:
                raise ValueError(
                    f"{name} is {getattr(args, name, True)!r}, which {type(self).__name__} would "
                    "pass over; leave it at its default"
                )
        rows, size = args.per_device_train_batch_size, self.num_generations
        if rows % size:
            raise ValueError(
                f"per_device_train_batch_size is {rows}, but completions of a prompt are compared "
                f"with each other: a multiple of num_generations = {size} is wanted"
            )
        if self.accelerator.num_processes > 1 and self.sampler is not plain:
            raise ValueError(
                f"{type(self).__name__} rolls out as often as it must, which "
                f"{self.accelerator.num_processes} processes would not do alike; one is wanted"
            )
        if isinstance(self.objective, nn.Module):
            raise ValueError(
                f"{type(self.objective).__name__} has parameters of its own, which TRL's optimizer "
                "would not train; take PolicyTrainer"
            )
        weight = getattr(self.objective, "kl_coef", 0.0)
        if weight and not self.beta:
            raise ValueError(
                f"the objective's kl_coef is {weight}, but beta is 0, so that TRL keeps no "
                f"reference; set beta={weight} too"
            )

    # A sampler's or objective's state goes with TRL's checkpoints.

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        state = {
            name: part.state_dict()
            for name, part in (("objective", self.objective), ("sampler", self.sampler))
            if hasattr(part, "state_dict")
        }
        counts = {"n_rollouts": self.bridge.n_rollouts, "n_tokens": self.bridge.n_tokens}
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            torch.save(state | {"counts": counts}, folder / "rarefy.pt")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not (Path(checkpoint) / "rarefy.pt").exists():
            return
        state = torch.load(Path(checkpoint) / "rarefy.pt", weights_only=True)
        vars(self.bridge).update(state.pop("counts"))
        for name, part in state.items():
            getattr(self, name).load_state_dict(part)
