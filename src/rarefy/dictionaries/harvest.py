r"""Activations of any transformers model at any module, and their gradients.

The model runs on token windows; a forward hook takes the output of the site and stops the model
there, so what lies behind the site costs nothing. With gradients the model runs on: the site's
output is detached and becomes the only leaf, all parameters are frozen, and one backward pass over
the summed loss gives

.. math:: g_t = \frac{\partial}{\partial x_t} \sum_{s} -\log p(w_{s+1} \mid w_{\le s})

which at position t holds the effect on all later tokens too.

Source: Olmo et al. 2024 (arXiv 2411.10397) for the gradients; stopping at the site is what public
trainers do. Departures: none.

Axis letters: n windows, l tokens a window, d width of the site.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from rarefy.models import decoder_layers

Site = str | int
"""A dotted module name, or the number of a decoder layer."""

Gradients = Literal["ce", "ce_sampled"] | Callable[[Any, Tensor], Tensor]
"""The loss to differentiate: on the next token, on a token that the model itself draws, or a
function of the model's output and the windows that returns a sum over positions."""


def resolve_site(model: nn.Module, site: Site) -> nn.Module:
    """Find the module whose output is a site.

    Parameters
    ----------
    model : nn.Module
    site : str or int
        A dotted module name such as ``"model.layers.2.mlp"``, or a layer's number (counted from 0)
        for the output of the whole layer.

    Returns
    -------
    nn.Module

    Raises
    ------
    ValueError
        If there is none, with those there are.
    """
    if isinstance(site, int):
        layers = decoder_layers(model)
        if not 0 <= site < len(layers):
            raise ValueError(
                f"there is no layer {site}: the model has layers 0 to {len(layers) - 1}"
            )
        return layers[site]
    modules = dict(model.named_modules())
    if site in modules and site:
        return modules[site]
    near = difflib.get_close_matches(site, modules, n=5, cutoff=0.3)
    raise ValueError(
        f"{type(model).__name__} has no module {site!r}: "
        + (
            f"{', '.join(near)} are near"
            if near
            else f"{', '.join(list(modules)[1:6])}, ... are there"
        )
    )


def content_mask(
    model: nn.Module, windows: Tensor, *, exclude: Collection[int] | None = None, skip: int = 0
) -> Tensor:
    """Positions that hold text: no special token, no padding, not the head of a window.

    Parameters
    ----------
    model : nn.Module
    windows : int64 Tensor, shape (n, l)
    exclude : collection of int, optional
        Token ids to leave out; by default those the model's config names as the beginning, the end
        and the padding of text.
    skip : int, default 0
        First positions of every window to leave out. Trained models park attention on position 0,
        whatever stands there, and its norm is often tens of times that of the others.

    Returns
    -------
    bool Tensor, shape (n, l)
    """
    excluded = _special(model) if exclude is None else exclude
    mask = ~torch.isin(
        windows, torch.tensor(sorted(excluded), dtype=torch.int64).to(windows.device)
    )
    mask[:, :skip] = False
    return mask


@overload
def harvest(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    gradients: None = ...,
    limit: int | None = ...,
    dtype: torch.dtype = ...,
    batch: int = ...,
    exclude: Collection[int] | None = ...,
    skip: int = ...,
    seed: int = ...,
) -> Tensor: ...


@overload
def harvest(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    gradients: Gradients,
    limit: int | None = ...,
    dtype: torch.dtype = ...,
    batch: int = ...,
    exclude: Collection[int] | None = ...,
    skip: int = ...,
    seed: int = ...,
) -> tuple[Tensor, Tensor]: ...


