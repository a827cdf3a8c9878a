"""Why paper 34's rule does not find planted quiet features: choosing and learning, held apart.

A dictionary is handed the true features. Before any training, its choice alone is judged: which
share of the quiet features present does it pick? Then it is trained, with the squared error of all
of x or only of the half of the space that the loss reads. Whatever is lost on the way is lost by
learning, and if the second error keeps it, by what the first one rewards.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rarefy.dictionaries import (
    ArrayStream,
    Encoded,
    GradientSAE,
    SparseAutoencoder,
    squared_error,
    train,
)
from rarefy.papers._g_sae_bench import LOUD, Planted, built, chosen_by, context, recovered
from rarefy.papers._recipe import Trial

Taught = Literal["handed", "trained on", "trained on, quiet error"]


def cause(rule: str, how: Taught, data: Planted, trial: Trial, *, steps: int) -> dict[str, float]:
    """Hand a dictionary the true features, train it or not, and see which are left and picked."""
    x, g, _ = data.rows
    features = torch.nn.functional.normalize(data.features, dim=1)
    sae = built(rule, x.shape[1], trial, latents=len(features), k=2)
    with torch.no_grad():
        sae.decoder.copy_(features)
        sae.encoder.copy_(features)
    if how != "handed":
        # a projection on what the loss reads: gradients span the quiet half of the space
        reads = torch.linalg.pinv(data.quiet) @ data.quiet

        def quiet_error(
            sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
        ) -> Tensor:
            return squared_error(sae, x @ reads, encoded, reconstruction @ reads)

        error = squared_error if how == "trained on" else quiet_error
        pairs = (x, g) if isinstance(sae, GradientSAE) else (x,)
        stream = ArrayStream(*pairs, batch_size=256, seed=trial.seed)
        train(sae, stream, steps=steps, lr=3e-3, warm_up=steps // 20, error=error)
    sae = chosen_by("gradient", sae.eval(), x) if rule != "TopK" else sae.eval()
    return {"quiet": recovered(sae, data.quiet), "picked": picked(sae, data)}


@torch.no_grad()
def picked(sae: SparseAutoencoder, data: Planted) -> float:
    """Share of the quiet features present for which their nearest latent is kept; mean over them.

    A latent that has turned away from its feature is still the nearest, so this is generous.
    """
    kept = sae.encode(data.rows.x, *context(sae, data.rows)).dense() > 0
    directions = torch.nn.functional.normalize(sae.decoder, dim=1)
    nearest = (data.quiet @ directions.t()).argmax(1)
    on = data.on[:, LOUD:]
    return float(((kept[:, nearest] & on).sum(0) / on.sum(0)).mean())
