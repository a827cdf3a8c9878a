"""Paper 41 on a language model: rows with free labels, and what is asked of a dictionary.

Labels come from the text itself: what kind of token, whether a bracket opens or closes, upper or
lower case, start of a word, deeper or shallower indentation. Steering is judged by what comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import permutations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rarefy.data import windows
from rarefy.dictionaries import (
    Crossed,
    Labelled,
    SparseAutoencoder,
    SparseCodes,
    ablate,
    absorption,
    at_equal_kl,
    bidirectionality,
    detect,
    difference_in_means,
    evaluate,
    harvest,
    latent_direction,
    opposite_meaning,
    opposite_pairs,
    sparse_probe,
    splice,
    spurious_removal,
    steered_predictions,
    targeted_removal,
    unlearning_latents,
)
from rarefy.dictionaries.steering import Run
from rarefy.models import LanguageModel, open_model
from rarefy.papers._labelled_text import KINDS, documents, labelled, training_documents

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LENGTH = 128
_LEAST = 20
"""Rows of either value that an attribute must have, in training and in test."""


class Rows(NamedTuple):
    """Scaled activations with their token, its kind, the next token, and change of indentation."""

    x: Tensor
    token: Tensor
    kind: Tensor
    following: Tensor
    indent: Tensor


class Language(NamedTuple):
    """A model at a site: rows to train on, labelled rows, windows to judge predictions on."""

    opened: LanguageModel
    site: int
    scale: float
    train: Tensor
    probing: Rows
    test: Rows
    windows: Tensor
    kinds: Tensor
    pieces: tuple[str, ...]


@cache
def language(
    path: str | None,
    text: Path | None,
    site: int,
    device: str,
    rows: int,
    labelled_rows: int,
    judged_windows: int,
) -> Language:
    """Open the model and harvest its rows, once for all seeds."""
    opened = open_model(path, device=device)
    model, tokenizer = opened
    evaluation, own = documents(text)
    train_text = training_documents() if text is None else own
    train_ids, _ = some_tokens(tokenizer, train_text, rows)
    x = harvest(model, windows(train_ids, LENGTH, limit=rows // (LENGTH - 1) + 1), site, skip=1)
    scale = x.shape[1] ** 0.5 / float(x.norm(dim=1).mean())
    pieces = tuple(tokenizer.batch_decode([[i] for i in range(tokenizer.vocab_size)]))
    ids, kinds = some_tokens(tokenizer, evaluation, 3 * labelled_rows)
    cut, cut_kinds = windows(ids, LENGTH), windows(kinds, LENGTH)
    # Windows from all over the text, so that probing and test rows are of one kind.
    order = torch.randperm(len(cut), generator=torch.Generator().manual_seed(0))
    cut, cut_kinds = cut[order], cut_kinds[order]
    each = labelled_rows // (LENGTH - 2) + 1
    parts = [
        _rows(
            model, site, scale, cut[start : start + each], cut_kinds[start : start + each], pieces
        )
        for start in (0, each)
    ]
    for part in parts:
        prose = int((part.kind == KINDS.index("prose")).sum())
        if min(prose, len(part.kind) - prose) < _LEAST:
            raise ValueError(
                f"the text has {prose} tokens of comments and strings in {len(part.kind)}: Python "
                "source with both prose and code is wanted"
            )
    last = slice(2 * each, 2 * each + judged_windows)
    probing, test = parts
    return Language(
        opened, site, scale, x * scale, probing, test, cut[last], cut_kinds[last], pieces
    )


def some_tokens(
    tokenizer: PreTrainedTokenizerBase, texts: tuple[str, ...], enough: int
) -> tuple[Tensor, Tensor]:
    """Tokens and kinds of as many texts as are needed, taken from all over the list."""
    step = max(1, len(texts) // 40)
    order = [i for start in range(step) for i in range(start, len(texts), step)]
    parts: list[tuple[Tensor, Tensor]] = []
    for i in order:
        if sum(len(ids) for ids, _ in parts) > enough + 2 * LENGTH:
            break
        parts.append(labelled(tokenizer, [texts[i]]))
    return torch.cat([ids for ids, _ in parts]), torch.cat([kinds for _, kinds in parts])


def _rows(
    model: torch.nn.Module,
    site: int,
    scale: float,
    ids: Tensor,
    kinds: Tensor,
    pieces: tuple[str, ...],
) -> Rows:
    """Rows of all positions but the first and the last of each window."""
    x = harvest(model, ids, site, skip=1, exclude=()).unflatten(0, (len(ids), -1))
    depth = torch.tensor([len(p) - 1 - p.rfind("\n") if "\n" in p else -1 for p in pieces])[ids]
    indent = torch.zeros_like(ids)
    for window, row in enumerate(depth.tolist()):
        before = -1
        for place, now in enumerate(row):
            if now >= 0:
                if before >= 0:
                    indent[window, place] = (now > before) - (now < before)
                before = now
    inner = slice(1, -1)
    return Rows(
        x[:, :-1].flatten(0, 1) * scale,
        *(t.flatten() for t in (ids[:, inner], kinds[:, inner], ids[:, 2:], indent[:, inner])),
    )


def fidelity(sae: SparseAutoencoder, data: Language) -> dict[str, float]:
    """How well a dictionary stands in for the activations, and for the model that reads them."""
    found = evaluate(sae, data.test.x)
    clean, zero = _losses(data, lambda x: x), _losses(data, torch.zeros_like)
    rebuilt = _losses(data, lambda x: sae(x * data.scale) / data.scale)
    return {
        "fvu_lm": found.fvu,
        "l0_lm": found.l0,
        "dead_lm": found.dead,
        "delta_ce": float((rebuilt - clean).mean()),
        "recovered": float((zero - rebuilt).mean() / (zero - clean).mean()),
    }


def judged(sae: SparseAutoencoder, data: Language) -> dict[str, float]:
    """What its latents stand for, and what ablating them does."""
    codes = _codes(sae, data.test.x)
    signs = bidirectionality(codes)
    alive = signs.alive.sum().clamp(min=1)
    opposite = torch.zeros(sae.n_latents, dtype=torch.bool)
    pairs = attributes(data.probing, data.pieces), attributes(data.test, data.pieces)
    common = sorted(pairs[0].keys() & pairs[1].keys())
    for name in common:
        rows = pairs[1][name]
        opposite |= opposite_meaning(_codes(sae, rows.x), rows.y)
    two_sided = signs.two_sided()
    split = opposite_pairs(sae.decoder)
    probes = {
        k: [sparse_probe(sae, pairs[0][n], pairs[1][n], k=k).accuracy for n in common]
        for k in (1, 2, 5)
    }
    found = [detect(sae, pairs[0][name], pairs[1][name]) for name in common]
    return {
        "two_sided": float(two_sided.sum() / alive),
        "opposite": float(opposite.sum() / alive),
        "opposite_of_two_sided": float((opposite & two_sided).sum() / two_sided.sum().clamp(min=1)),
        "split_pairs": len(split) / float(alive),
        **{f"probe_{k}": fmean(accuracies) for k, accuracies in probes.items()},
        "detection_f1": fmean(d.f1 for d in found),
        "absorption": fmean(absorption(sae, pairs[0][n], pairs[1][n]) for n in common),
        "scr": fmean(
            spurious_removal(sae, *both).score for both in crossed(data.probing, data.test, data)
        ),
        "tpp": targeted_removal(sae, *_kinds(data)).score,
        "unlearning": _unlearning(sae, data),
        "purity": _purity(sae, data.test),
    }


def attributes(rows: Rows, pieces: tuple[str, ...]) -> dict[str, Labelled]:
    """Two-valued attributes of the tokens, each with the rows that have one of the values."""
    bare = [p.strip() for p in pieces]
    last, first = [p[-1:] for p in bare], [p[:1] for p in bare]
    prose = rows.kind == KINDS.index("prose")
    word = _of(first, str.isalpha)[rows.token]
    options = {
        "bracket": (_of(last, "([{".__contains__), _of(last, ")]}".__contains__)),
        "case": (_of(first, str.isupper), _of(first, str.islower)),
        "truth": (_of(bare, "True".__eq__), _of(bare, "False".__eq__)),
    }
    found = {name: (a[rows.token], b[rows.token]) for name, (a, b) in options.items()}
    starts = _of(pieces, lambda p: p[:1].isspace())[rows.token]
    found |= {
        "prose": (prose & word, ~prose & word),
        "word start": (starts & word, ~starts & word),
        "indentation": (rows.indent > 0, rows.indent < 0),
    }
    return {
        name: Labelled(rows.x[a | b], a[a | b])
        for name, (a, b) in found.items()
        if min(int(a.sum()), int(b.sum())) >= _LEAST
    }


def crossed(probing: Rows, test: Rows, data: Language) -> list[tuple[Crossed, Crossed]]:
    """Pairs of attributes of words, one to be told and one to be ignored."""

    def labels(rows: Rows) -> tuple[Tensor, dict[str, Tensor]]:
        first = [p.strip()[:1] for p in data.pieces]
        word = _of(first, str.isalpha)[rows.token]
        every = {
            "prose": rows.kind == KINDS.index("prose"),
            "case": _of(first, str.isupper)[rows.token],
            "word start": _of(data.pieces, lambda p: p[:1].isspace())[rows.token],
        }
        return rows.x[word], {name: y[word] for name, y in every.items()}

    (x, own), (test_x, theirs) = labels(probing), labels(test)
    return [
        (Crossed(x, own[a], own[b]), Crossed(test_x, theirs[a], theirs[b]))
        for a, b in permutations(own, 2)
    ]


def _kinds(data: Language) -> list[tuple[Tensor, Tensor]]:
    """Rows of the kinds of tokens that are frequent in both parts, numbered anew."""
    counts = [part.kind.bincount(minlength=len(KINDS)) for part in (data.probing, data.test)]
    frequent = torch.minimum(*counts) >= _LEAST
    number = frequent.long().cumsum(0) - 1
    kept = [(part, frequent[part.kind]) for part in (data.probing, data.test)]
    return [(part.x[here], number[part.kind[here]]) for part, here in kept]


def _unlearning(sae: SparseAutoencoder, data: Language) -> float:
    """What ablating prose's latents costs on prose, more than on code."""
    prose = data.probing.kind == KINDS.index("prose")
    latents = unlearning_latents(sae, data.probing.x[prose], data.probing.x[~prose], n=20)
    without = _losses(data, lambda x: ablate(sae, x * data.scale, latents) / data.scale)
    rise = without - _losses(data, lambda x: x)
    told = data.kinds[:, 1:-1] == KINDS.index("prose")
    return float(rise[told].mean() - rise[~told].mean())


