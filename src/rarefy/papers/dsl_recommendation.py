"""Paper 31, Dynamic Sparse Learning: recommenders whose tables are sparse from the first step on.

Who calls what in the standard library is the bench: functions are users, the names they call are
items. LightGCN at three budgets, beside fixed random masks and smaller or hashed tables of the same
size; what each part of the method is worth; NeuMF, MultVAE and MF at half their parameters.

Departures: one small data set in place of six; a learning rate of 0.02 and 300 steps, with 15
updates of the masks, chosen on other seeds; every arm trains for the same steps, and none chooses
an epoch on test data as the released code does. Gradients are dense, so training takes the memory
of a dense model; LightGCN's outputs are dense too, so that there it is storage that shrinks.
Sampled gradients are of rows drawn uniformly, where SparseRec draws important ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rarefy.evidence.claims import Measurements
from rarefy.papers._dsl_claims import dsl_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.papers._dsl_training import Outcome, Parts

LEVELS = ("50", "20", "10")
# Two hashed tables have 2 sqrt(rows) rows at least, which small data lack at 10 %.
HASHED = ("50", "20")
_DIM = 64

# Arms that differ from DSL in how the masks move: the rule's settings, and at which densities.
RULES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "DSL": ({}, LEVELS),
    "DSL, accumulated": ({"grow": "accumulated"}, LEVELS),
    "DSL, sampled": ({"grow": "accumulated", "sample": 0.25}, ("20",)),
    "random growth": ({"grow": "random"}, ("20",)),
    "random pruning": ({"prune": "random"}, ("20",)),
    "constant ratio": ({"floor": 0.5}, ("20",)),
    "ratio 0.3": ({"drop": 0.3}, ("50",)),
    "ratio 0.7": ({"drop": 0.7}, ("50",)),
    "interval halved": ({}, ("50",)),
    "interval doubled": ({}, ("50",)),
}

PAPER = Paper(
    number=31,
    slug="dsl-recommendation",
    title="Dynamic Sparse Learning: A Novel Paradigm for Efficient Recommendation",
    venue="WSDM 2024",
    authors_code="https://github.com/shuyao-wang/DSL",
    domain="weights",
    arms=(
        "popularity",
        "ItemKNN",
        "dense",
        "smaller dense",
        "hashed",
        "fixed mask",
        *RULES,
        "prune, retrain",
        "PEP",
        *(f"{host}: {how}" for host in ("NeuMF", "MultVAE", "MF") for how in ("dense", "DSL")),
        "MF: fixed mask",
        "MF: smaller dense",
    ),
    claims=dsl_claims(),
    summary=(
        "A recommender's embedding tables are trained sparse from the first step to the last, "
        "under a budget that never changes: now and then the smallest entries are dropped and "
        "those of largest gradient revived, many at first and few at the end. At half the "
        "parameters the paper's models recommend as well as dense ones, without dense training "
        "before or retraining after."
    ),
    usage="""\
from rarefy.data import function_calls
from rarefy.weights import SparseRecommender

calls = function_calls()
sparse = SparseRecommender("lightgcn", density=0.2, steps=300, update_every=20).fit(calls.matrix)
print(calls.items[sparse.recommend([0], k=5)])
print({name: table.nbytes for name, table in sparse.export().items()})
""",
    seeds={"smoke": 1, "default": 5, "full": 8},
    tour_seeds=0,
)


def setup(
    trial: Trial,
    *,
    data: Literal["calls", "words", "planted"] = "calls",
    interactions: Path | None = None,
) -> Parts:
    """Read the interactions and hold a fifth of each user's out.

    Parameters
    ----------
    data : {"calls", "words", "planted"}
        What the standard library's functions call; the words of its docstrings; or choices drawn
        from latent factors and Zipf's popularity.
    interactions : Path, optional
        A file of your own in place of these: a user and an item, or several, on each line.
    """
    from rarefy.papers._dsl_training import read, split

    return split(read(trial, data, interactions), trial)


def measure(arm: str, shared: Parts, trial: Trial) -> dict[str, float]:
    """Measure an arm; ``ndcg_S`` is with S per cent of the parameters, a dense arm's at every S."""
    from rarefy.papers._threads import one_thread

    # The tables are so small that a second thread costs more than it brings.
    with one_thread():
        return _measure(arm, shared, trial)


