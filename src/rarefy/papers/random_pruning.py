"""Paper 24, random pruning: draw a mask before training, keep it, and mind only how many per layer.

Residual networks of three widths and two depths on digits, 5 % of the weights left, every layer
allocation beside the dense network, SNIP's own mask, and a dense network of as many weights.

Departures: digits, of 8 x 8 pixels, in place of CIFAR and ImageNet; networks of 8 and 14 layers;
pictures with shuffled pixels in place of other data sets; 12 epochs in place of 160.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._random_pruning_claims import RANDOM, random_pruning_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from rarefy.data.images import Images
    from rarefy.papers._random_pruning_training import Outcome
    from rarefy.weights import Masks

# Multiple of the base width, and blocks in each of the three stages.
SIZES = {"narrow": (1, 1), "middle": (2, 1), "wide": (4, 1), "deep": (1, 2)}
DENSER = 4


class Run(NamedTuple):
    """One network to train: how it is pruned, its size, and its density over the recipe's."""

    method: str
    size: str
    denser: int = 1


RUNS = {
    "dense": ("narrow", "middle", "wide", "deep"),
    "ERK": ("narrow", "middle", "wide", "deep"),
    "uniform": ("narrow", "middle"),
    "ER": ("narrow", "middle"),
    "SNIP ratios": ("narrow", "middle", "wide"),
    "GraSP ratios": ("narrow", "middle"),
    "uniform+": ("narrow", "middle"),
    "ERK+": ("narrow", "wide"),
    "SNIP mask": ("wide",),
}

DENSER_RUNS = (
    Run("uniform", "middle", DENSER),
    Run("ERK", "middle", DENSER),
    Run("ERK", "wide", DENSER),
)

PAPER = Paper(
    number=24,
    slug="random-pruning",
    title="The Unreasonable Effectiveness of Random Pruning: Return of the Most Naive Baseline "
    "for Sparse Training",
    venue="ICLR 2022",
    authors_code="https://github.com/VITA-Group/Random_Pruning",
    domain="weights",
    arms=(*RUNS, "dense, as many weights", "ERK, denser", "allocations"),
    claims=random_pruning_claims(),
    summary=(
        "Weights are pruned at random before training and stay pruned. With layer densities that "
        "suit the architecture (Erdos-Renyi with kernels, or SNIP's and GraSP's, whose positions "
        "are thrown away) the network trains as well as the dense one, the better the wider and "
        "deeper it is."
    ),
    usage="""\
import torch
from torch import nn
from rarefy.budget import ErdosRenyiKernel
from rarefy.weights import attach, random_masks

net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
g = torch.Generator().manual_seed(0)
masks = random_masks(net, density=0.05, rule=ErdosRenyiKernel(), generator=g)
held = attach(net, masks, mode="project", optimizer=sgd)
""",
    seeds={"smoke": 1, "default": 5, "full": 10},
    tour_seeds=0,
)


@dataclass(frozen=True)
class Shared:
    """Pictures and sizes of one seed, and what was trained so far.

    Two arms read the same networks: ``trained`` spares the second from training them again.
    """

    images: Images
    width: int
    density: float
    trained: dict[Run, dict[str, float]] = field(default_factory=dict)


