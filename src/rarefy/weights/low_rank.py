r"""LoRA: train a low-rank correction of frozen weights, within the mask of a pruned model.

.. math:: \tilde W = m \odot \left( W + \frac{\alpha}{r} B A \right)

A of r x inputs begins random, B of outputs x r at zero, so training begins at the model itself; W
and all else are frozen. Merged, it is the sparse layer that was trained, at no cost.

Source: Hu et al. 2022, "LoRA", section 4.1 (A drawn as in its public code); rank and alpha are
those of Wanda's fine-tuning. Departures: the correction is masked like the weight, where the usual
merge of a sparse model and its adapter is dense; no dropout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rarefy.weights.attach import refuse_tied
from rarefy.weights.masks import Masks
from rarefy.weights.select import select


class LowRank(nn.Module):
    """Parametrization ``w -> m (w + alpha / r B A)``; further axes of w count as its inputs.

    Parameters
    ----------
    weight : Tensor, shape (o, ...)
    mask : bool Tensor of the same shape, optional
    rank : int
    alpha : float
    generator : torch.Generator
        Of the CPU; draws A.
    """

    mask: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        mask: Tensor | None = None,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        self.scale = alpha / rank
        # Uniform of variance 1 / (3 inputs), as torch draws the weights of a linear layer.
        drawn = (2 * torch.rand(rank, inputs, generator=generator) - 1) / max(inputs, 1) ** 0.5
        self.down = nn.Parameter(drawn.to(weight))
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Correct the weight, where it is kept."""
        correction = (self.up @ self.down).view_as(weight)
        corrected = torch.add(weight, correction, alpha=self.scale)
        return corrected if self.mask is None else corrected.masked_fill(~self.mask, 0)


class Adapters:
    """Low-rank corrections that are on a model; also a context manager that merges them.

    Made by :func:`low_rank`.

    Attributes
    ----------
    model : nn.Module
    names : tuple of str
        The weights that are corrected.
    """

    def __init__(self, model: nn.Module, names: tuple[str, ...], trained: list[nn.Parameter]):
        self.model = model
        self.names = names
        self._trained = trained

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained: A and B of every weight."""
        found = (self._parametrized(name)[0] for name in self.names)
        return [parameter for each in found for parameter in each.parameters()]

    @torch.no_grad()
    def merge(self) -> None:
        """Add the corrections to the weights, leaving an ordinary model that trains as before."""
        for name in self.names:
            prefix, _, attribute = name.rpartition(".")
            stored = self._parametrized(name)
            stored.original.copy_(stored[0](stored.original))
            module = self.model.get_submodule(prefix)
            parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)
        for parameter in self._trained:
            parameter.requires_grad_(True)

    def __enter__(self) -> Adapters:
        return self

    def __exit__(self, *_: object) -> None:
        self.merge()

    def _parametrized(self, name: str) -> Any:
        prefix, _, attribute = name.rpartition(".")
        module: Any = self.model.get_submodule(prefix)
        return module.parametrizations[attribute]


def low_rank(
    model: nn.Module,
    *,
    masks: Masks | None = None,
    weights: Mapping[str, Tensor] | None = None,
    rank: int = 8,
    alpha: float = 16.0,
    generator: torch.Generator,
) -> Adapters:
    """Freeze a model and put trainable low-rank corrections on its weights.

    Whatever trains parameters that want a gradient then trains the corrections alone, such as
    :func:`rarefy.weights.finetune`; masks need no holding beside.

    Parameters
    ----------
    model : nn.Module
    masks : Masks, optional
        Where the weights may be other than zero.
    weights : mapping of str to Parameter, optional
        What is corrected; what ``masks`` covers by default, without masks
        :func:`rarefy.weights.select`.
    rank : int, default 8
    alpha : float, default 16.0
        The correction is scaled by ``alpha / rank``.
    generator : torch.Generator
        Of the CPU.

    Returns
    -------
    Adapters
        ``.merge()`` leaves an ordinary model.

    Raises
    ------
    ValueError
        If ``rank`` is below 1, a weight is tied, or a mask fits no parameter.

    Examples
    --------
    >>> layer = nn.Linear(4, 3)
    >>> masks = Masks({"weight": torch.eye(3, 4).bool()})
    >>> with low_rank(layer, masks=masks, rank=1, generator=torch.Generator()) as adapters:
    ...     sum(p.numel() for p in layer.parameters() if p.requires_grad)
    7
    >>> int(layer.weight.count_nonzero())
    3
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if masks is not None:
        masks.validate(model)
    chosen = weights if weights is not None else masks if masks is not None else select(model)
    refuse_tied(model, chosen)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    for name in chosen:
        prefix, _, attribute = name.rpartition(".")
        module = model.get_submodule(prefix)
        mask = None if masks is None else masks.get(name)
        low = LowRank(getattr(module, attribute), mask, rank=rank, alpha=alpha, generator=generator)
        # unsafe: skips a trial run that only checks what LowRank guarantees.
        parametrize.register_parametrization(module, attribute, low, unsafe=True)
    return Adapters(model, tuple(chosen), trained)
