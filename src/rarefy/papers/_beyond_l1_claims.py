"""What paper 26 says, made testable: the claims of its recipe."""

from __future__ import annotations

from functools import partial

from rarefy.evidence.claims import Claim

LEVELS = ("4.5", "7", "10")
"""Mean numbers of active units at which methods are compared."""


def beyond_l1_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (*_error(), *_shrinkage(), *_size(), *_fields())


def _error() -> list[Claim]:
    said = "about 5 times better reconstruction at a fixed sparsity"
    return [
        *(
            Claim(
                id=f"c1-{arm}-{level}",
                metric=f"error_{level}",
                arm=arm,
                versus="soft",
                kind="ratio",
                margin=margin,
                text=f"At {level} active units soft thresholding's error is at least {1 + margin} "
                f"times {name}'s.",
                paper=said,
            )
            for arm, name, margin in (("cel0", "CEL0", 1.0), ("half", "half thresholding", 0.8))
            for level in LEVELS
        ),
        *(
            Claim(
                id=f"c1-hard-{level}",
                metric=f"error_{level}",
                arm="hard",
                versus="soft",
                kind="ratio",
                text=f"At {level} active units hard thresholding's error is below soft's.",
                paper=said,
            )
            for level in ("7", "10")
        ),
    ]


def _shrinkage() -> list[Claim]:
    return [
        Claim(
            id=f"c1b-{level}",
            metric=f"debiased_{level}",
            arm="cel0",
            versus="soft",
            kind="ratio",
            text=f"At {level} active units CEL0's error is below soft's also with least-squares "
            "coefficients on the units that each has chosen: not all of the gap is shrinkage.",
        )
        for level in LEVELS
    ]


def _size() -> list[Claim]:
    return [
        Claim(
            id="c2-size",
            metric="error_4.5",
            arm="cel0",
            versus="soft, 1024 atoms",
            kind="ratio",
            text="Soft thresholding with 8 times the atoms does not reach CEL0's error at 4.5 "
            "active units.",
            paper="about 10 times more units at the same sparsity",
        ),
        Claim(
            id="c2-density",
            metric="units_at_error",
            arm="cel0",
            versus="soft",
            kind="ratio",
            margin=0.8,
            text="At an error of 5 % soft thresholding's codes have at least 1.8 times as many "
            "active units as CEL0's.",
        ),
    ]


def _fields() -> list[Claim]:
    of = {"soft": "soft", "hard": "hard", "cel0": "CEL0", "half": "half"}
    diversity = partial(Claim, metric="entropy_gain", better="higher")
    return [
        *(
            Claim(
                id=f"c3-{arm}",
                metric="selective",
                arm=arm,
                better="higher",
                margin=0.25,
                text=f"With {name} thresholding at least a quarter of the units are Gabor-like and "
                "selective for orientation.",
                paper="a subset of units, for every penalty",
            )
            for arm, name in of.items()
        ),
        Claim(
            id="c3-random",
            metric="selective",
            arm="random atoms",
            margin=0.02,
            text="Of random atoms at most 2 % are.",
        ),
        *(
            diversity(
                id=f"c4-{arm}",
                arm=arm,
                text=f"With {of[arm]} units are of more kinds at 5 active units than at 20 "
                "(entropy of the kinds).",
                paper="other kinds of fields appear when codes are sparse enough",
            )
            for arm in ("cel0", "half")
        ),
        Claim(
            id="c5",
            metric="error_sparse",
            arm="cel0",
            versus="soft",
            kind="ratio",
            margin=1.0,
            text="Where those kinds appear, at 5 active units, soft thresholding's error is at "
            "least twice CEL0's.",
            paper="an unacceptable loss in reconstruction",
        ),
    ]
