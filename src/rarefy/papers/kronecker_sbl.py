"""Paper 37, Kronecker SBL: recovery from Kronecker-structured measurements, and a channel by it.

Every seed draws problems of four kinds: small ones that classical SBL can solve, those of the
paper's size (one of them at every signal-to-noise ratio, number of rows and sparsity of its
figures), reflecting-surface channels, and photograph patches. All arms solve the same problems with
the noise variance given. A seed's error is the median over its problems, since a nonzero that
happens to be drawn near zero can spoil a single one.

Departures: classical SBL is timed at the paper's size for one iteration only; Kronecker OMP is told
the number of nonzeros; channels and starts are fewer than the authors' 50.
"""

from __future__ import annotations

from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._kronecker_sbl_claims import (
    AM,
    ARD,
    ARMS,
    DENSE,
    KOMP,
    KSBL,
    ORACLE,
    PATTERN,
    PC,
    SVD,
    WEAK_PC,
    kronecker_sbl_claims,
)
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.papers._kronecker_sbl_trials import Problem
    from rarefy.regression import IrsMimo

SNRS, ROWS, NONZEROS, CHANNEL_SNRS = (
    (5, 10, 15, 20, 25, 30),
    (6, 8, 10, 12, 14),
    (2, 3, 4, 5, 6),
    (8, 16),
)

