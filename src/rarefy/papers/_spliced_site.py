"""A language model's site for papers 34 and 35: rows, gradients there, and what splicing costs.

Rows are those of tokens with a next token, without the first of a window, scaled to norm sqrt(d) on
average. A reconstruction is judged by putting it in the place of held-out rows:

    delta_ce = CE(spliced) - CE(clean)
    recovered = (CE(zero) - CE(spliced)) / (CE(zero) - CE(clean))

Axis letters: n rows, d width, w windows, l tokens a window, v vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import kl_div, nll_loss

from rarefy.data import encode, modules, windows
from rarefy.dictionaries import content_mask, harvest, splice
from rarefy.models import LanguageModel, open_model

LENGTH = 128


class Pairs(NamedTuple):
    """Scaled activations (n, d), and gradients of the summed next-token loss there (n, d)."""

    x: Tensor
    g: Tensor


@dataclass(frozen=True, eq=False)
class LanguageSite:
    """A model at a layer: rows x to train on (and gradients g), held-out pairs, and their windows.

    ``clean`` are the model's log probabilities on the windows, (w (l - 1), v).
    """

    opened: LanguageModel
    layer: int
    scale: float
    x: Tensor
    g: Tensor | None
    held: Pairs
    windows: Tensor
    clean: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """Positions of the held-out rows, bool, (w, l)."""
        kept = content_mask(self.opened.model, self.windows, skip=1)
        kept[:, -1] = False
        return kept

    @cached_property
    def zero(self) -> float:
        """Loss with the held-out rows at zero."""
        return self.loss_of(_with_rows(self, torch.zeros_like(self.held.x)))

    @property
    def loss_by_row(self) -> Tensor:
        """Loss of the prediction made at each held-out row, (n,)."""
        targets = self.windows[:, 1:].flatten()
        return -self.clean.gather(1, targets[:, None])[:, 0][self.mask[:, :-1].flatten()]

    def loss_of(self, logs: Tensor) -> float:
        """Loss of predictions (w (l - 1), v)."""
        return float(nll_loss(logs, self.windows[:, 1:].flatten()))


@cache
def language_site(
    path: str | None, layer: int, *, train: int, held: int, gradients: bool, device: str
) -> LanguageSite:
    """Open a model and harvest, once for all seeds.

    ``train`` and ``held`` are numbers of windows of 128 tokens from the standard library; the held
    ones are of modules that the shipped model never saw.
    """
    opened = open_model(path, device=device)
    seen, unseen = _windows(opened, "train", train), _windows(opened, "heldout", held)
    g = None
    if gradients:
        x, g = _pairs(opened, seen, layer)
    else:
        x = harvest(opened.model, seen, layer, skip=1).cpu()
    there, slopes = _pairs(opened, unseen, layer)
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    return LanguageSite(
        *(opened, layer, scale, x * scale, g),
        held=Pairs(there * scale, slopes),
        windows=unseen,
        clean=_predictions(opened, unseen),
    )


@torch.no_grad()
def spliced(site: LanguageSite, reconstruction: Tensor) -> dict[str, float]:
    """What is lost when a reconstruction (n, d) of the held-out rows stands in their place."""
    logs = _with_rows(site, reconstruction / site.scale)
    loss, clean = site.loss_of(logs), site.loss_of(site.clean)
    return {
        "delta_ce": loss - clean,
        "recovered": (site.zero - loss) / (site.zero - clean),
        "kl": float(kl_div(logs, site.clean, log_target=True, reduction="batchmean")),
    }


def _windows(opened: LanguageModel, split: Literal["train", "heldout"], count: int) -> Tensor:
    """Windows from all over the standard library, as many as asked for."""
    texts: list[str] = []
    # a token is two characters or more on average
    for module in modules(split)[:: 7 if split == "train" else 3]:
        texts.append(module.read())
        if sum(map(len, texts)) > 6 * LENGTH * count:
            break
    return windows(encode(opened.tokenizer, texts), LENGTH, limit=count)


def _pairs(opened: LanguageModel, ids: Tensor, layer: int) -> Pairs:
    return Pairs(*(t.cpu() for t in harvest(opened.model, ids, layer, gradients="ce", skip=1)))


@torch.no_grad()
def _with_rows(site: LanguageSite, rows: Tensor) -> Tensor:
    """Predictions with the held-out rows replaced."""
    place = torch.zeros(*site.windows.shape, rows.shape[1])
    place[site.mask] = rows
    parts = []
    for ids, kept, there in zip(
        *(t.split(8) for t in (site.windows, site.mask, place)), strict=True
    ):
        with splice(site.opened.model, site.layer, there.to, mask=kept):
            parts.append(_predictions(site.opened, ids))
    return torch.cat(parts)


@torch.no_grad()
def _predictions(opened: LanguageModel, ids: Tensor) -> Tensor:
    """Log probabilities of the next tokens, (w (l - 1), v)."""
    parts = [
        opened.model(input_ids=part.to(opened.model.device), use_cache=False).logits[:, :-1]
        for part in ids.split(8)
    ]
    return torch.cat(parts).flatten(0, 1).float().log_softmax(-1).cpu()
