"""Where in a corpus each latent is most active, and what it does to the next token.

One pass over the corpus keeps, for every latent, its strongest position in each of the few windows
where it is strongest, so memory is that of the answer. Strength is magnitude: codes may be signed.
The effect on the logits is the direct path, :math:`W_U D_j` less its mean over the vocabulary,
without the final normalisation.

Axis letters: f latents, m examples a latent, n windows, l tokens a window, d width, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.codes import Support
from rarefy.dictionaries.harvest import Site, content_mask, harvest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TopExamples(NamedTuple):
    """The strongest examples of every latent, strongest first.

    Attributes
    ----------
    values : Tensor, shape (f, m)
        Codes; 0 where there are fewer than m windows in which the latent fires.
    windows, positions : int64 Tensor, shape (f, m)
    density : Tensor, shape (f,)
        Share of tokens on which each latent fires.
    tokens : int
        Tokens seen.
    """

    values: Tensor
    windows: Tensor
    positions: Tensor
    density: Tensor
    tokens: int


@torch.no_grad()
def top_examples(
    sae: SparseAutoencoder,
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    n_examples: int = 8,
    batch: int = 8,
    exclude: Collection[int] | None = None,
    skip: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> TopExamples:
    """Find each latent's strongest examples, one a window.

    Parameters
    ----------
    sae : SparseAutoencoder
    model : nn.Module
    windows : int64 Tensor, shape (n, l)
    site : str or int
    n_examples : int, default 8
    batch : int, default 8
        Windows a pass; memory grows with ``n_latents * (n_examples + batch)``.
    exclude, skip
        As for :func:`~rarefy.dictionaries.content_mask`.
    progress : callable ``(message, fraction)``, optional

    Returns
    -------
    TopExamples
    """
    f = sae.n_latents
    device = next(model.parameters()).device
    best = torch.zeros(f, n_examples, device=device)
    where = torch.zeros(f, n_examples, 2, dtype=torch.int64, device=device)
    fired = torch.zeros(f, dtype=torch.int64, device=device)
    tokens = 0
    for start in range(0, len(windows), batch):
        ids = windows[start : start + batch].to(device)
        mask = content_mask(model, ids, exclude=exclude, skip=skip)
        if not bool(mask.any()):
            continue
        x = harvest(model, ids, site, batch=batch, exclude=exclude, skip=skip)
        codes = sae.encode(x)
        fired += codes.active
        tokens += len(x)
        strongest, position = _strongest_of_windows(codes.values, codes.support, mask)
        window = torch.arange(start, start + len(ids), device=device).expand(f, -1)
        values = torch.cat([best, strongest], 1)
        places = torch.cat([where, torch.stack([window, position], -1)], 1)
        kept = values.abs().topk(n_examples, dim=1).indices
        best = values.gather(1, kept)
        where = places.gather(1, kept[..., None].expand(-1, -1, 2))
        if progress is not None:
            progress("searching for examples", (start + len(ids)) / len(windows))
    if not tokens:
        raise ValueError("the windows hold no token of text to search")
    return TopExamples(best, where[..., 0], where[..., 1], fired / tokens, tokens)


@torch.no_grad()
def activations_of(
    sae: SparseAutoencoder,
    model: nn.Module,
    windows: Tensor,
    site: Site,
    latent: int,
    *,
    exclude: Collection[int] | None = None,
    skip: int = 0,
) -> Tensor:
    """Code of one latent at every token, shape (n, l); 0 at positions that are left out."""
    mask = content_mask(model, windows, exclude=exclude, skip=skip)
    codes = sae.encode(harvest(model, windows, site, exclude=exclude, skip=skip))
    mine = codes.support.indices == latent
    kept = codes.values.new_zeros(codes.support.shape[0])
    kept[codes.support.rows[mine]] = codes.values[mine]
    found = kept.new_zeros(windows.shape)
    found[mask.to(found.device)] = kept
    return found


@torch.no_grad()
def logit_effects(sae: SparseAutoencoder, model: PreTrainedModel, latents: Tensor) -> Tensor | None:
    """Effect of a unit of each latent on the logits, shape (latents, v).

    ``None`` where the model has no output embedding of the site's width.
    """
    head = model.get_output_embeddings()
    if head is None or head.weight.shape[1] != sae.d_in:
        return None
    effects = sae.decoder[latents] @ head.weight.to(sae.decoder.dtype).t()
    return effects - effects.mean(1, keepdim=True)


def _strongest_of_windows(values: Tensor, support: Support, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Code of largest magnitude of each latent in each window, and its position, (f, windows)."""
    rows, columns = support.rows, support.indices
    windows, positions = mask.nonzero(as_tuple=True)
    shape = (support.shape[1], len(mask))
    cell = columns * len(mask) + windows[rows]
    size = values.new_zeros(shape[0] * shape[1])
    size.scatter_reduce_(0, cell, values.abs(), "amax")
    # Equal magnitudes within one window: whichever is written last.
    at_peak = values.abs() == size[cell]
    value = torch.zeros_like(size)
    position = torch.zeros_like(size, dtype=torch.int64)
    entry = torch.full_like(position, -1)
    entry[cell[at_peak]] = at_peak.nonzero()[:, 0]
    found = entry >= 0
    value[found] = values[entry[found]]
    position[found] = positions[rows[entry[found]]]
    return value.view(shape), position.view(shape)
