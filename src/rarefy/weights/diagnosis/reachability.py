"""Effective masks: the kept weights that lie on some path from the input to the output.

    e = m & (dS/dm > 0),   S = sum of the outputs for an input of ones

computed over the booleans: the model runs with its masks for weights, without biases, norms and
non-linearities, and after every layer both the activations and the gradients are set to 1 where
they are positive. What is left is reachability, exact at any depth, for whatever graph the model's
own ``forward`` builds: residuals, strides, padding, gates.

Rules: attention mixes by ``1 + q k'``, so a query weight counts if it meets a kept key; gates
(sigmoid, softmax, exp) are ``1 + x``, never shut; attention masks and position rotations are left
out; parameters that no mask names are connected everywhere.

Source: Vysogorets and Kempe 2021, "Connectivity matters: neural network pruning through the lens
of effective sparsity" (arXiv 2107.02306). Departures: they count paths; counts outgrow any float
in a deep network, whether there is one does not. A unit without inputs counts as dead although its
bias still makes it a constant, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812 - torch's own name for it
from torch.overrides import TorchFunctionMode

from rarefy.weights.attach import refuse_tied
from rarefy.weights.masks import Masks


def effective_masks(model: nn.Module, masks: Mapping[str, Tensor], inputs: Any) -> Masks:
    """Find the kept weights that some input can reach and that reach some output.

    Parameters
    ----------
    model : nn.Module
        Not changed. Masks may be attached to it.
    masks : mapping of str to bool Tensor
    inputs : Tensor, tuple of positional or dict of keyword arguments
        An example of what the model is called with. Only shapes count, and token ids.

    Returns
    -------
    Masks
        ``masks``, less the weights without effect.

    Raises
    ------
    ValueError
        If the model holds recurrent layers, or subtracts activations from each other by hand, so
        that paths could cancel; or a mask fits no parameter, or a masked tensor is tied.

    Examples
    --------
    >>> layers = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    >>> masks = {"0.weight": torch.tensor([[True, False], [False, True]]),
    ...          "2.weight": torch.tensor([[True, False]])}
    >>> effective_masks(layers, masks, torch.ones(1, 2))["0.weight"].tolist()
    [[True, False], [False, False]]
    """
    refuse_tied(model, masks)
    parameters = dict(model.named_parameters())
    mask_of = {id(p): masks[name] for name, p in stored_parameters(model, masks).items()}
    twins = {name: _twin(name, p, mask_of.get(id(p))) for name, p in parameters.items()}
    args, kwargs = _ones(inputs)
    with evaluating(model), torch.enable_grad(), _Booleans():
        output = functional_call(model, twins, args, kwargs)
    total = torch.stack([tensor.float().sum() for tensor in _tensors(output)]).sum()
    watched = [twins[name] for name, p in parameters.items() if id(p) in mask_of]
    if total.requires_grad:
        flows = torch.autograd.grad(total, watched, materialize_grads=True)
    else:
        flows = tuple(torch.zeros_like(twin) for twin in watched)
    return Masks(
        {name: mask & (flow > 0) for (name, mask), flow in zip(masks.items(), flows, strict=True)}
    )


def stored_parameters(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Find the parameter behind each mask, whether masks are attached to the model or not.

    Raises
    ------
    ValueError
        Listing every mask that fits no parameter.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    found, wrong = {}, []
    for name, mask in masks.items():
        prefix, _, attribute = name.rpartition(".")
        attached = f"{prefix}.parametrizations.{attribute}.original".lstrip(".")
        parameter = parameters.get(name, parameters.get(attached))
        if parameter is None or parameter.shape != mask.shape:
            wrong.append(name)
        else:
            found[name] = parameter
    if wrong:
        raise ValueError(f"masks do not match: no parameter of that shape for {', '.join(wrong)}")
    return found


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode, and back into its own afterwards."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class _Reached(torch.autograd.Function):
    """1 where positive, in both directions."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        _refuse_negative(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        _refuse_negative(grad)
        return (grad > 0).to(grad.dtype)


