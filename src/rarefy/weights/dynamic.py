"""Sparse training with masks that move: drop the smallest weights, grow others, keep the count.

    every ``every`` steps, in each tensor:  k = floor(a(t) nnz),
    drop the k kept weights of smallest |w|,   grow k that were pruned:
        SET    at random
        RigL   those of largest |dL/dw|
    a(t) = drop / 2 (1 + cos(pi t / T)),   T = stop * steps

and gradual magnitude pruning, which only drops, down a schedule of densities. A grown weight
starts at zero, without momentum. Between updates gradients, weights and optimizer state are held
at zero where pruned.

Source: Mocanu et al. 2018 (SET); Evci et al. 2020 (RigL), algorithm 1; Zhu and Gupta 2017
(gradual). Departures: the optimizer's step is taken on update steps too; a weight that is
dropped does not return in the same update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.budget import Cosine
from rarefy.operators import TopK
from rarefy.weights.attach import refuse_tied
from rarefy.weights.blocks import block_mask
from rarefy.weights.dense_gradients import DenseGradients, Gather
from rarefy.weights.from_scores import check_density, mask_from_scores
from rarefy.weights.masks import Masks
from rarefy.weights.scores import magnitude


class Rule(Protocol):
    """How masks change at an update; ``gradients`` are dense, and empty unless asked for."""

    @property
    def by_gradient(self) -> bool | Gather:
        """Whether the rule reads gradients, those of pruned weights too.

        ``True`` gives those of the update's own step; a :class:`Gather` says more.
        """

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        masks: Masks,
        *,
        progress: float,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Masks:
        """Make the masks from here on; ``progress`` is the share of training done."""


@dataclass(frozen=True)
class Static:
    """Masks that stay as they are."""

    by_gradient: ClassVar[bool] = False

    def __call__(self, weights: Mapping[str, Tensor], masks: Masks, **_: Any) -> Masks:  # noqa: ARG002 - a rule's signature
        """Return the masks."""
        return masks


@dataclass(frozen=True)
class SET:
    """Sparse evolutionary training: grow at random.

    Parameters
    ----------
    drop : float, default 0.3
        Share of a tensor's kept weights that the first update moves; falls to 0 as a half cosine.
    stop : float, default 0.75
        Progress from which the masks rest.
    """

    drop: float = 0.3
    stop: float = 0.75
    by_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (0 <= self.drop <= 1 and 0 < self.stop <= 1):
            raise ValueError(
                f"drop must be in [0, 1] and stop in (0, 1], got {self.drop} and {self.stop}"
            )

    def __call__(
        self,
        weights: Mapping[str, Tensor],
        masks: Masks,
        *,
        progress: float,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> Masks:
        """Move a share of each tensor's weights."""
        if progress >= self.stop:
            return masks
        share = Cosine(0.0, initial=self.drop, end=self.stop)(progress)
        moved = {}
        for name, mask in masks.items():
            growth = self._growth(name, mask, gradients, generator)
            k = math.floor(share * int(mask.count_nonzero()) + 1e-9)
            moved[name] = drop_and_grow(weights[name], mask, growth, k)
        return Masks(moved)

    def _growth(
        self,
        name: str,  # noqa: ARG002 - RigL's reads it
        mask: Tensor,
        gradients: Mapping[str, Tensor],  # noqa: ARG002 - RigL's reads them
        generator: torch.Generator,
    ) -> Tensor:
        # Drawn on the generator's device, so that a seed means the same on any other.
        return torch.rand(mask.shape, generator=generator, device=generator.device).to(mask.device)


@dataclass(frozen=True)
class RigL(SET):
    """Rigging the lottery: grow where the dense gradient is largest.

    Parameters
    ----------
    drop, stop : float
        As for :class:`SET`.
    """

    by_gradient: ClassVar[bool] = True

    def _growth(
        self,
        name: str,
        mask: Tensor,
        gradients: Mapping[str, Tensor],
        generator: torch.Generator,  # noqa: ARG002 - SET's reads it
    ) -> Tensor:
        # A weight that the loss did not reach has gradient zero.
        return gradients[name].abs() if name in gradients else torch.zeros_like(mask)


