"""Paper 21, random search: the best of many untrained sub-networks, trained beside a random one.

Every seed has a split of the data and a few parents. Of each parent three networks are trained at
every sparsity: the parent itself, the sub-network with the lowest initial loss of many, and a
random one, from the same weights, with the same batches. All parents of a seed train side by side,
and the seed's value is their mean, so that the interval over seeds is narrow.

Departures: the paper's architecture, data and settings are not known in full; all are options or
named on the bench. Search set is the training part, and the test part is seen once, at the end.
"""

from __future__ import annotations

import copy
import time
import zlib
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._random_search_claims import CLAIMED, LEVELS, random_search_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from rarefy.papers._random_search_bench import Outcome, Table
    from rarefy.weights import NodeSpace, RandomSearch, Units

# Shares of the search at which its expected best is recorded, in per cent.
SHARES = (1, 2, 5, 10, 20, 50, 100)

PAPER = Paper(
    number=21,
    slug="random-search",
    title="Random Search as a Baseline for Sparse Neural Network Architecture Search",
    venue="arXiv 2403.08265 (2024)",
    authors_code="",
    domain="weights",
    arms=("dense", "searched", "random"),
    claims=random_search_claims(),
    summary=(
        "Many random sub-networks of one initialised network are scored by their loss before "
        "training, and the best is trained. It ends no better than a random sub-network of the "
        "same sparsity and gets there no faster, which makes the procedure a neutral baseline: "
        "a search for sparse architectures should beat it."
    ),
    usage="""\
import torch
from torch import nn
from rarefy.weights import NodeSpace, RandomSearch, subnetwork

g = torch.Generator().manual_seed(0)
X, y = torch.randn(500, 64, generator=g), torch.randint(10, (500,), generator=g)
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
)
space = NodeSpace((256, 256), node_sparsity=0.9)
search = RandomSearch(space, n_samples=1000, generator=g).fit(model, X, y)
small = subnetwork(model, search.best_)  # a plain nn.Sequential, 64-26-26-10
""",
    seeds={"smoke": 2, "default": 10, "full": 20},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """What the arms of one seed share."""

    table: Table
    parents: tuple[nn.Sequential, ...]
    candidates: int
    rescale: bool


def setup(
    trial: Trial,
    *,
    data: str = "digits",
    width: int | None = None,
    parents: int | None = None,
    candidates: int | None = None,
    rescale: bool = False,
) -> Shared:
    """Split the data and initialise the parents.

    Parameters
    ----------
    data : str
        digits, breast_cancer or wine of scikit-learn, or an .npz file with X and y.
    width : int, optional
        Units of each of the two hidden layers; 256 at default scale.
    parents : int, optional
        Parents of a seed; 4 at default scale.
    candidates : int, optional
        Sub-networks that the search scores; 200 at default scale.
    rescale : bool
        Scale the weights that are kept up, so that dropping units does not shrink what they feed.
    """
    from rarefy.papers._random_search_bench import parent, read_table

    width = trial.pick(smoke=64, default=256, full=1024) if width is None else width
    parents = trial.pick(smoke=2, default=4, full=8) if parents is None else parents
    candidates = trial.pick(smoke=40, default=200, full=5000) if candidates is None else candidates
    for name, value, least in (
        ("width", width, 2),
        ("parents", parents, 1),
        ("candidates", candidates, 2),
    ):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
    table = read_table(data, trial.seed)
    g = _stream(trial, "parents")
    return Shared(
        table, tuple(parent(table, width, g) for _ in range(parents)), candidates, rescale
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm; ``accuracy_S`` and the like are at S per cent node sparsity.

    ``area`` is under the validation curve, ``epochs`` lead to 90 % of the final accuracy, and
    ``failed`` is the share of networks that stay below twice the accuracy of chance.
    """
    if arm == "dense":
        outcome = _train(list(shared.parents), shared, trial)
        return {
            key: value
            for level in LEVELS
            for key, value in _metrics(outcome, level, shared).items()
        }
    values: dict[str, float] = {}
    for i, level in enumerate(LEVELS):
        trial.progress(f"{arm} at {level} %", i / len(LEVELS))
        space = _space(shared, level)
        if arm == "searched":
            searches = _search(space, shared, trial, level)
            units = [search.best_ for search in searches]
            values |= _search_metrics(searches, level)
        else:
            draw = _stream(trial, f"random {level}")
            units = space.sample(len(shared.parents), draw)
        values |= _metrics(_train(_sliced(units, shared), shared, trial), level, shared)
    values["accuracy_mean"] = sum(values[f"accuracy_{level}"] for level in CLAIMED) / len(CLAIMED)
    if arm == "searched":
        values |= _against_masks(shared, trial)
    return values


def _space(shared: Shared, level: str) -> NodeSpace:
    from rarefy.weights import NodeSpace, perceptron

    widths = perceptron(shared.parents[0]).widths
    return NodeSpace(widths, node_sparsity=int(level) / 100, rescale=shared.rescale)


def _search(
    space: NodeSpace, shared: Shared, trial: Trial, level: str
) -> list[RandomSearch[Units]]:
    """Search each parent's sub-networks, on the training part."""
    from rarefy.weights import RandomSearch

    g = _stream(trial, f"search {level}")
    x, y = shared.table.x.to(trial.device), shared.table.y.to(trial.device)
    found = []
    for parent in shared.parents:
        search = RandomSearch(space, n_samples=shared.candidates, generator=g)
        found.append(search.fit(_on(parent, trial), x, y))
    return found


def _sliced(units: list[Units], shared: Shared) -> list[nn.Module]:
    from rarefy.weights import subnetwork

    pairs = zip(shared.parents, units, strict=True)
    return [subnetwork(parent, kept, rescale=shared.rescale) for parent, kept in pairs]


def _train(networks: list[nn.Module], shared: Shared, trial: Trial) -> Outcome:
    from rarefy.papers._random_search_bench import train

    return train(
        networks,
        shared.table,
        epochs=trial.pick(smoke=3, default=40, full=40),
        order=_stream(trial, "order"),
        device=trial.device,
    )


def _metrics(outcome: Outcome, level: str, shared: Shared) -> dict[str, float]:
    by_chance = 1 / shared.table.classes
    return {
        f"accuracy_{level}": float(outcome.accuracy.mean()),
        f"area_{level}": float(outcome.area.mean()),
        f"epochs_{level}": float(outcome.epochs.mean()),
        f"failed_{level}": float((outcome.accuracy < 2 * by_chance).double().mean()),
    }


def _search_metrics(searches: list[RandomSearch[Units]], level: str) -> dict[str, float]:
    """Standard deviations that the best lies below the mean: of all, and of shorter searches."""
    values = {
        f"loss_best_{level}": fmean(s.best_score_ for s in searches),
        f"loss_mean_{level}": fmean(float(s.scores_.mean()) for s in searches),
        f"gain_{level}": fmean(_gain(s, s.best_score_) for s in searches),
    }
    for share in SHARES:
        n = max(1, searches[0].n_samples * share // 100)
        values[f"gain_{level}_of_{share}"] = fmean(_gain(s, s.expected_best(n)) for s in searches)
    return values


def _gain(search: RandomSearch[Units], best: float) -> float:
    return (float(search.scores_.mean()) - best) / float(search.scores_.std())


def _against_masks(shared: Shared, trial: Trial) -> dict[str, float]:
    """Run the same candidates in a batch and in a loop over masks of the whole parent."""
    import torch

    from rarefy.weights import NodeSpace, masked_call, perceptron, unit_masks

    parent, x = _on(shared.parents[0], trial), shared.table.x.to(trial.device)
    space = NodeSpace(perceptron(parent).widths, node_sparsity=0.9)
    candidates = space.sample(trial.pick(smoke=8, default=64, full=64), _stream(trial, "clock"))
    masks = [unit_masks(parent, units) for units in candidates[:8]]
    with torch.no_grad():
        space.outputs(parent, candidates, x)
        start = time.perf_counter()
        batch = space.outputs(parent, candidates, x)
        quick = time.perf_counter() - start
        start = time.perf_counter()
        loop = torch.stack([masked_call(parent, m, x) for m in masks])
        slow = time.perf_counter() - start
    return {
        "slice_error": float((batch[: len(masks)] - loop).abs().max()),
        "clock_times_loop": (slow / len(masks)) / (quick / len(candidates)),
    }


def _on(parent: nn.Sequential, trial: Trial) -> nn.Sequential:
    return copy.deepcopy(parent).to(trial.device)


def _stream(trial: Trial, what: str) -> torch.Generator:
    """Make a generator for one purpose: arms draw apart, and the same whoever ran before."""
    import numpy as np
    import torch

    words = np.random.SeedSequence([trial.seed, zlib.crc32(what.encode())]).generate_state(1)
    return torch.Generator().manual_seed(int(words[0]))


def figure(measurements: Measurements) -> Figure:
    """Accuracy against sparsity; what the search gains in accuracy; what it gains in loss."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12.6, 4.2))
    curves, differences, gains = drawn.subplots(1, 3)
    _draw_curves(curves, measurements)
    _draw_differences(differences, measurements)
    _draw_gains(gains, measurements)
    return drawn


def _draw_curves(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    dense = estimate(measurements.values("dense", "accuracy_90"))
    axes.axhline(100 * dense.mean, color=COLOURS[6], linestyle="--", label="dense parent")
    places = range(len(LEVELS))
    for shift, (arm, label) in zip(
        (-0.06, 0.06), (("searched", "lowest initial loss"), ("random", "random")), strict=True
    ):
        found = [estimate(measurements.values(arm, f"accuracy_{level}")) for level in LEVELS]
        axes.errorbar(
            [place + shift for place in places],
            [100 * e.mean for e in found],
            [0.0 if e.low is None else 100 * (e.mean - e.low) for e in found],
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
    axes.set_xticks(places, LEVELS)
    axes.set(
        xlabel="hidden units left out, %",
        ylabel="test accuracy, %",
        title="What survives of the parent",
    )
    axes.legend(loc="lower left")


def _draw_differences(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    found = []
    for level in LEVELS:
        pairs = measurements.paired("searched", "random", f"accuracy_{level}")
        found.append(estimate([100 * (ours - theirs) for ours, theirs in pairs]))
    places = range(len(LEVELS))
    axes.axhspan(-1, 1, color=COLOURS[2], alpha=0.12, linewidth=0, label="equivalent: one point")
    axes.axhline(0, color=COLOURS[6], linewidth=1)
    axes.errorbar(
        places,
        [e.mean for e in found],
        [0.0 if e.low is None else e.mean - e.low for e in found],
        linestyle="none",
        marker="o",
        capsize=3,
    )
    axes.set_xticks(places, LEVELS)
    axes.set(
        xlabel="hidden units left out, %",
        ylabel="points of accuracy",
        title="Searched minus random, after training",
    )
    axes.legend(loc="lower left")


def _draw_gains(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.verdict import estimate

    for level in LEVELS:
        found = [
            estimate(measurements.values("searched", f"gain_{level}_of_{share}")).mean
            for share in SHARES
        ]
        axes.plot(SHARES, found, marker="o", markersize=3, label=f"{level} %")
    axes.set(
        xscale="log",
        xlabel="candidates, % of the search",
        ylabel="standard deviations below the mean",
        title="Best initial loss of a shorter search",
    )
    axes.set_xticks(SHARES, [f"{share}" for share in SHARES])
    axes.minorticks_off()
    axes.legend(title="units left out")
