"""Hold masks on a model while it runs and trains.

    forward   w~ = w (m + softness (1 - m))
    backward  dL/dw = g (m + leak (1 - m)) + decay (1 - m) w,     g = dL/dw~

``leak`` and ``decay`` name the rules of the literature: masked (0, 0); straight-through (1, 0),
Bengio et al. 2013; SR-STE (1, lam), Zhou et al. 2021; decayed (beta, 0), Bambhaniya et al. 2024.

A mask is hard, softness 0, unless a method that trains through soft ones sets it
(:mod:`rarefy.weights.nm_training`).

Departures: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from rarefy.weights.masks import Masks, zero_
from rarefy.weights.select import shared_names


@dataclass(frozen=True)
class Backward:
    """What a pruned weight receives in the backward pass.

    Parameters
    ----------
    leak : float, default 0
        Share of the gradient that passes to pruned weights.
    decay : float, default 0
        Pull of pruned weights towards zero, added to their gradient.
    """

    leak: float = 0.0
    decay: float = 0.0


MASKED = Backward()
"""Pruned weights receive nothing."""

STRAIGHT_THROUGH = Backward(leak=1.0)
"""Pruned weights receive the gradient as if they were kept."""


def sr_ste(lam: float = 2e-4) -> Backward:
    """Straight-through with a pull of pruned weights to zero (Zhou et al. 2021, eq. 9)."""
    return Backward(leak=1.0, decay=lam)


class MaskedWeight(nn.Module):
    """Parametrization ``w -> w m``; pruned entries are +0 whatever the stored weight holds.

    ``softness`` is the factor of pruned entries in training mode; in eval mode masks are hard.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, backward: Backward = MASKED) -> None:
        super().__init__()
        self.backward_rule = backward
        self.softness = 0.0
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Zero the pruned entries, or shrink them."""
        softness = self.softness if self.training else 0.0
        return masked_weight(weight, self.mask, self.backward_rule, softness=softness)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Store a weight as it is given."""
        return weight


def masked_weight(
    weight: Tensor, mask: Tensor, backward: Backward = MASKED, *, softness: float = 0.0
) -> Tensor:
    """Compute ``weight * (mask + softness * (1 - mask))`` with a chosen gradient.

    Parameters
    ----------
    weight : Tensor
    mask : bool Tensor of the same shape
    backward : Backward, default MASKED
    softness : float, default 0

    Returns
    -------
    Tensor
        Of the weight's shape and dtype.
    """
    if backward == MASKED and softness == 0:
        return weight.masked_fill(~mask, 0)
    return _LeakyMask.apply(weight, mask, softness, backward.leak, backward.decay)


class _LeakyMask(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, mask: Tensor, softness: float, leak: float, decay: float
    ) -> Tensor:
        ctx.save_for_backward(weight, mask)
        ctx.leak, ctx.decay = leak, decay
        # Not a product: a hard zero must be +0, and a weight that is not finite must not leak.
        pruned = softness * weight if softness else weight.new_zeros(())
        return torch.where(mask, weight, pruned)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        weight, mask = ctx.saved_tensors
        pruned = grad if ctx.leak == 1 else ctx.leak * grad
        if ctx.decay:
            pruned = torch.add(pruned, weight, alpha=ctx.decay)
        # Straight through needs no copy.
        both = grad if pruned is grad else torch.where(mask, grad, pruned)
        return both, None, None, None, None


class Attachment:
    """Masks that are on a model; also a context manager that takes them off again.

    Made by :func:`attach`.

    Attributes
    ----------
    model : nn.Module
    masks : Masks
    """

    def __init__(
        self, model: nn.Module, masks: Masks, *, parametrized: bool, optimizer: Optimizer | None
    ) -> None:
        self.model = model
        self.masks = masks
        self._parametrized = parametrized
        # Looked up once: for a small model that would take longer than the zeroing itself.
        self._pruned = [(self._stored(name), ~mask) for name, mask in masks.items()]
        self._optimizer = optimizer
        self._hook = None
        if optimizer is not None:
            self._hook = optimizer.register_step_post_hook(lambda *_: self.apply_())

    @torch.no_grad()
    def apply_(self) -> None:
        """Zero pruned weights and their optimizer state now.

        Called by itself after each step of the optimizer given to :func:`attach`; to be called
        after ``optimizer.step()`` where none was given.
        """
        for weight, pruned in self._pruned:
            zero_(weight, pruned, self._optimizer)

    def detach(self, *, bake: bool = True) -> None:
        """Take the masks off, leaving an ordinary model.

        Parameters
        ----------
        bake : bool, default True
            Leave zeros at the pruned positions; ``False`` leaves the stored weights, which is of
            interest where the backward rule let pruned weights live on.
        """
        if self._hook is not None:
            self._hook.remove()
        if bake:
            self.apply_()
        if self._parametrized:
            for name in self.masks:
                module, attribute = _owner(self.model, name)
                # The stored tensor is already baked where wanted: leave it as it is.
                parametrize.remove_parametrizations(module, attribute, leave_parametrized=False)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def masked(self, name: str) -> MaskedWeight:
        """Find the module that masks a parameter, of mode "parametrize"."""
        module, attribute = _owner(self.model, name)
        return module.parametrizations[attribute][0]

    def _stored(self, name: str) -> Tensor:
        module, attribute = _owner(self.model, name)
        if self._parametrized:
            return module.parametrizations[attribute].original
        return getattr(module, attribute)


