"""What paper 45 trains: dictionaries of image patches, and of every layer of a language model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from rarefy.data import windows
from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    L1Loss,
    NormLoss,
    SparseAutoencoder,
    TopAFA,
    coherence,
    description_length,
    epsilon_lbo,
    harvest,
    norm_bounds,
    norms,
    train,
    zf_points,
)
from rarefy.models import decoder_layers, open_model
from rarefy.operators import L1, TopK
from rarefy.papers._abstopk_language import LENGTH, some_tokens
from rarefy.papers._labelled_text import documents, training_documents
from rarefy.papers._recipe import Trial

L1_WEIGHT = 1.0


class Layers(NamedTuple):
    """Scaled rows of every layer of a model, to train on and held out."""

    train: tuple[Tensor, ...]
    test: tuple[Tensor, ...]


@cache
def layers(path: str | None, text: Path | None, device: str, rows: int, test_rows: int) -> Layers:
    """Harvest every layer, once for all seeds; norms are sqrt(d) on average."""
    model, tokenizer = open_model(path, device=device)
    evaluation, own = documents(text)
    parts = []
    for texts, count in (
        (training_documents() if text is None else own, rows),
        (evaluation, test_rows),
    ):
        ids, _ = some_tokens(tokenizer, texts, count)
        cut = windows(ids, LENGTH, limit=count // (LENGTH - 1) + 1)
        # Attention parks on the first position, whose norm is unlike all others.
        parts.append([harvest(model, cut, i, skip=1) for i in range(len(decoder_layers(model)))])
    scales = [x.shape[1] ** 0.5 / float(x.norm(dim=1).mean()) for x in parts[0]]
    return Layers(*(tuple(x * s for x, s in zip(part, scales, strict=True)) for part in parts))


def fitted(
    kind: str,
    x: Tensor,
    *,
    n_latents: int,
    k: int = 16,
    weight: float = 0.0,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int,
) -> SparseAutoencoder:
    """Train a "topk", "relu" or "top-afa" dictionary."""
    d = x.shape[1]
    losses: list[AuxK | L1Loss | NormLoss] = [AuxK(n_latents, dead_after=50 * batch_size)]
    if kind == "topk":
        sae = SparseAutoencoder(d, n_latents, TopK(k, by="positive"), encoder_bias=False, seed=seed)
    elif kind == "relu":
        sae = SparseAutoencoder(d, n_latents, L1(0.0, positive=True), seed=seed)
        losses = [L1Loss(L1_WEIGHT)]
    else:
        sae = TopAFA(d, n_latents, seed=seed)
        losses.append(NormLoss(weight))
    stream = ArrayStream(x, batch_size=batch_size, seed=seed)
    train(sae, stream, steps=steps, losses=losses, lr=lr, betas=(0.9, 0.99))
    return sae


@torch.no_grad()
def row_errors(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Squared error of every row beside its squared norm."""
    return (x - sae(x)).square().sum(1) / x.square().sum(1)


@torch.no_grad()
def judged(sae: SparseAutoencoder, x: Tensor, *, difficulty: Tensor) -> dict[str, float]:
    """Error, cost in features and bits, and how norms match, on held-out rows."""
    l0 = sae.encode(x).l0.float()
    norm_x, norm_z = norms(sae, x)
    rank = spearmanr(l0.numpy(), difficulty.numpy()).statistic if float(l0.std()) else 0.0
    return {
        "nmse": float(row_errors(sae, x).mean()),
        "l0": float(l0.mean()),
        "l0_std": float(l0.std()),
        "l0_over_d": float(l0.mean()) / x.shape[1],
        "bits": description_length(float(l0.mean()), sae.n_latents),
        "mismatch": float((norm_z / norm_x - 1).abs().mean()),
        "lbo": float(epsilon_lbo(norm_x, norm_z, sae.n_latents).nanmedian()),
        "difficulty": float(rank),
        "dead": float((sae.encode(x).active == 0).float().mean()),
        "coherence": coherence(sae.decoder).largest,
    }


@torch.no_grad()
def diagnosed(saes: list[SparseAutoencoder], tests: tuple[Tensor, ...]) -> dict[str, float]:
    """For every layer: under-activation, epsilon LBO and error; and whether the two rank alike."""
    values: dict[str, float] = {}
    lbo, nmse, together = [], [], []
    for i, (sae, x) in enumerate(zip(saes, tests, strict=True)):
        points = zf_points(sae, x)
        bound = epsilon_lbo(*norms(sae, x), sae.n_latents)
        errors = row_errors(sae, x)
        known = bound.isfinite()
        together.append(spearmanr(bound[known].numpy(), errors[known].numpy()).statistic)
        lbo.append(float(bound.nanmedian()))
        nmse.append(float(errors.mean()))
        values |= {
            f"under_{i}": points.under,
            f"ratio_{i}": points.ratio,
            f"lbo_{i}": lbo[-1],
            f"nmse_{i}": nmse[-1],
            f"l0_{i}": float(sae.encode(x).l0.float().mean()),
        }
    return values | {
        "tokens_alike": float(np.mean(together)),
        "layers_alike": float(spearmanr(lbo, nmse).statistic),
        "under": float(np.mean([values[f"under_{i}"] for i in range(len(saes))])),
        "ratio_fall": values["ratio_0"] - values[f"ratio_{len(saes) - 1}"],
    }


def theory_metrics(trial: Trial) -> dict[str, float]:
    """Count rows that break the bound, over random dictionaries and sparse codes, in float64."""
    g = trial.generator()
    outside_f = outside_k = above = rows = 0
    for h in trial.pick(smoke=(64, 512), default=(64, 512, 4096), full=(64, 512, 4096)):
        for d in (64, 256):
            decoder = torch.nn.functional.normalize(
                torch.randn(h, d, generator=g, dtype=torch.float64), dim=1
            )
            epsilon = coherence(decoder, block=h).largest
            n = trial.pick(smoke=200, default=3000, full=20_000)
            for k in (2, 8, 32):
                active = torch.randint(h, (n, k), generator=g)
                z = torch.zeros(n, h, dtype=torch.float64)
                z.scatter_(1, active, torch.rand(n, k, generator=g, dtype=torch.float64))
                norm_x, norm_z = (z @ decoder).norm(dim=1), z.norm(dim=1)
                outside_f += _outside(norm_x, norm_z, epsilon, h)
                outside_k += _outside(norm_x, norm_z, epsilon, (z > 0).sum(1))
                above += int((epsilon_lbo(norm_x, norm_z, h) > epsilon).sum())
                rows += n
    square = torch.linalg.qr(torch.randn(64, 64, generator=g, dtype=torch.float64)).Q
    z = torch.rand(500, 64, generator=g, dtype=torch.float64)
    apart = ((z @ square).norm(dim=1) / z.norm(dim=1) - 1).abs().max()
    return {
        "outside_f": float(outside_f),
        "outside_k": float(outside_k),
        "lbo_above": float(above),
        "orthonormal_apart": float(apart),
        "rows": float(rows),
    }


def _outside(norm_x: Tensor, norm_z: Tensor, epsilon: float, count: Tensor | int) -> int:
    low, high = norm_bounds(norm_x, epsilon, count)
    # One rounding either way is no violation.
    return int(((norm_z < low * (1 - 1e-12)) | (norm_z > high * (1 + 1e-12))).sum())
