"""Masks that move, under the transformers ``Trainer``: :class:`DynamicMasks` as a callback."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from rarefy.weights.dynamic import DynamicMasks, Rule
from rarefy.weights.masks import Masks


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
    from transformers import TrainerCallback

    class Dynamic(TrainerCallback):
        dynamic: DynamicMasks

        def on_train_begin(
            self,
            args: Any,  # noqa: ARG002 - the trainer's signature
            state: Any,
            control: Any,  # noqa: ARG002
            *,
            model: nn.Module,
            optimizer: Optimizer,
            **_: Any,
        ) -> None:
            self.dynamic = DynamicMasks(
                model,
                masks,
                inner_optimizer(optimizer),
                rule=rule,
                steps=state.max_steps,
                every=every,
                generator=generator,
            )

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            self.dynamic.detach()

    return Dynamic()


def inner_optimizer(optimizer: Any) -> Optimizer:
    """Find the optimizer that steps: accelerate, which the trainer uses, wraps it."""
    # A wrapper cannot be there unless its module is; accelerate is no dependency.
    wrapping = sys.modules.get("accelerate.optimizer")
    if wrapping is not None and isinstance(optimizer, wrapping.AcceleratedOptimizer):
        return optimizer.optimizer
    return optimizer
