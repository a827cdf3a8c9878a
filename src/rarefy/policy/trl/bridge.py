"""What objectives and samplers see of TRL's trainer: the face of ``PolicyTrainer``.

Completions come from TRL's own generation (transformers, vLLM, ``rollout_func``), with its checks
and its log; here they become a :class:`rarefy.policy.Batch` with whole groups side by side. What a
sampler draws beyond the rows that the data loader gave is a function of seed, step and round, so
that a resumed run draws the same.

Departures from ``PolicyTrainer``: completions come from the global random stream, as in TRL; what
is right is where the *first* reward function gives 1 or more and the completion ended by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from rarefy.policy.batches import Batch
from rarefy.policy.problems import text_of
from rarefy.policy.rollout import Rollout, Scores
from rarefy.policy.tasks import Problem
from rarefy.policy.trainer import random_stream
from rarefy.rewards import completion_text

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer
    from rarefy.policy.trl.trainer import ObjectiveTrainer

Row = Mapping[str, Any]

_TENSORS = {
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "advantages",
    "num_items_in_batch",
    "old_per_token_logps",
    "ref_per_token_logps",
    "importance_sampling_ratio",
    "sampling_per_token_logps",
    "tool_mask",
}


@dataclass(frozen=True)
class RowProblem(Problem):
    """A row of the data set; ``columns`` are all of it."""

    @property
    def completion(self) -> str:
        """The expert's: the column ``completion`` where there is one, else ``trace``."""
        return completion_text(self.columns.get("completion") or self.trace)

    @classmethod
    def of(cls, row: Row) -> RowProblem:
        """Read a row; of a conversation, the prompt is the last message's text."""
        return cls(
            str(row.get("task", "rows")),
            int(row.get("level") or 1),
            completion_text(row["prompt"]),
            text_of(row, "trace"),
            text_of(row, "answer"),
            dict(row),
        )

    def asked(self, prompt: str) -> dict[str, Any]:
        """The row with another text as its prompt, or as its prompt's last message."""
        own = self.columns["prompt"]
        if prompt == self.prompt:
            return dict(self.columns)
        if isinstance(own, list):
            return {**self.columns, "prompt": [*own[:-1], {**own[-1], "content": prompt}]}
        return {**self.columns, "prompt": prompt}


