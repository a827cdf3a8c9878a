"""Part C of paper 30: planted data, two modalities with shared concepts, and superposition."""

from __future__ import annotations

import torch
from torch import Tensor

from rarefy.dictionaries import ArrayStream, SparseAutoencoder, modality_score
from rarefy.dictionaries.geometry import assign
from rarefy.papers._mp_sae_training import trained

_D = 32
_SHARED, _OWN = 24, 12
_SHARED_A_ROW, _GAP = 5, 2.0
_K = 5
"""The paper's, on images of everyday scenes; a row has more concepts than that, as a scene has."""


def modalities(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows of two modalities: an offset, shared concepts, and one of the modality's own."""
    shared = _unit(_SHARED, generator)
    offset = _GAP * _unit(1, generator)
    rows = []
    for sign in (1.0, -1.0):
        x = sign * offset.expand(n, -1)
        for directions, a_row in ((shared, _SHARED_A_ROW), (_unit(_OWN, generator), 1)):
            which = torch.rand(n, len(directions), generator=generator).topk(a_row).indices
            amplitude = 1 + 0.25 * torch.randn(n, a_row, 1, generator=generator)
            x = x + (amplitude * directions[which]).sum(1)
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
    first, second = modalities(rows, _truth(seed))
    sae = trained(
        arm,
        ArrayStream(torch.cat([first, second]), batch_size=512, seed=seed),
        d=_D,
        n_latents=2 * (_SHARED + 2 * _OWN),
        k=_K,
        steps=steps,
        lr=4e-3,
        seed=seed,
    )
    return shared_share(sae, first[:4000], second[:4000])


def learn_superposed(arm: str, *, rows: int, steps: int, seed: int) -> float:
    """Recovery of 100 features in 32 dimensions, rare ones rarer: mean matched cosine."""
    g = _truth(seed)
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


def _truth(seed: int) -> torch.Generator:
    """Not at the seed itself, which would draw the truth as the dictionary to begin with."""
    return torch.Generator().manual_seed(seed + 10_000)


def _unit(rows: int, generator: torch.Generator) -> Tensor:
    directions = torch.randn(rows, _D, generator=generator)
    return directions / directions.norm(dim=1, keepdim=True)
