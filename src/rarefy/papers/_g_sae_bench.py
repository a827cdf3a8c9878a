"""What paper 34 is measured on: the middle of a digits network, and loud and quiet features.

Axis letters: n rows, d width, f latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    GradientSAE,
    SparseAutoencoder,
    evaluate,
    train,
)
from rarefy.operators import TopK
from rarefy.papers._recipe import Trial

LOUD, QUIET, WIDTH = 32, 32, 32
_AMPLITUDE = 0.3


class Rows(NamedTuple):
    """Activations at a site, gradients of the loss there, and the labels."""

    x: Tensor
    g: Tensor
    y: Tensor


@dataclass(frozen=True, eq=False)
class Digits:
    """A trained digits network from its site on, and what passes the site."""

    tail: nn.Sequential
    train: Rows
    held: Rows


@dataclass(frozen=True, eq=False)
class Planted:
    """Rows of loud features that no loss reads and quiet ones that it reads."""

    rows: Rows
    quiet: Tensor


def digits_network(trial: Trial, *, epochs: int) -> Digits:
    """Train 64-128-[64]-64-10 and take activations and gradients at the 64 in brackets."""
    from rarefy.data.images import digits

    generator = trial.generator()
    images = digits(generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(trial.seed)
        head = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
        tail = nn.Sequential(nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    network = nn.Sequential(head, tail)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, weight_decay=1e-4)
    x, y = images.x.flatten(1), images.y
    for _ in range(epochs):
        for drawn in torch.randperm(len(x), generator=generator).split(128):
            optimizer.zero_grad()
            cross_entropy(network(x[drawn]), y[drawn]).backward()
            optimizer.step()
    network.requires_grad_(False)
    return Digits(
        tail,
        _at_site(head, tail, x, y),
        _at_site(head, tail, images.test_x.flatten(1), images.test_y),
    )


def planted(trial: Trial, *, rows: int) -> Planted:
    """Draw loud features in one half of the space, quiet ones in the other; five in all a row.

    The loss is the squared error of a linear readout of the quiet features to that of another row.
    """
    generator = trial.generator()
    half = WIDTH // 2
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator)).Q
    loud, quiet = (
        nn.functional.normalize(torch.randn(n, half, generator=generator), dim=1) @ part
        for n, part in ((LOUD, basis[:half]), (QUIET, basis[half:]))
    )
    on = torch.rand(rows, LOUD + QUIET, generator=generator) < 0.08
    z = on * (0.75 + 0.5 * torch.rand(on.shape, generator=generator))
    x = z[:, :LOUD] @ loud + _AMPLITUDE * z[:, LOUD:] @ quiet
    target = x[torch.randperm(rows, generator=generator)] @ quiet.t()
    return Planted(Rows(x, (x @ quiet.t() - target) @ quiet, torch.zeros(rows)), quiet)


def learn(
    rule: str, rows: Rows, trial: Trial, *, latents: int, k: int, steps: int, batch: int = 256
) -> SparseAutoencoder:
    """Train a dictionary: ``"TopK"``, or ``"g-SAE"`` with a beta or with gradients shuffled."""
    fit = partial(train, steps=steps, lr=3e-3, warm_up=steps // 20)
    losses = [AuxK(latents, dead_after=50 * batch)]
    width = rows.x.shape[1]
    if rule == "TopK":
        sae = SparseAutoencoder(width, latents, TopK(k, by="positive"), seed=trial.seed)
        stream = ArrayStream(rows.x, batch_size=batch, seed=trial.seed)
        fit(sae, stream, losses=losses)
        return sae
    _, beta = rule.split(" ")
    g = rows.g
    if beta == "shuffled":
        beta = "inf"
        g = g[torch.randperm(len(g), generator=trial.generator())]
    sae = GradientSAE(width, latents, k=k, beta=float(beta), seed=trial.seed)
    stream = ArrayStream(rows.x, g, batch_size=batch, seed=trial.seed)
    fit(sae, stream, losses=losses)
    return sae


@torch.no_grad()
def judge(sae: SparseAutoencoder, digits: Digits) -> dict[str, float]:
    """What is lost when the reconstruction stands in the site's place."""
    x, _, y = digits.held
    context = _context(sae, digits.held)
    seen = evaluate(sae, x, *context)
    clean, spliced = digits.tail(x), digits.tail(sae(x, *context))
    return {
        "delta_ce": float(cross_entropy(spliced, y) - cross_entropy(clean, y)),
        "kl": _kl(clean, spliced),
        "accuracy": float((spliced.argmax(1) == y).float().mean()),
        "fvu": seen.fvu,
        "l0": seen.l0,
        "dead": seen.dead,
    }


@torch.no_grad()
def steering(sae: SparseAutoencoder, digits: Digits, *, strength: float = 0.5) -> dict[str, float]:
    """How far a latent's direction moves the class it moves most, over all that are alive.

    The class is chosen on one half of the rows and its logit measured on the other, less the mean
    of all logits; ``strength`` is the length of the step over the mean norm of x.
    """
    x = digits.held.x
    alive = evaluate(sae, x, *_context(sae, digits.held)).density > 0
    step = strength * float(x.norm(dim=1).mean())
    chosen, measured = x[::2], x[1::2]
    effects, costs = [], []
    for direction in sae.decoder[alive]:
        moved = step * direction / direction.norm()
        target = int((digits.tail(chosen + moved) - digits.tail(chosen)).mean(0).argmax())
        before, after = digits.tail(measured), digits.tail(measured + moved)
        change = (after - before).mean(0)
        effects.append(float(change[target] - change.mean()))
        costs.append(_kl(before, after))
    effect, cost = sum(effects) / len(effects), sum(costs) / len(costs)
    return {"steering": effect, "steering_per_kl": effect / cost}


@torch.no_grad()
def recovered(sae: SparseAutoencoder, quiet: Tensor) -> float:
    """Share of the quiet features that some latent lies along, at a cosine of at least 0.9."""
    directions = nn.functional.normalize(sae.decoder, dim=1)
    return float(((quiet @ directions.t()).amax(1) >= 0.9).float().mean())


def _at_site(head: nn.Module, tail: nn.Module, images: Tensor, y: Tensor) -> Rows:
    x = head(images).detach().requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(tail(x), y, reduction="sum"), x)
    return Rows(x.detach(), g, y)


def _context(sae: SparseAutoencoder, rows: Rows) -> tuple[Tensor, ...]:
    """The gradients, for a dictionary that chooses by them."""
    by_gradient = isinstance(sae, GradientSAE) and sae.selection == "gradient"
    return (rows.g,) if by_gradient else ()


def _kl(clean: Tensor, other: Tensor) -> float:
    """Mean divergence of the other predictions from the clean ones, in nats."""
    logs = other.log_softmax(1), clean.log_softmax(1)
    return float(kl_div(*logs, log_target=True, reduction="batchmean"))