class Rows:
    """The problems of a step: the data loader's rows, then further ones of the data set."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._given: list[RowProblem] = []
        self._rounds = 0

    def give(self, rows: Sequence[Row], group_size: int) -> None:
        """Begin a step with these rows, each of them repeated for its group."""
        self._given = [RowProblem.of(row) for row in rows[::group_size]]
        self._rounds = 0

    def draw(self, n: int) -> list[Problem]:
        """Return the next n problems."""
        drawn: list[Problem] = [*self._given[:n]]
        self._given = self._given[n:]
        if len(drawn) == n:
            return drawn
        data = self._bridge.trainer.train_dataset
        if not hasattr(data, "__getitem__"):
            raise ValueError(
                f"train_dataset is a {type(data).__name__}, of which no further rows can be drawn "
                "at random; a datasets.Dataset is wanted"
            )
        self._rounds += 1
        stream = random_stream(f"{self._bridge.seed} {self._bridge.step} rows {self._rounds}")
        picked = torch.randint(len(data), (n - len(drawn),), generator=stream)
        if len(data) >= n:
            picked = torch.randperm(len(data), generator=stream)[: n - len(drawn)]
        return drawn + [RowProblem.of(data[row]) for row in picked.tolist()]


class Bridge:
    """The attributes and methods of ``PolicyTrainer`` that objectives and samplers use."""

    def __init__(self, trainer: ObjectiveTrainer) -> None:
        self.trainer = trainer
        self.problems = Rows(self)
        self.notes: dict[str, float] = {}
        self.n_rollouts = self.n_tokens = 0
        self.n_prompts = 0
        self.on_policy = False
        """Whether what was sampled is learnt from before the policy moves."""
        self._asked: Sequence[Problem] | None = None
        self._rewards: Tensor | None = None

    @property
    def face(self) -> PolicyTrainer:
        """Itself, as what it stands in for."""
        return cast("PolicyTrainer", self)

    @property
    def model(self) -> Any:
        """The policy, without what wraps it for training."""
        return self.trainer.accelerator.unwrap_model(self.trainer.model)

    @property
    def tokenizer(self) -> Any:
        """TRL's, from its processing class."""
        return self.trainer._tokenizer

    @property
    def reference(self) -> Any:
        """TRL keeps one where ``beta`` is not 0."""
        return self.trainer.ref_model

    @property
    def optimizer(self) -> Any:
        """The transformers trainer's."""
        return self.trainer.optimizer

    @property
    def group_size(self) -> int:
        """``num_generations``."""
        return int(self.trainer.num_generations or 0)

    @property
    def max_new_tokens(self) -> int:
        """``max_completion_length``; TRL's None is the end of the context."""
        length = self.trainer.max_completion_length
        return 0 if length is None else int(length)

    @property
    def temperature(self) -> float:
        """That of sampling, and of log-probabilities."""
        return self.trainer.temperature

    @property
    def seed(self) -> int:
        """The configuration's."""
        return self.trainer.args.seed

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.trainer.state.global_step

    def sample(self, rows: Sequence[Row]) -> Batch:
        """Roll out a generation batch through the sampler, and give it its advantages."""
        self.notes = {}
        self.problems.give(rows, self.group_size)
        self.n_prompts = len(rows) // self.group_size
        batch = self.trainer.sampler(self.face, self.n_prompts)
        if not len(batch):
            return batch
        batch = replace(batch, ref_logps=batch.extra.get("ref_logps"))
        advantages = self.trainer.objective.advantages(batch)
        if "correction" in batch.extra:  # vLLM's probabilities differ a little from ours
            per_token = advantages[:, None] if advantages.ndim == 1 else advantages
            advantages = per_token * batch.extra["correction"]
        return replace(batch, advantages=advantages)

    def draw(self, n: int) -> Batch:
        """Roll out the next n problems."""
        return self.complete(self.problems.draw(n))

    def complete(self, problems: list[Problem], prompts: list[str] | None = None) -> Batch:
        """Sample a group of completions for each problem and score them.

        Rewards are handed the problems' own prompts whatever is asked.
        """
        asked = [problem.prompt for problem in problems] if prompts is None else prompts
        each = [problem for problem in problems for _ in range(self.group_size)]
        rows = [
            cast("RowProblem", problem).asked(prompt)
            for problem, prompt in zip(problems, asked, strict=True)
            for _ in range(self.group_size)
        ]
        self._asked = each
        try:
            found = self.trainer._generate_and_score_completions(rows)
        finally:
            self._asked = None
        unknown = sorted(set(found) - _TENSORS)
        if unknown:
            raise ValueError(
                f"the batch has {', '.join(unknown)}, which {type(self.trainer).__name__} does not "
                "hand on: it trains on texts only"
            )
        rollout = self._rollout(found)
        self.n_rollouts += len(rollout)
        self.n_tokens += int(found["completion_mask"].sum())
        batch = self._judged(problems, asked, rollout)
        if "tool_mask" in found:
            batch = batch.with_extra(attended=found["completion_mask"].bool())
        if "importance_sampling_ratio" in found:
            ratio = found["importance_sampling_ratio"].expand_as(found["completion_ids"])
            batch = batch.with_extra(correction=ratio)
        if "ref_per_token_logps" in found:
            batch = batch.with_extra(ref_logps=found["ref_per_token_logps"])
        return batch

    def judge(self, problems: list[Problem], prompts: list[str], rollout: Rollout) -> Batch:
        """Score completions, however they came about."""
        each = [problem for problem in problems for _ in range(self.group_size)]
        texts: list[Any] = rollout.text(self.tokenizer)
        if isinstance(each[0].columns["prompt"], list):
            texts = [[{"role": "assistant", "content": text}] for text in texts]
        self._asked = each
        try:
            self.trainer._calculate_rewards(
                [dict(problem.columns) for problem in each],
                [problem.columns["prompt"] for problem in each],
                texts,
                rollout.completions(),
            )
        finally:
            self._asked = None
        return self._judged(problems, prompts, rollout)

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random stream that is a function of seed, step and purpose."""
        return random_stream(f"{self.seed} {self.step} {purpose}", self.model.device)

    def score(self, rollout: Rollout) -> Scores:
        """Log-probabilities and entropies under the policy as it is now, with a gradient."""
        return self.trainer.scores(self.trainer.model, rollout, rollout.completion_mask)

    # What the trainer calls while it scores completions.

    def prompts_of_rewards(self, prompts: list[Any]) -> list[Any]:
        """The prompts that rewards are to see: without a hint."""
        if self._asked is None:
            return prompts
        return [problem.columns["prompt"] for problem in self._asked]

    def check_lengths(self, prompt_ids: Sequence[Sequence[int]]) -> None:
        """Refuse prompts that do not fit the model's context with their completions."""
        config = self.model.config
        context = getattr(config, "max_position_embeddings", None)
        longest = max(map(len, prompt_ids))
        if context is not None and longest + self.max_new_tokens > context:
            raise ValueError(
                f"a prompt has {longest} tokens, which with max_completion_length = "
                f"{self.max_new_tokens} does not fit the model's context of {context}; shorten "
                "the prompts or the completions"
            )

    def keep_rewards(self, per_function: Tensor) -> None:
        """Keep what the reward functions gave, (B, functions)."""
        self._rewards = per_function

    def _judged(self, problems: list[Problem], prompts: list[str], rollout: Rollout) -> Batch:
        assert self._rewards is not None
        local = self.trainer.accelerator.process_index * len(rollout)
        each = self._rewards[local : local + len(rollout)]
        rewards = (each * self.trainer.reward_weights.to(each)).nansum(1)
        nothing = each.isnan().all(1).nonzero()
        if len(nothing) or not bool(rewards.isfinite().all()):
            row = int(nothing[0]) if len(nothing) else int((~rewards.isfinite()).nonzero()[0])
            raise ValueError(
                f"the reward functions gave {each[row].tolist()} for completion {row}; a finite "
                "number of at least one of them is wanted"
            )
        solved = (each[:, 0] >= 1) & rollout.terminated
        return Batch(problems, prompts, rollout, rewards, solved, self.group_size)

    def _rollout(self, found: Mapping[str, Tensor]) -> Rollout:
        ids, attended = found["completion_ids"], found["completion_mask"].bool()
        mask = attended & found["tool_mask"].bool() if "tool_mask" in found else attended
        last = (attended.sum(1) - 1).clamp(min=0)
        ends = torch.as_tensor(list(self.trainer.eos_token_ids), device=ids.device)
        terminated = torch.isin(ids.gather(1, last[:, None])[:, 0], ends) & attended.any(1)
        zeros = torch.zeros(ids.shape, device=ids.device)
        old = found.get("old_per_token_logps")
        self.on_policy = old is None
        rollout = Rollout(
            found["prompt_ids"],
            found["prompt_mask"].bool(),
            ids,
            mask,
            zeros if old is None else old.masked_fill(~mask, 0.0),
            zeros,
            terminated,
        )
        if old is None and self.trainer.scores_when_sampling:
            with torch.no_grad():
                scores = self.trainer.scores(self.trainer.model, rollout, attended)
            return replace(rollout, logps=scores.logps, entropies=scores.entropies)
        return rollout
