"""Sparse training with masks that move: SET, RigL, and gradual magnitude pruning.

Every so many steps, in each tensor with k kept weights,

    drop  the f k smallest |w| that are kept,   f = f_0 (1 + cos(pi p / stop)) / 2
    grow  as many that were pruned before: at random (SET), or the largest |g| (RigL)

with p the progress and g the dense gradient of the last step. Grown weights begin at 0 without
momentum. Gradual magnitude pruning drops down to a scheduled density and grows nothing.

Source: Mocanu et al. 2018 (SET); Evci et al. 2020, "Rigging the lottery", algorithm 1; Zhu and
Gupta 2017. Departures: SET drops the smallest magnitudes, not the smallest positive and largest
negative values, as later work does; counts are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.budget import Cosine
from rarefy.operators import TopK
from rarefy.weights.attach import attach
from rarefy.weights.from_scores import mask_from_scores
from rarefy.weights.masks import Masks
from rarefy.weights.scores import kept_magnitude

Update = Callable[[Masks, Mapping[str, nn.Parameter], float], Masks]
"""``update(masks, weights, progress) -> masks``; ``weights`` have the gradients of this step."""


def set_update(*, generator: torch.Generator, drop: float = 0.3, stop: float = 0.75) -> Update:
    """SET: drop by magnitude, grow at random.

    Parameters
    ----------
    generator : torch.Generator
        Of the CPU.
    drop : float, default 0.3
        Share dropped at the start (RigL's value); falls to 0 as half a cosine.
    stop : float, default 0.75
        Progress from which the masks rest.
    """
    return _drop_and_grow(
        lambda weight: torch.rand(weight.shape, generator=generator).to(weight.device), drop, stop
    )


def rigl_update(*, drop: float = 0.3, stop: float = 0.75) -> Update:
    """RigL: drop by magnitude, grow where the gradient is largest; arguments as above."""
    return _drop_and_grow(_gradient, drop, stop)


def gradual_magnitude(density: Callable[[float], float]) -> Update:
    """Prune the smallest magnitudes, all tensors together, down to a scheduled density.

    Parameters
    ----------
    density : callable
        A schedule of :mod:`rarefy.budget`, such as ``Cubic(0.1, end=0.75)``. Where it rises the
        masks stay as they are.
    """

    def update(masks: Masks, weights: Mapping[str, nn.Parameter], progress: float) -> Masks:
        target = density(progress)
        if target >= masks.density():
            return masks
        return mask_from_scores(
            {name: kept_magnitude(weights[name], mask) for name, mask in masks.items()},
            density=target,
        )

    return update


class DynamicMask:
    """Hold masks on a model while it trains, and move them.

    Parameters
    ----------
    model : nn.Module
    masks : Masks
        To begin with.
    update : Update
        :func:`set_update`, :func:`rigl_update`, :func:`gradual_magnitude`, or your own.
    optimizer : torch optimizer
        Training goes on as ever: the masks act behind each of its steps.
    steps : int
        Steps the training takes in all.
    every : int, default 100
        Steps between updates.
    on_update : callable ``(step, masks)``, optional
        Told each new set of masks, for example :meth:`SparsityTrace.record`.

    Attributes
    ----------
    masks : Masks
        Those in force.

    Raises
    ------
    ValueError
        If ``steps`` or ``every`` is below 1, or the masks do not fit.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Masks,
        update: Update,
        *,
        optimizer: Optimizer,
        steps: int,
        every: int = 100,
        on_update: Callable[[int, Masks], object] | None = None,
    ) -> None:
        if steps < 1 or every < 1:
            raise ValueError(f"steps and every must be at least 1, got {steps} and {every}")
        self._held = attach(model, masks, mode="project", optimizer=optimizer)
        parameters = dict(model.named_parameters())
        self._weights = {name: parameters[name] for name in masks}
        self._update, self._steps, self._every = update, steps, every
        self._on_update, self._done = on_update, 0
        self._hook = optimizer.register_step_post_hook(lambda *_: self._step())

    @property
    def masks(self) -> Masks:
        """The masks in force."""
        return self._held.masks

    def detach(self) -> None:
        """Let go of the model, zeros baked in."""
        self._hook.remove()
        self._held.detach()

    def _step(self) -> None:
        self._done += 1
        if self._done % self._every or self._done >= self._steps:
            return
        masks = self._update(self.masks, self._weights, self._done / self._steps)
        if masks is self.masks:
            return
        self._held.masks = masks
        self._held.apply_()
        if self._on_update is not None:
            self._on_update(self._done, masks)


def _drop_and_grow(score: Callable[[Tensor], Tensor], drop: float, stop: float) -> Update:
    if not (0 <= drop <= 1 and 0 < stop <= 1):
        raise ValueError(f"drop and stop must be shares of 1, got {drop} and {stop}")
    fraction = Cosine(0.0, initial=drop, end=stop)

    def update(masks: Masks, weights: Mapping[str, nn.Parameter], progress: float) -> Masks:
        share = fraction(progress)
        if not share:
            return masks
        return Masks(
            {n: _moved(mask, weights[n], score(weights[n]), share) for n, mask in masks.items()}
        )

    return update


def _moved(mask: Tensor, weight: Tensor, score: Tensor, share: float) -> Tensor:
    kept = int(mask.count_nonzero())
    moves = min(round(share * kept), mask.numel() - kept)
    stay = TopK(kept - moves, by="value", axis=None).mask(kept_magnitude(weight, mask))
    grown = TopK(moves, by="value", axis=None).mask(score.masked_fill(mask, -1.0))
    return stay | grown


def _gradient(weight: Tensor) -> Tensor:
    if weight.grad is None:
        raise ValueError("RigL grows by gradient, but a masked weight has none: is it frozen?")
    return weight.grad.float().abs()
