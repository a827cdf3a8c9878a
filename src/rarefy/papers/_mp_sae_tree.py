"""Part A of paper 30: the concept tree, as every method learns it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.data import ConceptTree
from rarefy.dictionaries import absorption_score, gram_error, match_latents
from rarefy.papers._mp_sae_training import trained

EXPECTED_L0 = 1.36
_BATCH = 200


class TreeStream:
    """Fresh samples for every step."""

    def __init__(self, tree: ConceptTree, seed: int) -> None:
        self.tree, self.seed = tree, seed

    def batch(self, step: int) -> Tensor:
        """Rows of one step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return self.tree.sample(_BATCH, generator)[0]


class Learned(NamedTuple):
    """Figures of a learned tree, and its Gram matrix in the order of the concepts."""

    metrics: dict[str, float]
    gram: Tensor


def learn_tree(arm: str, tree: ConceptTree, *, steps: int, seed: int) -> Learned:
    """Train an arm on the tree and match what it learned to the concepts."""
    truth = tree.directions
    sae = trained(
        arm,
        TreeStream(tree, seed),
        d=truth.shape[1],
        n_latents=len(truth),
        k=EXPECTED_L0,
        steps=steps,
        lr=3e-2 if arm == "mp" else 1e-2,
        seed=seed,
        tol=0.05,
        betas=(0.5, 0.9375),
        decoder_bias=False,
        revive=False,
    )
    x, amplitudes = tree.sample(4000, torch.Generator().manual_seed(seed + 10_007))
    with torch.no_grad():
        z = sae.encode(x).dense()
        fit = 1 - (x - z @ sae.decoder).square().sum() / x.square().sum()
        learned = sae.decoder.detach()[match_latents(z, amplitudes)]
        learned = learned / learned.norm(dim=1, keepdim=True)
    cosines = (learned * truth).sum(1)
    gram = learned @ learned.t()
    pairs = gram_error(learned, truth, tree.same_level)
    children = tree.children
    sisters = tree.siblings[children][:, children]
    excess = (gram - truth @ truth.t())[children][:, children][sisters]
    metrics = {
        "absorption": absorption_score(learned, truth, tree.parents),
        "cosine": float(cosines.mean()),
        "child_cosine": float(cosines[children].mean()),
        "flat_mse": pairs.flat,
        "hierarchical_mse": pairs.hierarchical,
        "sibling_excess": float(excess.mean()),
        "l0": float((z != 0).sum(1).float().mean()),
        "r2": float(fit),
    }
    return Learned(metrics, gram)
