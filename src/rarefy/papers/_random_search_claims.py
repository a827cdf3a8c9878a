"""What paper 21 says, made testable: the claims of its recipe.

"No better" and "no faster" are claims of their own, not the failure to show a difference: for
each the random configuration must be no worse than the searched one to a margin. With the same
the other way round the two are equivalent.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from rarefy.evidence.claims import Claim, Direction

# Per cent of the hidden units left out. Beyond 95 few networks train at all, and no claim is made.
LEVELS = ("50", "75", "90", "95", "98")
CLAIMED = LEVELS[:4]

_ARMS = ("searched", "random")


class _Metric(NamedTuple):
    name: str
    better: Direction
    margin: float
    says: str
    turned: str


_RESULT = _Metric(
    "accuracy",
    "higher",
    0.01,
    "the found sub-network ends no better than a random one (to one point)",
    "the found sub-network ends no worse than a random one (to one point)",
)
_SPEED = (
    _Metric(
        "area",
        "higher",
        0.03,
        "the found sub-network has no better area under its validation curve (to 0.03)",
        "the found sub-network has no worse area under its validation curve (to 0.03)",
    ),
    _Metric(
        "epochs",
        "lower",
        2.0,
        "the found sub-network is no sooner at 90 % of its final accuracy (to 2 epochs)",
        "the found sub-network is no later at 90 % of its final accuracy (to 2 epochs)",
    ),
)


def random_search_claims() -> tuple[Claim, ...]:
    """List them in the order of the paper's card."""
    return (
        *_works(),
        *_survives(),
        *(claim for level in CLAIMED for claim in _equivalent("c2", _RESULT, level)),
        *(c for metric in _SPEED for level in CLAIMED for c in _equivalent("c3", metric, level)),
        *_neutral(),
        *_sound(),
    )


def _works() -> list[Claim]:
    return [
        Claim(
            id=f"c0-{level}",
            metric=f"gain_{level}",
            arm="searched",
            better="higher",
            margin=2.0,
            deterministic=True,
            text=f"At {level} %, the search works: its best is 2 standard deviations below the "
            "mean initial loss, at every seed.",
        )
        for level in LEVELS
    ]


def _survives() -> list[Claim]:
    return [
        Claim(
            id=f"c1-{arm}-{level}",
            metric=f"accuracy_{level}",
            arm=arm,
            versus="dense",
            better="higher",
            kind="ratio",
            margin=-lost,
            text=f"With {level} % of its units gone, a {arm} sub-network keeps "
            f"{100 * (1 - lost):.0f} % of its parent's accuracy.",
            paper="curves; no figure known",
        )
        for level, lost in (("90", 0.03), ("95", 0.07))
        for arm in _ARMS
    ]


def _equivalent(card: str, metric: _Metric, level: str) -> list[Claim]:
    claim = partial(
        Claim, metric=f"{metric.name}_{level}", better=metric.better, margin=-metric.margin
    )
    name = f"{card}-{metric.name}-{level}"
    return [
        claim(
            id=name,
            arm="random",
            versus="searched",
            text=f"At {level} %, {metric.says}.",
            paper="negative result",
        ),
        claim(
            id=f"{name}-turned",
            arm="searched",
            versus="random",
            text=f"At {level} %, {metric.turned}.",
        ),
    ]


def _neutral() -> list[Claim]:
    claim = partial(Claim, metric="accuracy_mean", better="higher", margin=-0.005)
    return [
        claim(
            id="c4",
            arm="random",
            versus="searched",
            text="Random search is a neutral baseline: over the sparsities, what it finds is no "
            "better than a random sub-network (to half a point).",
            paper="conclusion",
        ),
        claim(
            id="c4-turned",
            arm="searched",
            versus="random",
            text="Random search is a neutral baseline: nor is what it finds worse.",
        ),
    ]


def _sound() -> list[Claim]:
    return [
        Claim(
            id="sliced",
            metric="slice_error",
            arm="searched",
            margin=1e-5,
            deterministic=True,
            text="Sliced sub-networks compute what the masked parent does (to 1e-5).",
        ),
        Claim(
            id="speed",
            metric="clock_times_loop",
            arm="searched",
            better="higher",
            margin=5.0,
            text="At 90 %, candidates run 5 times as fast in a batch as in a loop over masks.",
        ),
    ]
