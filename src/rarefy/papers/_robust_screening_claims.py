"""What part A of paper 43 says, made testable."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from rarefy.evidence.claims import Claim
from rarefy.papers._robust_screening import ESTIMATORS, PEER

SCREENING_ARMS = (*ESTIMATORS, PEER)

_OTHERS = {"knn": "nearest neighbours", "binning": "binning", "pearson": "Pearson correlation"}


def _c1() -> Iterator[Claim]:
    published = {"knn": ".650", "binning": ".678", "pearson": ".538"}
    for other, words in _OTHERS.items():
        yield Claim(
            id=f"c1-{other}",
            metric="auroc_nonlinear",
            arm="screen/kde",
            versus=f"screen/{other}",
            better="higher",
            margin=0.1,
            text=f"Kernel densities rank columns with nonlinear effects on a number better than "
            f"{words}.",
            paper=f"AUROC .845 against {published[other]} on ABIDE with 40 true columns",
        )
        yield Claim(
            id=f"c1-pixels-{other}",
            metric="auroc_pixels_nonlinear",
            arm="screen/kde",
            versus=f"screen/{other}",
            better="higher",
            text=f"So they do on real columns, the digits' pixels ({words}).",
        )


def _c2() -> Iterator[Claim]:
    for one, other in (("kde", "pearson"), ("pearson", "kde")):
        yield Claim(
            id=f"c2-{one}",
            metric="auroc_linear",
            arm=f"screen/{one}",
            versus=f"screen/{other}",
            better="higher",
            margin=-0.03,
            text="Where effects are linear, kernel densities and Pearson rank equally well: "
            f"{one} is no worse.",
            paper=".827 and .828",
        )
    for other in ("knn", "binning"):
        yield Claim(
            id=f"c2-{other}",
            metric="auroc_linear",
            arm="screen/kde",
            versus=f"screen/{other}",
            better="higher",
            text=f"There they rank better than {_OTHERS[other]}.",
            paper=".827 against .659 (neighbours) and .691 (binning)",
        )


def _c3() -> Iterator[Claim]:
    binning = partial(Claim, metric="auroc_binary_nonlinear", arm="screen/binning", better="higher")
    for other, paper in (("knn", ".555"), ("pearson", ".520")):
        yield binning(
            id=f"c3-{other}",
            versus=f"screen/{other}",
            text=f"With nonlinear effects on a class, binning ranks better than {_OTHERS[other]}.",
            paper=f".688 against {paper}",
        )
    yield binning(
        id="c3-kde-isj",
        versus="screen/kde-isj",
        text="So it does against kernel densities whose bandwidth is chosen for each class.",
        paper=".688 against .498",
    )
    yield binning(
        id="c3-kde",
        versus="screen/kde",
        text="So it does against kernel densities with one bandwidth for all columns.",
    )
    yield Claim(
        id="c3-linear",
        metric="auroc_binary_linear",
        arm="screen/pearson",
        versus="screen/binning",
        better="higher",
        text="With linear effects on a class, Pearson correlation ranks better than binning.",
        paper=".744 against .674",
    )


def _speed() -> Iterator[Claim]:
    yield Claim(
        id="c1-speed",
        metric="clock_column",
        arm="screen/kde",
        versus=PEER,
        margin=19.0,
        kind="ratio",
        text="A column takes a twentieth of the time of scikit-learn's nearest neighbours.",
        paper="fast; a fifth is what the card asks for",
    )


SCREENING_CLAIMS = (*_c1(), *_c2(), *_c3(), *_speed())
