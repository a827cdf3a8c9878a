"""A small loop of reinforcement learning for token policies.

    for each step:
        batch = sampler(trainer, n_prompts)             # roll out, verify, and mend what is empty
        A = objective.advantages(batch)
        for each mini-batch of whole groups:
            loss = objective.loss(score(model, rollout), mini-batch)
            step, unless the gradient is not finite

Everything random is a function of seed and step: a run that was killed goes on from its last
checkpoint with the same numbers. What differs between methods is in three places: the objective
(advantages and loss), the sampler (which groups are learnt from), and the reward.

Source: card 00 of this project's notes; the loop of GRPO (arXiv 2402.03300, algorithm 1).
Departures: groups stay whole in mini-batches; dropout is off throughout, since ratios of
log-probabilities would be noise with it.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from rarefy.policy.advantages import reward_tensor
from rarefy.policy.batches import Batch
from rarefy.policy.metrics import clip_stats, completion_stats, group_outcomes
from rarefy.policy.problems import Problems
from rarefy.policy.rollout import Rollout, Scores, generate, score
from rarefy.policy.tasks import Problem
from rarefy.rewards import RewardFunction

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TRUNCATED_SHARE, TRUNCATED_STEPS = 0.9, 5
"""Completions cut off in so many steps on end are warned of."""


class Objective(Protocol):
    """What a method makes of a batch."""

    def advantages(self, batch: Batch) -> Tensor:
        """Advantages of the completions, (B,), or of their tokens, (B, T)."""

    def loss(self, scores: Scores, batch: Batch, trainer: PolicyTrainer) -> Tensor:
        """What is minimised on a mini-batch, a scalar; ``scores`` are the policy's now."""


Sampler = Callable[["PolicyTrainer", int], Batch]
"""``sampler(trainer, n_prompts)`` rolls out, with :meth:`PolicyTrainer.draw` and
:meth:`PolicyTrainer.complete`, the batch that a step learns from."""


def plain(trainer: PolicyTrainer, n_prompts: int) -> Batch:
    """The next problems as they come: the sampler that mends nothing."""
    return trainer.draw(n_prompts)


