"""Paper 43, four tools for many columns: screening, two descents, and a robust mixed model.

Part A ranks columns by mutual information; B and D race accelerated and conjugate gradients against
their baselines on the thesis's generator; C fits mixed-effects models with outlying subjects.

Departures: see `rarefy.regression.mutual_information`, `conjugate_gradient` and `mixed_effects`;
planted and bundled columns in place of ABIDE's brain images; ncvreg's part is taken by our
coordinate descent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._robust_claims import (
    AG,
    GL,
    MIXED,
    NCG,
    PG,
    RECOVERIES,
    SHARES,
    SOLVER_ARMS,
    SOLVERS,
    TAUS,
    solver_claims,
)
from rarefy.papers._robust_screening_claims import SCREENING_ARMS, SCREENING_CLAIMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = Paper(
    number=43,
    slug="robust-high-dimensional",
    title="Contributions to Robust and Efficient Methods for Analysis of High Dimensional Data",
    venue="PhD thesis, McGill University, 2025",
    authors_code="https://github.com/Kaiyangshi-Ito/fastHDMI",
    domain="regression",
    arms=(*SCREENING_ARMS, *SOLVER_ARMS),
    claims=(*SCREENING_CLAIMS, *solver_claims()),
    summary=(
        "Mutual information from heavily smoothed kernel densities finds columns whose effects are "
        "nonlinear, which correlation misses. Nonconvex penalties are fitted in fewer iterations "
        "by a gradient whose damping minimises its own bound, and fewer still by conjugate "
        "directions. A mixed-effects model of maximal Tsallis entropy ignores outlying subjects."
    ),
    usage="""\
import numpy as np
from rarefy.regression import MutualInfoScreener, TsallisMixedRegressor

rng = np.random.default_rng(0)
X = rng.standard_normal((500, 2000))
y = X[:, 7] ** 2 + X[:, 30]
kept = MutualInfoScreener(k=2).fit(X, y).get_support(indices=True)
subject = np.repeat(np.arange(100), 5)
model = TsallisMixedRegressor(nu=4).fit(X[:, kept], y, groups=subject)
print(kept, model.coef_, model.bse_)
""",
    seeds={"smoke": 1, "default": 5, "full": 20},
    tour_seeds=0,
)


def setup(trial: Trial) -> None:
    """Nothing is shared: every arm plants its own tables from the seed."""


def measure(arm: str, shared: None, trial: Trial) -> dict[str, float]:  # noqa: ARG001
    """Measure an arm, the part before the slash saying of what."""
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _measured(arm, trial)


def _measured(arm: str, trial: Trial) -> dict[str, float]:
    if arm in SCREENING_ARMS:
        from rarefy.papers._robust_screening import measure_screening

        return measure_screening(arm, trial)
    if arm in MIXED:
        from rarefy.papers._robust_mixed import measure_mixed

        return measure_mixed(arm, trial)
    from rarefy.papers._robust_solvers import measure_recovery, measure_solver

    return measure_solver(arm, trial) if arm in SOLVERS else measure_recovery(arm, trial)


def figure(measurements: Measurements) -> Figure:
    """Ranking of true columns; iterations to the gap; recovery; error with outlying subjects."""
    from matplotlib.figure import Figure

    from rarefy.papers._robust_screening_figure import draw_screening

    drawn = Figure(figsize=(10.4, 7.2))
    axes = drawn.subplots(2, 2)
    draw_screening(axes[0, 0], measurements)
    _iterations(axes[0, 1], measurements)
    _recovery(axes[1, 0], measurements)
    for arm in MIXED:
        means = [_mean(measurements, arm, f"error_{share}") for share in SHARES]
        axes[1, 1].plot(SHARES, means, marker="o", ms=4, label=arm.removeprefix("mixed/"))
    axes[1, 1].set(xlabel="outlying subjects (%)", ylabel="squared error of b", yscale="log")
    axes[1, 1].legend(fontsize=8)
    return drawn


def _iterations(axis: Axes, measurements: Measurements) -> None:
    for arm in (PG, GL, AG, NCG):
        means = [_mean(measurements, arm, f"to_gap_scad_{tau}") for tau in TAUS]
        axis.plot(range(len(TAUS)), means, marker="o", ms=4, label=arm.removeprefix("solve/"))
    axis.set(yscale="log", xlabel="correlation", ylabel="gradients until the gap is e^3")
    axis.set_xticks(range(len(TAUS)), TAUS)
    axis.legend(fontsize=8)


def _recovery(axis: Axes, measurements: Measurements) -> None:
    metrics = ("error_snr1", "error_snr5", "ppv_snr1", "ppv_snr5", "npv_snr1", "npv_snr5")
    for i, arm in enumerate(RECOVERIES):
        means = [_mean(measurements, arm, metric) for metric in metrics]
        places = [x + 0.27 * (i - 1) for x in range(len(metrics))]
        axis.bar(places, means, 0.25, label=arm.removeprefix("recover/"))
    labels = [metric.replace("_snr", "\nSNR ") for metric in metrics]
    axis.set_xticks(range(len(metrics)), labels, fontsize=8)
    axis.legend(fontsize=8)


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    from math import nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return fmean(values) if values else nan
