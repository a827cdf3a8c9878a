"""Paper 38, Fast Sparse ConvNets: pruned 1 x 1 convolutions that are faster than dense ones.

Three benches. Products: MobileNet's layers one by one, beside the dense product, SciPy and torch's
CSR. Networks: MobileNet v1 and v2 and EfficientNet-Lite0 at full size, weights at random and pruned
by magnitude, one image. Accuracy: small MobileNets trained on digits scattered in noisy pictures,
dense and narrow against sparse and wide, and blocks of 4 here and there.

Departures: an x86 server core in place of a phone's; digits in place of ImageNet; sparse networks
train as long as dense ones, where the paper trains them longer; speed at equal architecture, and
at equal or better accuracy only on digits.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._fast_convnets_claims import fast_convnets_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from rarefy.data.images import Images
    from rarefy.papers._fast_convnets_digits import Pruning

DENSE = {"dense 0.125": 0.125, "dense 0.25": 0.25, "dense 0.5": 0.5}
SPARSE = {"sparse 0.25": 0.25, "sparse 0.5": 0.5, "sparse 1.0": 1.0}
BLOCKS = ("blocks of 4", "blocks of 4 inputs", "blocks of 4, early", "blocks of 4, late")
NETWORKS = (
    "network: MobileNet v1, 90 %",
    "network: MobileNet v1, 50 %",
    "network: MobileNet v2, 85 %",
    "network: MobileNet v2 cache-aware, 85 %",
    "network: EfficientNet-Lite0, 80 %",
)

# One standard error of 2,000 pictures at 70 %: a smaller loss could not be told from none.
_LEAST_LOSS = 1.0

PAPER = Paper(
    number=38,
    slug="fast-sparse-convnets",
    title="Fast Sparse ConvNets",
    venue="CVPR 2020",
    authors_code="https://github.com/google-research/google-research/tree/master/fastconvnets",
    domain="weights",
    arms=(*DENSE, *SPARSE, *BLOCKS, "v2", "v2 cache-aware", "kernels", *NETWORKS),
    claims=fast_convnets_claims(),
    summary=(
        "A 1 x 1 convolution is a sparse matrix times an image as it lies in memory, channels "
        "first. With the image cut into tiles that stay in the cache, the sparse product beats "
        "the dense one from 70 to 80 % zeros on, and pruned MobileNets run faster than dense ones "
        "of the same accuracy."
    ),
    usage="""\
import torch
from rarefy.models.mobilenet import mobilenet_v1
from rarefy.weights import magnitude, mask_from_scores, select, sparsify_for_inference

model = mobilenet_v1(classes=10)
pointwise = select(model, include=lambda name, module, weight: weight.shape[2:] == (1, 1))
mask_from_scores(magnitude(pointwise), sparsity=0.9, scope="layer").apply_(model)
fast = sparsify_for_inference(model, torch.zeros(1, 3, 224, 224))
""",
    seeds={"smoke": 1, "default": 3, "full": 5},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """Images of one seed, and the accuracy of the network that blocks are compared with."""

    images: Images
    unstructured: float
    sparsity: float


def setup(trial: Trial, *, sparsity: float = 0.9, images: Path | None = None) -> Shared:
    """Read the images and train the sparse network of half width, without blocks.

    Parameters
    ----------
    sparsity : float
        Of the 1 x 1 convolutions of the networks that are trained.
    images : Path, optional
        An .npz file with x, y, test_x and test_y, the images as (n, channels, height, width);
        scikit-learn's digits, scattered in larger pictures, by default.
    """
    from rarefy.data.images import digits, read_images
    from rarefy.papers._fast_convnets_digits import Pruning, scattered

    if not 0 < sparsity < 1:
        raise ValueError(f"sparsity must be above 0 and below 1, got {sparsity}")
    generator = trial.generator()
    pictures = scattered(digits(generator), generator) if images is None else read_images(images)
    shared = Shared(pictures, 0.0, sparsity)
    trial.progress("sparse network without blocks")
    _, accuracy = _trained(0.5, Pruning(sparsity), shared, trial)
    return shared._replace(unstructured=accuracy)


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm: accuracies and latencies of trained networks, or ratios of clocks."""
    from rarefy.papers._fast_convnets_digits import Pruning, small_v2, train

    if arm == "kernels":
        from rarefy.papers._fast_convnets_speed import product_ratios

        return product_ratios(trial)
    if arm in NETWORKS:
        return _network(arm, trial)
    if arm in BLOCKS:
        return _blocks(arm, shared, trial)
    if arm.startswith("v2"):
        accuracy = train(
            small_v2(shared.images, trial.seed, cache_aware=arm == "v2 cache-aware"),
            shared.images,
            steps=trial.pick(smoke=2, default=120, full=3000),
            pruning=Pruning(shared.sparsity),
            generator=trial.generator(),
            device=trial.device,
        )
        return {"accuracy": accuracy}
    if arm == "sparse 0.5":
        from rarefy.papers._fast_convnets_digits import small_v1
        from rarefy.papers._fast_convnets_speed import pruned

        build = partial(small_v1, shared.images, 0.5, trial.seed)
        single = pruned(build, shared.sparsity, trial.seed)
        return {"accuracy": shared.unstructured} | _latency(single, shared, trial)
    pruning = None if arm in DENSE else Pruning(shared.sparsity)
    model, accuracy = _trained((DENSE | SPARSE)[arm], pruning, shared, trial)
    return {"accuracy": accuracy} | _latency(model, shared, trial)


