"""Paper 43: screening by mutual information, part A of the thesis.

Departures: see `rarefy.regression.mutual_information`; planted and bundled columns in place of
ABIDE's brain images, 600 rows and 300 columns of which 20 are true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._robust_screening_claims import SCREENING_ARMS, SCREENING_CLAIMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = Paper(
    number=43,
    slug="robust-high-dimensional",
    title="Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data",
    venue="PhD thesis, McGill University, 2025",
    authors_code="https://github.com/Kaiyangshi-Ito/fastHDMI",
    domain="regression",
    arms=SCREENING_ARMS,
    claims=SCREENING_CLAIMS,
    summary=(
        "Mutual information from heavily smoothed kernel densities finds columns whose effects are "
        "nonlinear, which correlation misses, and ranks linear ones as well as correlation does."
    ),
    usage="""\
import numpy as np
from rarefy.regression import MutualInfoScreener

X = np.random.default_rng(0).standard_normal((500, 2000))
y = X[:, 7] ** 2 + X[:, 30]
print(MutualInfoScreener(k=2).fit(X, y).get_support(indices=True))
""",
    seeds={"smoke": 1, "default": 5, "full": 20},
    tour_seeds=0,
)


def setup(trial: Trial) -> None:
    """Nothing is shared: every arm plants its own tables from the seed."""


def measure(arm: str, shared: None, trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Measure an arm."""
    from rarefy.papers._robust_screening import measure_screening

    return measure_screening(arm, trial)


def figure(measurements: Measurements) -> Figure:
    """How well each estimator ranks the true columns."""
    from matplotlib.figure import Figure

    from rarefy.papers._robust_screening_figure import draw_screening

    drawn = Figure(figsize=(8, 4.2), layout="constrained")
    draw_screening(drawn.subplots(), measurements)
    return drawn
