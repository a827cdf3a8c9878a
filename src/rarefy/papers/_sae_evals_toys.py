"""Two ways in which a sparse autoencoder hides what is there, each as small as it can be.

Occlusion: ``a = u_i + v_j``, the u larger than the v by a ratio. Over-splitting: ``a = +-mu + e``
in 100 dimensions, one bit, for which 1,000 features with random directions have a smaller loss
``|a - a^|^2 + lambda |f|_1`` than the two features that the bit asks for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rarefy.dictionaries import coverage, feature_f1
from rarefy.papers._sae_evals_saes import Learned, learn

VALUES, WIDTH = 60, 64
NEAR = 0.9
# At the rate of part A nothing is occluded any more.
OCCLUSION_RATE = 2e-3
PAPER_RATE = 1e-3

SPLIT_WIDTH, SPLIT_NORM, RANDOM_FEATURES, RANDOM_BIAS = 100, 2.0, 1000, 2.35
LAMBDAS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)
TRAINED_LAMBDA = 2.0


def occlusion(
    ratio: float,
    *,
    n: int,
    steps: int,
    l1: float,
    generator: torch.Generator,
    lr: float = OCCLUSION_RATE,
) -> dict[str, float]:
    """Coverage of the large and of the small attribute at F1 of 0.9 and of 0.5."""
    tables = [torch.randn(VALUES, WIDTH, generator=generator) for _ in range(2)]
    large, small = (
        table * norm / table.norm(dim=1).mean()
        for table, norm in zip(tables, (1.0, 1 / ratio), strict=True)
    )
    i, j = (torch.randint(VALUES, (n,), generator=generator) for _ in range(2))
    a = large[i] + small[j]
    seed = int(torch.randint(1 << 30, (), generator=generator))
    learned = learn("vanilla", a, n_latents=256, l1=l1, steps=steps, seed=seed, lr=lr)
    active = learned.codes(a) != 0
    found = {
        f"{name}_{at}": coverage(active, labels, threshold=threshold)
        for name, labels in (("large", i), ("small", j))
        for at, threshold in (("near", NEAR), ("half", 0.5))
    }
    return found | {"l0": float(active.float().sum(1).mean())}


def two_gaussians(n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw activations (n, 100), their signs (n,) and the direction mu."""
    mu = torch.randn(SPLIT_WIDTH, generator=generator)
    mu *= SPLIT_NORM / mu.norm()
    sign = 2.0 * torch.randint(2, (n,), generator=generator) - 1
    return sign[:, None] * mu + torch.randn(n, SPLIT_WIDTH, generator=generator), sign, mu


def ideal_loss(
    a: Tensor, mu: Tensor, lambdas: tuple[float, ...]
) -> tuple[list[float], list[float]]:
    """Best loss of the two ideal features at each lambda, and how often they fire.

    Decoder +-mu / |mu|, encoder +-k mu, bias -gamma: only the coordinate t along mu matters.
    """
    t = a @ mu / mu.norm()
    rest = float(a.square().sum(1).mean())
    best = [(math.inf, 0.0)] * len(lambdas)
    gamma = torch.linspace(0, 5, 51)[:, None]
    for k in torch.linspace(0, 2, 41):
        pre = k * mu.norm() * t
        plus, minus = (pre - gamma).relu(), (-pre - gamma).relu()
        f = plus - minus
        error = rest - 2 * (t * f).mean(1) + f.square().mean(1)
        size, fires = (plus + minus).mean(1), ((plus + minus) > 0).float().mean(1)
        for index, lam in enumerate(lambdas):
            loss, row = (error + lam * size).min(0)
            best[index] = min(best[index], (float(loss), float(fires[row])))
    losses, firing = zip(*best, strict=True)
    return list(losses), list(firing)


def random_loss(
    a: Tensor, rows: Tensor, lambdas: tuple[float, ...]
) -> tuple[list[float], list[float]]:
    """Best loss over beta of the features whose directions are draws ``rows``; active features."""
    products, decoder = a @ rows.T, rows / rows.norm(dim=1, keepdim=True)
    best = [(math.inf, 0.0)] * len(lambdas)
    for beta in torch.linspace(0, 0.1, 21)[1:]:
        f = (beta * products - RANDOM_BIAS).relu()
        error = float((a - f @ decoder).square().sum(1).mean())
        size, active = float(f.sum(1).mean()), float((f > 0).float().sum(1).mean())
        for index, lam in enumerate(lambdas):
            best[index] = min(best[index], (error + lam * size, active))
    losses, active_features = zip(*best, strict=True)
    return list(losses), list(active_features)


def oversplitting(
    *, n: int, n_train: int, steps: int, generator: torch.Generator
) -> dict[str, dict[str, float]]:
    """Losses of the ideal and of the random dictionary, and how a trained one splits the bit.

    Returns
    -------
    dict
        Metrics of "ideal" and of "random" and of "trained".
    """
    a, _, mu = two_gaussians(n, generator=generator)
    signs = 2.0 * torch.randint(2, (RANDOM_FEATURES,), generator=generator) - 1
    noise = torch.randn(RANDOM_FEATURES, SPLIT_WIDTH, generator=generator)
    ideal, firing = ideal_loss(a, mu, LAMBDAS)
    random, active = random_loss(a, signs[:, None] * mu + noise, LAMBDAS)
    return {
        "ideal": _by_lambda("loss", ideal) | _by_lambda("firing", firing),
        "random": _by_lambda("loss", random) | _by_lambda("active", active),
        "trained": {"features_per_sign": _split(n_train, steps, generator)},
    }


def _split(n: int, steps: int, generator: torch.Generator) -> float:
    """Features of a trained dictionary that speak of one sign, of the sign that has fewer."""
    a, sign, _ = two_gaussians(n, generator=generator)
    # The loss of the toy is in its own units, the trainer's in those of scaled inputs.
    l1 = TRAINED_LAMBDA / float(a.norm(dim=1).mean())
    seed = int(torch.randint(1 << 30, (), generator=generator))
    learned: Learned = learn("vanilla", a, n_latents=64, l1=l1, steps=steps, seed=seed)
    active = learned.codes(a) != 0
    labels = (sign > 0).long()
    precision = feature_f1(active, labels).precision
    often = torch.stack([active[labels == c].float().mean(0) for c in (0, 1)], dim=1)
    return float(((often >= 0.01) & (precision > 0.5)).sum(0).min())


def _by_lambda(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name}_{lam:g}": value for lam, value in zip(LAMBDAS, values, strict=True)}
