"""Paper 23, progressive gradient flow: N:M sparse transformers trained with masks that harden.

A small transformer over bytes, its feed-forward layers at 1:16, trained by SR-STE and by every rule
of the paper; 2:4 and 1:32 beside it; SR-STE again with as many training operations as the paper's
rules take; a small vision transformer; and what a step costs.

Departures: the standard library's source in place of C4 and GLUE, digits of 8 x 8 pixels in place
of ImageNet. Decays and stages take the first 30 % of the training. Geometric stages double twice,
not thrice: 8:128 does not divide 64 inputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rarefy.evidence.claims import Measurements
from rarefy.papers._progressive_nm_claims import progressive_nm_claims
from rarefy.papers._recipe import Paper, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rarefy.data.images import Images
    from rarefy.papers._progressive_nm_data import Text
    from rarefy.papers._progressive_nm_training import Way

OVER = 0.3

PAPER = Paper(
    number=23,
    slug="progressive-nm",
    title="Progressive Gradient Flow for Robust N:M Sparsity Training in Transformers",
    venue="arXiv 2402.04744",
    authors_code="https://github.com/abhibambhaniya/progressive_gradient_flow_nm_sparsity",
    domain="weights",
    arms=(
        "dense",
        "SR-STE",
        "MdGf",
        "MdGf exponential",
        "MdGf, whole gradient",
        "SdGf stepwise",
        "SdGf geometric",
        "SR-STE, cost of MdGf",
        "SR-STE, cost of SdGf",
        "2:4 SR-STE",
        "2:4 MdGf",
        "2:4 SdGf",
        "1:32 SR-STE",
        "1:32 MdGf",
        "vision: dense",
        "vision: SR-STE",
        "vision: MdGf",
        "step time",
    ),
    claims=progressive_nm_claims(),
    summary=(
        "Networks with at most N non-zeros in every M weights are usually trained by SR-STE, which "
        "passes gradients to pruned weights for good. At high sparsity the paper finds those "
        "gradients noisy, and lets the pruned weights' influence fade instead: their mask decays "
        "(MdGf), or the pattern tightens in stages (SdGf)."
    ),
    usage="""\
import torch
from torch import nn
from rarefy.operators import NM
from rarefy.weights import MdGf, NMTraining

net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
adam = torch.optim.AdamW(net.parameters(), lr=1e-3)
with NMTraining(net, NM(1, 16), adam, rule=MdGf(), steps=1000):
    for _ in range(1000):
        adam.zero_grad()
        net(torch.randn(8, 64)).square().mean().backward()
        adam.step()
""",
    seeds={"smoke": 1, "default": 3, "full": 10},
    tour_seeds=0,
)


class Shared(NamedTuple):
    """Text and images of one seed."""

    text: Text
    images: Images


def setup(trial: Trial, *, text: Path | None = None, images: Path | None = None) -> Shared:
    """Read the text and split the images.

    Parameters
    ----------
    text : Path, optional
        Text to train the language model on, a file or a folder, the last tenth held out; the
        standard library's source by default.
    images : Path, optional
        An .npz file with x, y, test_x and test_y, the images as (n, channels, height, width);
        scikit-learn's digits by default.
    """
    from rarefy.data.images import digits, read_images
    from rarefy.papers._progressive_nm_data import read_text

    return Shared(
        read_text(trial, text),
        digits(trial.generator()) if images is None else read_images(images),
    )


def measure(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    """Measure an arm; losses in nats a byte, variances of gradients over the last fifth."""
    from rarefy.papers._progressive_nm_cost import measure_cost

    if arm == "step time":
        return measure_cost(trial)
    if trial.scale == "full":
        return _trained(arm, shared, trial)
    from rarefy.papers._threads import one_thread

    with one_thread():
        return _trained(arm, shared, trial)


def _trained(arm: str, shared: Shared, trial: Trial) -> dict[str, float]:
    from rarefy.papers._progressive_nm_data import Language, Vision
    from rarefy.papers._progressive_nm_training import cost, train

    if arm.startswith("vision: "):
        return train(Vision(shared.images, trial), trial, _way(arm))
    task = Language(shared.text, trial)
    name, found, costing = arm.partition(", cost of ")
    if not found:
        return train(task, trial, _way(arm))
    longer = cost(task, _way(costing)) / cost(task, _way(name))
    steps = round(longer * task.steps)
    values = train(task, trial, _way(name), steps=steps)
    return values | {"cost_off": abs(steps / task.steps / longer - 1)}


def _way(arm: str) -> Way | None:
    """How an arm is trained; by its name."""
    from rarefy.budget import MaskDecay
    from rarefy.operators import NM
    from rarefy.papers._progressive_nm_training import Way
    from rarefy.weights import Backward, MdGf, SdGf, sr_ste

    linear = MaskDecay("linear", over=OVER)
    rules: dict[str, MdGf | SdGf | Backward] = {
        "SR-STE": sr_ste(),
        "MdGf": MdGf(linear),
        "MdGf exponential": MdGf(MaskDecay("exponential", over=OVER)),
        "MdGf, whole gradient": MdGf(linear, backward="straight-through"),
        "SdGf": SdGf(over=OVER),
        "SdGf stepwise": SdGf(over=OVER),
        "SdGf geometric": SdGf("geometric", over=OVER, doublings=2),
    }
    patterns = {"2:4 ": NM(2, 4), "1:32 ": NM(1, 32), "vision: ": NM(1, 32), "": NM(1, 16)}
    prefix = next(start for start in patterns if arm.startswith(start))
    name = arm.removeprefix(prefix)
    return None if name == "dense" else Way(patterns[prefix], rules[name])


def figure(measurements: Measurements) -> Figure:
    """Loss against the pattern, paired by seed, and gradients late in training."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10.5, 4.4))
    losses, noise = drawn.subplots(1, 2, width_ratios=(1.1, 1))
    _draw_losses(losses, measurements)
    _draw_noise(noise, measurements)
    return drawn


