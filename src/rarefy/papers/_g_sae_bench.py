"""What paper 34 is measured on: the middle of a digits network, and loud and quiet features.

Axis letters: n rows, d width, f latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

from rarefy.dictionaries import (
    ArrayStream,
    AuxK,
    GradientSAE,
    SparseAutoencoder,
    at_equal_kl,
    evaluate,
    train,
)
from rarefy.operators import TopK
from rarefy.papers._recipe import Trial
from rarefy.papers._spliced_site import Pairs

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
    features: Tensor
    on: Tensor

    @property
    def quiet(self) -> Tensor:
        """The quiet features, which are the last."""
        return self.features[LOUD:]


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
    g = (x @ quiet.t() - target) @ quiet
    return Planted(Rows(x, g, torch.zeros(rows)), torch.cat([loud, quiet]), on)


def learn(
    rule: str,
    x: Tensor,
    g: Tensor,
    trial: Trial,
    *,
    latents: int,
    k: int,
    steps: int,
    batch: int = 256,
    lr: float = 3e-3,
) -> SparseAutoencoder:
    """Train a dictionary: ``"TopK"``, or ``"g-SAE"`` with a beta or with gradients shuffled."""
    sae = built(rule, x.shape[1], trial, latents=latents, k=k)
    if rule == "g-SAE shuffled":
        g = g[torch.randperm(len(g), generator=trial.generator())]
    pairs = (x, g) if isinstance(sae, GradientSAE) else (x,)
    stream = ArrayStream(*pairs, batch_size=batch, seed=trial.seed)
    losses = [AuxK(latents, dead_after=50 * batch)]
    train(sae, stream, steps=steps, lr=lr, warm_up=steps // 20, losses=losses)
    return sae


def built(rule: str, width: int, trial: Trial, *, latents: int, k: int) -> SparseAutoencoder:
    """Build the dictionary of a rule, untrained."""
    if rule == "TopK":
        return SparseAutoencoder(width, latents, TopK(k, by="positive"), seed=trial.seed)
    beta = rule.removeprefix("g-SAE ").replace("shuffled", "inf")
    return GradientSAE(width, latents, k=k, beta=float(beta), seed=trial.seed)


def chosen_by(
    selection: Literal["activation", "gradient", "threshold"], sae: SparseAutoencoder, x: Tensor
) -> SparseAutoencoder:
    """Let a dictionary choose its latents so from now on; a TopK dictionary is copied for that.

    Thresholds are set to keep as many latents on x as the others do.
    """
    if not isinstance(sae, GradientSAE):
        return GradientSAE.from_topk(sae) if selection == "gradient" else sae
    sae.selection = selection
    if selection == "threshold":
        sae.calibrate(x, l0=sae.k)
    return sae


@torch.no_grad()
def judge(sae: SparseAutoencoder, digits: Digits) -> dict[str, float]:
    """What is lost when the reconstruction stands in the site's place."""
    x, _, y = digits.held
    extra = context(sae, digits.held)
    seen = evaluate(sae, x, *extra)
    clean, spliced = digits.tail(x), digits.tail(sae(x, *extra))
    return {
        "delta_ce": float(cross_entropy(spliced, y) - cross_entropy(clean, y)),
        "kl": _kl(clean, spliced),
        "accuracy": float((spliced.argmax(1) == y).float().mean()),
        "fvu": seen.fvu,
        "l0": seen.l0,
        "dead": seen.dead,
    }


@torch.no_grad()
def steering(sae: SparseAutoencoder, digits: Digits, *, kl: float = 0.1) -> float:
    """How far a latent moves the log odds of the class it moves most, where it costs ``kl``.

    The mean over all latents that are alive. The class is chosen on one half of the rows and its
    odds measured on the other.
    """
    x = digits.held.x
    alive = evaluate(sae, x, *context(sae, digits.held)).density > 0
    step = 0.5 * float(x.norm(dim=1).mean())
    chosen, measured = x[::2], x[1::2]
    shifts = []
    for direction in sae.decoder[alive]:
        change = (digits.tail(chosen + step * direction) - digits.tail(chosen)).mean(0)
        order = change.argsort(descending=True)
        steered = at_equal_kl(
            lambda moved: digits.tail(measured + moved).log_softmax(1),
            direction,
            order[:1],
            order[1:],
            kl=kl,
        )
        shifts.append(steered.effect.shift)
    return fmean(shifts)


@torch.no_grad()
def recovered(sae: SparseAutoencoder, quiet: Tensor) -> float:
    """Share of the quiet features that some latent lies along, at a cosine of at least 0.9."""
    directions = nn.functional.normalize(sae.decoder, dim=1)
    return float(((quiet @ directions.t()).amax(1) >= 0.9).float().mean())


def _at_site(head: nn.Module, tail: nn.Module, images: Tensor, y: Tensor) -> Rows:
    x = head(images).detach().requires_grad_()
    (g,) = torch.autograd.grad(cross_entropy(tail(x), y, reduction="sum"), x)
    return Rows(x.detach(), g, y)


def context(sae: SparseAutoencoder, rows: Rows | Pairs) -> tuple[Tensor, ...]:
    """The gradients, for a dictionary that chooses by them."""
    by_gradient = isinstance(sae, GradientSAE) and sae.selection == "gradient"
    return (rows.g,) if by_gradient else ()


def _kl(clean: Tensor, other: Tensor) -> float:
    """Mean divergence of the other predictions from the clean ones, in nats."""
    logs = other.log_softmax(1), clean.log_softmax(1)
    return float(kl_div(*logs, log_target=True, reduction="batchmean"))
