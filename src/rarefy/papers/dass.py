"""Paper 25, DASS: differentiable search for cells that stay accurate when they are pruned.

Searches on small images: dense (DARTS), sparse (DASS), and with one of DASS's two ingredients; then
random cells, and two hand-made networks. Every network is trained, pruned by learned scores and
fine-tuned, and all keep the same number of weights.

Departures: digits, of 8 x 8 pixels, in place of CIFAR-10 and ImageNet; latency in dense kernels.
The paper compares at equal pruning ratio, which favours heavy cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from time import perf_counter
from typing import TYPE_CHECKING, Literal

from rarefy.evidence.claims import Measurements
from rarefy.papers._dass_claims import dass_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.data.images import Images
    from rarefy.papers._dass_nets import Evaluated, Make
    from rarefy.weights import CellNetwork, CellSearch, CellSpace, Epoch, Genotype

Kind = Literal["sparse", "dense"]

# What is sparse in the search: its operations, and what alpha's objective sees.
SEARCHES: dict[str, tuple[Kind, Kind]] = {
    "darts": ("dense", "dense"),
    "dass": ("sparse", "sparse"),
    "sparse operations only": ("sparse", "dense"),
    "sparse objective only": ("dense", "sparse"),
}

PAPER = Paper(
    number=25,
    slug="dass",
    title="DASS: Differentiable Architecture Search for Sparse Neural Networks",
    venue="ACM TECS 2023",
    authors_code="",
    domain="weights",
    arms=("random", *SEARCHES, "resnet-8", "mobilenet-v2", "mobilenet-v2, matched"),
    claims=dass_claims(),
    summary=(
        "Cells found by dense architecture search lose much of their accuracy once pruned. DASS "
        "puts masks with learned scores into the search space and judges the architecture on the "
        "pruned supernet; what it finds is more accurate and faster at high pruning ratios."
    ),
    usage="""\
import torch
from rarefy.weights import CellSpace, build, dass

g = torch.Generator().manual_seed(0)
space = CellSpace(nodes=2, cells=2, channels=4)
x, y = torch.randn(256, 1, 8, 8), torch.arange(256) % 10
found = dass(space, x, y, density=0.1, epochs=10, generator=g)
net = build(found.genotype, channels=8, cells=3, classes=10, in_channels=1, generator=g)
# then finetune(net, ...), masks = prune_by_scores(net, ...), finetune(net, ..., masks=masks)
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


# Compared and hashed as an object, so that what is remembered of it is never another's.
@dataclass(frozen=True, eq=False)
class Shared:
    """Images of one seed, and the sizes of search and evaluation."""

    images: Images
    space: CellSpace
    size: int
    density: float
    search_density: float
    repeats: int
    ramp: bool

    @property
    def kept(self) -> int:
        """How many weights every pruned network has."""
        return round(self.density * self.size)