def _draw_losses(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    at = {"2:4": 0, "1:16": 1, "1:32": 2}
    axes.axhline(0.0, color=COLOURS[6], linestyle="--", label="dense")
    curves = {
        "SR-STE": {"2:4": "2:4 SR-STE", "1:16": "SR-STE", "1:32": "1:32 SR-STE"},
        "SR-STE, at MdGf's cost": {"1:16": "SR-STE, cost of MdGf"},
        "MdGf": {"2:4": "2:4 MdGf", "1:16": "MdGf", "1:32": "1:32 MdGf"},
        "MdGf, whole gradient": {"1:16": "MdGf, whole gradient"},
        "MdGf, exponential": {"1:16": "MdGf exponential"},
        "SdGf, stepwise": {"2:4": "2:4 SdGf", "1:16": "SdGf stepwise"},
        "SdGf, geometric": {"1:16": "SdGf geometric"},
    }
    colours = (1, 1, 0, 0, 2, 3, 4)
    markers = "osos^Dv"
    for i, (label, arms) in enumerate(curves.items()):
        found = {}
        for pattern, arm in arms.items():
            pairs = measurements.paired(arm, "dense", "loss")
            found[pattern] = estimate([sparse - dense for sparse, dense in pairs])
        axes.errorbar(
            [at[pattern] + 0.06 * (i - 3) for pattern in found],
            [e.mean for e in found.values()],
            [0.0 if e.low is None else e.mean - e.low for e in found.values()],
            color=COLOURS[colours[i]],
            linestyle="-" if len(found) == 3 else "none",
            marker=markers[i],
            markersize=5,
            markerfacecolor=None if len(found) > 1 else "white",
            capsize=2,
            label=label,
        )
    axes.set(
        xlabel="pattern of the feed-forward layers",
        ylabel="held-out loss above dense, nats a byte",
        title="Byte-level transformer",
        xticks=list(at.values()),
        xticklabels=list(at),
    )
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.35 * (high - low))  # room for the legend
    axes.legend(fontsize=7.5, loc="upper left", ncols=2)


def _draw_noise(axes: Axes, measurements: Measurements) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    arms = ("SR-STE", "MdGf", "MdGf, whole gradient", "MdGf exponential", "SdGf stepwise")
    for shift, (metric, label) in enumerate(
        (("variance", "all weights"), ("variance_kept", "kept weights"))
    ):
        axes.barh(
            [i + 0.4 * (shift - 0.5) for i in range(len(arms))],
            [estimate(measurements.values(arm, metric)).mean for arm in arms],
            height=0.38,
            color=COLOURS[shift],
            label=label,
        )
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -1.0)
    axes.set(
        xscale="log",
        xlabel="variance of the gradient, last fifth of training",
        title="Gradients at 1:16",
    )
    axes.legend(fontsize=8, loc="upper center", ncols=2)
