"""Dynamic sampling as a sampler of the trainer: draw until a batch of groups teaches something.

    while fewer than n groups are kept:  roll out n further prompts, keep those of some variance

The rule is :class:`rarefy.policy.sampling.DynamicSampler`'s; this rolls out with a trainer, which
counts every completion, dropped groups included.

Sources: DAPO (arXiv 2503.14476, section 3.2), DLER (arXiv 2510.15110). Departures: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rarefy.policy.batches import Batch, join
from rarefy.policy.sampling import Draw, DynamicSampler, GroupFilter, has_variance

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer

Place = tuple[int, int]
"""Round, and group in it."""


@dataclass(frozen=True)
class Dynamic:
    """A sampler that draws groups until enough of them pass a filter.

    Parameters
    ----------
    keep : callable, default :func:`rarefy.policy.has_variance`
        Rewards of shape (groups, completions) to a bool for each group.
    filter_on : {"shaped", "raw"}, default "shaped"
        What the filter sees: the rewards as they are learnt from (DLER's text, DAPO), or 1 for what
        the trainer counts as solved and 0 for the rest, before any shaping by length (DLER's code).
    max_rounds : int, default 8
        Draws at most.
    on_exhausted : {"partial", "error"}, default "partial"
        After the last round learn from what is there (from nothing, where that is none), or raise
        :class:`rarefy.policy.NotEnoughGroups`.

    Notes
    -----
    It adds to the trainer's figures of a step ``sampling_rounds``, ``drawn_groups``,
    ``kept_groups`` (those cut off at the end included) and ``partial`` (1 for a batch that could
    not be filled).
    """

    keep: GroupFilter = has_variance
    filter_on: Literal["shaped", "raw"] = "shaped"
    max_rounds: int = 8
    on_exhausted: Literal["partial", "error"] = "partial"

    def __post_init__(self) -> None:
        if self.filter_on not in ("shaped", "raw"):
            raise ValueError(f'filter_on must be "shaped" or "raw", got {self.filter_on!r}')
        self._rule()  # which checks the others

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out until ``n_prompts`` groups are kept."""
        rounds: list[Batch] = []

        def draw(n: int) -> Draw[Place]:
            batch = trainer.draw(n)
            rounds.append(batch)
            scores = batch.groups
            if self.filter_on == "raw":
                scores = batch.solved.view(-1, batch.group_size).to(batch.rewards)
            return Draw([(len(rounds) - 1, group) for group in range(len(batch))], scores)

        filled = self._rule().fill(draw, n_prompts)
        trainer.notes |= {
            "sampling_rounds": float(filled.rounds),
            "drawn_groups": float(filled.n_drawn),
            "kept_groups": float(filled.n_kept),
            "partial": float(len(filled.groups) < n_prompts),
        }
        chosen = [
            batch.select([group for at, group in filled.groups if at == number])
            for number, batch in enumerate(rounds)
        ]
        return join([batch for batch in chosen if len(batch)] or chosen[:1])

    def _rule(self) -> DynamicSampler:
        return DynamicSampler(self.keep, self.max_rounds, self.on_exhausted)