PAPER = Paper(
    number=37,
    slug="kronecker-sbl",
    title=(
        "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With Application to "
        "IRS-MIMO Channel Estimation"
    ),
    venue="IEEE Transactions on Signal Processing 2024, arXiv 2307.14719",
    authors_code="https://github.com/YanbinHe/JournalKroSBL",
    domain="regression",
    arms=ARMS,
    claims=kronecker_sbl_claims(),
    summary=(
        "When the dictionary is a Kronecker product and the support a product of small sets, "
        "sparse Bayesian learning needs one hyperparameter per index of a mode instead of one per "
        "unknown. Keeping them a Kronecker product, by alternating minimisation or by a rank-one "
        "fit, recovers more from as many measurements and takes a small part of the time."
    ),
    usage="""\
import numpy as np
from rarefy.regression import KroneckerSBL, irs_mimo_problem

problem = irs_mimo_problem(np.random.default_rng(0), snr_db=16)
sbl = KroneckerSBL("am", coupling=(0.8, 0, 0.8), noise_var=problem.noise_var)
sbl.fit(problem.factors, problem.y)
print(problem.nmse(sbl.coef_), [len(index) for index in sbl.support_])
""",
    seeds={"smoke": 1, "default": 5, "full": 20},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """What the arms of one seed share."""

    small: list[Problem]
    sweeps: dict[str, dict[int, list[Problem]]]
    channels: dict[int, list[IrsMimo]]


def setup(trial: Trial, *, trials: int | None = None, channels: int | None = None) -> Shared:
    """Draw the problems.

    Parameters
    ----------
    trials : int, optional
        Problems per setting and seed; 4 at default scale.
    channels : int, optional
        Channels per signal-to-noise ratio and seed, of which arms without structure solve fewer;
        12 at default scale.
    """
    from rarefy.papers._kronecker_sbl_trials import planted, stream
    from rarefy.regression import irs_mimo_problem

    trials = trial.pick(smoke=1, default=4, full=20) if trials is None else trials
    channels = trial.pick(smoke=1, default=12, full=20) if channels is None else channels
    for name, value in (("trials", trials), ("channels", channels)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    small = trial.pick(smoke=(4, 5, 5), default=(5, 7, 8), full=(5, 7, 8))
    few = trial.pick(smoke=7, default=10, full=10)
    rows = trial.pick(smoke=(5, 6, 7), default=(8, 12, 15), full=(8, 12, 15))
    columns = trial.pick(smoke=8, default=15, full=15)
    sizes = trial.pick(smoke={"grid": 8, "irs": 64, "bs": 8}, default={}, full={})

    def draw(
        kind: str, value: int, rows: tuple[int, ...], size: int, nonzeros: int, snr: float
    ) -> list[Problem]:
        return [
            planted(stream(trial.seed, kind, value, i), rows, size, nonzeros, snr)
            for i in range(trials)
        ]

    return Shared(
        small=draw("small", 0, small, few, 2, 20),
        sweeps={
            "snr": {snr: draw("snr", snr, rows, columns, 3, snr) for snr in SNRS},
            "rows": {m: draw("rows", m, (m, *rows[1:]), columns, 3, 25) for m in ROWS},
            "nonzeros": {k: draw("nonzeros", k, rows, columns, k, 25) for k in NONZEROS},
        },
        channels={
            snr: [
                irs_mimo_problem(stream(trial.seed, "channel", snr, i), snr_db=snr, **sizes)
                for i in range(channels)
            ]
            for snr in CHANNEL_SNRS
        },
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Solve what the arm can.

    ``nmse_small`` and ``srr_small`` are of the small problems, ``nmse_paper`` at the paper's size
    and 20 dB, ``nmse_snr_S``, ``nmse_rows_M`` and ``nmse_nonzeros_K`` of its figures and without a
    number their geometric means, ``nmse_irs_S`` and ``ser_irs_S`` of the channels.
    """
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _measured(arm, shared, trial)


def _measured(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._kronecker_sbl_trials import solve_all

    values: dict[str, float] = {}
    if arm not in (PC, WEAK_PC, PATTERN):
        trial.progress("small problems", 0.0)
        problems = shared.small[:2] if arm == ARD else shared.small
        values["nmse_small"], values["srr_small"], values["clock_small"] = solve_all(arm, problems)
    if arm in (SVD, AM, KSBL, KOMP, ORACLE):
        values |= _sweeps(arm, shared, trial)
    if arm == DENSE:
        trial.progress("one iteration at the paper's size", 0.3)
        one = shared.sweeps["snr"][20][:1]
        values["clock_paper"] = solve_all(arm, one, max_iter=1)[2]
    if arm in (SVD, AM, DENSE):
        trial.progress("random starts", 0.6)
        values["minima"] = _minima(arm, trial)
    if arm == AM:
        from rarefy.papers._kronecker_sbl_trials import convergence

        problem = shared.sweeps["snr"][20][0]
        values |= convergence(problem, trial.pick(smoke=100, default=600, full=1000))
    if arm in (SVD, AM, PC, WEAK_PC, DENSE, PATTERN):
        values |= _channels(arm, shared, trial)
    if arm in (SVD, AM, KSBL, KOMP):
        from rarefy.papers._kronecker_sbl_trials import patches, psnr, stream

        count = trial.pick(smoke=2, default=10, full=50)
        pairs = patches(stream(trial.seed, "patches"), count)
        values["psnr_patches"] = fmean(psnr(arm, problem, patch) for problem, patch in pairs)
    return values


def _sweeps(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from math import exp, log

    from rarefy.papers._kronecker_sbl_trials import solve_all

    values: dict[str, float] = {}
    for name, settings in shared.sweeps.items():
        errors = []
        for setting, problems in settings.items():
            trial.progress(f"{name} {setting}", 0.3)
            error, support, seconds = solve_all(arm, problems)
            values[f"nmse_{name}_{setting}"] = error
            values[f"srr_{name}_{setting}"] = support
            errors.append(error)
            if name == "snr" and setting == 20:
                values["nmse_paper"], values["clock_paper"] = error, seconds
        values[f"nmse_{name}"] = exp(fmean(map(log, errors)))
    return values


def _minima(arm: str, trial: Trial) -> float:
    from rarefy.papers._kronecker_sbl_trials import minima, planted, stream

    toy = planted(stream(trial.seed, "toy"), (3, 3, 3), 4, 2, 20)
    starts = trial.pick(smoke=3, default=10, full=50)
    return minima(arm, toy, stream(trial.seed, "starts"), starts)


def _channels(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    import time

    from rarefy.papers._kronecker_sbl_trials import Problem, channel_code, stream
    from rarefy.regression import symbol_error_rate

    values: dict[str, float] = {}
    for snr, channels in shared.channels.items():
        if arm == PATTERN and snr != CHANNEL_SNRS[0]:
            continue
        # without structure a channel takes seconds
        count = {PATTERN: 1, DENSE: 2}.get(arm, len(channels))
        errors, symbols, seconds = [], [], []
        for i, channel in enumerate(channels[:count]):
            trial.progress(f"channel {i + 1} at {snr} dB", 0.7)
            problem = Problem(channel.factors, channel.y, channel.x_true, channel.noise_var)
            start = time.perf_counter()
            x = channel_code(arm, problem)
            seconds.append(time.perf_counter() - start)
            errors.append(channel.nmse(x))
            symbols.append(
                symbol_error_rate(
                    channel.cascades(x),
                    channel.channels,
                    stream(trial.seed, "symbols", snr, i),
                    snr_db=snr,
                )
            )
        values[f"nmse_irs_{snr}"] = median(errors)
        values[f"mean_nmse_irs_{snr}"] = fmean(errors)
        values[f"ser_irs_{snr}"] = fmean(symbols)
        values[f"clock_irs_{snr}"] = median(seconds)
    return values


def figure(measurements: Measurements) -> Figure:
    """Error against the signal's strength, rows and nonzeros; and of the channel."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.4, 6.4))
    axes = drawn.subplots(2, 2)
    curves = (SVD, AM, KSBL, KOMP, ORACLE)
    for ax, (name, settings, label) in zip(
        axes.flat,
        (
            ("snr", SNRS, "signal-to-noise ratio (dB)"),
            ("rows", ROWS, "measurements of the first mode"),
            ("nonzeros", NONZEROS, "nonzeros of each mode"),
        ),
        strict=False,
    ):
        for arm in curves:
            means = [_mean(measurements, arm, f"nmse_{name}_{s}") for s in settings]
            style = {"ls": ":", "color": "black"} if arm == ORACLE else {"marker": "o", "ms": 4}
            ax.plot(settings, means, label=arm, **style)
        ax.set(xlabel=label, ylabel="NMSE", yscale="log")
    axes[0, 0].legend(fontsize=8)
    _bars(axes[1, 1], measurements)
    return drawn


def _bars(ax: Axes, measurements: Measurements) -> None:
    import numpy as np

    arms = (DENSE, PATTERN, SVD, AM, WEAK_PC, PC)
    places = np.arange(len(arms))
    for i, snr in enumerate(CHANNEL_SNRS):
        errors = [_mean(measurements, arm, f"nmse_irs_{snr}") for arm in arms]
        ax.bar(places + 0.4 * i - 0.2, errors, 0.38, label=f"{snr} dB")
    ax.set(ylabel="NMSE of the channel", yscale="log")
    ax.set_xticks(places, [arm.replace("KroSBL", "Kro") for arm in arms], fontsize=8)
    ax.legend(fontsize=8)


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    """Geometric mean over seeds."""
    from math import exp, log, nan

    values = [m.value for m in measurements if m.arm == arm and m.metric == metric]
    return exp(fmean(map(log, values))) if values else nan
