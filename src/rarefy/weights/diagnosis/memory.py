"""What training a masked model holds in memory, beside what its kept weights would need.

    held  = weights + gradients + optimizer slots + masks, all dense
    ideal = d (weights + gradients + slots) + 1 bit a position,  d the density of each masked tensor

Source: Liu and Wang 2023, lesson 4: only a run that is sparse throughout bounds its peak memory.
Departures: the count is ours; activations, which masks do not shrink, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.weights.diagnosis.reachability import stored_parameters


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that training holds, activations aside.

    Attributes
    ----------
    weights : int
        Of all parameters.
    gradients : int
        One for each parameter that is trained, as they are once backward has run.
    slots : int
        What the optimizer holds now: nothing before its first step.
    masks : int
    ideal : int
        The same for the kept weights alone, with a bit a position to say which they are.
    """

    weights: int
    gradients: int
    slots: int
    masks: int
    ideal: int

    @property
    def held(self) -> int:
        """All together."""
        return self.weights + self.gradients + self.slots + self.masks


def training_memory(
    model: nn.Module, masks: Mapping[str, Tensor], optimizer: Optimizer | None = None
) -> TrainingMemory:
    """Count the bytes that training a masked model holds, and those it would hold if stored sparse.

    Parameters
    ----------
    model : nn.Module
        Masks may be attached.
    masks : Masks
    optimizer : torch optimizer, optional

    Returns
    -------
    TrainingMemory

    Raises
    ------
    ValueError
        If a mask fits no parameter.

    Examples
    --------
    >>> model = nn.Linear(8, 4, bias=False)
    >>> masks = {"weight": torch.eye(4, 8) > 0}
    >>> memory = training_memory(model, masks)
    >>> memory.held, memory.ideal  # 2 x 32 floats and 32 bools; 2 x 4 floats and 32 bits
    (288, 36)
    """
    mask_of = {id(p): masks[name] for name, p in stored_parameters(model, masks).items()}
    weights = gradients = slots = 0
    ideal = 0.0
    for parameter in model.parameters():
        stored = _bytes(parameter)
        gradient = stored if parameter.requires_grad else 0
        state = optimizer.state.get(parameter, {}) if optimizer is not None else {}
        # A counter of steps is no slot.
        slot = sum(_bytes(s) for s in state.values() if torch.is_tensor(s) and s.ndim)
        mask = mask_of.get(id(parameter))
        share, bits = 1.0, 0
        if mask is not None and mask.numel():
            share, bits = int(mask.count_nonzero()) / mask.numel(), mask.numel()
        weights, gradients, slots = weights + stored, gradients + gradient, slots + slot
        ideal += share * (stored + gradient + slot) + bits / 8
    return TrainingMemory(weights, gradients, slots, sum(map(_bytes, masks.values())), round(ideal))


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