class _Booleans(TorchFunctionMode):
    """Run torch functions as maps of what is reached.

    Functions are told apart by name: torch has up to four of each (``F.relu``, ``torch.relu``,
    ``Tensor.relu``, ``Tensor.relu_``).
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").rstrip("_")
        if name in _SPECIAL:
            return _SPECIAL[name](*args, **kwargs)
        if name in _LAYERS:
            args = (*args[:2], None, *args[3:]) if len(args) > 2 else args
            return _Reached.apply(func(*args, **_without(kwargs, "bias")))
        if name in _RECURRENT:
            raise ValueError("paths through recurrent layers cannot be traced")
        if name in _PASS:
            return kwargs["input"] if "input" in kwargs else args[0]
        if name in _OPEN:
            x = kwargs["input"] if "input" in kwargs else args[0]
            # Far below zero is what a mask has shut.
            return torch.where(x < -1, 0.0, 1 + x)
        return func(*args, **kwargs)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **options: Any) -> Tensor:
    if options.get("enable_gqa"):
        groups = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(groups, -3) for x in (key, value))
    return (1 + query @ key.transpose(-1, -2)) @ value


def _multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _width: int,
    heads: int,
    in_weight: Tensor | None,
    *rest: Any,
    **options: Any,
) -> tuple[Tensor, None]:
    out_weight = rest[5]
    if options.get("use_separate_proj_weight"):
        weights = tuple(options[f"{part}_proj_weight"] for part in "qkv")
    else:
        weights = in_weight.chunk(3)  # type: ignore[union-attr]
    # (length, batch, width) -> (batch, head, length, width of a head)
    q, k, v = (
        _Reached.apply(F.linear(x if x.ndim == 3 else x[:, None], weight))
        .unflatten(-1, (heads, -1))
        .permute(1, 2, 0, 3)
        for x, weight in zip((query, key, value), weights, strict=True)
    )
    mixed = _attention(q, k, v).permute(2, 0, 1, 3).flatten(2)
    output = _Reached.apply(F.linear(mixed, out_weight))
    return output if query.ndim == 3 else output[:, 0], None


def _max_pool(average: Callable) -> Callable:
    # The gradient of a maximum reaches one of its inputs, that of the average all of them.
    def pool(x: Tensor, *args: Any, **options: Any) -> Tensor:
        if options.get("dilation", 1) not in (1, (1, 1), (1, 1, 1)):
            raise ValueError("paths through a dilated max-pooling cannot be traced")
        return average(x, *args[:3], **_without(options, "dilation", "return_indices"))

    return pool


def _addmm(_bias: Tensor, x: Tensor, weight: Tensor, **_: Any) -> Tensor:
    return _Reached.apply(x @ weight)


_LAYERS = {"linear"} | {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}
_RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}
_PASS = {
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu"),
    *("mish", "hardswish", "hardtanh", "tanh", "tanhshrink", "softsign", "erf", "clamp"),
    *("clamp_min", "clamp_max", "threshold", "hardshrink", "softshrink"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
    *("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm"),
    *("local_response_norm", "normalize"),
}
_OPEN = {"sigmoid", "hardsigmoid", "logsigmoid", "softplus", "exp", "softmax", "log_softmax"}
_SPECIAL: dict[str, Callable] = {
    "addmm": _addmm,
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
    # Rotations of queries and keys, and norms written out by hand.
    "cos": lambda x, **_: torch.ones_like(x),
    "sin": lambda x, **_: torch.zeros_like(x),
    "rsqrt": lambda x, **_: torch.ones_like(x),
    **{f"max_pool{n}d": _max_pool(getattr(F, f"avg_pool{n}d")) for n in (1, 2, 3)},
    **{
        f"adaptive_max_pool{n}d": _max_pool(getattr(F, f"adaptive_avg_pool{n}d")) for n in (1, 2, 3)
    },
}


def _without(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in names}


def _twin(name: str, parameter: Tensor, mask: Tensor | None) -> Tensor:
    if not parameter.is_floating_point():
        return parameter
    if mask is not None:
        return mask.to(torch.float32).requires_grad_()
    value = 0.0 if name.endswith("bias") else 1.0
    return torch.full_like(parameter, value, dtype=torch.float32, requires_grad=False)


def _ones(inputs: Any) -> tuple[tuple, dict]:
    def one(x: Any) -> Any:
        if isinstance(x, Tensor) and x.is_floating_point():
            return torch.ones_like(x, dtype=torch.float32)
        return x

    if isinstance(inputs, dict):
        return (), {name: one(x) for name, x in inputs.items()}
    return tuple(map(one, inputs if isinstance(inputs, tuple) else (inputs,))), {}


def _tensors(output: Any) -> list[Tensor]:
    """Tensors of the output; caches and the like, which are no tensors, are not outputs."""
    values = output.values() if isinstance(output, Mapping) else output
    found = [output] if isinstance(output, Tensor) else [x for x in values if isinstance(x, Tensor)]
    if not any(x.is_floating_point() for x in found):
        raise ValueError(f"the model returns a {type(output).__name__} without a float tensor")
    return [x for x in found if x.is_floating_point()]


def _refuse_negative(x: Tensor) -> None:
    if bool((x < 0).any()):
        raise ValueError(
            "paths cannot be traced: the model subtracts activations outside of torch's own layers"
        )
