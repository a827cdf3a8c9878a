"""Masks that move, under the transformers ``Trainer``: :class:`DynamicMasks` as a callback."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rarefy.weights.dynamic import DynamicMasks, Rule
from rarefy.weights.masks import Masks
from rarefy.weights.trainer import while_training


def dynamic_callback(
    masks: Masks, *, rule: Rule, every: int = 100, generator: torch.Generator
) -> Any:
    """Make a transformers ``TrainerCallback`` that trains with :class:`DynamicMasks`.

    The trainer makes its optimizer itself; the masks are put on when training begins and taken
    off, zeros in place, when it ends.

    Parameters
    ----------
    masks, rule, every, generator
        As for :class:`DynamicMasks`.

    Returns
    -------
    transformers.TrainerCallback
        Its ``dynamic`` is the :class:`DynamicMasks`, once training has begun.
    """

    def begin(model: nn.Module, optimizer: Optimizer, state: Any) -> None:
        callback.dynamic = DynamicMasks(
            model,
            masks,
            optimizer,
            rule=rule,
            steps=state.max_steps,
            every=every,
            generator=generator,
        )

    callback = while_training(begin, lambda: callback.dynamic.detach())
    return callback
