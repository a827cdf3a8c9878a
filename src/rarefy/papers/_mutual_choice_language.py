"""Part B of paper 35: who picks whom, in a layer of a language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import spearmanr

from rarefy.dictionaries import SparseAutoencoder, evaluate
from rarefy.papers._mutual_choice_training import Schedule, learn
from rarefy.papers._recipe import Trial
from rarefy.papers._spliced_site import LanguageSite, spliced


@dataclass(frozen=True, eq=False)
class Language:
    """A language model's site, and the sizes of a training there."""

    site: LanguageSite
    schedule: Schedule


def on_language(arm: str, language: Language, trial: Trial) -> dict[str, float]:
    """Train one kind of dictionary on a layer's rows and measure it, with thresholds."""
    site = language.site
    sae, _ = learn(arm, site.x, language.schedule, trial)
    return figures(sae, site)


@torch.no_grad()
def figures(sae: SparseAutoencoder, site: LanguageSite) -> dict[str, float]:
    """Variance left, loss recovered, and whether hard tokens get more latents.

    ``harder`` is the rank correlation, over tokens, of the number of latents with the model's loss
    there; ``harder_scaled`` the same among tokens of like norm: of what is left of the ranks of
    both when the ranks of the norms are regressed out.
    """
    x = site.held.x
    seen = evaluate(sae, x)
    codes = sae.encode(x)
    l0, loss, norm = (t.numpy() for t in (codes.l0.float(), site.loss_by_row, x.norm(dim=1)))
    values = {"fvu": seen.fvu, "l0": seen.l0, "dead": seen.dead, "l0_spread": float(l0.std())}
    values |= spliced(site, sae.decode(codes))
    if l0.std() > 0:
        r = spearmanr([l0, loss, norm], axis=1).statistic
        partial = r[0, 1] - r[0, 2] * r[1, 2]
        values["harder"] = float(r[0, 1])
        values["harder_scaled"] = float(partial / ((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)) ** 0.5)
    return {f"{name}_lm": value for name, value in values.items()}
