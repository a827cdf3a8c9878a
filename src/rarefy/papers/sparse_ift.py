"""Paper 40, Sparse-IFT: larger, sparse layers at the cost of the dense ones, trained with RigL.

A narrow network on digits is the bench: every family at three sparsities, beside the dense network,
one of twice the cost, and the compact networks of the same cost that might explain a gain. Then a
small residual network, and a tiny language model with wide MLPs.

Departures: digits, of 8 x 8 pixels, in place of CIFAR-100 and ImageNet; a Llama over bytes in place
of GPT-3 Small; sparse stems in the narrow network, most of whose cost is the stem.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._recipe import Paper, Trial
from rarefy.papers._sparse_ift_claims import sparse_ift_claims

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from rarefy.data.images import Images
    from rarefy.papers._sparse_ift_digits import Outcome
    from rarefy.papers._sparse_ift_language import Text
    from rarefy.weights import IsoFlop, Rule

LEVELS = ("50", "75", "90")


class Sparse(NamedTuple):
    """One way to be larger and sparse at the cost of the dense network."""

    family: Literal["wide", "parallel", "factorized", "doped"]
    rule: Literal["RigL", "SET", "static"] = "RigL"
    levels: tuple[str, ...] = LEVELS


SPARSE = {
    "wide": Sparse("wide"),
    "wide, static": Sparse("wide", "static"),
    "wide, SET": Sparse("wide", "SET", ("75",)),
    "parallel": Sparse("parallel"),
    "factorized": Sparse("factorized"),
    "doped": Sparse("doped"),
}

# Dense networks of the same cost: two factors with a non-linearity between, or without.
COMPACT = ("bottleneck", "low rank")

PAPER = Paper(
    number=40,
    slug="sparse-ift",
    title="Sparse-IFT: Sparse Iso-FLOP Transformations for Maximizing Training Efficiency",
    venue="ICML 2024",
    authors_code="https://github.com/CerebrasResearch/Sparse-IFT",
    domain="weights",
    arms=(
        "dense",
        "dense, twice the cost",
        "dense, best rate",
        *SPARSE,
        "same width, sparse",
        *COMPACT,
        "conv: dense",
        "conv: wide",
        "language: dense",
        "language: wide",
    ),
    claims=sparse_ift_claims(),
    summary=(
        "A dense layer is replaced by a larger one that is sparse and costs as many "
        "multiply-accumulates: wider, in parallel branches, in two factors, or with a low-rank "
        "part. Trained with masks that move, and with the dense network's settings, the paper's "
        "networks gain accuracy at equal cost, the more the sparser."
    ),
    usage="""\
import torch
from torch import nn
from rarefy.weights import DynamicMasks, RigL, iso_flop

net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
g = torch.Generator().manual_seed(0)
sparse = iso_flop(
    net, torch.zeros(1, 64), family="wide", sparsity=0.75, keep_dense=(), generator=g
)
sgd = torch.optim.SGD(sparse.model.parameters(), lr=0.1, momentum=0.9)
held = DynamicMasks(sparse.model, sparse.masks, sgd, rule=RigL(), steps=1000, generator=g)
""",
    seeds={"smoke": 1, "default": 5, "full": 8},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """Images and text of one seed, and the width of the narrow network."""

    images: Images
    text: Text
    width: int


def setup(
    trial: Trial, *, width: int = 6, images: Path | None = None, text: Path | None = None
) -> Shared:
    """Split the images and read the text.

    Parameters
    ----------
    width : int
        Of the narrow network's hidden layers; the gain is largest where it is too narrow.
    images : Path, optional
        An .npz file with x, y, test_x and test_y, the images as (n, channels, height, width);
        scikit-learn's digits by default.
    text : Path, optional
        Text to train the language model on, a file or a folder, the last tenth held out; the
        standard library's source by default.
    """
    from rarefy.data.images import digits, read_images
    from rarefy.papers._sparse_ift_language import read_text

    if width < 2:
        raise ValueError(f"width must be at least 2, got {width}")
    return Shared(
        digits(trial.generator()) if images is None else read_images(images),
        read_text(trial, text),
        width,
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm; ``accuracy_S`` is at S per cent sparsity, the dense arms' at every S."""
    from rarefy.papers._sparse_ift_digits import RATE

    if arm == "dense":
        return _at_every_level(_train(_narrow(shared, trial), shared, trial).accuracy)
    if arm == "dense, twice the cost":
        return _at_every_level(_train(_twice(shared, trial), shared, trial).accuracy)
    if arm == "dense, best rate":
        # On the test images: the choice favours the dense network.
        rates = (RATE / 2, RATE, 2 * RATE)
        return _at_every_level(
            max(_train(_narrow(shared, trial), shared, trial, rate=r).accuracy for r in rates)
        )
    if arm in SPARSE:
        return _sparse(SPARSE[arm], shared, trial)
    if arm == "same width, sparse":
        return _same_width(shared, trial)
    if arm in COMPACT:
        return _at_every_level(_compact(shared, trial, linear=arm == "low rank").accuracy)
    if arm.startswith("conv"):
        return _convolutions(shared, trial, sparse=arm == "conv: wide")
    from rarefy.papers._sparse_ift_language import measure_language

    return measure_language(shared.text, trial, sparsity=0.5 if arm == "language: wide" else None)


