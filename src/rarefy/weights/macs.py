"""Multiply-accumulates of a forward pass, dense and with masks.

    macs_l = positions_l numel(w_l),     sparse macs_l = positions_l nnz(w_l)

A layer's positions are the rows or pixels at which its weight is applied. What no weight does
(attention products) stands in a line of its own, dense in both columns. Biases and norms are not
counted.

Source: the usual convention, one multiply-accumulate a weight use. Departures: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from rarefy.weights.select import is_conv1d

OTHER = "attention and other products"
"""Name of the line for matrix products without a weight of their own."""


# torch's counter knows the fused attention of GPUs but not that of CPUs.
_CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def _attention_flops(
    query: torch.Size, key: torch.Size, value: torch.Size, *_args: Any, **_kwargs: Any
) -> int:
    return sdpa_flop_count(query, key, value)


class LayerMacs(NamedTuple):
    """Multiply-accumulates of one layer in one forward pass."""

    name: str
    dense: int
    sparse: int


@torch.no_grad()
def count_macs(
    model: nn.Module, inputs: Any, masks: Mapping[str, Tensor] | None = None
) -> list[LayerMacs]:
    """Count the multiply-accumulates of ``model(*inputs)`` or ``model(**inputs)``.

    Parameters
    ----------
    model : nn.Module
    inputs : Tensor, tuple of positional or dict of keyword arguments
    masks : mapping of str to bool Tensor, optional
        By parameter name. Layers without a mask count in full.

    Returns
    -------
    list of LayerMacs
        In the order the layers first run, then the rest if there is any.

    Examples
    --------
    >>> count_macs(nn.Linear(3, 2), torch.ones(5, 3))
    [LayerMacs(name='weight', dense=30, sparse=30)]
    """
    positions: dict[str, int] = {}
    numel: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            numel[name] = module.weight.numel()  # type: ignore[operator]
            positions[name] = positions.get(name, 0) + _positions(module, args[0], output)

        return hook

    hooks = [
        module.register_forward_hook(watch(f"{prefix}.weight" if prefix else "weight"))
        for prefix, module in model.named_modules()
        if isinstance(module, nn.Linear | _ConvNd) or is_conv1d(module)
    ]
    training = model.training
    model.eval()
    counter = FlopCounterMode(display=False, custom_mapping={_CPU_ATTENTION: _attention_flops})
    try:
        with counter:
            if isinstance(inputs, dict):
                model(**inputs)
            else:
                model(*(inputs if isinstance(inputs, tuple) else (inputs,)))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    rows = []
    for name, times in positions.items():
        mask = (masks or {}).get(name)
        kept = numel[name] if mask is None else int(mask.count_nonzero())
        rows.append(LayerMacs(name, times * numel[name], times * kept))
    rest = counter.get_total_flops() // 2 - sum(row.dense for row in rows)
    return [*rows, LayerMacs(OTHER, rest, rest)] if rest > 0 else rows


def _positions(module: nn.Module, x: Tensor, output: Tensor) -> int:
    """How often the whole weight is applied."""
    if isinstance(module, _ConvTransposeNd):
        return x.numel() // module.in_channels
    if isinstance(module, _ConvNd):
        return output.numel() // module.out_channels
    return output.numel() // output.shape[-1]