def setup(
    trial: Trial, *, width: int = 4, density: float = 0.05, images: Path | None = None
) -> Shared:
    """Split and standardise the images.

    Parameters
    ----------
    width : int
        Filters of the narrow network's first stage; the others have two and four times as many.
    density : float
        Share of the weights that is kept.
    images : Path, optional
        An .npz file with x, y, test_x and test_y, the images as (n, channels, height, width);
        scikit-learn's digits by default.
    """
    from rarefy.data.images import digits, read_images
    from rarefy.papers._random_pruning_training import standardised

    if width < 2:
        raise ValueError(f"width must be at least 2, got {width}")
    if not 0 < density <= 1 / DENSER:
        raise ValueError(f"density must be above 0 and at most {1 / DENSER}, got {density}")
    pictures = digits(trial.generator()) if images is None else read_images(images)
    kept = trial.pick(smoke=256, default=None, full=None)
    pictures = pictures._replace(x=pictures.x[:kept], y=pictures.y[:kept])
    return Shared(standardised(pictures), width, density)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm; ``accuracy_SIZE`` is that of one network, ``rise_...`` between two."""
    if arm == "allocations":
        return _flow(shared, trial)
    if arm == "dense, as many weights":
        return _as_many_weights(shared, trial)
    if arm == "ERK, denser":
        found = _network(Run("ERK", "wide", DENSER), shared, trial)
        return {"accuracy_wide": found["accuracy"]} | _beyond(found)
    values = {"violations": 0.0}
    for size in RUNS[arm]:
        found = _network(Run(arm, size), shared, trial)
        values["violations"] += found["violations"]
        values[f"accuracy_{size}"] = found["accuracy"]
        values[f"macs_{size}"] = found["macs"]
        if size == "narrow":
            values |= {key: found[key] for key in ("gradient_norm", *_ENDS)}
        if size == "wide":
            values |= _beyond(found)
    if arm in ("uniform", "ERK"):
        denser = _network(Run(arm, "middle", DENSER), shared, trial)
        values["rise_density"] = denser["accuracy"] - values["accuracy_middle"]
    return values | _rises(values)


_ENDS = ("density_first", "density_last")
_BEYOND = ("ece", "nll", "brier", "fgsm", "ood_auc")


def _beyond(found: dict[str, float]) -> dict[str, float]:
    return {key: found[key] for key in _BEYOND}


def _rises(values: dict[str, float]) -> dict[str, float]:
    """Make claims on gaps out of claims on arms: what the arms gain from one size to another."""
    rises = {}
    narrow = values.get("accuracy_narrow")
    if narrow is not None:
        for name, size in (
            ("rise_middle", "middle"),
            ("rise_width", "wide"),
            ("rise_depth", "deep"),
        ):
            if f"accuracy_{size}" in values:
                rises[name] = values[f"accuracy_{size}"] - narrow
        if "accuracy_wide" in values:
            # Above the dense network's where the wide gap is under a quarter of the narrow one.
            rises["fourfold"] = 4 * values["accuracy_wide"] - narrow
    return rises


def _flow(shared: Shared, trial: Trial) -> dict[str, float]:
    """Correlate early gradient norm and accuracy over the allocations of the narrow network."""
    from scipy.stats import spearmanr

    found = [_network(Run(method, "narrow"), shared, trial) for method in RANDOM]
    correlation = spearmanr(
        [one["gradient_norm"] for one in found], [one["accuracy"] for one in found]
    ).statistic
    return {"flow_correlation": float(correlation)}


def _as_many_weights(shared: Shared, trial: Trial) -> dict[str, float]:
    """Train the widest dense network with no more weights than the wide sparse one keeps."""
    from rarefy.papers._random_pruning_training import ResNet
    from rarefy.papers._sparse_ift_digits import seeded
    from rarefy.weights import matched_width, select

    multiple, depth = SIZES["wide"]
    widest = multiple * shared.width

    def build(width: int) -> nn.Module:
        return seeded(lambda: ResNet(shared.images, width, depth), trial.seed)

    kept = round(shared.density * sum(w.numel() for w in select(build(widest)).values()))
    width = matched_width(build, kept, low=1, high=widest)
    ((outcome, _, _),) = _train([Run("dense", "wide")], (width, depth), shared, trial)
    return {"accuracy_wide": outcome.accuracy, "width": float(width)}


def _network(run: Run, shared: Shared, trial: Trial) -> dict[str, float]:
    """Look up one network; if it is not there, train all of its size, side by side."""
    if run not in shared.trained:
        every = [Run(arm, run.size) for arm, sizes in RUNS.items() if run.size in sizes]
        every += [one for one in DENSER_RUNS if one.size == run.size]
        shared.trained.update(zip(every, _measure_networks(every, shared, trial), strict=True))
    return shared.trained[run]


def _measure_networks(runs: list[Run], shared: Shared, trial: Trial) -> list[dict[str, float]]:
    from rarefy.papers._random_pruning_beyond import beyond_accuracy
    from rarefy.weights import count_macs

    trial.progress(f"{len(runs)} {runs[0].size} networks")
    multiple, depth = SIZES[runs[0].size]
    trained = _train(runs, (multiple * shared.width, depth), shared, trial)
    measured = []
    for run, (outcome, network, masks) in zip(runs, trained, strict=True):
        rows = count_macs(network, shared.images.x[:1].to(trial.device), masks)
        first, *_, last = masks
        off = abs(masks.nnz - round(_density(run, shared) * masks.numel))
        values = {
            "accuracy": outcome.accuracy,
            "gradient_norm": outcome.gradient_norm,
            "violations": float(outcome.violations + off),
            "macs": sum(row.sparse for row in rows) / sum(row.dense for row in rows),
            "density_first": masks.density(first),
            "density_last": masks.density(last),
        }
        if run.size == "wide":
            values |= beyond_accuracy(
                network, shared.images, generator=_stream(trial, 2), device=trial.device
            )
        measured.append(values)
    return measured


def _train(
    runs: list[Run], size: tuple[int, int], shared: Shared, trial: Trial
) -> list[tuple[Outcome, nn.Module, Masks]]:
    from rarefy.papers._random_pruning_training import ResNet, allocate, train
    from rarefy.papers._sparse_ift_digits import seeded
    from rarefy.weights import Masks, select

    # The same weights and the same stream of masks for all: arms differ in their method alone.
    networks = [seeded(lambda: ResNet(shared.images, *size), trial.seed) for _ in runs]
    masks = [
        Masks.ones(select(network))
        if run.method == "dense"
        else allocate(
            run.method,
            network,
            shared.images,
            density=_density(run, shared),
            generator=_stream(trial, 0),
        )
        for run, network in zip(runs, networks, strict=True)
    ]
    outcomes = train(
        networks,
        masks,
        shared.images,
        size=size,
        epochs=trial.pick(smoke=1, default=12, full=160),
        generator=_stream(trial, 1),
        device=trial.device,
    )
    return [
        (outcome, network, one.to(trial.device))
        for outcome, network, one in zip(outcomes, networks, masks, strict=True)
    ]


def _density(run: Run, shared: Shared) -> float:
    return 1.0 if run.method == "dense" else shared.density * run.denser


def _stream(trial: Trial, which: int) -> torch.Generator:
    """Make a generator of its own for masks, order and measuring; none repeats the weights' one."""
    import torch

    return torch.Generator().manual_seed(1_000_003 * (which + 1) + trial.seed)