def _sparse(way: Sparse, shared: Shared, trial: Trial) -> dict[str, float]:
    values = {"macs_off": 0.0, "mask_violations": 0.0}
    for i, level in enumerate(way.levels):
        trial.progress(f"{way.family} at {level} %", i / len(way.levels))
        network = _transformed(
            _narrow(shared, trial), shared, trial, family=way.family, sparsity=int(level) / 100
        )
        outcome = _train(network, shared, trial, rule=way.rule)
        off = abs(network.macs / network.dense_macs - 1)
        values["macs_off"] = max(values["macs_off"], off)
        values["mask_violations"] += outcome.violations
        values[f"accuracy_{level}"] = outcome.accuracy
    for low, high in (("50", "75"), ("75", "90"), ("50", "90")):
        if {low, high} <= set(way.levels):
            rise = values[f"accuracy_{high}"] - values[f"accuracy_{low}"]
            values[f"rise_{low}_{high}"] = rise
    return values


def _same_width(shared: Shared, trial: Trial) -> dict[str, float]:
    """Train the dense network's own layers at 75 %: a quarter of the cost."""
    from rarefy.budget import Uniform
    from rarefy.weights import random_masks, select

    network = _narrow(shared, trial)
    *body, _ = select(network).items()
    masks = random_masks(dict(body), density=0.25, rule=Uniform(), generator=trial.generator())
    return {"accuracy_75": _train(network, shared, trial, rule="RigL", masks=masks).accuracy}


def _compact(shared: Shared, trial: Trial, *, linear: bool) -> Outcome:
    from torch import nn

    # At sparsity 0 a factorized layer is dense, but for the few weights its rounding up added.
    between = {"between": lambda _: nn.Identity()} if linear else {}
    dense = _narrow(shared, trial)
    network = _transformed(dense, shared, trial, family="factorized", sparsity=0.0, **between)
    return _train(network, shared, trial, rule="static")


def _convolutions(shared: Shared, trial: Trial, *, sparse: bool) -> dict[str, float]:
    from rarefy.papers._sparse_ift_digits import ResNet, seeded, train
    from rarefy.weights import RigL, iso_flop

    widths = trial.pick(smoke=(4, 8), default=(4, 8), full=(16, 32, 64))
    dense = seeded(lambda: ResNet(shared.images, widths), trial.seed)
    network: nn.Module | IsoFlop = dense
    values = {}
    if sparse:
        network = iso_flop(
            dense,
            shared.images.x[:1],
            family="wide",
            sparsity=0.75,
            generator=trial.generator(),
        )
        values["macs_off"] = abs(network.macs / network.dense_macs - 1)
    outcome = train(
        network,
        shared.images,
        rule=RigL() if sparse else None,
        steps=trial.pick(smoke=8, default=300, full=40_000),
        every=trial.pick(smoke=2, default=25, full=100),
        generator=trial.generator(),
        device=trial.device,
    )
    return values | {"accuracy_75": outcome.accuracy}


def _narrow(shared: Shared, trial: Trial) -> nn.Module:
    from rarefy.papers._sparse_ift_digits import mlp, seeded

    return seeded(lambda: mlp(shared.images, shared.width), trial.seed)


def _twice(shared: Shared, trial: Trial) -> nn.Module:
    """Build the least wide dense network of at least twice the cost."""
    from rarefy.papers._sparse_ift_digits import mlp, seeded

    def cost(width: int) -> int:
        return shared.images.x[0].numel() * width + 3 * width**2 + width * shared.images.classes

    width = shared.width
    while cost(width) < 2 * cost(shared.width):
        width += 1
    return seeded(lambda: mlp(shared.images, width), trial.seed)