def attach(
    model: nn.Module,
    masks: Masks,
    *,
    mode: Literal["parametrize", "project"] = "parametrize",
    backward: Backward = MASKED,
    optimizer: Optimizer | None = None,
) -> Attachment:
    """Put masks on a model.

    Parameters
    ----------
    model : nn.Module
    masks : Masks
    mode : {"parametrize", "project"}, default "parametrize"
        ``"parametrize"`` computes ``w m`` at every read, so the model is exactly sparse whatever
        training does to the stored weight. The parameter *object* stays the same, so an optimizer
        built before keeps working. State dict keys change (see :func:`strip_state_dict`).
        ``"project"`` leaves the model as it is and zeroes pruned weights, now and after every
        step: nothing to strip, works under compile, DDP, FSDP and the HF Trainer.
    backward : Backward, default MASKED
        What pruned weights receive; rules other than ``MASKED`` need ``"parametrize"``.
    optimizer : torch optimizer, optional
        Its steps are followed by :meth:`Attachment.apply_`: pruned weights and their momentum are
        zeroed. Only sensible, and only accepted, with the ``MASKED`` rule.

    Returns
    -------
    Attachment
        ``.detach()`` leaves an ordinary model with zeros baked in.

    Raises
    ------
    ValueError
        If a mask fits no parameter, or a masked tensor is shared (tied) with another name, or
        the options exclude each other.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> masks = Masks({"weight": torch.tensor([[True, False]])})
    >>> with attach(layer, masks):
    ...     (layer.weight != 0).tolist()
    [[True, False]]
    """
    if mode not in ("parametrize", "project"):
        raise ValueError(f"mode must be 'parametrize' or 'project', got {mode!r}")
    if backward != MASKED and (mode == "project" or optimizer is not None):
        raise ValueError(
            f"{backward} keeps pruned weights alive, but mode 'project' and optimizer= zero them "
            "after each step: use mode='parametrize' without optimizer="
        )
    refuse_tied(model, masks)
    masks.validate(model)
    if mode == "parametrize":
        for name, mask in masks.items():
            module, attribute = _owner(model, name)
            # unsafe: skips a trial run that only checks what MaskedWeight guarantees.
            parametrize.register_parametrization(
                module, attribute, MaskedWeight(mask, backward), unsafe=True
            )
    attachment = Attachment(model, masks, parametrized=mode == "parametrize", optimizer=optimizer)
    if mode == "project":
        attachment.apply_()
    return attachment


def masked_call(model: nn.Module, masks: Masks, *args: Any, **kwargs: Any) -> Any:
    """Call a model as if masked, leaving it untouched; works under ``torch.func`` and ``vmap``.

    Parameters
    ----------
    model : nn.Module
    masks : Masks
    *args, **kwargs
        What the model is called with.

    Returns
    -------
    Any
        What the model returns. Gradients reach ``model``'s parameters, masked.
    """
    parameters = dict(model.named_parameters())
    sparse = {name: masked_weight(parameters[name], mask) for name, mask in masks.items()}
    return functional_call(model, sparse, args, kwargs)


def strip_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the state dict of a model with masks attached into a plain one, zeros baked in.

    Parameters
    ----------
    state : mapping of str to Tensor
        ``model.state_dict()``.

    Returns
    -------
    dict of str to Tensor
        With the keys the model has without masks.
    """
    plain = {}
    for key, tensor in state.items():
        head, found, attribute = key.rpartition("parametrizations.")
        if not found:
            plain[key] = tensor
        elif attribute.endswith(".original"):
            mask = state[key.removesuffix("original") + "0.mask"]
            plain[head + attribute.removesuffix(".original")] = tensor.masked_fill(~mask, 0)
    return plain


def refuse_tied(model: nn.Module, names: Iterable[str]) -> None:
    """Refuse masks on a tensor that has several names in the model.

    Raises
    ------
    ValueError
        Naming the tensor and what it is tied to.
    """
    names = set(names)
    for group in shared_names(model):
        for name in sorted(group & names):
            others = ", ".join(sorted(group - {name}))
            raise ValueError(
                f"{name} is tied: it is the same tensor as {others}, so a mask on one would "
                "act on both; untie them first, or leave it out of the masks"
            )


def _owner(model: nn.Module, name: str) -> tuple[Any, str]:
    prefix, _, attribute = name.rpartition(".")
    return model.get_submodule(prefix), attribute