def random_stream(name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a random stream that is a function of its name."""
    digest = hashlib.blake2b(name.encode(), digest_size=7).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big"))


class PolicyTrainer:
    """Train a causal language model on problems with a reward.

    Parameters
    ----------
    model : transformers model
        Trained in place.
    tokenizer : transformers tokenizer
    problems : Problems
        Such as :class:`TaskProblems`.
    reward : RewardFunction
        Called as TRL calls it, with ``task``, ``level``, ``trace``, ``answer`` and the problem's
        further columns.
    objective : Objective
    max_new_tokens : int
        Length limit of a completion. Cut-off completions get what the reward says, and are not
        counted as solved.
    sampler : Sampler, default :func:`plain`
    solved : RewardFunction, optional
        What counts as right, where it gives 1 or more; the reward itself by default.
    reference : transformers model, optional
        Whose log-probabilities objectives may hold the policy to.
    n_prompts, group_size : int, default 16 and 8
        Groups of a step, and completions of each.
    minibatches : int, default 1
        Optimizer steps for each batch, of groups alike in number.
    learning_rate : float, default 2e-4
        Of AdamW without weight decay; for models of a million parameters. For those of a billion
        papers take 1e-6.
    temperature : float, default 1
    max_grad_norm : float, default 1
    seed : int, default 0

    Attributes
    ----------
    step : int
        Steps done.
    history : list of dict
        One row of figures for each step.
    n_rollouts, n_tokens : int
        Completions and tokens generated so far, all that were thrown away included.

    Raises
    ------
    ValueError
        If a number is out of range; later, if a prompt does not fit the model's context, or the
        reward returns what is no number for every completion.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        problems: Problems,
        *,
        reward: RewardFunction,
        objective: Objective,
        max_new_tokens: int,
        sampler: Sampler = plain,
        solved: RewardFunction | None = None,
        reference: PreTrainedModel | None = None,
        n_prompts: int = 16,
        group_size: int = 8,
        minibatches: int = 1,
        learning_rate: float = 2e-4,
        temperature: float = 1.0,
        max_grad_norm: float = 1.0,
        seed: int = 0,
    ) -> None:
        if group_size < 2:
            raise ValueError(
                f"group_size is {group_size}; completions of a prompt are compared with each "
                "other, so at least 2 are wanted"
            )
        if not 1 <= minibatches <= n_prompts:
            raise ValueError(
                f"minibatches is {minibatches} and n_prompts {n_prompts}; at least one prompt for "
                "each mini-batch is wanted"
            )
        if temperature <= 0:
            raise ValueError(f"temperature is {temperature}; learning needs one above 0")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.problems = problems
        self.reward = reward
        self.objective = objective
        self.sampler = sampler
        self.solved = solved
        self.reference = reference.eval() if reference is not None else None
        self.max_new_tokens = max_new_tokens
        self.n_prompts, self.group_size = n_prompts, group_size
        self.minibatches = minibatches
        self.temperature = temperature
        self.max_grad_norm = max_grad_norm
        self.seed = seed
        learnt = list(model.parameters())
        if isinstance(objective, nn.Module):  # a critic
            learnt += objective.parameters()
        self.optimizer = torch.optim.AdamW(learnt, lr=learning_rate, weight_decay=0.0)
        self.step = 0
        self.history: list[dict[str, float]] = []
        self.n_rollouts = self.n_tokens = 0
        self.notes: dict[str, float] = {}
        self._rounds = 0
        self._outcomes: list[tuple[float, ...]] = []

    # What samplers use.

    def draw(self, n: int) -> Batch:
        """Roll out the next n problems."""
        batch = self.complete(self.problems.draw(n))
        self._outcomes.append(
            (*group_outcomes(batch.solved.float(), self.group_size), float(len(batch)))
        )
        return batch

    def complete(self, problems: list[Problem], prompts: list[str] | None = None) -> Batch:
        """Sample a group of completions for each problem and score them.

        Parameters
        ----------
        problems : list of Problem
        prompts : list of str, optional
            What is asked instead of the problems' own prompts, such as those with a hint. Rewards
            are handed the problems' own.
        """
        asked = [problem.prompt for problem in problems] if prompts is None else prompts
        self._rounds += 1
        rollout = generate(
            self.model,
            [self.tokenizer(prompt)["input_ids"] for prompt in asked],
            max_new_tokens=self.max_new_tokens,
            n_completions=self.group_size,
            temperature=self.temperature,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
            generator=self.generator(f"rollout {self._rounds}"),
        )
        self.n_rollouts += len(rollout)
        self.n_tokens += int(rollout.lengths.sum())
        return self.judge(problems, asked, rollout)

    def judge(self, problems: list[Problem], prompts: list[str], rollout: Rollout) -> Batch:
        """Score completions, however they came about."""
        texts = rollout.text(self.tokenizer)
        each = [problem for problem in problems for _ in range(self.group_size)]
        ids = rollout.completions()
        rewards = self._ask(self.reward, each, texts, ids).to(self.model.device)
        right = rewards
        if self.solved is not None:
            right = self._ask(self.solved, each, texts, ids).to(self.model.device)
        solved = (right >= 1) & rollout.terminated
        return Batch(problems, prompts, rollout, rewards, solved, self.group_size)

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random stream that is a function of seed, step and purpose."""
        return random_stream(f"{self.seed} {self.step} {purpose}", self.model.device)

    def score(self, rollout: Rollout) -> Scores:
        """Log-probabilities and entropies under the policy as it is now, with a gradient."""
        return score(self.model, rollout, temperature=self.temperature)

    # The loop.

    def train(
        self,
        steps: int,
        *,
        checkpoint: Path | None = None,
        checkpoint_every: int = 10,
        progress: Callable[[dict[str, float]], None] | None = None,
    ) -> list[dict[str, float]]:
        """Go on until so many steps are done in all.

        Parameters
        ----------
        steps : int
        checkpoint : Path, optional
            Where the state is written every ``checkpoint_every`` steps, at the end, and when
            something raises; and read at the beginning, where it is there.
        checkpoint_every : int, default 10
        progress : callable, optional
            Told the row of figures of each step.

        Returns
        -------
        list of dict
            :attr:`history`.
        """
        if checkpoint is not None and checkpoint.exists() and self.step == 0:
            self.load(checkpoint)
        while self.step < steps:
            before = (self.n_rollouts, self.n_tokens, self.problems.state_dict())
            try:
                row = self._one_step()
            except BaseException:
                # The step is not done: put back what it used, and keep the steps before it.
                self.n_rollouts, self.n_tokens = before[:2]
                self.problems.load_state_dict(before[2])
                if checkpoint is not None and self.step:
                    self.save(checkpoint)
                raise
            self.history.append(row)
            self.step += 1
            self._warn_of_truncation()
            if progress is not None:
                progress(row)
            if checkpoint is not None and (self.step % checkpoint_every == 0 or self.step == steps):
                self.save(checkpoint)
        return self.history

    def save(self, path: Path) -> None:
        """Write all that the next steps depend on, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.state_dict(), path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def load(self, path: Path) -> None:
        """Go on where :meth:`save` left off."""
        self.load_state_dict(torch.load(path, weights_only=True))

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "problems": self.problems.state_dict(),
            "step": self.step,
            "history": self.history,
            "n_rollouts": self.n_rollouts,
            "n_tokens": self.n_tokens,
        }
        for name in ("objective", "sampler", "reference"):
            part = getattr(self, name)
            if hasattr(part, "state_dict"):
                state[name] = part.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another trainer left off."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.problems.load_state_dict(state["problems"])
        for name in ("step", "history", "n_rollouts", "n_tokens"):
            setattr(self, name, state[name])
        for name in ("objective", "sampler", "reference"):
            if name in state:
                getattr(self, name).load_state_dict(state[name])

    def _one_step(self) -> dict[str, float]:
        began = time.perf_counter()
        self._rounds, self._outcomes, self.notes = 0, [], {}
        batch = self.sampler(self, self.n_prompts)
        figures: list[dict[str, float]] = []
        if len(batch):
            batch = self._prepared(batch)
            order = torch.randperm(
                len(batch), generator=self.generator("order"), device=self.model.device
            ).cpu()
            for groups in order.tensor_split(min(self.minibatches, len(batch))):
                figures.append(self._update(batch.select(groups)))
        row = self._row(batch, figures)
        row["seconds"] = time.perf_counter() - began
        return row

    def _prepared(self, batch: Batch) -> Batch:
        with torch.no_grad():
            ref = None
            if self.reference is not None:
                ref = score(self.reference, batch.rollout, temperature=self.temperature).logps
            batch = replace(batch, ref_logps=ref)
            return replace(batch, advantages=self.objective.advantages(batch))

    def _update(self, batch: Batch) -> dict[str, float]:
        scores = self.score(batch.rollout)
        loss = self.objective.loss(scores, batch, self)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            [p for group in self.optimizer.param_groups for p in group["params"]],
            self.max_grad_norm,
        )
        finite = bool(norm.isfinite())
        if finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        assert batch.advantages is not None
        clipped = clip_stats(
            scores.logps,
            batch.rollout.logps,
            batch.advantages,
            batch.rollout.completion_mask,
            eps_low=getattr(self.objective, "eps_low", 0.2),
            eps_high=getattr(self.objective, "eps_high", 0.2),
        )
        return {
            "loss": float(loss.detach()),
            "grad_norm": float(norm) if finite else math.nan,
            "skipped": float(not finite),
            "clipped_low": clipped.low,
            "clipped_high": clipped.high,
            "ratio_min": clipped.ratio_min,
            "ratio_max": clipped.ratio_max,
        }

    def _row(self, batch: Batch, figures: list[dict[str, float]]) -> dict[str, float]:
        row = {
            "step": float(self.step + 1),
            "n_rollouts": float(self.n_rollouts),
            "n_tokens": float(self.n_tokens),
            "trained_groups": float(len(batch)),
        }
        if self._outcomes:
            drawn = torch.tensor(self._outcomes, dtype=torch.float64)
            shares = (drawn[:, :3] * drawn[:, 3:]).sum(0) / drawn[:, 3].sum()
            row["all_wrong"], row["all_right"] = float(shares[1]), float(shares[2])
        if len(batch):
            rollout = batch.rollout
            stats = completion_stats(rollout.completion_mask, rollout.terminated, rollout.entropies)
            row |= {
                "reward_mean": float(batch.rewards.mean()),
                "reward_std": float(batch.rewards.std()) if len(batch.rewards) > 1 else 0.0,
                "success": float(batch.solved.float().mean()),
                "entropy": stats.entropy,
                "mean_length": stats.mean_length,
                "truncated": 1 - stats.terminated,
            }
            if batch.group_size > 1:  # experts' completions stand alone
                outcomes = group_outcomes(batch.rewards, batch.group_size)
                row["zero_variance"] = outcomes.zero_variance
        for name in figures[0] if figures else ():
            values = [figure[name] for figure in figures]
            pick = {"ratio_min": min, "ratio_max": max}.get(name)
            row[name] = pick(values) if pick else sum(values) / len(values)
        return row | self.notes

    def _ask(
        self,
        reward: RewardFunction,
        problems: list[Problem],
        texts: list[str],
        ids: list[list[int]],
    ) -> Tensor:
        columns: dict[str, list[Any]] = {
            name: [getattr(problem, name) for problem in problems]
            for name in ("task", "level", "trace", "answer")
        }
        for name in problems[0].columns:
            columns[name] = [problem.columns.get(name) for problem in problems]
        values = reward([problem.prompt for problem in problems], texts, ids, **columns)
        return reward_tensor(values, n_completions=len(texts))

    def _warn_of_truncation(self) -> None:
        last = [row.get("truncated", 0.0) for row in self.history[-TRUNCATED_STEPS:]]
        if len(last) == TRUNCATED_STEPS and min(last) > TRUNCATED_SHARE:
            warnings.warn(
                f"more than {TRUNCATED_SHARE:.0%} of completions were cut off at max_new_tokens = "
                f"{self.max_new_tokens} in each of the last {TRUNCATED_STEPS} steps, so that "
                "hardly any can be right: raise max_new_tokens, or check that the model ends its "
                f"answers with {self.tokenizer.eos_token!r}",
                RuntimeWarning,
                stacklevel=3,
            )