def _transformed(dense: nn.Module, shared: Shared, trial: Trial, **how: Any) -> IsoFlop:
    """Transform all layers of the narrow network but its head, which would not fit the budget."""
    from rarefy.weights import iso_flop, select

    head = list(select(dense))[-1]
    return iso_flop(dense, shared.images.x[:1], keep_dense=head, generator=trial.generator(), **how)


def _train(
    network: nn.Module | IsoFlop,
    shared: Shared,
    trial: Trial,
    *,
    rule: Literal["RigL", "SET", "static"] | None = None,
    **how: Any,
) -> Outcome:
    from rarefy.papers._sparse_ift_digits import train
    from rarefy.weights import SET, RigL, Static

    rules: dict[str | None, Rule] = {"RigL": RigL(), "SET": SET(), "static": Static()}
    return train(
        network,
        shared.images,
        rule=rules.get(rule),
        steps=_steps(trial),
        every=_every(trial),
        generator=trial.generator(),
        device=trial.device,
        noise=0.1,
        **how,
    )


def _steps(trial: Trial) -> int:
    return trial.pick(smoke=30, default=800, full=2500)


def _every(trial: Trial) -> int:
    return trial.pick(smoke=5, default=25, full=25)


def _at_every_level(accuracy: float) -> dict[str, float]:
    return {f"accuracy_{level}": accuracy for level in LEVELS}


def figure(measurements: Measurements) -> Figure:
    """Accuracy against sparsity of every family; and what else 75 % is compared with."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.4))
    curves, bars = drawn.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_curves(curves, measurements)
    _draw_bars(bars, measurements)
    return drawn


def _draw_curves(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    at = [int(level) for level in LEVELS]
    for arm, label, colour in (
        ("dense", "dense", COLOURS[6]),
        ("dense, twice the cost", "dense, twice the cost", COLOURS[4]),
    ):
        band = estimate(measurements.values(arm, "accuracy_75"))
        axes.axhline(100 * band.mean, color=colour, linestyle="--", label=label)
        if band.low is not None and band.high is not None:
            axes.axhspan(100 * band.low, 100 * band.high, color=colour, alpha=0.12, linewidth=0)
    curves = (
        ("wide", "Sparse Wide", "-"),
        ("wide, static", "Sparse Wide, fixed masks", ":"),
        ("parallel", "Sparse Parallel", "-"),
        ("factorized", "Sparse Factorized", "-"),
        ("doped", "Sparse Doped", "-"),
    )
    colours = (COLOURS[0], COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3])
    for shift, ((arm, label, style), colour) in enumerate(zip(curves, colours, strict=True)):
        found = [estimate(measurements.values(arm, f"accuracy_{level}")) for level in LEVELS]
        axes.errorbar(
            [x + 0.5 * (shift - 2) for x in at],
            [100 * e.mean for e in found],
            [0.0 if e.low is None else 100 * (e.mean - e.low) for e in found],
            color=colour,
            linestyle=style,
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
    axes.set(
        xlabel="sparsity, %",
        ylabel="test accuracy, %",
        title="Narrow network on digits, at equal cost",
        xticks=at,
    )
    axes.legend(fontsize=8, loc="lower left")


def _draw_bars(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    shown = (
        ("dense", "dense"),
        ("dense, best rate", "dense, best learning rate"),
        ("dense, twice the cost", "dense, twice the cost"),
        ("low rank", "two factors, linear"),
        ("bottleneck", "two factors, non-linear"),
        ("same width, sparse", "same width, 75 % sparse"),
        ("wide, static", "fixed masks"),
        ("wide, SET", "masks moved at random (SET)"),
    )
    gains = []
    for arm, _ in shown:
        pairs = measurements.paired("wide", arm, "accuracy_75")
        gains.append(estimate([100 * (ours - theirs) for ours, theirs in pairs]))
    at = list(range(len(shown)))
    axes.barh(
        at,
        [gain.mean for gain in gains],
        xerr=[0.0 if gain.low is None else gain.mean - gain.low for gain in gains],
        color=[COLOURS[0] if gain.mean > 0 else COLOURS[1] for gain in gains],
        capsize=2,
        height=0.6,
    )
    axes.axvline(0, color=COLOURS[6], linewidth=1)
    axes.set_yticks(at, [label for _, label in shown])
    axes.invert_yaxis()
    axes.set(
        xlabel="points that Sparse Wide at 75 % is ahead",
        title="What it is compared with, paired by seed",
    )
