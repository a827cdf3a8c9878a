r"""Steering: add a direction at a site of a model, and weigh what it does against what it breaks.

.. math:: h \leftarrow h + \alpha\, v / \|v\|

for every position. The effect wanted is a shift of the difference between the log probabilities of
two sets of tokens; the cost is the KL divergence of the clean predictions from the steered ones.
Directions are compared at equal cost, because any of them reaches any shift once it is long enough.

Source: Zhu, Khalili and Zhu 2025 (arXiv 2510.00404), section 4: one latent of a signed dictionary
against the difference in means (Marks and Tegmark 2023). Departures: effects are read from logits
rather than from the answers of a judged benchmark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.harvest import Site
from rarefy.dictionaries.probing import mean_difference
from rarefy.dictionaries.splice import splice


class LatentDirection(NamedTuple):
    """A latent that separates two classes, and the direction towards the first of them.

    Attributes
    ----------
    latent : int
    direction : Tensor, shape (d,)
        The latent's decoder row, turned where its code is lower in the first class.
    """

    latent: int
    direction: Tensor


class Effect(NamedTuple):
    """What a steered run does: the shift of log probability, and its cost in KL, in nats."""

    shift: float
    kl: float


class Steered(NamedTuple):
    """A direction at the strength where it costs a given KL."""

    alpha: float
    effect: Effect


Run = Callable[[Tensor], Tensor]
"""Log probabilities, shape (n, vocabulary), with a vector of shape (d,) added at the site."""


def difference_in_means(a: Tensor, b: Tensor) -> Tensor:
    """Mean of the rows of a, minus the mean of those of b: the supervised direction, shape (d,)."""
    return a.mean(0) - b.mean(0)


def latent_direction(
    sae: SparseAutoencoder, a: Tensor, b: Tensor, *, one_sided: bool = False
) -> LatentDirection:
    """The one latent whose mean code differs most between two classes.

    Parameters
    ----------
    sae : SparseAutoencoder
    a, b : Tensor, shapes (m, d), (n, d)
        Rows of the two classes.
    one_sided : bool, default False
        Only latents whose code is higher in a, so that the direction is a decoder row as it is:
        what a dictionary without signs can say of one direction of an axis.

    Returns
    -------
    LatentDirection
    """
    with torch.no_grad():
        codes = sae.encode(torch.cat([a, b]))
    y = torch.arange(len(a) + len(b)) < len(a)
    norms = sae.decoder.detach().norm(dim=1)
    difference = mean_difference(codes, y) * norms
    latent = int((difference if one_sided else difference.abs()).argmax())
    sign = -1.0 if difference[latent] < 0 else 1.0
    return LatentDirection(latent, sign * sae.decoder.detach()[latent])


def steering_effect(clean: Tensor, steered: Tensor, towards: Tensor, away: Tensor) -> Effect:
    """Shift between two sets of tokens, and KL of clean from steered predictions.

    Parameters
    ----------
    clean, steered : Tensor, shape (n, v)
        Log probabilities.
    towards, away : Tensor of int64
        Tokens of the two sets.

    Returns
    -------
    Effect
        Means over the n rows.
    """

    def odds(logs: Tensor) -> Tensor:
        return logs[:, towards].logsumexp(1) - logs[:, away].logsumexp(1)

    kl = (clean.exp() * (clean - steered)).sum(1).mean()
    return Effect(float((odds(steered) - odds(clean)).mean()), float(kl))


def steered_predictions(model: nn.Module, windows: Tensor, site: Site) -> Run:
    """Predictions of a language model with a vector added to a site's output, at every position.

    Parameters
    ----------
    model : nn.Module
    windows : Tensor of int64, shape (n, l)
    site : str or int
        As for :func:`~rarefy.dictionaries.resolve_site`.

    Returns
    -------
    callable
        From a vector of shape (d,) to log probabilities of shape (n l, v).
    """

    @torch.no_grad()
    def run(vector: Tensor) -> Tensor:
        with splice(model, site, lambda x: x + vector.to(x.dtype)):
            logits = model(input_ids=windows, use_cache=False).logits
        return logits.flatten(0, 1).float().log_softmax(-1)

    return run


def at_equal_kl(
    run: Run,
    direction: Tensor,
    towards: Tensor,
    away: Tensor,
    *,
    kl: float = 0.1,
    largest: float = 100.0,
    steps: int = 8,
) -> Steered:
    """Steer just so far that predictions move by a given KL.

    Parameters
    ----------
    run : callable
        Log probabilities under a vector added at the site, as :func:`steered_predictions` gives.
    direction : Tensor, shape (d,)
        Only its direction counts.
    towards, away : Tensor of int64
    kl : float, default 0.1
        In nats.
    largest : float, default 100
        Largest strength tried; a direction that costs less even then is used at that strength.
    steps : int, default 8
        Corrections of the strength at most. The KL of a small shift grows as its square, so each
        correction is by the root of what is missing; they stop within 1 %.

    Returns
    -------
    Steered

    Raises
    ------
    ValueError
        If the direction is zero or ``kl`` is not positive.
    """
    norm = float(direction.norm())
    if not norm > 0:
        raise ValueError("direction must not be zero")
    if not kl > 0:
        raise ValueError(f"kl must be positive, got {kl}")
    unit = direction / norm
    clean = run(torch.zeros_like(unit))
    alpha = min(1.0, largest)
    for _ in range(steps):
        reached = steering_effect(clean, run(alpha * unit), towards, away)
        factor = (kl / max(reached.kl, 1e-4 * kl)) ** 0.5
        if abs(reached.kl / kl - 1) < 0.01 or (alpha == largest and factor > 1):
            return Steered(alpha, reached)
        alpha = min(largest, alpha * min(factor, 8.0))
    return Steered(alpha, steering_effect(clean, run(alpha * unit), towards, away))
