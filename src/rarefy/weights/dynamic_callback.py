"""Masks under the transformers ``Trainer``, moving or not: :class:`DynamicMasks` as a callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.weights.dynamic import DynamicMasks, Rule, Static
from rarefy.weights.masks import Masks
from rarefy.weights.trainer import Saved, while_training


def dynamic_callback(
    masks: Masks, *, rule: Rule, every: int = 100, generator: torch.Generator
) -> Any:
    """Make a transformers ``TrainerCallback`` that trains with :class:`DynamicMasks`.

    The trainer makes its optimizer itself; the masks are put on when training begins and taken
    off, zeros in place, when it ends. They travel in the trainer's checkpoints, so that
    ``train(resume_from_checkpoint=...)`` goes on exactly where it was.

    Parameters
    ----------
    masks, rule, every, generator
        As for :class:`DynamicMasks`; the masks may lie on any device.

    Returns
    -------
    transformers.TrainerCallback
        Its ``dynamic`` is the :class:`DynamicMasks`, once training has begun. Under
        ``load_best_model_at_end`` its masks are in the end those of the best checkpoint; of a
        gradual pruning that may be one before the last density.

    Raises
    ------
    ValueError
        When training begins: as :class:`DynamicMasks`, or if a checkpoint to resume from holds no
        masks.
    """

    def begin(model: nn.Module, optimizer: Optimizer, state: Any, saved: Saved) -> None:
        # Weights of a checkpoint fit its own masks: those given here would zero what has grown.
        first = masks if saved is None else saved["masks"]
        callback.dynamic = DynamicMasks(
            model,
            Masks(_beside(model, first)),
            optimizer,
            rule=rule,
            steps=state.max_steps,
            every=every,
            generator=generator,
        )
        if saved is not None:
            _load(callback.dynamic, model, saved)

    def end(model: nn.Module, best: Saved) -> None:
        if best is not None:
            _load(callback.dynamic, model, best)
        callback.dynamic.detach()

    def save() -> dict[str, Any]:
        # The trainer asks once before training begins.
        return {} if callback.dynamic is None else callback.dynamic.state_dict()

    callback = while_training(begin, end, save=save)
    callback.dynamic = None
    return callback


def static_callback(masks: Masks) -> Any:
    """Make a transformers ``TrainerCallback`` that trains with masks that stay as they are.

    With :func:`rarefy.weights.random_masks` it is random pruning: sparse from the first step to
    the last.

    Parameters
    ----------
    masks : Masks
        May lie on any device.

    Returns
    -------
    transformers.TrainerCallback
        As :func:`dynamic_callback`'s: the masks travel in the trainer's checkpoints, and training
        that is resumed goes on with those of the checkpoint.

    Raises
    ------
    ValueError
        When training begins: if a mask does not fit the model, or as :func:`dynamic_callback`.
    """
    return dynamic_callback(masks, rule=Static(), generator=torch.Generator())


def _load(dynamic: DynamicMasks, model: nn.Module, saved: Mapping[str, Any]) -> None:
    tensors = {key: _beside(model, saved[key]) for key in ("masks", "ever")}
    gradients = {key: _beside(model, part) for key, part in saved["gradients"].items()}
    dynamic.load_state_dict({**saved, **tensors, "gradients": gradients})


def _beside(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the devices of the parameters they belong to, which the trainer chose."""
    devices = {name: parameter.device for name, parameter in model.named_parameters()}
    return {name: t.to(devices.get(name, t.device)) for name, t in tensors.items()}