def harvest(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    gradients: Gradients | None = None,
    limit: int | None = None,
    dtype: torch.dtype = torch.float32,
    batch: int = 8,
    exclude: Collection[int] | None = None,
    skip: int = 0,
    seed: int = 0,
) -> Tensor | tuple[Tensor, Tensor]:
    """Run a model on windows and gather the output of a site, a row for every token of text.

    Parameters
    ----------
    model : nn.Module
        A transformers model, or any that takes ``input_ids``. Its training mode and its
        parameters' ``requires_grad`` are put back afterwards.
    windows : int64 Tensor, shape (n, l)
        Padding, if any, on the right.
    site : str or int
        As for :func:`resolve_site`.
    gradients : {"ce", "ce_sampled"} or callable, optional
        Gather the gradient of a summed loss too: of the next token, of a token drawn from the
        model's own prediction, or of ``gradients(output, windows)``. For the first two, positions
        without a next token are left out.
    limit : int, optional
        At most so many rows.
    dtype : torch.dtype, default float32
        Of the rows.
    batch : int, default 8
        Windows a forward pass.
    exclude, skip
        As for :func:`content_mask`.
    seed : int, default 0
        Of the tokens that ``"ce_sampled"`` draws.

    Returns
    -------
    Tensor, shape (rows, d), on the model's device
        In the order of the windows; a pair of such with ``gradients``, x and g.

    Raises
    ------
    ValueError
        If the site is unknown, does not run or gives no (n, l, d) array, if windows are not (n, l)
        or hold no text, or if the activations are not finite.

    Examples
    --------
    >>> from rarefy.models import open_model
    >>> model, tokenizer = open_model()
    >>> harvest(model, torch.arange(2, 34).view(2, 16), 2).shape
    torch.Size([32, 256])
    """
    rows = count_rows(model, windows, gradients=gradients, exclude=exclude, skip=skip)
    wanted = int(rows.sum()) if limit is None else min(limit, int(rows.sum()))
    if not wanted:
        raise ValueError("the windows hold no token of text to harvest")
    parts = harvest_batches(
        *(model, windows, site),
        gradients=gradients,
        batch=batch,
        exclude=exclude,
        skip=skip,
        seed=seed,
    )
    gathered: tuple[Tensor, ...] = ()
    filled = 0
    with closing(parts):
        for part in parts:
            gathered = gathered or tuple(
                torch.empty(wanted, p.shape[1], dtype=dtype, device=p.device) for p in part
            )
            taken = min(len(part[0]), wanted - filled)
            for kept, p in zip(gathered, part, strict=True):
                kept[filled : filled + taken] = p[:taken]
            filled += taken
            if filled == wanted:
                break
    return gathered[0] if gradients is None else (gathered[0], gathered[1])


def count_rows(
    model: nn.Module,
    windows: Tensor,
    *,
    gradients: Gradients | None = None,
    exclude: Collection[int] | None = None,
    skip: int = 0,
) -> Tensor:
    """Rows that :func:`harvest` takes from every window, int64, shape (n,).

    Raises
    ------
    ValueError
        If windows are not an int64 array of shape (n, l).
    """
    if windows.ndim != 2 or 0 in windows.shape or windows.dtype != torch.int64:
        raise ValueError(
            f"windows must be int64 of shape (n >= 1, l >= 1), got {windows.dtype} of "
            f"{tuple(windows.shape)}"
        )
    parts = windows.split(1024)
    return torch.cat([_rows_kept(model, w, gradients, exclude, skip).sum(1) for w in parts])


def harvest_batches(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    gradients: Gradients | None = None,
    batch: int = 8,
    exclude: Collection[int] | None = None,
    skip: int = 0,
    seed: int = 0,
) -> Generator[tuple[Tensor, ...], None, None]:
    """:func:`harvest`, a few windows at a time: yields ``(x,)`` or ``(x, g)``."""
    module = resolve_site(model, site)
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    with _at_rest(model, freeze=gradients is not None):
        for start in range(0, len(windows), batch):
            ids = windows[start : start + batch].to(device)
            if gradients is None:
                states: tuple[Tensor, ...] = (_states(model, module, ids, site),)
            else:
                states = _with_gradient(model, module, ids, site, gradients, generator)
            keep = _rows_kept(model, ids, gradients, exclude, skip)
            rows = tuple(s[keep] for s in states)
            for what, r in zip(("activations", "gradients"), rows, strict=False):
                # The sum is finite unless an entry is not, or it overflows.
                if not bool(torch.isfinite(r.sum())) and not bool(torch.isfinite(r).all()):
                    raise ValueError(
                        f"the {what} at {_name(site)} are not finite in windows {start} to "
                        f"{start + len(ids) - 1}"
                    )
            yield rows


