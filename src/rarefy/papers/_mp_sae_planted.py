"""Part C of paper 30: planted data, two modalities with shared concepts, and superposition."""

from __future__ import annotations

import torch
from torch import Tensor

from rarefy.dictionaries import ArrayStream, SparseAutoencoder, modality_score
from rarefy.dictionaries.geometry import assign
from rarefy.papers._mp_sae_training import trained

_D = 32
_SHARED, _OWN = 24, 12


def modalities(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of two modalities: a shared concept, an offset, and a concept of the modality's own."""
    shared = _unit(_SHARED, generator)
    offset = _unit(1, generator)
    rows = []
    for sign in (1.0, -1.0):
        own = _unit(_OWN, generator)
        x = sign * offset
        for directions in (shared, own):
            which = torch.randint(len(directions), (n,), generator=generator)
            amplitude = 1 + 0.25 * torch.randn(n, 1, generator=generator)
            x = x + amplitude * directions[which]
        rows.append(x)
    return rows[0], rows[1]


@torch.no_grad()
def shared_share(sae: SparseAutoencoder, first: Tensor, second: Tensor) -> float:
    """Share of live latents whose modality score is in the middle half."""
    a, b = sae.encode(first).dense(), sae.encode(second).dense()
    score = modality_score(a, b)
    alive = score.isfinite()
    return float(((score > 0.25) & (score < 0.75))[alive].float().mean())


def learn_modalities(arm: str, *, rows: int, steps: int, seed: int) -> float:
    """Train on both modalities, and measure how many latents serve both."""
    first, second = modalities(rows, torch.Generator().manual_seed(seed))
    sae = trained(
        arm,
        ArrayStream(torch.cat([first, second]), batch_size=512, seed=seed),
        d=_D,
        n_latents=2 * (_SHARED + 2 * _OWN),
        k=5,
        steps=steps,
        lr=4e-3,
        seed=seed,
    )
    return shared_share(sae, first[:4000], second[:4000])


def learn_superposed(arm: str, *, rows: int, steps: int, seed: int) -> float:
    """Recovery of 100 features in 32 dimensions, rare ones rarer: mean matched cosine."""
    g = torch.Generator().manual_seed(seed)
    features = _unit(100, g)
    weights = 1 / (torch.arange(100) + 6.0)
    # the smallest exponential arrival times are a draw without replacement
    times = torch.empty(rows, 100).exponential_(generator=g) / weights
    active = times.topk(4, largest=False).indices
    z = torch.zeros(rows, 100).scatter_(1, active, 0.5 + torch.rand(rows, 4, generator=g))
    sae = trained(
        arm,
        ArrayStream(z @ features, batch_size=512, seed=seed),
        d=_D,
        n_latents=128,
        k=4,
        steps=steps,
        lr=4e-3,
        seed=seed,
    )
    cosines = features @ sae.decoder.detach().t()
    return float(cosines[torch.arange(100), assign(cosines)].mean())


def _unit(rows: int, generator: torch.Generator) -> Tensor:
    directions = torch.randn(rows, _D, generator=generator)
    return directions / directions.norm(dim=1, keepdim=True)