def setup(
    trial: Trial,
    *,
    density: float = 0.1,
    search_density: float = 0.3,
    size: int = 6000,
    channels: int = 4,
    repeats: int = 1,
    ramp: bool = False,
    images: Path | None = None,
) -> Shared:
    """Split the images.

    Parameters
    ----------
    density : float
        Of the evaluated networks.
    search_density : float
        Of the supernet; at 0.1 one this narrow stays near chance, and its alpha learns little.
    size : int
        Weights of an evaluated network before pruning, about; after it, exactly density times this.
    channels : int
        Of the supernet.
    repeats : int
        How often pruning and fine-tuning take turns in the search.
    ramp : bool
        Bring the search density down by a cubic over the epochs of the first pruning.
    images : Path, optional
        An .npz file with x, y, test_x and test_y, the images as (n, channels, height, width);
        scikit-learn's digits by default.
    """
    from rarefy.data.images import digits, read_images
    from rarefy.weights import CellSpace

    for name, value in (("density", density), ("search_density", search_density)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must be between 0 and 1, got {value}")
    if density * size < 100:
        raise ValueError(
            f"density {density} of size {size} leaves {density * size:.0f} weights; at least 100 "
            "are wanted for a network to learn anything"
        )
    ops = ("none", "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3")
    return Shared(
        digits(trial.generator()) if images is None else read_images(images),
        CellSpace(
            (*ops, "dil_conv_3x3", "conv_3x3", "conv_1x1"), nodes=2, cells=2, channels=channels
        ),
        size,
        density,
        search_density,
        repeats,
        ramp,
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: accuracy with the same number of weights left, and what pruning cost."""
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _measure(arm, shared, trial)


def _measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._dass_nets import MobileNet, resnet8

    if arm == "random":
        return _random(shared, trial)
    if arm == "resnet-8":
        return _made(partial(resnet8, shared.images), shared, trial)
    if arm == "mobilenet-v2":
        return _made(partial(MobileNet, shared.images), shared, trial)
    if arm == "mobilenet-v2, matched":
        return _matched(shared, trial)
    values = _found(arm, shared, trial).metrics(shared.images, shared.kept)
    if arm == "dass":
        values["clock_search_ratio"] = _search_ratio(shared, trial)
    return values


@lru_cache(maxsize=len(SEARCHES))
def _found(arm: str, shared: Shared, trial: Trial) -> Evaluated:
    """Search and evaluate; remembered, because a matched MobileNet is measured against it."""
    trial.progress("searching", 0.0)
    found = _search(
        arm,
        shared,
        trial,
        few=trial.pick(smoke=128, default=640, full=None),
        epochs=trial.pick(smoke=3, default=10, full=50),
    )
    trial.progress("evaluating what was found", 0.6)
    return _evaluated(found.genotype, shared, trial)


def _search(
    arm: str,
    shared: Shared,
    trial: Trial,
    *,
    few: int | None,
    epochs: int,
    after: Callable[[Epoch], object] | None = None,
) -> CellSearch:
    """Search on the first ``few`` images."""
    from rarefy.budget import Cubic
    from rarefy.weights import dass

    operations, objective = SEARCHES[arm]
    target = shared.search_density
    return dass(
        shared.space,
        shared.images.x[:few].to(trial.device),
        shared.images.y[:few].to(trial.device),
        density=Cubic(target) if shared.ramp else target,
        operations=operations,
        objective=objective,
        epochs=epochs,
        phases=(0.3, 0.3, 0.4),
        repeats=shared.repeats,
        lr=0.05,
        score_lr=0.02,
        alpha_lr=6e-3,
        generator=trial.generator(),
        on_epoch=after,
    )


def _search_ratio(shared: Shared, trial: Trial) -> float:
    """Time of an epoch with masks over one without, of short searches taken in turns."""
    seconds: dict[str, list[float]] = {"dass": [], "darts": []}
    for _ in range(trial.pick(smoke=1, default=2, full=5)):
        for arm, times in seconds.items():
            ends: list[float] = []

            def note(_: Epoch, ends: list[float] = ends) -> None:
                ends.append(perf_counter())

            few = trial.pick(smoke=128, default=256, full=1024)
            _search(arm, shared, trial, few=few, epochs=3, after=note)
            times += [end - start for start, end in pairwise(ends)]
    return median(seconds["dass"]) / median(seconds["darts"])


def _evaluated(genotype: Genotype, shared: Shared, trial: Trial) -> Evaluated:
    from rarefy.papers._dass_nets import at_size, evaluate
    from rarefy.weights import build

    def make(width: int) -> CellNetwork:
        return build(
            genotype,
            channels=width,
            cells=2,
            classes=shared.images.classes,
            in_channels=shared.images.x.shape[1],
            generator=trial.generator(),
        )

    return evaluate(at_size(make, shared.size), shared.images, trial, kept=shared.kept)


def _random(shared: Shared, trial: Trial) -> dict[str, float]:
    """Average over random genotypes of the same space."""
    number = trial.pick(smoke=1, default=1, full=10)
    each = []
    for i, genotype in enumerate(shared.space.sample(number, trial.generator())):
        trial.progress(f"random cells {i + 1}", i / number)
        evaluated = _evaluated(genotype, shared, trial)
        each.append(evaluated.metrics(shared.images, shared.kept))
    return {metric: fmean(values[metric] for values in each) for metric in each[0]}


def _made(make: Make, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._dass_nets import at_size, evaluate
    from rarefy.papers._sparse_ift_digits import seeded

    network = at_size(lambda width: seeded(lambda: make(width), trial.seed), shared.size)
    evaluated = evaluate(network, shared.images, trial, kept=shared.kept)
    return evaluated.metrics(shared.images, shared.kept)


def _matched(shared: Shared, trial: Trial) -> dict[str, float]:
    """Find the least MobileNet, at the same density, that is as accurate to a point."""
    from rarefy.papers._dass_nets import MobileNet, count, evaluate, latency_ratio
    from rarefy.papers._sparse_ift_digits import seeded

    dass = _found("dass", shared, trial)
    for width in trial.pick(smoke=(4,), default=(8, 14), full=(4, 6, 8, 10, 12, 14, 16, 20)):
        trial.progress(f"MobileNet-v2 of width {width}")
        network = seeded(partial(MobileNet, shared.images, width), trial.seed)
        kept = round(shared.density * count(network))
        evaluated = evaluate(network, shared.images, trial, kept=kept)
        if evaluated.accuracy >= dass.accuracy - 0.01:
            break
    return {
        "accuracy": evaluated.accuracy,
        "behind": max(0.0, dass.accuracy - evaluated.accuracy),
        "nnz": float(kept),
        "macs_ratio": evaluated.macs(shared.images) / dass.macs(shared.images),
        "clock_speedup": latency_ratio(
            dass.network,
            evaluated.network,
            shared.images,
            repeats=trial.pick(smoke=3, default=31, full=101),
        ),
    }


def figure(measurements: Measurements) -> Figure:
    """Accuracy before and after pruning, and how far DASS is ahead of each."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.2))
    drops, gains = drawn.subplots(1, 2, width_ratios=(1.2, 1))
    _draw_drops(drops, measurements)
    _draw_gains(gains, measurements)
    return drawn


def _draw_drops(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    arms = PAPER.arms[:-1]
    for row, arm in enumerate(arms):
        dense = 100 * estimate(measurements.values(arm, "dense_accuracy")).mean
        sparse = estimate(measurements.values(arm, "accuracy"))
        axes.plot([dense, 100 * sparse.mean], [row, row], color=COLOURS[6], linewidth=1)
        axes.plot(dense, row, "o", color=COLOURS[6], label="trained" if row == 0 else None)
        axes.errorbar(
            100 * sparse.mean,
            row,
            xerr=0.0 if sparse.low is None else 100 * (sparse.mean - sparse.low),
            fmt="o",
            color=COLOURS[0],
            capsize=2,
            label="pruned and fine-tuned" if row == 0 else None,
        )
    axes.set_yticks(range(len(arms)), arms)
    axes.invert_yaxis()
    axes.set(xlabel="test accuracy, %", title="With as many weights left")
    axes.legend(fontsize=8, loc="lower left")


def _draw_gains(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    others = [arm for arm in PAPER.arms[:-1] if arm != "dass"]
    gains = [
        estimate([100 * (a - b) for a, b in measurements.paired("dass", arm, "accuracy")])
        for arm in others
    ]
    axes.barh(
        range(len(others)),
        [gain.mean for gain in gains],
        xerr=[0.0 if gain.low is None else gain.mean - gain.low for gain in gains],
        color=[COLOURS[0] if gain.mean > 0 else COLOURS[1] for gain in gains],
        capsize=2,
        height=0.6,
    )
    axes.axvline(0, color=COLOURS[6], linewidth=1)
    axes.set_yticks(range(len(others)), others)
    axes.invert_yaxis()
    axes.set(xlabel="points that DASS is ahead", title="Paired by seed")
