"""How the dictionaries of paper 30 are trained: alike but for encoder, activation and loss."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from rarefy.dictionaries import (
    AuxK,
    BatchCoupled,
    Encoded,
    L1Loss,
    MatchingPursuitSAE,
    MatryoshkaError,
    Revive,
    SparseAutoencoder,
    Stream,
    squared_error,
    train,
)
from rarefy.dictionaries.losses import Loss
from rarefy.operators import L1, BatchTopK, TopK

T = TypeVar("T")

_WARM_K = 3.0
"""Codes a row for the first third of a batch-coupled training whose k is smaller."""


class TargetedL1:
    """An L1 loss whose weight follows the number of active latents to a target."""

    def __init__(self, target: float, *, weight: float, rate: float) -> None:
        self.target, self.weight, self.rate = target, weight, rate

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch; the weight moves first."""
        off = float(encoded.codes.l0.float().mean()) / self.target - 1
        self.weight *= 1 + self.rate * max(-1.0, min(1.0, off))
        return L1Loss(self.weight)(sae, x, encoded, reconstruction)


def _l1(target: float, d: int) -> TargetedL1:
    """Start where rows of norm sqrt(d) or, on the tree, a few times 1, are about sparse enough."""
    return (
        TargetedL1(target, weight=0.05, rate=0.01)
        if d < 32
        else TargetedL1(target, weight=5.0, rate=0.05)
    )


class SampledPrefixes:
    """The Matryoshka error with prefixes drawn anew for every batch, short ones more often.

    Their sizes follow a Pareto law of this power.
    """

    def __init__(self, n_latents: int, seed: int, *, count: int = 5, power: float = 0.5) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        sizes = torch.arange(1, n_latents, dtype=torch.float64)
        self.weights = 1 - (sizes / n_latents) ** power
        self.n_latents, self.count = n_latents, count

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch."""
        drawn = torch.multinomial(self.weights, self.count - 1, generator=self.generator)
        prefixes = sorted((drawn + 1).tolist())
        return MatryoshkaError((*prefixes, self.n_latents))(sae, x, encoded, reconstruction)


def trained(
    arm: str,
    stream: Stream,
    *,
    d: int,
    n_latents: int,
    k: float,
    steps: int,
    lr: float,
    seed: int,
    tol: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    decoder_bias: bool = True,
    revive: bool = True,
) -> SparseAutoencoder:
    """Train an arm's dictionary to k active latents a row (with a tolerance, MP stops by that)."""
    if arm == "mp":
        cap = d if tol else int(k)
        sae: SparseAutoencoder = MatchingPursuitSAE(
            d, n_latents, k=cap, tol=tol, decoder_bias=decoder_bias, seed=seed
        )
        losses: list[Loss] = [Revive()] if revive else []
        train(sae, stream, steps=steps, losses=losses, lr=lr, betas=betas)
        return sae
    error: Loss = squared_error
    aux: list[Loss] = []
    if revive and arm != "relu":
        aux = [AuxK(n_latents, dead_after=50 * len(stream.batch(0)))]
    if arm == "topk":
        sae = SparseAutoencoder(d, n_latents, TopK(int(k), by="positive"), seed=seed)
        train(sae, stream, steps=steps, losses=aux, lr=lr, betas=betas)
        return sae
    if arm == "relu":
        sae = SparseAutoencoder(
            d, n_latents, L1(0.0, positive=True), decoder_bias=decoder_bias, seed=seed
        )
        train(sae, stream, steps=steps, losses=[_l1(k, d)], lr=lr, betas=betas)
        return sae
    if arm == "matryoshka":
        error = SampledPrefixes(n_latents, seed)
    coupled = BatchCoupled(BatchTopK(max(k, _WARM_K), by="positive"), n_latents)
    sae = SparseAutoencoder(d, n_latents, coupled, decoder_bias=decoder_bias, seed=seed)
    if k < _WARM_K:
        train(sae, stream, steps=steps // 3, error=error, lr=lr, betas=betas, losses=aux, decay=0.0)
        sae.activation = BatchCoupled(BatchTopK(k, by="positive"), n_latents)
        steps -= steps // 3
    train(sae, stream, steps=steps, error=error, losses=aux, lr=lr, betas=betas)
    return sae
