"""Where transformers' ``Trainer`` lets a method in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer


def while_training(
    begin: Callable[[nn.Module, Optimizer, Any], None], end: Callable[[], None]
) -> Any:
    """Make a ``TrainerCallback`` that calls ``begin`` and ``end`` when training does.

    The trainer makes its optimizer itself: ``begin`` is given the model, that optimizer and the
    trainer's state, whose ``max_steps`` and ``global_step`` are known by then.
    """
    from transformers import TrainerCallback

    class WhileTraining(TrainerCallback):
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
            begin(model, _inner_optimizer(optimizer), state)

        def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            end()

    return WhileTraining()


def _inner_optimizer(optimizer: Any) -> Optimizer:
    """Find the optimizer that steps: accelerate, which the trainer uses, wraps it."""
    # A wrapper cannot be there unless its module is; accelerate is no dependency.
    wrapping = sys.modules.get("accelerate.optimizer")
    if wrapping is not None and isinstance(optimizer, wrapping.AcceleratedOptimizer):
        return optimizer.optimizer
    return optimizer
