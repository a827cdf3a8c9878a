"""From a language model to a trained autoencoder: harvest, scale, train, take the scale back.

Under a process group of :mod:`torch.distributed` every process harvests its own windows, takes its
share of each batch, and ends with the same autoencoder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from rarefy.dictionaries.activation_stream import ActivationStream
from rarefy.dictionaries.architectures import Name, architecture
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.feature_choice import FeatureChoice
from rarefy.dictionaries.harvest import Site, site_width
from rarefy.dictionaries.interventions import Intervention
from rarefy.dictionaries.parallel import Dealt, mean, processes
from rarefy.dictionaries.scale import ScaledStream, norm_scale, unscale
from rarefy.dictionaries.train import train


def fit(
    model: nn.Module,
    windows: Tensor,
    site: Site,
    *,
    activation: Name = "topk",
    k: int = 32,
    n_latents: int | None = None,
    tokens: int = 1_000_000,
    batch_size: int = 2048,
    buffer_tokens: int = 65_536,
    lr: float | None = None,
    skip: int = 1,
    seed: int = 0,
    interventions: Sequence[Intervention] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 50,
    progress: Callable[[str, float], None] | None = None,
) -> SparseAutoencoder:
    """Train an autoencoder on a model's activations.

    Parameters
    ----------
    model : nn.Module
        A transformers model.
    windows : int64 Tensor, shape (n, l)
        Token windows; they are gone through as often as ``tokens`` asks.
    site : str or int
        A dotted module name, or a layer's number.
    activation : str, default "topk"
        As for :func:`~rarefy.dictionaries.architecture`.
    k : int, default 32
        Active latents a token; "afa" finds its own number.
    n_latents : int, optional
        Eight times the width of the site by default.
    tokens : int, default 1,000,000
        To train on.
    batch_size : int, default 2048
        Of all processes together.
    buffer_tokens : int, default 65,536
        Activations in memory at most, of each process.
    lr : float, optional
        As for :func:`~rarefy.dictionaries.train`.
    skip : int, default 1
        First positions of every window to leave out: whatever the token, their norm is far above
        that of others in trained models.
    seed : int, default 0
        Of the initial decoder and of all orders.
    interventions : sequence of Intervention, default none
        As for :func:`~rarefy.dictionaries.train`.
    checkpoint : path, optional
        A run found there goes on; the settings must be the same.
    checkpoint_every : int, default 50
        Steps.
    progress : callable ``(message, fraction)``, optional

    Returns
    -------
    SparseAutoencoder
        In evaluation mode, for activations as they are.

    Raises
    ------
    ValueError
        If the site is unknown, k is not from 1 to the number of latents, there is less text or
        ``tokens`` are fewer than one batch, activations are not finite, or a batch cannot be shared
        equally among the processes.
    """
    if tokens < batch_size:
        raise ValueError(f"tokens must be at least one batch of {batch_size}, got {tokens}")
    rank, size = processes()
    if batch_size % size:
        raise ValueError(f"batch_size must be a multiple of the {size} processes, got {batch_size}")
    width = site_width(model, site)
    steps = tokens // batch_size
    sae, losses, error = architecture(
        activation,
        width,
        8 * width if n_latents is None else n_latents,
        k=k,
        rows=steps * batch_size,
        seed=seed,
    )
    stream = ActivationStream(
        *(model, windows[rank::size], site),
        batch_size=batch_size // size,
        buffer_tokens=max(batch_size, buffer_tokens),
        seed=seed,
        skip=skip,
    )
    if progress is not None:
        progress("harvesting the first activations", 0.0)
    first = stream.batch(0)
    norm = torch.tensor(1 / norm_scale(first), dtype=torch.float64, device=first.device)
    scale = 1 / float(mean(norm))
    sae.to(first.device)
    for loss in losses:
        if isinstance(loss, nn.Module):
            loss.to(first.device)
    train(
        sae,
        ScaledStream(Dealt(stream), scale),
        steps=steps,
        losses=losses,
        error=error,
        lr=lr,
        interventions=interventions,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    if isinstance(sae.activation, FeatureChoice):
        sae.activation = sae.activation.finish(batch_size)
    unscale(sae, scale)
    return sae


def memory_bound(
    d_in: int, n_latents: int, *, batch_size: int, buffer_tokens: int, k: int = 32
) -> int:
    r"""Bytes that :func:`fit` holds at most, however long the text.

    .. math:: 4\,(n d + 10\,f d + 8\,b f + 20\,b d) + 64\,b k

    for a buffer of n tokens, f latents of width d and batches of b: the buffer; weights, gradients,
    two moments and what the update needs; pre-codes, and codes and gradients where all latents are
    active; rows, errors and AuxK's codes; codes and their indices. Besides them there are the
    model, one forward pass of it (8 windows) and the token windows.

    Parameters
    ----------
    d_in, n_latents : int
    batch_size, buffer_tokens, k : int
        As for :func:`fit`, of one process.

    Examples
    --------
    >>> memory_bound(256, 4096, batch_size=2048, buffer_tokens=65_536) // 2**20
    404
    """
    floats = (
        buffer_tokens * d_in
        + 10 * n_latents * d_in
        + 8 * batch_size * n_latents
        + 20 * batch_size * d_in
    )
    return 4 * floats + 64 * batch_size * k
