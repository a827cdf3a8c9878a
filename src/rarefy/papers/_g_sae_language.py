"""Paper 34 on a language model: what reconstructions cost it, and how far latents steer it."""

from __future__ import annotations

from statistics import fmean

import torch

from rarefy.dictionaries import (
    SparseAutoencoder,
    at_equal_kl,
    evaluate,
    steered_predictions,
)
from rarefy.papers._g_sae_bench import context
from rarefy.papers._recipe import Trial
from rarefy.papers._spliced_site import LanguageSite, spliced

_TARGETS = 10


@torch.no_grad()
def judge_language(sae: SparseAutoencoder, site: LanguageSite) -> dict[str, float]:
    """Variance left, latents used and dead, and what splicing costs the model."""
    extra = context(sae, site.held)
    seen = evaluate(sae, site.held.x, *extra)
    values = spliced(site, sae(site.held.x, *extra)) | {
        "fvu": seen.fvu,
        "l0": seen.l0,
        "dead": seen.dead,
    }
    return {f"{name}_lm": value for name, value in values.items()}


@torch.no_grad()
def steering_language(
    sae: SparseAutoencoder, site: LanguageSite, trial: Trial, *, latents: int, kl: float = 0.1
) -> float:
    """How far latents move the log odds of the ten tokens they move most, where they cost ``kl``.

    The mean over latents drawn from all that are alive. Tokens are chosen on two windows and their
    odds measured on two others.
    """
    alive = (evaluate(sae, site.held.x, *context(sae, site.held)).density > 0).nonzero()[:, 0]
    drawn = alive[torch.randperm(len(alive), generator=trial.generator())[:latents]]
    first, second = site.windows[:2, :64], site.windows[2:4, :64]
    predict = steered_predictions(site.opened.model, first, site.layer)
    clean = predict(torch.zeros(sae.d_in)).mean(0)
    run = steered_predictions(site.opened.model, second, site.layer)
    step = 0.5 * float(site.held.x.norm(dim=1).mean()) / site.scale
    shifts = []
    for direction in sae.decoder[drawn]:
        order = (predict(step * direction).mean(0) - clean).argsort(descending=True)
        steered = at_equal_kl(
            run, direction, order[:_TARGETS], order[_TARGETS:], kl=kl, largest=10 * step, steps=5
        )
        shifts.append(steered.effect.shift)
    return fmean(shifts)
