"""What paper 40 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

_FAMILIES = {
    "wide": "Sparse Wide",
    "parallel": "Sparse Parallel",
    "factorized": "Sparse Factorized",
    "doped": "Sparse Doped",
}


def sparse_ift_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_gains(), *_sparsity(), *_masks(), *_families(), *_explanations(), *_costs())


def _gains() -> list[Claim]:
    ahead = partial(Claim, better="higher", arm="wide", versus="dense")
    return [
        ahead(
            id="c1-75",
            metric="accuracy_75",
            text="At equal cost, Sparse Wide at 75 % is more accurate than the dense network.",
            paper="ResNet-18 on CIFAR-100: about 77.0 to 79 %",
        ),
        ahead(
            id="c1-90",
            metric="accuracy_90",
            text="At equal cost, Sparse Wide at 90 % is more accurate than the dense network.",
            paper="ResNet-18 on ImageNet: 70.9 to 74.4 %",
        ),
        Claim(
            id="c1-double",
            metric="accuracy_75",
            arm="wide",
            versus="dense, twice the cost",
            better="higher",
            margin=-0.005,
            text="It matches a dense network of twice the cost (to half a point).",
            paper="ResNet-18 wide at 90 %: 74.4 %; ResNet-34: 74.2 to 74.4 %",
        ),
        Claim(
            id="c1-conv",
            metric="accuracy_75",
            arm="conv: wide",
            versus="conv: dense",
            better="higher",
            text="So is a small residual network at 75 %, its stem and head left dense.",
        ),
        Claim(
            id="c3",
            metric="log_ppl",
            arm="language: wide",
            versus="language: dense",
            text="Sparse Wide MLPs at 50 % lower a language model's perplexity at equal cost.",
            paper="GPT-3 Small on WikiText-103: 0.4 lower, from about 20.8",
        ),
    ]


def _sparsity() -> list[Claim]:
    return [
        Claim(
            id=f"c2-{family}-{high}",
            metric=f"rise_{low}_{high}",
            arm=family,
            better="higher",
            text=f"{name} gains from {low} to {high} % sparsity.",
            paper="CIFAR-100: about 79 to 80 % at the top",
        )
        for family, name in list(_FAMILIES.items())[:2]
        for low, high in (("50", "75"), ("75", "90"))
    ]


def _masks() -> list[Claim]:
    moving = partial(Claim, better="higher", versus="wide, static")
    return [
        *(
            moving(
                id=f"c4-{level}",
                metric=f"accuracy_{level}",
                arm="wide",
                text=f"At {level} %, masks moved by RigL beat fixed random ones.",
            )
            for level in ("50", "75", "90")
        ),
        moving(
            id="c4-SET",
            metric="accuracy_75",
            arm="wide, SET",
            text="At 75 %, masks moved at random (SET) beat fixed ones.",
        ),
        moving(
            id="c4-grows",
            metric="rise_50_90",
            arm="wide",
            text="The sparser, the more moving the masks gains (90 % against 50 %).",
        ),
    ]


def _families() -> list[Claim]:
    order = partial(Claim, metric="accuracy_75", better="higher")
    return [
        order(
            id="c5-wide",
            arm="wide",
            versus="parallel",
            text="At 75 %, Sparse Wide is the best family: ahead of Sparse Parallel.",
        ),
        order(
            id="c5-factorized",
            arm="parallel",
            versus="factorized",
            text="At 75 %, Sparse Parallel is ahead of Sparse Factorized.",
        ),
        order(
            id="c5-doped",
            arm="parallel",
            versus="doped",
            text="At 75 %, Sparse Parallel is ahead of Sparse Doped.",
        ),
        order(
            id="c5-parallel",
            arm="parallel",
            versus="dense",
            text="At 75 %, Sparse Parallel is ahead of the dense network.",
        ),
        *(
            Claim(
                id=f"c5-{family}-falls",
                metric="rise_50_90",
                arm=family,
                text=f"{_FAMILIES[family]} loses from 50 to 90 % sparsity.",
            )
            for family in ("factorized", "doped")
        ),
    ]


def _explanations() -> list[Claim]:
    ahead = partial(Claim, metric="accuracy_75", arm="wide", better="higher")
    return [
        ahead(
            id="c6-low-rank",
            versus="low rank",
            text="Low rank does not explain it: ahead of dense linear factors of equal cost.",
        ),
        ahead(
            id="c6-bottleneck",
            versus="bottleneck",
            text="Depth does not explain it: ahead of dense factors with a non-linearity between.",
        ),
        ahead(
            id="c6-same-width",
            versus="same width, sparse",
            text="Sparsity alone does not explain it: ahead of the same width at 75 %.",
        ),
        ahead(
            id="c7",
            versus="dense, best rate",
            text="With the dense network's settings it beats that at its best of three rates.",
            paper="no hyper-parameter is changed",
        ),
    ]


def _costs() -> list[Claim]:
    exact = partial(Claim, deterministic=True)
    return [
        *(
            exact(
                id=f"cost-{family}",
                metric="macs_off",
                arm=family,
                margin=0.001,
                text=f"{name} costs what the dense network does (to 0.1 %).",
            )
            for family, name in _FAMILIES.items()
        ),
        *(
            exact(
                id=f"masks-{family}",
                metric="mask_violations",
                arm=family,
                text=f"Every mask of {name} keeps its count, and pruned weights are zero.",
            )
            for family, name in _FAMILIES.items()
        ),
        Claim(
            id="cost-update",
            metric="clock_update_step_ratio",
            arm="language: wide",
            margin=2.0,
            text="A step that moves the masks takes at most twice as long as any other.",
        ),
        Claim(
            id="cost-mask",
            metric="clock_mask_overhead",
            arm="language: wide",
            margin=0.1,
            text="Holding the masks adds at most 10 % to a training step.",
        ),
    ]