def _trained(
    width: float, pruning: Pruning | None, shared: Shared, trial: Trial
) -> tuple[nn.Module, float]:
    from rarefy.papers._fast_convnets_digits import small_v1, train

    model = small_v1(shared.images, width, trial.seed)
    accuracy = train(
        model,
        shared.images,
        steps=_steps(trial),
        pruning=pruning,
        generator=trial.generator(),
        device=trial.device,
    )
    return model, accuracy


def _steps(trial: Trial) -> int:
    return trial.pick(smoke=2, default=240, full=3000)


def _latency(model: nn.Module, shared: Shared, trial: Trial) -> dict[str, float]:
    """Time one image, in units of the dense network of half width; and weights that are left."""
    from rarefy.papers._fast_convnets_digits import pointwise, small_v1
    from rarefy.papers._fast_convnets_speed import relative_latency

    reference = small_v1(shared.images, 0.5, trial.seed).eval()
    turns = trial.pick(smoke=3, default=60, full=200)
    return {
        "clock_relative": relative_latency(model, reference, shared.images.test_x[:1], turns),
        "nonzeros": float(sum(int(w.count_nonzero()) for w in pointwise(model).values())),
    }


def _blocks(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from torch.nn.functional import interpolate

    from rarefy.papers._fast_convnets_digits import EARLY, LATE, Pruning, blocks_at, small_v1
    from rarefy.papers._fast_convnets_speed import pruned, relative_latency

    build = partial(small_v1, shared.images, 0.5, trial.seed)
    pruning = Pruning(shared.sparsity, 4, 1 if arm == "blocks of 4 inputs" else 0)
    for end, pairs in (("early", EARLY), ("late", LATE)):
        if arm.endswith(end):
            pruning = pruning._replace(block=blocks_at(build(), pairs, 4))
    model, accuracy = _trained(0.5, pruning, shared, trial)
    single = pruned(build, shared.sparsity, trial.seed)
    # On pictures of four times the size, where the products outweigh the calls.
    x = interpolate(shared.images.test_x[:1], scale_factor=4)
    relative = relative_latency(model, single, x, trial.pick(smoke=3, default=60, full=200))
    gain, loss = 100 * (1 / relative - 1), 100 * (shared.unstructured - accuracy)
    return {
        "accuracy": accuracy,
        "clock_gain": gain,
        "clock_gain_per_point": gain / max(loss, _LEAST_LOSS),
    }


def _network(arm: str, trial: Trial) -> dict[str, float]:
    from rarefy.models.mobilenet import efficientnet_lite0, mobilenet_v1, mobilenet_v2
    from rarefy.papers._fast_convnets_speed import network_ratios

    width = trial.pick(smoke=0.25, default=1.0, full=1.0)
    builds: dict[str, Callable[[], nn.Module]] = {
        "MobileNet v1": partial(mobilenet_v1, width),
        "MobileNet v2": partial(mobilenet_v2, width),
        "MobileNet v2 cache-aware": partial(mobilenet_v2, width, cache_aware=True),
        "EfficientNet-Lite0": efficientnet_lite0,
    }
    name, percent = arm.removeprefix("network: ").removesuffix(" %").split(", ")
    more: dict[str, Any] = {}
    if name.endswith("cache-aware"):
        more["beside"] = builds["MobileNet v2"]
    return network_ratios(builds[name], int(percent) / 100, trial, **more)


def figure(measurements: Measurements) -> Figure:
    """Accuracy against latency, dense and sparse; and speed-up of the product against sparsity."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.4))
    frontier, products = drawn.subplots(1, 2)
    _draw_frontier(frontier, measurements)
    _draw_products(products, measurements)
    return drawn


def _draw_frontier(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    for label, arms, colour in (("dense", DENSE, COLOURS[6]), ("90 % sparse", SPARSE, COLOURS[0])):
        at = [estimate(measurements.values(arm, "clock_relative")).mean for arm in arms]
        found = [estimate(measurements.values(arm, "accuracy")) for arm in arms]
        axes.errorbar(
            at,
            [100 * e.mean for e in found],
            [0.0 if e.low is None else 100 * (e.mean - e.low) for e in found],
            color=colour,
            marker="o",
            markersize=4,
            capsize=2,
            label=label,
        )
        for x, e, width in zip(at, found, arms.values(), strict=True):
            axes.annotate(
                f"{width:g}", (x, 100 * e.mean), xytext=(4, -10), textcoords="offset points"
            )
    axes.set(
        xlabel="latency of an image, dense network of half width = 1",
        ylabel="test accuracy, %",
        title="Small MobileNet v1 on scattered digits, by width",
    )
    axes.legend(fontsize=8, loc="lower right")


def _draw_products(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate
    from rarefy.papers._fast_convnets_speed import BLOCKS as SIZES
    from rarefy.papers._fast_convnets_speed import SPARSITIES

    for size, colour in zip(SIZES, COLOURS, strict=False):
        found = [
            estimate(measurements.values("kernels", f"clock_speedup_{percent}_block_{size}"))
            for percent in SPARSITIES
        ]
        axes.plot(
            SPARSITIES,
            [e.mean for e in found],
            color=colour,
            marker="o",
            markersize=4,
            label="single weights" if size == 1 else f"blocks of {size} outputs",
        )
    axes.axhline(1, color=COLOURS[6], linestyle="--", linewidth=1, label="dense")
    axes.set(
        xlabel="sparsity, %",
        ylabel="times as fast as the dense product",
        title="1 x 1 convolutions of MobileNet v1, one thread",
        xticks=SPARSITIES,
    )
    axes.legend(fontsize=8, loc="upper left")
