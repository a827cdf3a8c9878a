"""What paper 41 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim, Direction

KS = (4, 8, 16)
_TWICE, _HALF = "topk, twice as wide", "abstopk, half as wide"


def abstopk_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_operators(), *_errors(), *_both_poles(), *_suite(), *_steering(), *_readable())


def _operators() -> list[Claim]:
    exact = partial(Claim, arm="operators", deterministic=True)
    said = {
        "relu": "ReLU is the proximal map of an l1 norm with z >= 0",
        "jumprelu": "JumpReLU that of an l0 norm with z >= 0",
        "topk": "TopK that of at most k nonzeros with z >= 0",
        "soft": "Soft thresholding that of the l1 norm alone",
        "hard": "Hard thresholding that of the l0 norm alone",
        "abstopk": "AbsTopK that of at most k nonzeros alone",
    }
    return [
        *(
            exact(
                id=f"c1-{name}",
                metric=f"gap_{name}",
                margin=1e-9,
                text=f"{text}: none of all supports of R^6 has a better point.",
            )
            for name, text in said.items()
        ),
        exact(
            id="c1-step",
            metric="step_apart",
            margin=1e-6,
            text="One proximal step of size 1 from zero, weights tied, is the autoencoder.",
        ),
        exact(
            id="c1-ista",
            metric="ista_rises",
            text="More steps, of the size that the dictionary's norm allows, never raise the "
            "objective.",
        ),
    ]


def _errors() -> list[Claim]:
    at = {**{f"fvu_{k}": f"on image patches at k = {k}" for k in KS}, "fvu_lm": "on a code model"}
    lower = partial(Claim, arm="abstopk", better="lower")
    sides: tuple[tuple[str, Direction], ...] = (("lower", "higher"), ("higher", "lower"))
    return [
        *(
            lower(
                id=f"c2-{versus}-{metric.removeprefix('fvu_')}",
                metric=metric,
                versus=versus,
                text=f"AbsTopK leaves less variance unexplained than {name} {where}.",
                paper="lower error at all sparsity levels (figures)",
            )
            for versus, name in (("topk", "TopK"), ("jumprelu", "JumpReLU of the same L0"))
            for metric, where in at.items()
        ),
        lower(
            id="c2-topk-lm-4k",
            metric="fvu_lm_4k",
            versus="topk",
            text="AbsTopK leaves less variance unexplained than TopK on a code model with four "
            "times as many active latents.",
        ),
        *(
            Claim(
                id=f"c2-recovered-{versus}",
                metric="recovered",
                arm="abstopk",
                versus=versus,
                better="higher",
                text=f"It recovers more of the model's loss than {name}.",
            )
            for versus, name in (("topk", "TopK"), ("jumprelu", "JumpReLU"))
        ),
        *(
            Claim(
                id=f"c2-fair-{side}-{metric}",
                metric=f"l0_{metric}",
                arm="jumprelu",
                versus="topk",
                better=better,
                kind="ratio",
                margin=-0.1,
                text=f"The comparison is fair: JumpReLU's L0 is at most 10 % {side} ({where}).",
            )
            for metric, where in ((8, "patches, k = 8"), ("lm", "code model"))
            for side, better in sides
        ),
        *(
            lower(
                id=f"c2-twice-{k}",
                metric=f"fvu_{k}",
                versus=_TWICE,
                text=f"It does so even against TopK with twice the latents (k = {k}).",
            )
            for k in KS
        ),
        *(
            Claim(
                id=f"c2-half-{k}",
                metric=f"fvu_{k}",
                arm=_HALF,
                versus="topk",
                text=f"Half the latents are enough to leave less than TopK (k = {k}).",
            )
            for k in KS
        ),
    ]


def _both_poles() -> list[Claim]:
    more = partial(Claim, arm="abstopk", versus="topk", better="higher")
    return [
        Claim(
            id="c3-one",
            metric="axes_in_one",
            arm="abstopk",
            better="higher",
            margin=0.8,
            text="AbsTopK represents at least 80 % of planted axes by one latent each.",
        ),
        Claim(
            id="c3-two",
            metric="axes_in_two",
            arm=_TWICE,
            better="higher",
            margin=0.8,
            text="TopK with room for both poles splits at least 80 % of them in two.",
        ),
        more(
            id="c3-two-sided",
            metric="two_sided",
            text="On a code model more of its latents are two-sided.",
            paper="Gemma-2-2B, layer 12: 29.7 against 5.3 % of latents, by a judge",
        ),
        more(
            id="c3-opposite",
            metric="opposite",
            text="And more have opposite meanings on their two sides, by free labels.",
            paper="20.2 against 2.6 %",
        ),
        more(
            id="c3-poles",
            metric="both_poles",
            text="Counting TopK's pairs of opposite latents too.",
        ),
    ]


def _suite() -> list[Claim]:
    better = partial(Claim, arm="abstopk", versus="topk", better="higher")
    return [
        better(
            id="c4-scr",
            metric="scr",
            text="Ablating a spurious attribute's latents cures a biased probe further (SCR).",
            paper="Qwen3-4B, layer 18: 0.35 against 0.26",
        ),
        better(
            id="c4-tpp",
            metric="tpp",
            text="Ablating a class's latents hurts its probe more than the others' (TPP).",
            paper="0.36 against 0.31",
        ),
        better(
            id="c4-unlearning",
            metric="unlearning",
            margin=-0.02,
            text="Ablating prose's latents costs prose more than code, no less than TopK's (to "
            "0.02 nats).",
        ),
        Claim(
            id="c4-absorption",
            metric="absorption",
            arm="abstopk",
            versus="topk",
            margin=-0.02,
            text="No more absorption (to two points).",
        ),
        *(
            better(
                id=f"c4-probe-{where}",
                metric=f"{where}_1",
                margin=-0.01,
                text=f"One latent tells {what} as well (to a point of accuracy).",
            )
            for where, what in (("probe", "attributes of tokens"), ("digits", "digits"))
        ),
    ]


def _steering() -> list[Claim]:
    shift = partial(Claim, metric="shift", arm="abstopk", better="higher", kind="ratio")
    return [
        Claim(
            id="c5-dim",
            metric="near_dim",
            arm="abstopk",
            better="higher",
            margin=0.5,
            text="At equal KL one latent shifts at least half of the attributes at least 0.9 times "
            "as far as the supervised difference in means.",
            paper="HarmBench 17.0 to 81.3 by one latent, matching or beating DiM",
        ),
        shift(
            id="c5-topk",
            versus="topk",
            margin=-0.05,
            text="And no less far than TopK's best latent (to 5 %).",
            paper="81.3 against 80.7",
        ),
        shift(
            id="c5-per-direction",
            versus="topk, a latent for each way",
            margin=-0.05,
            text="Nor than TopK's best latent for each way (to 5 %).",
        ),
    ]


def _readable() -> list[Claim]:
    return [
        Claim(
            id=f"c6-{metric}",
            metric=metric,
            arm="abstopk",
            versus="topk",
            better="higher",
            margin=-0.02,
            text=text,
        )
        for metric, text in (
            (
                "detection_f1",
                "Its best latents detect attributes as well (F1, to two points).",
            ),
            (
                "purity",
                "The rows that drive a side of a latent most are as much of one kind of token "
                "(to two points).",
            ),
        )
    ]