def figure(measurements: Measurements) -> Figure:
    """Accuracy against width of every allocation; early gradient norm against accuracy."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.2))
    curves, scatter = drawn.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_widths(curves, measurements)
    _draw_flow(scatter, measurements)
    return drawn


def _colour(arm: str) -> int:
    """Give an arm one colour in both panels; ERK+ and the dense network stand in one each."""
    return RANDOM.index(arm) if arm in RANDOM else RANDOM.index("ERK+")


def _draw_widths(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    shown = ("ERK", "SNIP ratios", "GraSP ratios", "ER", "uniform", "uniform+", "dense")
    for shift, arm in enumerate(shown):
        sizes = [size for size in RUNS[arm] if size != "deep"]
        found = [estimate(measurements.values(arm, f"accuracy_{size}")) for size in sizes]
        axes.errorbar(
            [SIZES[size][0] * 1.02 ** (shift - 3) for size in sizes],
            [100 * e.mean for e in found],
            [0.0 if e.low is None else 100 * (e.mean - e.low) for e in found],
            color=COLOURS[_colour(arm)],
            linestyle="--" if arm == "dense" else "-",
            marker="o",
            markersize=4,
            capsize=2,
            label=arm,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4], ["1", "2", "4"])
    axes.set(
        xlabel="width over the narrow network's",
        ylabel="test accuracy, %",
        title="Pruned at random, then trained",
    )
    axes.legend(fontsize=8, loc="lower right")


def _draw_flow(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS

    for arm in RANDOM:
        axes.plot(
            measurements.values(arm, "gradient_norm"),
            [100 * value for value in measurements.values(arm, "accuracy_narrow")],
            "o",
            color=COLOURS[_colour(arm)],
            label=arm,
        )
    axes.set(
        xlabel="gradient norm in the first epoch",
        ylabel="test accuracy, %",
        title="Narrow network: what flows early is learned",
    )
    axes.legend(fontsize=8, loc="lower right")
