r"""Put something else in a site's place while a model runs: reconstruct, steer, ablate.

.. math:: x \leftarrow f(x), \qquad \text{or} \quad x \leftarrow f(x) + \mathrm{sg}(x - f(x))

The second form leaves the model's output as it was and lets gradients reach what f is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rarefy.dictionaries.harvest import Site, first_output, resolve_site, with_first_output


@contextmanager
def splice(
    model: nn.Module,
    site: Site,
    fn: Callable[[Tensor], Tensor],
    *,
    keep_error: bool = False,
    mask: Tensor | None = None,
) -> Iterator[None]:
    """Replace the output of a site by a function of it, as long as the block lasts.

    Parameters
    ----------
    model : nn.Module
    site : str or int
        As for :func:`~rarefy.dictionaries.resolve_site`.
    fn : callable
        Gets the site's output, shape (n, l, d), and returns one of that shape; its type is set
        back to the model's.
    keep_error : bool, default False
        Add what ``fn`` leaves out, without a gradient.
    mask : bool Tensor, shape (n, l), optional
        Positions to replace, all by default; see :func:`~rarefy.dictionaries.content_mask`.

    Raises
    ------
    ValueError
        If the site is unknown, or ``fn`` or ``mask`` is of another shape.

    Examples
    --------
    >>> from rarefy.models import open_model
    >>> model, _ = open_model()
    >>> ids = torch.arange(2, 10)[None]
    >>> with splice(model, 2, torch.zeros_like):
    ...     ablated = model(input_ids=ids).logits
    """

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        x = first_output(output)
        y = fn(x)
        if y.shape != x.shape:
            raise ValueError(f"fn must keep the shape {tuple(x.shape)}, got {tuple(y.shape)}")
        y = y.to(x.dtype)
        if keep_error:
            y = y + (x - y).detach()
        if mask is not None:
            if mask.shape != x.shape[:-1]:
                raise ValueError(
                    f"mask must be {tuple(x.shape[:-1])} as the site's output, "
                    f"got {tuple(mask.shape)}"
                )
            y = torch.where(mask.to(x.device)[..., None], y, x)
        return with_first_output(output, y)

    handle = resolve_site(model, site).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
