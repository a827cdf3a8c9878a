"""What paper 23 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim, Direction

_CLOSE = 0.03


def progressive_nm_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_gains(), *_noise(), *_equal_cost(), *_low_sparsity(), *_exact(), *_speed())


def _gains() -> list[Claim]:
    not_worse = partial(Claim, metric="loss", versus="SR-STE", margin=-0.02)
    return [
        Claim(
            id="c1",
            metric="accuracy",
            arm="vision: MdGf",
            versus="vision: SR-STE",
            better="higher",
            text="At high sparsity, MdGf classifies better than SR-STE (1:32).",
            paper="ViT and Swin on ImageNet-1K: up to 2 points",
        ),
        *(
            Claim(
                id=f"c2-{m}",
                metric="loss",
                arm=arm,
                versus=versus,
                text=f"At high sparsity, MdGf models language better than SR-STE (1:{m}).",
                paper="T5X on GLUE: up to 5 points",
            )
            for m, arm, versus in ((16, "MdGf", "SR-STE"), (32, "1:32 MdGf", "1:32 SR-STE"))
        ),
        *(
            not_worse(
                id=f"c2-{name}",
                arm=arm,
                text=f"At 1:16, {arm} is no worse than SR-STE (to 0.02 nats).",
            )
            for name, arm in (
                ("exponential", "MdGf exponential"),
                ("code", "MdGf, whole gradient"),
                ("stepwise", "SdGf stepwise"),
                ("geometric", "SdGf geometric"),
            )
        ),
    ]


def _noise() -> list[Claim]:
    calmer = partial(Claim, arm="MdGf", versus="SR-STE", kind="ratio")
    sparser = partial(Claim, arm="1:32 SR-STE", versus="2:4 SR-STE", kind="ratio", better="higher")
    return [
        calmer(
            id="c3",
            metric="variance",
            margin=1.0,
            text="MdGf's gradients vary at most half as much as SR-STE's, late in training.",
            paper="curves of ViT-tiny on CIFAR-10, 1:16",
        ),
        calmer(
            id="c3-kept",
            metric="variance_kept",
            text="So they do, if less, on the weights that are kept.",
        ),
        calmer(
            id="c3-moment",
            metric="moment",
            text="Adam's second moments vary less under MdGf than under SR-STE.",
            paper="curves of ViT-tiny on CIFAR-10, 1:16",
        ),
        calmer(
            id="c3-batch",
            metric="batch_noise",
            text="Half-way, on the weights kept, MdGf's gradient differs less from batch to batch.",
        ),
        sparser(
            id="c3b",
            metric="relative_variance",
            text="SR-STE's gradients vary more at 1:32 than at 2:4, over their mean square.",
        ),
        sparser(
            id="c3b-batch",
            metric="batch_noise",
            text="SR-STE's gradient differs more from batch to batch at 1:32 than at 2:4.",
        ),
    ]


def _equal_cost() -> list[Claim]:
    return [
        claim
        for name, arm in (("MdGf", "MdGf"), ("SdGf", "SdGf stepwise"))
        for claim in (
            Claim(
                id=f"c4-{name.lower()}",
                metric="loss",
                arm=arm,
                versus=f"SR-STE, cost of {name}",
                text=f"{arm} beats SR-STE that trains longer, at the same training operations.",
                paper="up to 2 points at equal training FLOPs",
            ),
            Claim(
                id=f"c4-{name.lower()}-cost",
                metric="cost_off",
                arm=f"SR-STE, cost of {name}",
                margin=0.005,
                deterministic=True,
                text=f"The two trainings of that comparison cost the same, to 0.5 % ({name}).",
            ),
        )
    ]


def _low_sparsity() -> list[Claim]:
    pairs = (
        ("MdGf", "2:4 SR-STE", "SR-STE"),
        ("SdGf", "2:4 SR-STE", "SR-STE"),
        ("SR-STE", "dense", "dense"),
        ("MdGf", "dense", "dense"),
        ("SdGf", "dense", "dense"),
    )
    sides: dict[str, Direction] = {"worse": "lower", "better": "higher"}
    return [
        Claim(
            id=f"c5-{name}-{against}-{side}".lower(),
            metric="loss",
            arm=f"2:4 {name}",
            versus=versus,
            better=better,
            margin=-_CLOSE,
            text=f"At 2:4, {name} is {side} than {against} by {_CLOSE:g} nats at most.",
        )
        for name, versus, against in pairs
        for side, better in sides.items()
    ]


def _exact() -> list[Claim]:
    exact = partial(Claim, deterministic=True)
    return [
        claim
        for name, arm in (
            ("mdgf", "MdGf"),
            ("stepwise", "SdGf stepwise"),
            ("geometric", "SdGf geometric"),
            ("sr-ste", "SR-STE"),
        )
        for claim in (
            exact(
                id=f"exact-{name}",
                metric="violations",
                arm=arm,
                text=f"{arm} ends with 1 of every 16, and what is pruned is zero to the bit.",
            ),
            exact(
                id=f"exact-{name}-bake",
                metric="bake_shift",
                arm=arm,
                text=f"Baking {arm}'s masks in changes no output.",
            ),
        )
    ]


def _speed() -> list[Claim]:
    return [
        Claim(
            id=f"speed-{n}-{m}",
            metric=f"clock_step_{n}_{m}",
            arm="step time",
            margin=bar,
            text=f"A training step at {n}:{m} takes at most {bar:g} times a dense one.",
        )
        for n, m, bar in ((2, 4, 1.15), (1, 8, 1.15), (1, 32, 1.3))
    ]
