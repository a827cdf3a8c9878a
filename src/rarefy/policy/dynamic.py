"""Dynamic sampling as a sampler of the trainer: groups without variance are drawn again.

Source: DAPO (arXiv 2503.14476, section 3.2). Departures: none; see :class:`DynamicSampler`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rarefy.policy.batches import Batch, join
from rarefy.policy.sampling import Draw, DynamicSampler

if TYPE_CHECKING:
    from rarefy.policy.trainer import PolicyTrainer


@dataclass(frozen=True)
class Dynamic:
    """Draw until the batch is full of groups that pass a filter.

    Notes of a step: ``rounds`` of drawing, and ``kept``, the share of groups that passed.

    Parameters
    ----------
    rule : DynamicSampler
        Which groups are kept, and for how many rounds to try. Where none is found the step trains
        nothing.
    """

    rule: DynamicSampler = DynamicSampler()

    def __call__(self, trainer: PolicyTrainer, n_prompts: int) -> Batch:
        """Roll out as often as it takes."""
        drawn: list[Batch] = []

        def draw(n: int) -> Draw[Batch]:
            batch = trainer.draw(n)
            drawn.append(batch)
            return Draw([batch.select([group]) for group in range(len(batch))], batch.groups)

        filled = self.rule.fill(draw, n_prompts)
        trainer.notes["rounds"] = float(filled.rounds)
        trainer.notes["kept"] = filled.n_kept / filled.n_drawn
        return join(filled.groups) if filled.groups else drawn[0].select([])
