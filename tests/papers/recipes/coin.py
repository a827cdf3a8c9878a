"""A recipe for the tests: coins of known bias, so that the right verdicts are known.

It counts its calls in the file that RAREFY_TEST_CALLS names, and sleeps between arms when asked to.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rarefy.evidence.claims import Claim, Measurements
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=901,
    slug="fair-coin",
    title="Coins of known bias",
    venue="Tests 2026",
    authors_code="",
    domain="weights",
    arms=("fair", "biased"),
    claims=(
        Claim(
            id="c1",
            text="The biased coin shows heads more often.",
            metric="heads",
            arm="biased",
            versus="fair",
            better="higher",
            paper="0.9 against 0.5",
        ),
        Claim(
            id="c2",
            text="The fair coin shows heads more often.",
            metric="heads",
            arm="fair",
            versus="biased",
            better="higher",
            kind="ratio",
        ),
        Claim(id="c3", text="No throw is lost.", metric="lost", arm="fair", deterministic=True),
    ),
    summary="A coin with [bold] bias shows it.",
    usage="import random\nrandom.Random(0).random() < 0.9",
    seeds={"smoke": 2, "default": 4, "full": 5},
)


def setup(
    trial: Trial,
    *,
    bias: float = 0.9,
    model: Path | None = None,
    side: Literal["heads", "tails"] = "heads",
    steps: tuple[int, ...] = (1, 2),
    pause: float = 0.0,
    loud: bool = False,
) -> Any:
    """Throw nothing yet.

    Parameters
    ----------
    bias : float
        How often the biased coin shows heads,
        between 0 and 1.
    model : Path, optional
        A folder.
    side, steps : object
        Two that share a line.

    Returns
    -------
    object
        Not an option.
    """
    _count("setup", trial.seed)
    if not 0 <= bias <= 1:
        raise ValueError(f"bias is {bias}, expected a number from 0 to 1")
    return {"bias": bias, "pause": pause}


def measure(arm: str, shared: Any, trial: Trial) -> dict[str, float]:
    import random

    _count(arm, trial.seed)
    trial.progress("throwing", 0.5)
    time.sleep(shared["pause"])
    rate = shared["bias"] if arm == "biased" else 0.5
    throw = random.Random(trial.seed)
    n = trial.pick(smoke=200, default=400, full=800)
    return {"heads": sum(throw.random() < rate for _ in range(n)) / n, "lost": 0}


def figure(measurements: Measurements) -> Figure:
    from matplotlib.figure import Figure

    drawn = Figure()
    axes = drawn.subplots()
    for arm in measurements.arms:
        axes.plot(measurements.values(arm, "heads"), label=arm)
    axes.legend()
    return drawn


def _count(what: str, seed: int) -> None:
    if "RAREFY_TEST_CALLS" in os.environ:
        with open(os.environ["RAREFY_TEST_CALLS"], "a") as file:
            file.write(f"{what} {seed}\n")