def first_output(output: Any) -> Any:
    """Hidden states of a module's output, which may be a tuple with more in it."""
    return output[0] if isinstance(output, tuple) else output


def with_first_output(output: Any, states: Tensor) -> Any:
    """A module's output with other hidden states in it."""
    return (states, *output[1:]) if isinstance(output, tuple) else states


class _Stop(Exception):  # noqa: N818 - a signal, not an error
    """The site has run: nothing behind it need run."""


@torch.inference_mode()
def _states(model: nn.Module, module: nn.Module, ids: Tensor, site: Site) -> Tensor:
    found: list[Any] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        found.append(first_output(output))
        raise _Stop

    handle = module.register_forward_hook(hook)
    try:
        model(input_ids=ids, use_cache=False)
    except _Stop:
        pass
    finally:
        handle.remove()
    return _checked(found, ids, site)


def _with_gradient(
    model: nn.Module,
    module: nn.Module,
    ids: Tensor,
    site: Site,
    gradients: Gradients,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    found: list[Any] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        _checked([first_output(output)], ids, site)
        found.append(first_output(output).detach().requires_grad_())
        return with_first_output(output, found[0])

    handle = module.register_forward_hook(hook)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            output = model(input_ids=ids.clone(), use_cache=False)
            states = _checked(found, ids, site)
            if callable(gradients):
                loss = gradients(output, ids)
            else:
                loss = _next_token_loss(model, output.logits, ids, gradients, generator)
            (gradient,) = torch.autograd.grad(loss, states)
    finally:
        handle.remove()
    return states.detach(), gradient


def _next_token_loss(
    model: nn.Module, logits: Tensor, ids: Tensor, kind: str, generator: torch.Generator
) -> Tensor:
    logits = logits[:, :-1].flatten(0, 1).float()
    targets = ids[:, 1:].flatten()
    counted = ~_padding(model, targets)
    if kind == "ce_sampled":
        targets = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
    elif kind != "ce":
        raise ValueError(f"gradients must be 'ce', 'ce_sampled' or a callable, got {kind!r}")
    return cross_entropy(logits[counted], targets[counted], reduction="sum")


def _rows_kept(
    model: nn.Module,
    ids: Tensor,
    gradients: Gradients | None,
    exclude: Collection[int] | None,
    skip: int,
) -> Tensor:
    mask = content_mask(model, ids, exclude=exclude, skip=skip)
    if gradients is not None and not callable(gradients):
        mask[:, :-1] &= ~_padding(model, ids[:, 1:])
        mask[:, -1] = False
    return mask


def _checked(found: list[Any], ids: Tensor, site: Site) -> Tensor:
    if not found:
        raise ValueError(f"{_name(site)} does not run when the model does")
    states = found[0]
    if not isinstance(states, Tensor) or states.ndim != 3 or states.shape[:2] != ids.shape:
        got = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
        raise ValueError(
            f"the output of {_name(site)} must be (windows, tokens, width), "
            f"({ids.shape[0]}, {ids.shape[1]}, d) here, got {got}"
        )
    return states


def _special(model: nn.Module) -> set[int]:
    config = _config(model)
    named = [getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad")]
    ids: set[int] = set()
    for value in named:
        ids.update(value if isinstance(value, list | tuple) else [] if value is None else [value])
    return ids


def _padding(model: nn.Module, ids: Tensor) -> Tensor:
    """Where there is padding; a pad token that also ends texts is text's end, not padding."""
    config = _config(model)
    pad, end = getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)
    ends = end if isinstance(end, list | tuple) else [end]
    return torch.zeros_like(ids, dtype=torch.bool) if pad is None or pad in ends else ids == pad


def _config(model: nn.Module) -> Any:
    config = getattr(model, "config", None)
    return None if config is None else config.get_text_config(decoder=True)


def _name(site: Site) -> str:
    return f"layer {site}" if isinstance(site, int) else site


@contextmanager
def _at_rest(model: nn.Module, *, freeze: bool) -> Iterator[None]:
    """The model in evaluation mode, its parameters frozen or as they are."""
    training = model.training
    frozen = [p for p in model.parameters() if p.requires_grad] if freeze else []
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        model.train(training)