def _measure(arm: str, shared: Parts, trial: Trial) -> dict[str, float]:
    from rarefy.papers._dsl_training import item_knn, pep, popularity, prune_and_retrain, run
    from rarefy.weights import Static

    if arm == "popularity":
        return {f"ndcg_{level}": popularity(shared)["ndcg@20"] for level in LEVELS}
    if arm == "ItemKNN":
        return {f"ndcg_{level}": item_knn(shared)["ndcg@20"] for level in LEVELS}
    if arm == "dense":
        dense = run(shared, trial)
        return {key: value for level in LEVELS for key, value in _quality(dense, level).items()}
    values: dict[str, float] = {}
    at_budget: dict[str, Callable[[float], dict[str, Any]]] = {
        "smaller dense": lambda density: {"dim": int(density * _DIM)},
        "hashed": lambda density: {"hashed": density},
        "fixed mask": lambda density: {"density": density, "rule": Static()},
    }
    if arm in at_budget:
        levels = HASHED if arm == "hashed" else LEVELS
        for i, level in enumerate(levels):
            trial.progress(f"{arm} at {level} %", i / len(levels))
            values |= _quality(run(shared, trial, **at_budget[arm](int(level) / 100)), level)
        return values
    if arm in RULES:
        return _moving(arm, shared, trial)
    if arm == "prune, retrain":
        tickets = prune_and_retrain(shared, trial, (0.5, 0.2))
        return _quality(tickets[0], "50") | _quality(tickets[1], "20")
    if arm == "PEP":
        return _quality(pep(shared, trial, 0.5), "50")
    host, how = arm.split(": ")
    return _host(host, how, shared, trial)


