"""Part B of paper 30: patches of photographs, and activations of a language model."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries import (
    ArrayStream,
    MatchingPursuitSAE,
    SparseAutoencoder,
    babel,
    effective_rank,
    evaluate,
    harvest,
    selected_babel,
)
from rarefy.operators import TopK
from rarefy.papers._mp_sae_training import trained

INFERENCE = (1, 2, 4, 8, 16, 32, 64)


class Rows(NamedTuple):
    """Rows to train on and rows held out."""

    train: Tensor
    test: Tensor


@cache
def activations(model: str | None, layer: int, train: int, test: int, device: str) -> Rows:
    """Activations of a layer on the standard library, scaled to norm sqrt(d) on average."""
    from rarefy.data import encode, modules, windows
    from rarefy.models import open_model

    opened = open_model(model, device=device)
    parts = []
    # from all over the library; settings were chosen on every third held-out module from the first
    for files, rows in ((modules("train")[::7], train), (modules("heldout")[1::3], test)):
        documents: list[str] = []
        for module in files:
            documents.append(module.read())
            # a token is two characters or more
            if sum(map(len, documents)) > 8 * rows:
                break
        cut = windows(encode(opened.tokenizer, documents), 128, limit=rows // 127 + 1)
        parts.append(harvest(opened.model, cut, layer, skip=1, limit=rows).cpu())
    scale = parts[0].shape[1] ** 0.5 / parts[0].norm(dim=1).mean()
    return Rows(parts[0] * scale, parts[1] * scale)


def learn(
    arm: str, rows: Rows, *, n_latents: int, k: int, steps: int, batch: int, seed: int
) -> SparseAutoencoder:
    """Train an arm on rows."""
    return trained(
        arm,
        ArrayStream(rows.train, batch_size=batch, seed=seed),
        d=rows.train.shape[1],
        n_latents=n_latents,
        k=k,
        steps=steps,
        lr=4e-3,
        seed=seed,
    )


@torch.no_grad()
def fidelity(sae: SparseAutoencoder, rows: Rows, name: str) -> dict[str, float]:
    """FVU, active latents and dead latents on held-out rows."""
    figures = evaluate(sae, rows.test)
    return {
        f"fvu_{name}": figures.fvu,
        f"l0_{name}": float(sae.encode(rows.test).l0.float().mean()),
        f"dead_{name}": figures.dead,
    }


@torch.no_grad()
def coherence(sae: SparseAutoencoder, rows: Rows, k: int, name: str) -> dict[str, float]:
    """Babel function of the whole dictionary and of what rows select."""
    codes = sae.encode(rows.test)
    return {
        f"babel_{name}": float(babel(sae.decoder, k - 1)[-1]),
        f"babel_selected_{name}": selected_babel(codes, sae.decoder),
    }


@torch.no_grad()
def rank(sae: SparseAutoencoder, rows: Rows) -> float:
    """Effective rank of the codes of held-out rows."""
    return effective_rank(sae.encode(rows.test).dense())


@torch.no_grad()
def by_inference(sae: SparseAutoencoder, rows: Rows, k: int, name: str) -> dict[str, float]:
    """FVU and effective rank at other k than the trained, and their growth past it."""
    values = {}
    ranks = {}
    for steps in INFERENCE:
        other = _at(sae, steps)
        values[f"inference_{name}_{steps}"] = evaluate(other, rows.test).fvu
        ranks[steps] = rank(other, rows)
    for times in (2, 4):
        after, at = (values[f"inference_{name}_{steps}"] for steps in (times * k, k))
        values[f"inference_ratio_{name}_{times}"] = after / at
    return values | {f"rank_past_{name}": ranks[4 * k] / ranks[k]}


@torch.no_grad()
def pursuit_facts(sae: MatchingPursuitSAE, x: Tensor, steps: int) -> dict[str, float]:
    """Largest departures, over rows and steps, from what unit atoms promise; all should be 0."""
    coefficients, atoms = sae.pursue(x, steps)
    r = sae.centered(x)
    start = r.norm(dim=1)
    worst = dict.fromkeys(("rise", "not_orthogonal", "energy_off"), 0.0)
    for c, j in zip(coefficients.unbind(1), atoms.unbind(1), strict=True):
        atom = sae.decoder[j]
        after = r - c[:, None] * atom
        before, energy = r.norm(dim=1), after.norm(dim=1)
        # a row whose step is 0 has stopped; a residual of a millionth is the rounding of its row
        moved = (c > 0) & (before > 1e-6 * start)
        found = {
            "rise": energy / before - 1,
            "not_orthogonal": (after * atom).sum(1).abs() / before,
            "energy_off": (energy.square() - before.square() + c.square()).abs() / before.square(),
        }
        for name, value in found.items():
            if bool(moved.any()):
                worst[name] = max(worst[name], float(value[moved].max()))
        r = after
    return worst


def _at(sae: SparseAutoencoder, k: int) -> SparseAutoencoder:
    """Build the same dictionary with another number of latents a row."""
    config: dict[str, Any] = sae.config()
    if isinstance(sae, MatchingPursuitSAE):
        other: SparseAutoencoder = MatchingPursuitSAE(**{**config, "k": k})
    else:
        other = SparseAutoencoder(**{**config, "activation": TopK(k, by="positive")})
    other.load_state_dict(sae.state_dict())
    return other
