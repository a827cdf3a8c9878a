"""Train a model with its masks frozen: after every step pruned weights and their momentum are zero.

    w <- (w - lr AdamW(m g)) m,     lr falling linearly to 0

Source: the fine-tuning of pruned models in Jaiswal et al. 2023 ("Essential sparsity") and before.
Departures: none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LinearLR

from rarefy.weights.attach import attach
from rarefy.weights.masks import Masks
from rarefy.weights.scores import Loss


def finetune(
    model: nn.Module,
    batches: Sequence[Any],
    loss: Loss,
    *,
    masks: Masks | None = None,
    lr: float = 5e-4,
    weight_decay: float = 0.0,
    clip: float = 1.0,
) -> list[float]:
    """Take one AdamW step a batch, in place, with the masks held.

    Parameters
    ----------
    model : nn.Module
        Its training mode is put back afterwards.
    batches : sequence
        Each is handed to ``loss``; their number is the number of steps.
    loss : callable ``(model, batch) -> scalar Tensor``
    masks : Masks, optional
        ``None`` trains the dense model.
    lr : float, default 5e-4
        At the first step; falls linearly to 0. 2e-5 is the papers' value for BERT.
    weight_decay : float, default 0.0
    clip : float, default 1.0
        Largest norm of the gradient.

    Returns
    -------
    list of float
        The loss before each step.

    Raises
    ------
    ValueError
        If the loss is not finite: training diverged, or weights or data hold NaN.
    """
    optimizer = AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)
    held = attach(model, masks, mode="project", optimizer=optimizer) if masks else nullcontext()
    with held:
        return descend(model, optimizer, batches, loss, steps=len(batches), clip=clip)


def descend(
    model: nn.Module,
    optimizer: Optimizer,
    batches: Iterable[Any],
    loss: Loss,
    *,
    steps: int,
    clip: float,
) -> list[float]:
    """Step through the batches, the learning rate falling to 0 over ``steps``; the losses.

    What holds the masks hangs on the optimizer already.
    """
    falling = LinearLR(optimizer, 1.0, 0.0, total_iters=max(steps, 1))
    training = model.training
    model.train()
    losses: list[float] = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        value = loss(model, batch)
        losses.append(check_loss(value, len(losses)))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        falling.step()
    model.train(training)
    return losses


def check_loss(loss: Tensor, done: int) -> float:
    """Read a loss, and refuse one that is not finite before it reaches the weights."""
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ValueError(
            f"the loss is {value} after {done} steps: weights or data hold NaN, or training "
            "diverged, which a lower learning rate helps against"
        )
    return value


def trainer_callback(after_step: Callable[[int], None]) -> Any:
    """Make a transformers ``TrainerCallback`` that calls ``after_step`` behind each optimizer step.

    Parameters
    ----------
    after_step : callable ``(number of steps done before) -> None``
        For example ``lambda _: attachment.apply_()``, or a monitor's ``step``.

    Returns
    -------
    transformers.TrainerCallback
    """
    from transformers import TrainerCallback

    class AfterStep(TrainerCallback):
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 - the trainer's signature
            after_step(state.global_step)

    return AfterStep()
