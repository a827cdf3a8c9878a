"""Paper 41 without training: what the operators solve, and how an unrolled step is an encoder.

And one training without real data: planted axes, of which the truth is known.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from rarefy.dictionaries import (
    SparseAutoencoder,
    SparseCodes,
    bidirectionality,
    proximal_gradient,
)
from rarefy.operators import L0, L1, Penalty, Projection, TopK
from rarefy.papers._abstopk_training import trained
from rarefy.papers._recipe import Trial

WIDTH, LAM, K = 6, 0.4, 2

# The rows of the paper's table, and the two-sided forms of them.
OPERATORS: dict[str, Penalty | Projection] = {
    "relu": L1(LAM, positive=True),
    "jumprelu": L0(LAM, positive=True),
    "topk": TopK(K, by="positive"),
    "soft": L1(LAM),
    "hard": L0(LAM),
    "abstopk": TopK(K),
}

AXES, RAYS, ACTIVE, SPACE = 48, 32, 6, 64
_NEAR = 0.8


def operator_metrics(trial: Trial) -> dict[str, float]:
    """How far each operator is from the best point, and one step from the autoencoder."""
    draws = trial.pick(smoke=20, default=200, full=1000)
    u = torch.randn(draws, WIDTH, generator=trial.generator(), dtype=torch.float64)
    values = {f"gap_{name}": _gap(operator, u) for name, operator in OPERATORS.items()}
    x = torch.randn(200, 16, generator=trial.generator(), dtype=torch.float64)
    apart = []
    for operator in OPERATORS.values():
        sae = SparseAutoencoder(16, 48, operator, seed=trial.seed).double()
        step = proximal_gradient(x, sae.decoder.detach(), operator, step_size=1.0)
        apart.append(float((sae.encode(x).dense() - step).detach().abs().max()))
    return values | {"step_apart": max(apart), "ista_rises": _ista_rises(trial)}


def _gap(operator: Penalty | Projection, u: Tensor) -> float:
    """Largest distance of the operator's objective from the least over all supports."""
    positive = operator.positive if isinstance(operator, Penalty) else operator.by == "positive"
    limit = operator.k if isinstance(operator, TopK) else WIDTH
    best = torch.full((len(u),), float("inf"), dtype=u.dtype)
    for size in range(limit + 1):
        for support in combinations(range(WIDTH), size):
            z = torch.zeros_like(u)
            z[:, list(support)] = u[:, list(support)]
            if positive:
                z = z.clamp(min=0)
            if isinstance(operator, L1):
                # On a support the l1 problem is linear in each entry: its own stationary point.
                z = torch.where(z.abs() > LAM, z - LAM * z.sign(), 0.0)
            best = torch.minimum(best, _objective(operator, u, z))
    ours = operator.prox(u) if isinstance(operator, Penalty) else operator(u)
    return float((_objective(operator, u, ours) - best).abs().max())


def _objective(operator: Penalty | Projection, u: Tensor, z: Tensor) -> Tensor:
    distance = 0.5 * (u - z).square().sum(1)
    if isinstance(operator, L1):
        return distance + LAM * z.abs().sum(1)
    return distance + LAM * (z != 0).sum(1) if isinstance(operator, L0) else distance


def _ista_rises(trial: Trial) -> float:
    """Steps of ISTA, of the largest size allowed, after which the objective is higher."""
    g = trial.generator()
    decoder = torch.randn(96, 32, generator=g, dtype=torch.float64)
    x = torch.randn(50, 32, generator=g, dtype=torch.float64)
    penalty = L1(0.5)
    z = torch.zeros(50, 96, dtype=torch.float64)
    last, rises = float("inf"), 0
    for _ in range(trial.pick(smoke=20, default=100, full=500)):
        z = proximal_gradient(x, decoder, penalty, start=z)
        now = float(0.5 * (x - z @ decoder).square().sum() + penalty.value(z))
        rises += now > last + 1e-9
        last = now
    return float(rises)


def axis_metrics(arm: str, trial: Trial) -> dict[str, float]:
    """Of planted axes: the share that one latent represents, and the share that two share.

    A sample adds six of 48 axes, with random signs, and of 32 one-sided features.
    """
    g = trial.generator()
    truth = torch.nn.functional.normalize(torch.randn(AXES + RAYS, SPACE, generator=g), dim=1)
    n = trial.pick(smoke=4000, default=40_000, full=200_000)
    active = torch.rand(n, AXES + RAYS, generator=g).topk(ACTIVE).indices
    size = 0.5 + torch.rand(n, ACTIVE, generator=g)
    sign = torch.where(torch.rand(n, ACTIVE, generator=g) < 0.5, -1.0, 1.0)
    amounts = torch.zeros(n, AXES + RAYS)
    amounts.scatter_(1, active, size * torch.where(active < AXES, sign, 1.0))
    x = amounts @ truth
    x *= SPACE**0.5 / x.norm(dim=1).mean()
    sae = trained(
        arm,
        x,
        n_latents=AXES + RAYS,
        k=ACTIVE,
        steps=trial.pick(smoke=20, default=700, full=3000),
        batch_size=512,
        lr=5e-3,
        # The trial's own seed would draw the truth as the initial dictionary.
        seed=trial.seed + 10_000,
    )
    with torch.no_grad():
        codes: SparseCodes = sae.encode(x[:8000])
    cosine = truth[:AXES] @ torch.nn.functional.normalize(sae.decoder.detach(), dim=1).t()
    both_signs = bidirectionality(codes).balance >= 0.1
    one = ((cosine.abs() >= _NEAR) & both_signs).any(1)
    two = (cosine >= _NEAR).any(1) & (cosine <= -_NEAR).any(1)
    return {
        "axes_in_one": float(one.float().mean()),
        "axes_in_two": float(two.float().mean()),
    }