@torch.no_grad()
def _losses(data: Language, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """Loss of every next token with something else at the site; the first position stays."""

    def inner(x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], fn(x[:, 1:])], 1)

    with splice(data.opened.model, data.site, inner):
        logits = data.opened.model(input_ids=data.windows, use_cache=False).logits[:, 1:-1]
    return torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), data.windows[:, 2:], reduction="none"
    )


def _purity(sae: SparseAutoencoder, rows: Rows, *, top: int = 20) -> float:
    """Share of the commonest token kind among the rows that drive a latent most, over its sides."""
    z = _codes(sae, rows.x).dense()
    shares = []
    for side in (z, -z):
        best = side.topk(top, dim=0)
        full = best.values[-1] > 0
        kinds = rows.kind[best.indices[:, full]]
        counts = torch.stack([(kinds == c).sum(0) for c in range(len(KINDS))])
        shares.append(counts.max(0).values.float() / top)
    return float(torch.cat(shares).mean())


def steering_sets(pieces: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
    """Pairs of sets of tokens between which predictions are steered."""
    bare = [p.strip() for p in pieces]
    options: dict[str, tuple[Callable[[str], bool], Callable[[str], bool]]] = {
        "bracket": (lambda p: p[-1:] in set("([{"), lambda p: p[-1:] in set(")]}")),
        "case": (lambda p: p[:1].isupper(), lambda p: p[:1].islower()),
        "truth": (lambda p: p == "True", lambda p: p == "False"),
        "round or square": (lambda p: p[:1] == "(", lambda p: p[:1] == "["),
        "number or name": (lambda p: p.isdigit(), lambda p: p.isidentifier()),
    }
    found = {
        name: tuple(_of(bare, rule).nonzero()[:, 0] for rule in rules)
        for name, rules in options.items()
    }
    found["line end"] = (
        _of(pieces, lambda p: p[:1] == "\n").nonzero()[:, 0],
        _of(pieces, lambda p: p[:1] == " ").nonzero()[:, 0],
    )
    return {name: (a, b) for name, (a, b) in found.items() if len(a) and len(b)}


def steering_rows(data: Language, sets: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Rows before a token of the first set, and before one of the second."""
    a, b = (torch.isin(data.probing.following, each) for each in sets)
    return data.probing.x[a], data.probing.x[b]


def steered(
    sae: SparseAutoencoder | None, data: Language, *, kl: float, one_sided: bool = False
) -> dict[str, float]:
    """Shift of log odds at equal KL for every pair of sets, both ways, by one latent or by DiM."""
    run = steered_predictions(data.opened.model, data.windows[::2, :64], data.site)
    values = {}
    for name, sets in steering_sets(data.pieces).items():
        a, b = steering_rows(data, sets)
        if min(len(a), len(b)) < _LEAST:
            continue
        shifts = []
        for rows, tokens in (((a, b), sets), ((b, a), sets[::-1])):
            direction = (
                difference_in_means(*rows)
                if sae is None
                else latent_direction(sae, *rows, one_sided=one_sided).direction
            )
            shifts.append(_shift(run, direction, tokens, kl))
        values[name] = fmean(shifts)
    return values


def _shift(run: Run, direction: Tensor, sets: tuple[Tensor, Tensor], kl: float) -> float:
    return at_equal_kl(run, direction, *sets, kl=kl).effect.shift


@torch.no_grad()
def _codes(sae: SparseAutoencoder, x: Tensor) -> SparseCodes:
    return sae.encode(x)


def _of(pieces: list[str] | tuple[str, ...], rule: Callable[[str], bool]) -> Tensor:
    """Which tokens of the vocabulary a rule holds for."""
    return torch.tensor([bool(p) and rule(p) for p in pieces])
