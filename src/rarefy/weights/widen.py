"""A copy of a network with more channels: chosen layers get ``round(factor * outputs)`` outputs.

What a layer reads is not computed from the architecture but seen: the copy runs once, and each
linear layer, convolution and norm is built anew for the width that reaches it. So residual sums,
flattened pictures and branches need no rules of their own.

Departures: none; there is no paper for this part.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Layer = nn.Linear | nn.Conv2d


def widened(model: nn.Module, inputs: Any, *, factor: float, layers: Collection[str]) -> nn.Module:
    """Copy a model with wider layers.

    Parameters
    ----------
    model : nn.Module
        Left as it is.
    inputs : Tensor, tuple of positional or dict of keyword arguments
        One small batch; only its shapes matter.
    factor : float
    layers : collection of str
        Module names of the ``nn.Linear`` and ``nn.Conv2d`` whose outputs are multiplied.

    Returns
    -------
    nn.Module
        Layers whose shape changed have fresh weights, drawn as torch draws them from its global
        generator; all others keep theirs.

    Raises
    ------
    ValueError
        If the factor is out of range, or the model's own code fixes a width, so that the wider copy
        does not run.
    """
    if not 0 < factor < float("inf"):  # also true for NaN
        raise ValueError(f"factor must be positive and finite, got {factor}")
    model = copy.deepcopy(model)
    training = model.training
    model.eval()
    seats = _put_placeholders(model, factor, set(layers))
    try:
        with torch.no_grad():
            run(model, inputs)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{type(model).__name__} does not run with wider layers ({error}); its code fixes a "
            "width, so name in widen= only layers whose width is free, such as those inside an MLP"
        ) from error
    for parent, name, placeholder in seats:
        setattr(parent, name, placeholder.built or placeholder.layer)
    return model.train(training)


def run(model: nn.Module, inputs: Any) -> Any:
    """Call a model on a tensor, a tuple of positional or a dict of keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*(inputs if isinstance(inputs, tuple) else (inputs,)))


def rebuilt(layer: Layer, inputs: int, outputs: int, *, bias: bool | None = None) -> Layer:
    """Build a fresh layer like another, with other widths; ``bias`` as the layer's by default."""
    bias = layer.bias is not None if bias is None else bias
    where: dict[str, Any] = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    if isinstance(layer, nn.Linear):
        return nn.Linear(inputs, outputs, bias, **where)
    depthwise = layer.groups > 1
    return nn.Conv2d(
        inputs,
        outputs,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        inputs if depthwise else 1,
        bias,
        layer.padding_mode,
        **where,
    )


class _Placeholder(nn.Module):
    """A layer of which nobody knows yet what it will read."""

    def __init__(self, layer: nn.Module, outputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.outputs = outputs
        self.built: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.built is None:
            self.built = _fitted(self.layer, x, self.outputs)
        return self.built(x)


def _put_placeholders(
    model: nn.Module, factor: float, layers: set[str]
) -> list[tuple[nn.Module, str, _Placeholder]]:
    seats = []
    made: dict[int, _Placeholder] = {}
    for prefix, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            full = f"{prefix}.{name}" if prefix else name
            # Subclasses may be read by their owner without being called (attention's out_proj).
            if type(child) in (nn.Linear, nn.Conv2d):
                width = child.weight.shape[0]
                outputs = round(factor * width) if full in layers else width
            elif isinstance(child, _BatchNorm | nn.GroupNorm) or type(child) is nn.LayerNorm:
                outputs = 0  # a norm gives as many as it reads
            else:
                continue
            placeholder = made.setdefault(id(child), _Placeholder(child, outputs))
            setattr(parent, name, placeholder)
            seats.append((parent, name, placeholder))
    return seats


def _fitted(layer: nn.Module, x: Tensor, outputs: int) -> nn.Module:
    """Build the layer for what it reads; itself where nothing changes."""
    if isinstance(layer, nn.Linear):
        inputs = x.shape[-1]
        same = (inputs, outputs) == (layer.in_features, layer.out_features)
        return layer if same else rebuilt(layer, inputs, outputs)
    if isinstance(layer, nn.LayerNorm):
        width = x.shape[-1]
        if len(layer.normalized_shape) != 1 or width == layer.normalized_shape[0]:
            return layer
        return _with_affine_of(
            layer, nn.LayerNorm(width, layer.eps, layer.elementwise_affine, layer.bias is not None)
        )
    inputs = x.shape[1]
    if isinstance(layer, nn.Conv2d):
        if layer.groups > 1:
            if layer.groups != layer.in_channels:
                raise ValueError(f"a convolution of {layer.groups} groups cannot be widened")
            outputs = inputs * layer.out_channels // layer.in_channels
        same = (inputs, outputs) == (layer.in_channels, layer.out_channels)
        return layer if same else rebuilt(layer, inputs, outputs)
    if isinstance(layer, nn.GroupNorm):
        if inputs == layer.num_channels:
            return layer
        fresh: nn.Module = nn.GroupNorm(layer.num_groups, inputs, layer.eps, layer.affine)
        return _with_affine_of(layer, fresh)
    assert isinstance(layer, _BatchNorm)
    if inputs == layer.num_features:
        return layer
    fresh = type(layer)(
        inputs, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    ).eval()
    return _with_affine_of(layer, fresh)


def _with_affine_of(norm: nn.Module, fresh: nn.Module) -> nn.Module:
    """Put a fresh norm where the old one is; a scale of zero (a residual branch's) stays zero."""
    for name, parameter in norm.named_parameters():
        fresh = fresh.to(parameter.device, parameter.dtype)
        if not parameter.any():
            nn.init.zeros_(fresh.get_parameter(name))
    return fresh
