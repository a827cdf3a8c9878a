"""How well a dictionary reconstructs, and how it spends its latents.

Every function takes any autoencoder with ``encode``, ``decode`` and a ``decoder``. Sums of squares
are ratios of sums over all rows, not means of ratios.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries.autoencoder import SparseAutoencoder


class Evaluation(NamedTuple):
    """Figures of a dictionary on held-out rows.

    Attributes
    ----------
    l0 : float
        Mean number of nonzero codes a row.
    fvu : float
        Fraction of variance unexplained, ``sum |x - x_hat|^2 / sum |x - mean|^2``.
    dead : float
        Share of latents that never fire on these rows.
    density : Tensor, shape (f,)
        Share of rows on which each latent fires.
    """

    l0: float
    fvu: float
    dead: float
    density: Tensor


@torch.no_grad()
def evaluate(
    sae: SparseAutoencoder, x: Tensor, *context: Tensor, batch_size: int = 4096
) -> Evaluation:
    """L0, FVU, dead latents and densities on rows of shape (n, d).

    Raises
    ------
    ValueError
        If all rows are equal, so that no variance can be explained.
    """
    mean = x.mean(0)
    spread = float((x - mean).square().sum())
    if spread == 0:
        raise ValueError("x has no variance: all its rows are equal")
    error, l0 = 0.0, 0
    fired = torch.zeros(sae.n_latents, dtype=torch.int64, device=x.device)
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        codes = sae.encode(rows, *(c[start : start + batch_size] for c in context))
        error += float((rows - sae.decode(codes)).square().sum())
        l0 += int((codes.values != 0).sum())
        fired += codes.active
    density = fired / len(x)
    return Evaluation(l0 / len(x), error / spread, float((fired == 0).float().mean()), density)