def _moving(arm: str, shared: Parts, trial: Trial) -> dict[str, float]:
    from rarefy.papers._dsl_training import budget_shifts, run, stored_share, update_every
    from rarefy.weights import DSL

    how, levels = RULES[arm]
    every = update_every(trial)
    every = {"interval halved": every // 2, "interval doubled": 2 * every}.get(arm, every)
    values = {"violations": 0.0}
    for i, level in enumerate(levels):
        trial.progress(f"{arm} at {level} %", i / len(levels))
        outcome = run(shared, trial, density=int(level) / 100, rule=DSL(**how), every=every)
        values |= _quality(outcome, level)
        values["violations"] += outcome.violations
        values[f"stored_{level}"] = stored_share(outcome)
        for name, gain in budget_shifts(outcome, shared.train).items():
            values[f"{name}_{level}"] = gain
    return values


def _host(host: str, how: str, shared: Parts, trial: Trial) -> dict[str, float]:
    """Measure another model at half its parameters; MF's tables share one budget."""
    from rarefy.papers._dsl_training import budget_shifts, run
    from rarefy.weights import DSL, Static

    if how == "dense":
        return _quality(run(shared, trial, host=host), "50")
    if how == "smaller dense":
        return _quality(run(shared, trial, host=host, dim=_DIM // 2), "50")
    if how == "fixed mask":
        return _quality(run(shared, trial, host=host, density=0.5, rule=Static()), "50")
    # Of MF a batch reaches its own rows only, so that one batch's gradients say too little.
    rule = DSL(grow="accumulated", scope="group") if host == "MF" else DSL()
    outcome = run(shared, trial, host=host, density=0.5, rule=rule)
    values = _quality(outcome, "50") | {"violations": float(outcome.violations)}
    if host == "MF":
        shifts = budget_shifts(outcome, shared.train)
        values |= {f"{name}_50": gain for name, gain in shifts.items()}
    return values


def _quality(outcome: Outcome, level: str) -> dict[str, float]:
    return {
        f"ndcg_{level}": outcome.quality["ndcg@20"],
        f"recall_{level}": outcome.quality["recall@20"],
        f"clock_train_{level}": outcome.seconds,
    }


def figure(measurements: Measurements) -> Figure:
    """NDCG against the budget; the parts of the method; where the budget went."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12.5, 4.2))
    curves, bars, shifts = drawn.subplots(1, 3, width_ratios=(1.25, 1, 0.8))
    _draw_curves(curves, measurements)
    _draw_parts(bars, measurements)
    _draw_shifts(shifts, measurements)
    return drawn


def _draw_curves(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    for arm, colour, style in (("dense", COLOURS[6], "--"), ("popularity", COLOURS[4], ":")):
        level = estimate(measurements.values(arm, "ndcg_50")).mean
        axes.axhline(level, color=colour, linestyle=style, label=arm)
    at = [int(level) for level in LEVELS]
    for shift, (arm, label, colour) in enumerate(
        (
            ("DSL", "DSL", COLOURS[0]),
            ("DSL, accumulated", "DSL, all gradients of an interval", COLOURS[2]),
            ("smaller dense", "smaller dense tables", COLOURS[1]),
            ("fixed mask", "fixed random mask", COLOURS[3]),
        )
    ):
        found = [estimate(measurements.values(arm, f"ndcg_{level}")) for level in LEVELS]
        axes.errorbar(
            [x + 0.4 * (shift - 1.5) for x in at],
            [e.mean for e in found],
            [0.0 if e.low is None else e.mean - e.low for e in found],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
    for arm, levels, marker, label in (
        ("prune, retrain", ("50", "20"), "s", "prune, retrain (trains twice)"),
        ("PEP", ("50",), "D", "PEP (trains twice)"),
        ("hashed", HASHED, "^", "hashed tables"),
    ):
        means = [estimate(measurements.values(arm, f"ndcg_{level}")).mean for level in levels]
        axes.plot(
            [int(level) for level in levels],
            means,
            marker,
            color=COLOURS[5],
            markersize=6,
            label=label,
        )
    axes.set(
        xlabel="parameters kept, %", ylabel="NDCG@20", title="LightGCN under a budget", xticks=at
    )
    axes.legend(fontsize=8, loc="lower right")


def _draw_parts(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    shown = [
        *((arm, "DSL", "20") for arm in ("random growth", "random pruning", "constant ratio")),
        ("DSL, sampled", "DSL, accumulated", "20"),
        *(
            (arm, "DSL", "50")
            for arm in ("interval halved", "interval doubled", "ratio 0.3", "ratio 0.7")
        ),
        *((f"{host}: DSL", f"{host}: dense", "50") for host in ("NeuMF", "MultVAE", "MF")),
        ("DSL", "dense", "50"),
    ]
    labels = [
        f"LightGCN: DSL, {level} %" if (arm, versus) == ("DSL", "dense") else f"{arm}, {level} %"
        for arm, versus, level in shown
    ]
    found = [
        estimate([ours / theirs for ours, theirs in measurements.paired(a, b, f"ndcg_{level}")])
        for a, b, level in shown
    ]
    axes.barh(
        range(len(shown)),
        [100 * (e.mean - 1) for e in found],
        xerr=[0.0 if e.low is None else 100 * (e.mean - e.low) for e in found],
        color=[COLOURS[0] if versus.startswith("DSL") else COLOURS[2] for _, versus, _ in shown],
        capsize=2,
        height=0.6,
    )
    axes.axvline(0, color=COLOURS[6], linewidth=1)
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="NDCG@20, % over its reference", title="Against DSL (blue), dense (green)")


def _draw_shifts(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    at = list(range(len(LEVELS)))
    for shift, (metric, label, colour) in enumerate(
        (
            ("popular_gain", "popular over rare items", COLOURS[0]),
            ("item_gain", "items over users", COLOURS[1]),
        )
    ):
        found = [estimate(measurements.values("DSL", f"{metric}_{level}")) for level in LEVELS]
        axes.bar(
            [x + 0.4 * (shift - 0.5) for x in at],
            [e.mean for e in found],
            yerr=[0.0 if e.low is None else e.mean - e.low for e in found],
            width=0.36,
            capsize=2,
            color=colour,
            label=label,
        )
    axes.set_xticks(at, [f"{level} %" for level in LEVELS])
    axes.axhline(0, color=COLOURS[6], linewidth=1)
    axes.set(xlabel="parameters kept", ylabel="columns gained", title="Where the budget went")
    axes.legend(fontsize=8)
