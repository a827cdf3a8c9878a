r"""Feature Choice: every latent picks its rows, as many as a Zipf law gives its rank.

.. math:: \sum_i S_{ij} = m_j, \qquad \sum_j m_j = k B, \qquad m_j \approx B\,c\,(r_j + q)^{-s}

No latent can die, since each fires in every batch. From scratch that is a weak way to learn: ranks
are noise at first. So a dictionary learns with Mutual Choice (``BatchTopK``, only the total is
fixed) and changes over once its latents have found their ranks: :func:`progressive_choice`.

Source: Ayonrinde 2024 (arXiv 2411.02124). Departures: the paper's schedule is not public, so
Mutual Choice first and for two thirds of the steps is ours; so are the ranks, by how often Mutual
Choice would pick a latent, since under Feature Choice all densities are what they are made to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarefy.dictionaries.activations import BatchCoupled
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.codes import Support
from rarefy.dictionaries.losses import Loss
from rarefy.dictionaries.metrics import evaluate
from rarefy.dictionaries.stream import Stream
from rarefy.dictionaries.train import train
from rarefy.dictionaries.zipf import ZipfLaw, ranks_of
from rarefy.operators import BatchTopK, FeatureTopK


class FeatureChoice(BatchCoupled):
    """Feature Choice while it learns: its counts follow the latents' ranks.

    Parameters
    ----------
    density : array-like of float, shape (f,)
        How often each latent fires under Mutual Choice, at the start.
    k : int
        Latents a row, on average.
    law : ZipfLaw, optional
        By default fitted to ``density``.
    refresh_every : int, default 100
        Batches between looks at what Mutual Choice would pick.
    smooth : float, default 0.9
        Weight of the densities so far in such a look, so that ranks do not jump.
    decay : float, default 0.99
        Of the running thresholds.
    """

    density: Tensor

    def __init__(
        self,
        density: Any,
        *,
        k: int,
        law: ZipfLaw | None = None,
        refresh_every: int = 100,
        smooth: float = 0.9,
        decay: float = 0.99,
    ) -> None:
        seen = torch.as_tensor(np.asarray(density), dtype=torch.float32)
        super().__init__(FeatureTopK(k, by="positive"), len(seen), decay=decay)
        self.register_buffer("density", seen.clone())
        self.law = ZipfLaw.fit(seen.numpy()) if law is None else law
        self.k = k
        self.refresh_every = refresh_every
        self.smooth = smooth
        self._looks = -1
        self._rows = 0

    def select(self, u: Tensor) -> Support:
        """Entries that the latents pick; in evaluation those above their thresholds."""
        if self.training:
            self._keep_up(u)
        return super().select(u)

    def counts(self, rows: int) -> Tensor:
        """Rows that each latent gets of a batch, int64, shape (f,), k times ``rows`` in all."""
        by_rank = self.law.counts(len(self.density), rows, total=self.k * rows)
        return torch.from_numpy(by_rank[ranks_of(self.density.cpu().numpy()) - 1])

    def finish(self, rows: int) -> BatchCoupled:
        """An ordinary activation with the counts and thresholds of now, for batches of ``rows``."""
        projection = FeatureTopK(self.counts(rows).tolist(), by="positive")
        finished = BatchCoupled(projection, len(self.density), decay=self.decay)
        finished.threshold.copy_(self.threshold)
        finished.batches.copy_(self.batches)
        return finished.train(self.training)

    def _keep_up(self, u: Tensor) -> None:
        # the number of looks comes from the saved count of batches, so a resumed run looks alike
        looks, due = divmod(int(self.batches), self.refresh_every)
        if looks > 0 and due == 0 and looks != self._looks:
            wanted = BatchTopK(self.k, by="positive").mask(u).float().mean(0)
            self.density.lerp_(wanted, 1 - self.smooth)
        if looks != self._looks or len(u) != self._rows:
            self.projection = FeatureTopK(self.counts(len(u)).tolist(), by="positive")
            self._looks, self._rows = looks, len(u)


def progressive_choice(
    sae: SparseAutoencoder,
    stream: Stream,
    *,
    steps: int,
    mutual: float = 2 / 3,
    losses: Sequence[Loss] = (),
    rows: int = 8192,
    **training: Any,
) -> ZipfLaw:
    """Train with Mutual Choice first, then with Feature Choice from where that ended; in place.

    Parameters
    ----------
    sae : SparseAutoencoder
        Its activation must be ``BatchCoupled(BatchTopK(k, by="positive"), n_latents)``; it ends as
        a ``BatchCoupled(FeatureTopK(counts, by="positive"), n_latents)``.
    stream : Stream
    steps : int
        In all.
    mutual : float, default 2/3
        Share of the steps with Mutual Choice.
    losses : sequence of Loss
        Of the first phase; no latent is dead in the second.
    rows : int, default 8192
        Rows, about, on which densities are counted for the fit.
    **training
        As for :func:`~rarefy.dictionaries.train`, for both phases alike. A checkpoint is not among
        them: to go on after a kill, train the phases on their own.

    Returns
    -------
    ZipfLaw
        Fitted to the densities at the end of the first phase.

    Raises
    ------
    ValueError
        If the activation is another one, or ``mutual`` leaves one of the phases no step.
    """
    activation = sae.activation
    projection = activation.projection if isinstance(activation, BatchCoupled) else None
    if not isinstance(projection, BatchTopK):
        raise ValueError(
            "progressive choice starts from BatchCoupled(BatchTopK(k, by='positive'), n_latents), "
            f"got {type(projection or activation).__name__}"
        )
    if "checkpoint" in training:
        raise ValueError("progressive choice takes no checkpoint: train the phases on their own")
    first = round(mutual * steps)
    if not 0 < first < steps:
        raise ValueError(f"mutual must leave each phase a step of the {steps}, got {mutual}")
    train(sae, stream, steps=first, losses=losses, **training)
    x = _rows_of(stream, first, rows)
    choice = FeatureChoice(evaluate(sae, x).density, k=round(projection.k))
    sae.activation = choice.to(sae.decoder.device)
    train(sae, _From(stream, first), steps=steps - first, **{**training, "center": False})
    sae.activation = choice.finish(choice._rows)
    return choice.law


def _rows_of(stream: Stream, start: int, rows: int) -> Tensor:
    """At least so many rows of a stream's batches."""
    parts: list[Tensor] = []
    while sum(map(len, parts)) < rows:
        batch = stream.batch(start + len(parts))
        parts.append(batch[0] if isinstance(batch, tuple) else batch)
    return torch.cat(parts)


class _From:
    """A stream that starts later."""

    def __init__(self, stream: Stream, start: int) -> None:
        self.stream, self.start = stream, start

    def batch(self, step: int) -> Tensor | tuple[Tensor, ...]:
        return self.stream.batch(self.start + step)
