"""Queries, keys, values and head outputs of a transformer, at one head and one position each.

``collect`` reads activations at sites; ``patch`` runs the model with others in their place::

    q, k, v   what the attention's input projections give, before any rotary embedding
    z         the attention-weighted sum of values, before the output projection

Plain hooks on a transformers model of the GPT-2 or the Llama kind (Llama, Mistral, Qwen2). Source:
"Towards Principled Evaluations of Sparse Autoencoders" (2405.08366), section 2. Departures: none.

Axis letters: n prompts, l tokens, h width of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from rarefy.models.opening import decoder_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = Literal["q", "k", "v", "z"]
Side = Literal["input", "output"]


class Site(NamedTuple):
    """A place in a transformer whose activation is a vector of one head's width.

    Parameters
    ----------
    layer, head : int
        From 0. With grouped queries, ``head`` counts key-value heads for ``k`` and ``v``.
    kind : {"q", "k", "v", "z"}
    position : int or str
        A token of the prompt (negative from the end), or a name of ``positions``.
    """

    layer: int
    head: int
    kind: Kind
    position: int | str


class _Slice(NamedTuple):
    """Where a site is: columns of a module's input or output."""

    module: nn.Module
    side: Side
    columns: slice


def collect(
    model: PreTrainedModel,
    ids: Tensor,
    sites: Sequence[Site],
    *,
    positions: Mapping[str, Tensor] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Read activations at sites.

    Parameters
    ----------
    model : transformers model
        Of the GPT-2 or the Llama kind.
    ids : Tensor of int64, shape (n, l)
        Prompts of one length.
    sites : sequence of Site
    positions : mapping of str to Tensor of int64, shape (n,), optional
        Token of each prompt at each named position.
    batch_size : int, default 512

    Returns
    -------
    Tensor, shape (n, sites, h)

    Raises
    ------
    ValueError
        If a site is not in the model or its position not in the prompts.
    """
    found = torch.empty(len(ids), len(sites), _head_width(model))

    def read(rows: slice, index: int, x: Tensor) -> None:
        found[rows, index] = x.float().cpu()

    _run(model, ids, sites, positions, batch_size, read)
    return found


def patch(
    model: PreTrainedModel,
    ids: Tensor,
    replacements: Mapping[Site, Tensor],
    *,
    positions: Mapping[str, Tensor] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Run the model with activations replaced at all sites at once.

    Parameters
    ----------
    model : transformers model
    ids : Tensor of int64, shape (n, l)
    replacements : mapping of Site to Tensor, shape (n, h)
        Empty for the model as it is.
    positions, batch_size
        As :func:`collect`.

    Returns
    -------
    Tensor, shape (n, vocabulary)
        Logits at the last token.

    Raises
    ------
    ValueError
        As :func:`collect`, or if a replacement has another shape than its site.
    """
    sites = list(replacements)
    values = list(replacements.values())
    wanted = (len(ids), _head_width(model))
    for site, value in replacements.items():
        if value.shape != wanted:
            raise ValueError(
                f"the replacement at {site} has shape {tuple(value.shape)}, expected {wanted}"
            )

    def write(rows: slice, index: int, x: Tensor) -> Tensor:
        return values[index][rows].to(x)

    return torch.cat(_run(model, ids, sites, positions, batch_size, write))


@torch.inference_mode()
def _run(
    model: PreTrainedModel,
    ids: Tensor,
    sites: Sequence[Site],
    positions: Mapping[str, Tensor] | None,
    batch_size: int,
    visit: Callable[[slice, int, Tensor], Tensor | None],
) -> list[Tensor]:
    """Run in batches; ``visit`` is shown each site's activation and may return another."""
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected at least 1")
    tokens = [_tokens(site, ids, positions or {}) for site in sites]
    places: dict[tuple[nn.Module, Side], list[tuple[int, slice]]] = {}
    for index, site in enumerate(sites):
        module, side, columns = _find(model, site)
        places.setdefault((module, side), []).append((index, columns))
    logits = []
    for start in range(0, len(ids), batch_size):
        rows = slice(start, min(start + batch_size, len(ids)))
        batch = torch.arange(rows.stop - rows.start)

        def seen(x: Tensor, here: list[tuple[int, slice]]) -> Tensor:
            for index, columns in here:
                at = tokens[index][rows]  # noqa: B023
                given = visit(rows, index, x[batch, at, columns])  # noqa: B023
                if given is not None:
                    # A copy: the tensor may be a view that the model still reads.
                    x = x.clone()
                    x[batch, at, columns] = given  # noqa: B023
            return x

        with ExitStack() as hooks:
            for (module, side), here in places.items():
                handle = (
                    module.register_forward_pre_hook(
                        lambda _, args, here=here: (seen(args[0], here), *args[1:])
                    )
                    if side == "input"
                    else module.register_forward_hook(
                        lambda _module, _args, output, here=here: seen(output, here)
                    )
                )
                hooks.callback(handle.remove)
            given = ids[rows].to(model.device)
            output = model(input_ids=given, use_cache=False, logits_to_keep=1)
            logits.append(output.logits[:, -1].float().cpu())
    return logits


def _tokens(site: Site, ids: Tensor, positions: Mapping[str, Tensor]) -> Tensor:
    """Token (n,) of each prompt at a site's position."""
    n, length = ids.shape
    if isinstance(site.position, int):
        tokens = torch.full((n,), site.position + length * (site.position < 0))
    elif site.position in positions:
        tokens = positions[site.position]
    else:
        raise ValueError(
            f"position {site.position!r} of {site} is not among the named positions: "
            f"{', '.join(positions) or 'none is given'}"
        )
    if tokens.shape != (n,) or tokens.min() < 0 or tokens.max() >= length:
        raise ValueError(f"the position of {site} is not in all {n} prompts of {length} tokens")
    return tokens


def _find(model: PreTrainedModel, site: Site) -> _Slice:
    layers = decoder_layers(model)
    if not 0 <= site.layer < len(layers):
        raise ValueError(f"{site} is in layer {site.layer}, but there are {len(layers)} from 0")
    if site.kind not in get_args(Kind):
        raise ValueError(f"{site} is of kind {site.kind!r}, expected 'q', 'k', 'v' or 'z'")
    config: Any = model.config
    heads, width = config.num_attention_heads, _head_width(model)
    modules = dict(layers[site.layer].named_modules())
    if "attn.c_attn" in modules:
        first = 0 if site.kind == "z" else "qkv".index(site.kind) * heads * width
        names = dict.fromkeys("qkv", "attn.c_attn") | {"z": "attn.c_proj"}
    elif "self_attn.q_proj" in modules:
        if site.kind in "kv":
            heads = config.num_key_value_heads
        first = 0
        names = {kind: f"self_attn.{kind}_proj" for kind in "qkv"} | {"z": "self_attn.o_proj"}
    else:
        raise ValueError(
            f"{type(model).__name__} has neither GPT-2's nor Llama's attention: sites are known "
            "in these two kinds of model"
        )
    if not 0 <= site.head < heads:
        raise ValueError(f"{site} is head {site.head}, but there are {heads} from 0")
    start = first + site.head * width
    side: Side = "input" if site.kind == "z" else "output"
    return _Slice(modules[names[site.kind]], side, slice(start, start + width))


def _head_width(model: PreTrainedModel) -> int:
    config: Any = model.config
    given = getattr(config, "head_dim", None)
    return given or config.hidden_size // config.num_attention_heads
