"""A dictionary's features as a person reads them: when each fires, on what, what it promotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.examples import TopExamples, activations_of, logit_effects, top_examples
from rarefy.dictionaries.harvest import Site

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BEFORE, _AFTER = 24, 10
"""Tokens of context on either side of an example's strongest token."""

_EFFECTS = 8
"""Tokens named on either end of the effect on the logits."""


class Example(NamedTuple):
    """A stretch of text; ``tokens`` are pairs (text, code), the strongest at ``peak``."""

    value: float
    peak: int
    tokens: list[tuple[str, float]]


class Feature(NamedTuple):
    """One latent.

    Attributes
    ----------
    latent : int
    density : float
        Share of tokens on which it fires.
    examples : list of Example
        Strongest first.
    promotes, suppresses : list of (str, float)
        Tokens whose logits a unit of it moves most; empty where the site has no direct path.
    """

    latent: int
    density: float
    examples: list[Example]
    promotes: list[tuple[str, float]]
    suppresses: list[tuple[str, float]]

    @property
    def largest(self) -> float:
        """Code at the strongest example."""
        return self.examples[0].value

    @property
    def peaks(self) -> list[tuple[str, int]]:
        """Tokens on which it is strongest, with how many of the examples they head."""
        return Counter(e.tokens[e.peak][0] for e in self.examples).most_common(4)


class Features(NamedTuple):
    """Some features, and how often every latent fires; shape (f,)."""

    features: list[Feature]
    density: Tensor
    tokens: int


def describe_features(
    sae: SparseAutoencoder,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    windows: Tensor,
    site: Site,
    *,
    latents: Sequence[int] | None = None,
    n_features: int = 60,
    n_examples: int = 8,
    exclude: Collection[int] | None = None,
    skip: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Features:
    """Describe features by their strongest examples and their effect on the logits.

    Parameters
    ----------
    sae, model, windows, site, exclude, skip, progress
        As for :func:`~rarefy.dictionaries.top_examples`.
    tokenizer : transformers tokenizer
    latents : sequence of int, optional
        Which; by default ``n_features`` spread evenly over the densities of those that fire in
        enough windows.
    n_features : int, default 60
    n_examples : int, default 8

    Returns
    -------
    Features
        Those that fire, in the order of ``latents`` or of density.

    Raises
    ------
    ValueError
        If a latent does not exist.
    """
    for latent in latents or ():
        if not 0 <= latent < sae.n_latents:
            raise ValueError(f"there is no latent {latent}: there are 0 to {sae.n_latents - 1}")
    options: dict[str, Any] = {"exclude": exclude, "skip": skip}
    found = top_examples(
        *(sae, model, windows, site), n_examples=n_examples, progress=progress, **options
    )
    chosen = _spread(found, n_features) if latents is None else list(latents)
    effects = logit_effects(sae, model, torch.tensor(chosen, dtype=torch.int64))
    features = []
    for place, latent in enumerate(chosen):
        shown = int((found.values[latent] != 0).sum())
        if not shown:
            continue
        texts = windows[found.windows[latent, :shown].cpu()]
        codes = activations_of(sae, model, texts, site, latent, **options)
        peaks = found.positions[latent, :shown].tolist()
        examples = [_example(tokenizer, *each) for each in zip(texts, codes, peaks, strict=True)]
        up, down = ([], []) if effects is None else _ends(tokenizer, effects[place])
        features.append(Feature(latent, float(found.density[latent]), examples, up, down))
    return Features(features, found.density.cpu(), found.tokens)


def features_page(found: Features, *, title: str, facts: Mapping[str, object]) -> str:
    """A self-contained HTML page, with nothing to fetch and no script.

    Parameters
    ----------
    found : Features
    title : str
    facts : mapping
        What to say at the end about how it was made.

    Returns
    -------
    str
    """
    from rarefy.evidence.figures import to_svg
    from rarefy.evidence.page import render

    return render(
        "features.html.jinja",
        package="rarefy.dictionaries",
        title=title,
        found=found,
        l0=float(found.density.sum()),
        dead=float((found.density == 0).float().mean()),
        histogram=to_svg(lambda: _histogram(found.density), name="densities"),
        facts=facts,
    )


def _spread(found: TopExamples, count: int) -> list[int]:
    """Latents with all their examples, evenly over the order of densities, densest first."""
    full = (found.values != 0).all(1)
    full = full if bool(full.any()) else (found.values != 0).any(1)
    alive = full.nonzero()[:, 0]
    ordered = alive[found.density[alive].argsort(descending=True, stable=True)]
    count = min(count, len(ordered))
    places = torch.arange(count, device=ordered.device) * len(ordered) // max(count, 1)
    return ordered[places].tolist()


def _example(
    tokenizer: PreTrainedTokenizerBase, window: Tensor, codes: Tensor, peak: int
) -> Example:
    first = max(0, peak - _BEFORE)
    part = slice(first, peak + _AFTER + 1)
    texts = [tokenizer.decode([token]) for token in window[part].tolist()]
    tokens = list(zip(texts, codes[part].tolist(), strict=True))
    return Example(float(codes[peak]), peak - first, tokens)


def _ends(
    tokenizer: PreTrainedTokenizerBase, effects: Tensor
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    known = effects[: len(tokenizer)]
    ends = []
    for largest in (True, False):
        values, tokens = known.topk(min(_EFFECTS, len(known)), largest=largest)
        words = [tokenizer.decode([token]) for token in tokens.tolist()]
        ends.append(list(zip(words, values.tolist(), strict=True)))
    return ends[0], ends[1]


def _histogram(density: Tensor) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.2))
    axes = figure.subplots()
    alive = density[density > 0].log10()
    axes.hist(alive.numpy(), bins=40)
    axes.set_xlabel("density of a latent, log10 of the share of tokens on which it fires")
    axes.set_ylabel("latents")
    return figure
