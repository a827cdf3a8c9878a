"""The unsupervised dictionaries that are judged: four kinds of autoencoder, and one on other text.

Inputs are divided by their mean norm, so that an L1 weight means the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    Gated,
    GateLoss,
    L1Loss,
    SparseAutoencoder,
    train,
)
from rarefy.dictionaries.losses import Loss
from rarefy.operators import L1, TopK

Variant = Literal["vanilla", "gated", "top-k", "frozen decoder"]

ACTIVE = 3
BATCH = 512
RATE = 1e-2

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Learned:
    """An autoencoder of scaled inputs, as a dictionary of the inputs themselves."""

    sae: SparseAutoencoder
    scale: float

    @property
    def decoder(self) -> Tensor:
        """Features (m, d)."""
        return self.sae.decoder.detach()

    def codes(self, x: Tensor) -> Tensor:
        """Dense codes (n, m) of activations (n, d)."""
        return self.scale * self.sae.encode(x / self.scale).dense().detach()

    def reconstruct(self, codes: Tensor) -> Tensor:
        """Activations (n, d) from codes."""
        bias = self.sae.decoder_bias
        assert bias is not None
        return codes @ self.decoder + self.scale * bias.detach()


def learn(
    variant: Variant,
    x: Tensor,
    *,
    n_latents: int,
    l1: float,
    steps: int,
    seed: int,
    lr: float = RATE,
) -> Learned:
    """Train one dictionary on activations (n, d)."""
    scale = float(x.norm(dim=1).mean())
    width = x.shape[1]
    if variant == "top-k":
        sae = SparseAutoencoder(width, n_latents, TopK(ACTIVE, by="positive"), seed=seed)
        losses: list[Loss] = [AuxK(n_latents, dead_after=50 * BATCH)]
    elif variant == "gated":
        sae = SparseAutoencoder(width, n_latents, Gated(n_latents), encoder_bias=False, seed=seed)
        losses = [GateLoss(l1)]
    else:
        sae = SparseAutoencoder(width, n_latents, L1(0.0, positive=True), seed=seed)
        sae.decoder.requires_grad_(variant != "frozen decoder")
        losses = [L1Loss(l1)]
    stream = ArrayStream(x / scale, batch_size=BATCH, seed=seed)
    train(sae, stream, steps=steps, losses=losses, lr=lr, warm_up=min(100, steps // 10))
    return Learned(sae, scale)
