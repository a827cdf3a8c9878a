"""What paper 30 says, made testable: the claims of its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rarefy.evidence.claims import Claim

_CORRELATIONS = ("0", "0.1", "0.3")
_REAL = {"patches": "patches", "language": "a language model's activations"}


def mp_sae_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_tree(), *_weak_and_alike(), *_reconstruction(), *_geometry(), *_facts())


def _tree() -> Iterator[Claim]:
    for correlation in _CORRELATIONS:
        at = f"siblings of cosine {correlation}"
        absorption = partial(Claim, metric=f"absorption_{correlation}")
        yield absorption(
            id=f"c1-mp-{correlation}",
            arm="mp",
            margin=0.05,
            text=f"On a concept tree with {at}, MP-SAE's children do not absorb their parents.",
            paper="absorption 0.001",
        )
        yield Claim(
            id=f"c1-recovery-{correlation}",
            metric=f"cosine_{correlation}",
            arm="mp",
            better="higher",
            margin=0.95,
            text=f"It recovers both levels ({at}).",
        )
        for arm in ("relu", "batchtopk"):
            yield absorption(
                id=f"c1-{arm}-{correlation}",
                arm=arm,
                better="higher",
                margin=0.25,
                text=f"{arm} absorbs the parent into the child ({at}).",
                paper="0.42 to 0.48",
            )
        yield Claim(
            id=f"c1-matryoshka-{correlation}",
            metric=f"sibling_excess_{correlation}",
            arm="matryoshka",
            margin=0.0,
            text=f"Matryoshka's siblings are less alike than the true ones ({at}).",
        )


def _weak_and_alike() -> Iterator[Claim]:
    yield Claim(
        id="c1-alike",
        metric="hierarchical_mse_0.9",
        arm="mp",
        versus="relu",
        text="With siblings of cosine 0.9, MP-SAE keeps the levels apart better than ReLU.",
    )
    child = partial(Claim, metric="child_cosine_weak")
    yield child(
        id="c1-weak-mp",
        arm="mp",
        better="higher",
        margin=0.8,
        text="It finds children of a fifteenth of their parents' amplitude.",
    )
    for arm in ("relu", "batchtopk", "matryoshka"):
        yield child(
            id=f"c1-weak-{arm}", arm=arm, margin=0.8, text=f"{arm} does not find such children."
        )


def _reconstruction() -> Iterator[Claim]:
    for name, where in (
        ("patches_4", "patches, 4 latents a row"),
        ("patches_8", "patches, 8 latents a row"),
        ("patches_16", "patches, 16 latents a row"),
        ("language", "a language model's activations"),
    ):
        yield Claim(
            id=f"c2-{name.replace('_', '-')}",
            metric=f"fvu_{name}",
            arm="mp",
            versus="topk",
            text=f"It leaves less variance unexplained than TopK at as many latents ({where}).",
        )
    yield Claim(
        id="c3-mp",
        metric="rise",
        arm="mp",
        margin=1e-5,
        deterministic=True,
        text="No row's error rises with any further step at inference, also beyond the trained k.",
    )
    for name, where in _REAL.items():
        for times in (2, 4):
            yield Claim(
                id=f"c3-topk-{name}-{times}",
                metric=f"inference_ratio_{name}_{times}",
                arm="topk",
                better="higher",
                margin=1.0,
                text=f"TopK's error at {times} times its k is above that at k ({where}).",
            )


def _geometry() -> Iterator[Claim]:
    against = partial(Claim, arm="mp", versus="topk")
    for name, where in _REAL.items():
        yield against(
            id=f"c4-whole-{name}",
            metric=f"babel_{name}",
            better="higher",
            text=f"Its dictionary as a whole is more coherent than TopK's ({where}).",
        )
        yield against(
            id=f"c4-selected-{name}",
            metric=f"babel_selected_{name}",
            text=f"Atoms that it selects together are less coherent ({where}).",
        )
        yield against(
            id=f"c5-{name}",
            metric=f"rank_past_{name}",
            better="higher",
            text=f"The effective rank of its codes grows more when k is quadrupled ({where}).",
        )
    yield against(
        id="c5-trained",
        metric="rank_growth",
        better="higher",
        text="So it does among dictionaries trained at 4 and at 16 latents a row (patches).",
    )
    yield against(
        id="c6",
        metric="shared_latents",
        better="higher",
        text="More of its latents serve two modalities alike (planted data).",
        paper="scores near 0.5 in CLIP, SigLIP and AIMv2; bimodal for TopK",
    )


def _facts() -> Iterator[Claim]:
    exact = partial(Claim, arm="mp", margin=1e-5, deterministic=True)
    yield exact(
        id="c7-orthogonal",
        metric="not_orthogonal",
        text="A residual is orthogonal to the atom just selected.",
    )
    yield exact(
        id="c7-energy",
        metric="energy_off",
        text="A step takes the square of its coefficient off the residual's energy.",
    )
