r"""Aux-Zipf: let latents that fire less than a Zipf law expects explain what is left over.

.. math:: U = \{ j : p_j \le \tau \hat p_j \}, \qquad
    L = \alpha \, \|e - z_\mathrm{aux} D\|^2 / \|e - \bar e\|^2, \qquad e = x - \hat x

with :math:`p_j` the running density of a latent, :math:`\hat p_j` the density that the law gives
its rank, and :math:`z_\mathrm{aux}` the best pre-codes among U, each times its shortfall
:math:`1 - p_j / \hat p_j`. At :math:`\tau = 0` only latents that never fired are left, and the loss
is that of :class:`~rarefy.dictionaries.AuxK`.

Source: Ayonrinde 2024 (arXiv 2411.02124), ``aux_zipf_loss``. Departures: the paper's formula is not
public; the idea is the paper's, this form of it is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.losses import error_left
from rarefy.dictionaries.zipf import ZipfLaw, ranks_of


class AuxZipf(nn.Module):
    """Loss that revives under-used latents.

    Parameters
    ----------
    n_latents : int
    law : ZipfLaw, optional
        Kept as it is; by default one that is fitted to the running densities.
    tau : float, default 0.5
        Share of its expected density up to which a latent counts as under-used.
    k : int, optional
        Latents a row that take part; default half the width of x.
    weight : float, default 1/32
        At this value, AuxK's, little changes; from 1 on under-used latents become fewer, at some
        cost in reconstruction.
    shortfall : bool, default True
        Weigh a code by how far its latent falls short.
    refit_every : int, default 100
        Batches between fits of the law and its ranks; none is under-used before the first.
    decay : float, default 0.99
        Of the running densities; their first batches weigh as in a plain mean.

    Raises
    ------
    ValueError
        If ``tau`` is negative or ``decay`` outside [0, 1).
    """

    density: Tensor
    expected: Tensor
    batches: Tensor

    def __init__(
        self,
        n_latents: int,
        *,
        law: ZipfLaw | None = None,
        tau: float = 0.5,
        k: int | None = None,
        weight: float = 1 / 32,
        shortfall: bool = True,
        refit_every: int = 100,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if tau < 0 or not 0 <= decay < 1:
            raise ValueError(
                f"tau must be at least 0 and decay in [0, 1), got tau {tau} and decay {decay}"
            )
        self.law = law
        self.tau = tau
        self.k = k
        self.weight = weight
        self.shortfall = shortfall
        self.refit_every = refit_every
        self.decay = decay
        self.register_buffer("density", torch.zeros(n_latents))
        self.register_buffer("expected", torch.zeros(n_latents))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @property
    def under_used(self) -> Tensor:
        """Which latents fire too little for their rank, shape (f,)."""
        return (self.expected > 0) & (self.density <= self.tau * self.expected)

    def forward(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch, which is counted first."""
        self.count(encoded.codes.active / len(x))
        latents = self.under_used.nonzero()[:, 0]
        if not len(latents):
            return x.new_zeros(())
        scale = 1 - self.density[latents] / self.expected[latents] if self.shortfall else None
        return self.weight * error_left(
            *(sae, x, encoded, reconstruction),
            latents=latents,
            k=self.k or max(1, sae.d_in // 2),
            scale=scale,
        )

    @torch.no_grad()
    def count(self, density: Tensor) -> None:
        """Move the running densities by those of a batch, and fit the law when it is time."""
        self.batches += 1
        batches = int(self.batches)
        self.density.lerp_(density.to(self.density), max(1 - self.decay, 1 / batches))
        if batches % self.refit_every == 0:
            seen = self.density.double().cpu().numpy()
            law = self.law or ZipfLaw.fit(seen)
            self.expected.copy_(torch.from_numpy(law.expected(ranks_of(seen))))
