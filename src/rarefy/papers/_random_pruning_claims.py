"""What paper 24 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

RANDOM = ("uniform", "uniform+", "ER", "ERK", "ERK+", "SNIP ratios", "GraSP ratios")


def random_pruning_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_size(), *_ratios(), *_positions(), *_equal(), *_beyond(), *_flow(), *_exact())


def _size() -> list[Claim]:
    beside_dense = partial(Claim, arm="ERK", versus="dense", better="higher")
    return [
        beside_dense(
            id="c1-wide",
            metric="accuracy_wide",
            margin=-0.015,
            text="Wide enough, a randomly pruned network matches the dense one (to 1.5 points).",
            paper="CIFAR-10: ResNet-56 and wider match at 80 % and beyond",
        ),
        beside_dense(
            id="c1-width",
            metric="rise_width",
            text="The gap to the dense network shrinks as both become four times as wide.",
        ),
        beside_dense(
            id="c1-fourfold",
            metric="fourfold",
            text="It shrinks to a quarter and less.",
        ),
        beside_dense(
            id="c1-depth",
            metric="rise_depth",
            text="The gap shrinks as both become deeper (8 to 14 layers, narrow).",
        ),
    ]


def _ratios() -> list[Claim]:
    ahead = partial(Claim, arm="ERK", better="higher")
    learned = [
        Claim(
            id=f"c2-{short}-{other}",
            arm=arm,
            versus=other,
            metric="accuracy_middle",
            better="higher",
            margin=margin,
            text=text,
        )
        for short, arm in (("SNIP", "SNIP ratios"), ("GraSP", "GraSP ratios"))
        for other, margin, text in (
            ("ERK", -0.03, f"{short}'s layer densities serve as well as ERK's (to 3 points)."),
            ("uniform", 0.0, f"{short}'s layer densities, positions random, beat uniform ones."),
        )
    ]
    return [
        ahead(
            id="c2-uniform-narrow",
            versus="uniform",
            metric="accuracy_narrow",
            margin=0.2,
            text="Narrow, ERK is ahead of uniform densities by 20 points and more.",
        ),
        ahead(
            id="c2-uniform-middle",
            versus="uniform",
            metric="accuracy_middle",
            margin=0.05,
            text="Twice as wide, ERK is still ahead by 5 points and more.",
        ),
        *(
            ahead(
                id=f"c2-{other}-{size}",
                versus=other,
                metric=f"accuracy_{size}",
                text=f"ERK beats {other} ({size}).",
            )
            for other, size in (("ER", "narrow"), ("ER", "middle"), ("uniform+", "middle"))
        ),
        *learned,
        Claim(
            id="c2-small",
            arm="uniform",
            versus="ERK",
            metric="rise_middle",
            better="higher",
            text="What ERK is ahead of uniform is more in the smaller network.",
        ),
        Claim(
            id="c2-sparse",
            arm="uniform",
            versus="ERK",
            metric="rise_density",
            better="higher",
            text="What ERK is ahead of uniform is more in the sparser network.",
        ),
        Claim(
            id="c2-cost",
            arm="uniform",
            versus="ERK",
            metric="macs_middle",
            kind="ratio",
            margin=0.3,
            deterministic=True,
            text="At equal density ERK costs more multiply-accumulates (30 % and more).",
            paper="ResNet-50: about twice",
        ),
    ]


def _positions() -> list[Claim]:
    same = partial(Claim, metric="accuracy_wide", better="higher", margin=-0.02)
    return [
        same(
            id="c2b-random",
            arm="SNIP ratios",
            versus="SNIP mask",
            text="Positions do not matter: SNIP's densities are no worse than its mask (2 points).",
        ),
        same(
            id="c2b-mask",
            arm="SNIP mask",
            versus="SNIP ratios",
            text="Nor are they any better (to 2 points).",
        ),
    ]


def _equal() -> list[Claim]:
    return [
        Claim(
            id=f"c3-{arm}",
            arm=arm,
            versus="dense, as many weights",
            metric="accuracy_wide",
            better="higher",
            margin=-0.005,
            text=f"{arm}, wide, is at least as good as a dense network of as many weights (0.5).",
            paper="Wide ResNet-50 with ERK+ beats the dense one on ImageNet",
        )
        for arm in ("ERK", "ERK+")
    ]


def _beyond() -> list[Claim]:
    measures = (
        ("ece", "lower", 0.005, "Calibration error"),
        ("nll", "lower", 0.02, "Log-likelihood"),
        ("brier", "lower", 0.005, "Brier score"),
        ("fgsm", "higher", 0.02, "Accuracy under attack (FGSM)"),
        ("ood_auc", "higher", 0.005, "Detection of strange pictures"),
    )
    return [
        Claim(
            id=f"c4-{metric}{suffix}",
            arm=arm,
            versus="dense",
            metric=metric,
            better="higher" if better == "higher" else "lower",
            margin=-slack,
            text=f"{name} is at least as good as the dense network's ({said}).",
            paper="statement: OOD detection, calibration and robustness match or improve",
        )
        for arm, suffix, said in (
            ("ERK", "", "wide"),
            ("ERK, denser", "-denser", "wide, four times the density"),
        )
        for metric, better, slack, name in measures
    ]


def _flow() -> list[Claim]:
    flows = partial(Claim, arm="ERK", metric="gradient_norm", better="higher")
    return [
        *(
            Claim(
                id=f"c5-{name}",
                arm="allocations",
                metric="flow_correlation",
                better="higher",
                margin=margin,
                text=f"Early gradient norm ranks the allocations as accuracy does: {said}.",
            )
            for name, margin, said in (
                ("sign", 0.0, "Spearman's correlation is not negative (narrow)"),
                ("rank", 0.4, "it is 0.4 and more (narrow)"),
            )
        ),
        *(
            flows(
                id=f"c5-{other}",
                versus=other,
                text=f"More gradient flows early under ERK than under {other} (narrow).",
            )
            for other in ("uniform", "ER")
        ),
    ]


def _exact() -> list[Claim]:
    exact = partial(Claim, deterministic=True)
    return [
        *(
            exact(
                id=f"exact-{arm}",
                arm=arm,
                metric="violations",
                text=f"{arm}: the budget is met to the weight, and pruned weights end at zero.",
            )
            for arm in RANDOM
        ),
        exact(
            id="exact-first",
            arm="uniform+",
            metric="density_first",
            better="higher",
            margin=1.0,
            text="uniform+ leaves the first convolution dense.",
        ),
        exact(
            id="exact-last",
            arm="ERK+",
            metric="density_last",
            better="higher",
            margin=1.0,
            text="ERK+ leaves the classifier dense.",
        ),
    ]