@dataclass(frozen=True)
class GradualMagnitude:
    """Drop the smallest weights as a schedule says; nothing comes back.

    Parameters
    ----------
    schedule : callable ``progress -> density``
        From :mod:`rarefy.budget`: ``Cubic(final=0.1, begin=0.1, end=0.75)`` is usual.
    scope : {"global", "layer"}, default "global"
        What competes: all weights, or those of one tensor.
    block : int or mapping of str to int, default 1
        Neighbouring channels that go together, by their mean; see
        :func:`rarefy.weights.block_mask`.
    block_axis : int, default 0
        Output channels; 1 for input channels.
    """

    schedule: Callable[[float], float]
    scope: Literal["global", "layer"] = "global"
    block: int | Mapping[str, int] = 1
    block_axis: int = 0
    by_gradient: ClassVar[bool] = False

    def __call__(
        self, weights: Mapping[str, Tensor], masks: Masks, *, progress: float, **_: Any
    ) -> Masks:
        """Keep the largest of what is left."""
        density = check_density(density=self.schedule(progress))
        if round(density * masks.numel) >= masks.nnz:
            return masks
        scores = magnitude(weights, within=masks)
        if self.block == 1:
            return mask_from_scores(scores, density=density, scope=self.scope)
        return block_mask(
            scores, block=self.block, axis=self.block_axis, density=density, scope=self.scope
        )


def drop_and_grow(weight: Tensor, mask: Tensor, growth: Tensor, k: int) -> Tensor:
    """Drop the ``k`` smallest kept weights and grow the ``k`` pruned ones of largest ``growth``.

    Parameters
    ----------
    weight : Tensor
    mask : bool Tensor of the same shape
    growth : Tensor of the same shape
        Not negative.
    k : int
        Where fewer are pruned, as many as there are.

    Returns
    -------
    bool Tensor
        With as many entries kept as ``mask`` has.

    Examples
    --------
    >>> keep = torch.tensor([True, True, False, False])
    >>> drop_and_grow(torch.tensor([3.0, 1.0, 0.0, 0.0]), keep, torch.tensor([0, 0, 1.0, 2.0]), 1)
    tensor([ True, False, False,  True])
    """
    kept = int(mask.count_nonzero())
    k = min(k, kept, mask.numel() - kept)
    # -1 is below any magnitude: only kept weights are kept, and only pruned ones grow.
    left = torch.where(mask, weight.detach().abs().float(), -1.0)
    candidates = torch.where(mask, -1.0, growth.float())
    return TopK(kept - k, by="value", axis=None).mask(left) | TopK(k, by="value", axis=None).mask(
        candidates
    )


class Update(NamedTuple):
    """One line of :attr:`DynamicMasks.history`."""

    step: int
    density: float
    moved: int


