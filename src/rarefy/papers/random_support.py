"""Paper 22, random supports: sparse regression on columns that lean on each other.

Every seed has five designs and two signals on each, "worst" being the combination of the chosen
columns that cancels most; then fresh rows, scales ever further apart, the rows needed as columns
are added, a support chosen against the method, and the guarantee counted.

Departures: the paper has no experiments; these are the card's. The lasso's strength is
cross-validated as in scikit-learn's LassoCV, but on our solver, and once also that of theory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._random_support_claims import (
    ARMS,
    EASY,
    FIXED,
    HARD,
    LASSO,
    MCP,
    OMP,
    ORACLE,
    PIVOTS,
    SLOW,
    random_support_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rarefy.papers._random_support_trials import Problem

BASES, COLUMNS = (2, 4, 8, 16, 32), (250, 500, 1000, 2000)

PAPER = Paper(
    number=22,
    slug="random-support",
    title="Sparse Linear Regression is Easy on Random Supports",
    venue="arXiv 2511.06211 (2025)",
    authors_code="",
    domain="regression",
    arms=ARMS,
    claims=random_support_claims(),
    summary=(
        "With columns that depend on each other strongly, the lasso can need as many rows as there "
        "are columns. If the columns that matter were not chosen against you, taking a few random "
        "ones out of all others first brings back its guarantee, whatever the columns."
    ),
    usage="""\
import numpy as np
from rarefy.regression import RandomPivotLasso

rng = np.random.default_rng(0)
X = np.cumsum(rng.normal(size=(200, 1000)), axis=1)  # every column leans on its neighbours
y = X[:, 200] - X[:, 203] + 0.5 * rng.normal(size=200)
model = RandomPivotLasso(random_state=0).fit(X, y)
print(model.n_pivots_, model.score(X, y))
""",
    seeds={"smoke": 1, "default": 10, "full": 20},
    tour_seeds=2,
)


class Shared(NamedTuple):
    """What the arms of one seed share."""

    cells: dict[str, Problem]
    bases: dict[int, Problem]
    rows: int
    columns: int
    draws: int


def setup(
    trial: Trial, *, rows: int | None = None, columns: int | None = None, draws: int | None = None
) -> Shared:
    """Draw the designs and the signals.

    Parameters
    ----------
    rows, columns : int, optional
        Size of a table; 200 by 1,000 at default scale.
    draws : int, optional
        Draws of pivots at each size; 2 at default scale.
    """
    from rarefy.papers._random_support_trials import K, design, problem, stream

    n = trial.pick(smoke=80, default=200, full=200) if rows is None else rows
    d = trial.pick(smoke=120, default=1000, full=1000) if columns is None else columns
    draws = trial.pick(smoke=1, default=2, full=5) if draws is None else draws
    for name, value, least in (("rows", n, 4 * K), ("columns", d, 4 * K), ("draws", draws, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    cells = {}
    for name in (*HARD, *EASY):
        for signal in ("worst", "gauss"):
            rng = stream(trial.seed, name, signal)
            cells[f"{name}_{signal}"] = problem(design(name, n, d, rng), signal, rng)
    bases = {}
    for base in BASES:
        # one signal at all scales
        rng = stream(trial.seed, "bases")
        bases[base] = problem(design("scales", n, d, rng, base=base), "worst", rng)
    return Shared(cells, bases, n, d, draws)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Prediction errors ``pe_DESIGN_SIGNAL``; of some arms the other experiments."""
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _measured(arm, shared, trial)


def _measured(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    import time

    from rarefy.papers import _random_support_trials as trials

    values: dict[str, float] = {}
    start = time.perf_counter()
    for i, (name, at) in enumerate(shared.cells.items()):
        trial.progress(name, i / len(shared.cells))
        values[f"pe_{name}"] = trials.prediction_error(arm, at, trial.seed, draws=shared.draws)
    values["clock_cells"] = time.perf_counter() - start
    if arm in (PIVOTS, FIXED[1], SLOW):
        for base in BASES if arm != PIVOTS else (32,):
            at = shared.bases[base]
            values[f"pe_base_{base}"] = trials.prediction_error(
                arm, at, trial.seed, draws=shared.draws
            )
    if arm in (PIVOTS, SLOW, ORACLE):
        n = shared.rows
        X = trials.design("lowrank", 2 * n, shared.columns, trials.stream(trial.seed, "both"))
        values["mse_lowrank_worst"] = trials.fresh_error(
            arm, X, trial.seed, rows=n, draws=shared.draws
        )
        at = trials.adversary(n, shared.columns, trials.stream(trial.seed, "adversary"))
        values["pe_adversary"] = trials.prediction_error(arm, at, trial.seed, draws=shared.draws)
    if arm == FIXED[1]:
        values["base_growth"] = values["pe_base_32"] / values["pe_base_2"]
        values |= _needed(arm, trial)
        values["guarantee_slack"] = trials.guarantee(
            trial.pick(smoke=2000, default=4000, full=4000),
            trial.seed,
            supports=trial.pick(smoke=20, default=100, full=500),
        )
    return values


def _needed(arm: str, trial: Trial) -> dict[str, float]:
    """Rows needed at each number of columns, and their slope in the logarithms."""
    import numpy as np

    from rarefy.papers._random_support_trials import rows_needed

    columns = trial.pick(smoke=(60, 120), default=COLUMNS, full=COLUMNS)
    grid = trial.pick(
        smoke=(40, 80),
        default=(40, 60, 90, 130, 190, 280, 400),
        full=(40, 60, 90, 130, 190, 280, 400),
    )
    needed = [rows_needed(arm, d, grid, trial.seed) for d in columns]
    values = {f"rows_{d}": rows for d, rows in zip(columns, needed, strict=True)}
    return values | {"slope": float(np.polyfit(np.log(columns), np.log(needed), 1)[0])}


def figure(measurements: Measurements) -> Figure:
    """Error on each design; as scales move apart; rows needed as columns are added."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 3.8))
    left, middle, right = drawn.subplots(1, 3, width_ratios=(2, 1, 1))
    names = (*HARD, *EASY)
    arms = (PIVOTS, LASSO, SLOW, OMP, MCP, ORACLE)
    for i, arm in enumerate(arms):
        means = [_mean(measurements, arm, f"pe_{name}_worst") for name in names]
        left.bar([x + (i - 2.5) * 0.14 for x in range(len(names))], means, 0.13, label=arm)
    left.set(yscale="log", ylabel="prediction error, worst signal")
    left.set_xticks(range(len(names)), names)
    left.legend(fontsize=7, ncols=3)
    for arm in (FIXED[1], SLOW):
        errors = [_mean(measurements, arm, f"pe_base_{base}") for base in BASES]
        middle.plot(BASES, errors, marker="o", ms=4, label=arm)
    middle.set(xscale="log", yscale="log", xlabel="ratio of scales", ylabel="prediction error")
    middle.legend(fontsize=7)
    there = [d for d in COLUMNS if measurements.values(FIXED[1], f"rows_{d}")]
    right.plot(there, [_mean(measurements, FIXED[1], f"rows_{d}") for d in there], marker="o", ms=4)
    right.plot(COLUMNS, COLUMNS, color="0.6", ls=":", label="least squares")
    right.set(xscale="log", yscale="log", xlabel="columns", ylabel="rows for an error of 0.15")
    right.legend(fontsize=7)
    return drawn


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    """Geometric mean over seeds."""
    from math import exp, log, nan
    from statistics import fmean

    values = measurements.values(arm, metric)
    return exp(fmean(map(log, values))) if values else nan
