"""Which tensors of a model may be pruned, and along which axis a unit reads its inputs.

Prunable is every floating tensor of two or more axes owned by a linear layer, a convolution, an
attention in-projection or a transformers ``Conv1D``. Never biases, norms and embeddings (their
layers are not on the list), never a tensor that two modules share, never a LoRA adapter.

Source: the common convention of the pruning literature. Departures: none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rarefy.models import decoder_layers

Chooser = str | Sequence[str] | Callable[[str, nn.Module, Tensor], bool]
"""Name globs (one or several), or a predicate over (parameter name, its module, the tensor)."""


def select(
    model: nn.Module, *, include: Chooser = "*", exclude: Chooser = ()
) -> dict[str, nn.Parameter]:
    """Find the prunable parameters of a model, in the model's own order.

    Parameters
    ----------
    model : nn.Module
    include : str, sequence of str, or callable, default "*"
        Globs over parameter names (``"*.mlp.*"``), or ``(name, module, tensor) -> bool``.
    exclude : same, default ()
        What to leave out again, for example ``"lm_head*"``.

    Returns
    -------
    dict of str to nn.Parameter
        Keyed by the name that ``model.named_parameters()`` uses.

    Raises
    ------
    ValueError
        If nothing is selected; the sentence lists what could have been.

    Examples
    --------
    >>> from torch import nn
    >>> list(select(nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 2))))
    ['0.weight', '2.weight']
    """
    shared = set().union(*shared_names(model))
    candidates = {
        name: (module, tensor)
        for name, module, tensor in _prunable(model)
        if name not in shared and "lora_" not in name
    }
    chosen = {
        name: tensor
        for name, (module, tensor) in candidates.items()
        if _matches(include, name, module, tensor) and not _matches(exclude, name, module, tensor)
    }
    if not chosen:
        known = ", ".join(candidates) or "none: it has no linear or convolution layer of its own"
        raise ValueError(
            f"no parameter of {type(model).__name__} is selected; its prunable parameters: {known}"
        )
    return chosen


def block_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Find the linear weights inside a language model's transformer blocks.

    The prunable set of the LLM pruning papers: no embedding, no head, no pooler.

    Parameters
    ----------
    model : nn.Module
        Any model :func:`rarefy.models.decoder_layers` understands.

    Returns
    -------
    dict of str to nn.Parameter

    Raises
    ------
    ValueError
        If the model has no list of transformer blocks, or they hold no linear layer.
    """
    inside = {id(parameter) for parameter in decoder_layers(model).parameters()}
    return select(model, include=lambda _name, _module, tensor: id(tensor) in inside)


def input_axis(module: nn.Module) -> int:
    """Find the axis of ``module.weight`` that runs over the module's inputs.

    1 for ``nn.Linear`` (out, in) and convolutions (out, in / groups, ...); 0 for transposed
    convolutions and the transformers ``Conv1D`` (in, out).

    Parameters
    ----------
    module : nn.Module

    Returns
    -------
    int
    """
    return 0 if isinstance(module, _ConvTransposeNd) or is_conv1d(module) else 1


def input_axes(model: nn.Module) -> dict[str, int]:
    """Find :func:`input_axis` of every prunable parameter, by parameter name."""
    return {name: input_axis(module) for name, module, _ in _prunable(model)}


def is_conv1d(module: nn.Module) -> bool:
    """Tell whether a module is the transformers ``Conv1D``: a linear layer stored (in, out)."""
    # A model that has one has imported the module that defines it; importing it here would make
    # every user of torch alone pay for transformers.
    defining = sys.modules.get("transformers.pytorch_utils")
    return defining is not None and isinstance(module, defining.Conv1D)


def shared_names(model: nn.Module) -> list[set[str]]:
    """Find the groups of parameter names that are one and the same tensor."""
    names: dict[int, set[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), set()).add(name)
    return [group for group in names.values() if len(group) > 1]


def _prunable(model: nn.Module) -> list[tuple[str, nn.Module, nn.Parameter]]:
    found = []
    own: tuple[str, ...]
    for prefix, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            own = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        elif isinstance(module, nn.Linear | _ConvNd) or is_conv1d(module):
            own = ("weight",)
        else:
            continue
        for attribute, tensor in module.named_parameters(recurse=False):
            if attribute in own and tensor.ndim >= 2 and tensor.is_floating_point():
                found.append((f"{prefix}.{attribute}" if prefix else attribute, module, tensor))
    return found


def _matches(chooser: Chooser, name: str, module: nn.Module, tensor: Tensor) -> bool:
    if callable(chooser):
        return chooser(name, module, tensor)
    globs = (chooser,) if isinstance(chooser, str) else chooser
    return any(fnmatchcase(name, glob) for glob in globs)