class DynamicMasks:
    """Masks on a model in training, held and moved behind each step of its optimizer.

    Build it after the optimizer and train as ever. Gradients are masked as they arrive, so that
    clipping sees the sparse ones; dense gradients are gathered, over all backward passes of the
    step, only before an update that reads them.

    Parameters
    ----------
    model : nn.Module
        Its weights are zeroed where pruned.
    masks : Masks
        To begin with: :func:`rarefy.weights.random_masks`, :func:`rarefy.weights.iso_flop`'s, or
        ``Masks.ones(select(model))`` for gradual pruning.
    optimizer : torch optimizer
        Must hold every masked parameter.
    rule : Rule
        :class:`Static`, :class:`SET`, :class:`RigL`, :class:`GradualMagnitude`, or one's own.
    steps : int
        Of the whole training.
    every : int, default 100
        Steps between updates; the last step is one too.
    generator : torch.Generator
        What SET draws from.
    on_update : callable ``(step, masks)``, optional
        Told the masks of every update that changed something, for example
        :meth:`SparsityTrace.record`.

    Attributes
    ----------
    masks : Masks
    taken : int
        Optimizer steps so far.
    history : list of Update
        Step, density and weights dropped, of every update that changed something.

    Raises
    ------
    ValueError
        If the optimizer lacks a masked parameter, a mask does not fit, a tensor is tied, an
        embedding gives sparse gradients, or a number is out of range.

    Examples
    --------
    >>> from rarefy.weights import random_masks
    >>> g = torch.Generator().manual_seed(0)
    >>> layer = nn.Linear(8, 8)
    >>> sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    >>> masks = random_masks(layer, density=0.25, generator=g)
    >>> with DynamicMasks(layer, masks, sgd, rule=RigL(), steps=4, every=1, generator=g) as held:
    ...     for _ in range(4):
    ...         layer(torch.ones(2, 8)).square().sum().backward()
    ...         sgd.step()
    >>> held.masks.nnz, int(layer.weight.count_nonzero()) <= 16, len(held.history)
    (16, True, 2)
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Masks,
        optimizer: Optimizer,
        *,
        rule: Rule,
        steps: int,
        every: int = 100,
        generator: torch.Generator,
        on_update: Callable[[int, Masks], object] | None = None,
    ) -> None:
        for name, value in (("steps", steps), ("every", every)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        refuse_tied(model, masks)
        masks.validate(model)
        parameters = dict(model.named_parameters())
        self._weights = {name: parameters[name] for name in masks}
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if absent := [name for name, p in self._weights.items() if id(p) not in held]:
            raise ValueError(f"the optimizer does not hold {', '.join(absent)}; build it on them")
        self._model, self._optimizer = model, optimizer
        self._rule, self._steps, self._every, self._generator = rule, steps, every, generator
        self._on_update = on_update
        self._refuse_sparse_gradients()
        self._gradients = DenseGradients(rule.by_gradient, self._weights, generator)
        self._ever = Masks({name: torch.zeros_like(mask) for name, mask in masks.items()})
        self.taken = 0
        self.history: list[Update] = []
        self._put(masks)
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._mask_gradient, name))
            for name, parameter in self._weights.items()
        ]
        self._hooks.append(optimizer.register_step_post_hook(lambda *_: self._stepped()))

    def state_dict(self) -> dict[str, Any]:
        """Collect what a checkpoint needs, beside the model's and the optimizer's."""
        return {
            "taken": self.taken,
            "masks": {name: mask.clone() for name, mask in self.masks.items()},
            "generator": self._generator.get_state(),
            "history": [tuple(update) for update in self.history],
            "ever": {name: mask.clone() for name, mask in self._ever.items()},
            "gradients": self._gradients.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was; load the model and the optimizer after building this."""
        masks = Masks(state["masks"])
        masks.validate(self._model)
        self._put(masks)
        self.taken = state["taken"]
        self._generator.set_state(state["generator"])
        self.history = [Update(*update) for update in state["history"]]
        self._ever = Masks(state["ever"])
        self._gradients.load_state_dict(state["gradients"])

    def ever_active(self) -> float:
        """Share of the masked weights that were kept at some time."""
        return self._ever.density()

    def detach(self) -> None:
        """Take the hooks off, leaving an ordinary model with its zeros."""
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> DynamicMasks:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def _due(self, step: int) -> bool:
        return step % self._every == 0 or step == self._steps

    def _put(self, masks: Masks) -> None:
        """Put masks in force: what they prune loses its weight and its optimizer state."""
        self.masks = masks
        self._ever = self._ever | masks
        self._pruned = dict(~masks)
        masks.apply_(self._model, optimizer=self._optimizer)

    @torch.no_grad()
    def _mask_gradient(self, name: str, parameter: Tensor) -> None:
        gradient, pruned = parameter.grad, self._pruned[name]
        assert gradient is not None  # torch calls this hook behind an accumulation only
        if self._gradients.wants(self._due(self.taken + 1)):
            self._gradients.add(name, gradient, pruned)
        gradient.masked_fill_(pruned, 0)

    @torch.no_grad()
    def _stepped(self) -> None:
        self.taken += 1
        # Optimizer state stays zero by itself, as it saw gradients of zero only; a weight does
        # not where an update mixes positions.
        for name, weight in self._weights.items():
            weight.masked_fill_(self._pruned[name], 0)
        self._gradients.end_step()
        if self._due(self.taken):
            gradients = self._gradients.read()
            self._refuse_nan(gradients)
            before = self.masks
            self._put(
                self._rule(
                    self._weights,
                    before,
                    progress=min(self.taken / self._steps, 1.0),
                    gradients=gradients,
                    generator=self._generator,
                )
            )
            if dropped := (before & ~self.masks).nnz:
                self.history.append(Update(self.taken, self.masks.density(), dropped))
                if self._on_update is not None:
                    self._on_update(self.taken, self.masks)
            self._gradients.end_interval()
        self._gradients.clear()

    def _refuse_sparse_gradients(self) -> None:
        modules = dict(self._model.named_modules())
        for name in self._weights:
            owner = modules[name.rpartition(".")[0]]
            if isinstance(owner, nn.Embedding | nn.EmbeddingBag) and owner.sparse:
                raise ValueError(
                    f"{name} belongs to an embedding with sparse=True, whose gradients leave out "
                    "rows; build it with sparse=False"
                )

    def _refuse_nan(self, gradients: Mapping[str, Tensor]) -> None:
        for what, tensors in (("weights", self._weights), ("gradients", gradients)):
            for name, tensor in tensors.items():
                if bool(tensor.isnan().any()):
                    raise ValueError(
                        f"the {what} of {name} hold NaN at step {self.taken}: training has "
                        "diverged, and no mask can be chosen"
                    )
