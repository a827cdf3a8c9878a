"""The figure of paper 39: the curves and their turn, the two kinds of masks, and the emergence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rarefy.evidence.claims import Measurements
from rarefy.evidence.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

_BLUE, _RED, _GREEN, _PINK, _ORANGE, _SKY, _GREY = COLOURS
_CEILING = 100.0
"""Perplexity over the dense model's, above which a curve leaves the panel."""

_LINES = (
    ("magnitude", "magnitude, one shot", _BLUE, "-"),
    ("magnitude, tuned", "magnitude, fine-tuned", _BLUE, "--"),
    ("magnitude by layer", "magnitude by layer, one shot", _SKY, "-"),
    ("Wanda", "Wanda, one shot", _GREEN, "-"),
    ("random", "random, one shot", _RED, "-"),
    ("random, tuned", "random, fine-tuned", _RED, "--"),
)
_POINTS = (("1:2", _ORANGE, "v"), ("2:4", _GREY, "s"), ("4:8", _PINK, "^"))


def draw(measurements: Measurements) -> Figure:
    """Draw the three panels; a panel without measurements stays empty."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13.5, 4.4))
    curves, tickets, emergence = drawn.subplots(1, 3, width_ratios=(1.35, 1, 1))
    _curves(curves, measurements)
    _tickets(tickets, measurements)
    _emergence(emergence, measurements)
    return drawn


def _curves(axes: Axes, measurements: Measurements) -> None:
    dense = _mean(measurements, "magnitude", "perplexity_0")
    for arm, label, colour, style in _LINES:
        x, y = _series(measurements, arm, r"perplexity_(\d+)")
        if not len(x):
            continue
        y = y / dense
        axes.plot(x, y.mean(0), color=colour, linestyle=style, marker=".", label=label)
        axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.15, linewidth=0)
    for arm, colour, marker in _POINTS:
        for name, place, fill, label in (
            (arm, 49.4, colour, f"{arm} (hollow: fine-tuned)"),
            (f"{arm}, tuned", 50.6, "none", ""),
        ):
            y = np.array(measurements.values(name, "perplexity")).mean() / dense
            axes.plot(place, y, color=colour, marker=marker, mfc=fill, linestyle="", label=label)
    free = 100 * _mean(measurements, "magnitude", "essential")
    axes.axvspan(0, free, color=_BLUE, alpha=0.08, label=f"free at 5 %: {free:.0f} %")
    turn = 100 * _mean(measurements, "magnitude", "break")
    axes.axvline(turn, color=_GREY, linestyle=":", label=f"the curve turns: {turn:.0f} %")
    axes.set_yscale("log")
    axes.set_ylim(0.8, _CEILING)
    axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
    axes.minorticks_off()
    axes.set_xlim(0, 92)
    axes.set(
        xlabel="weights pruned, %",
        ylabel="perplexity ÷ dense",
        title="Perplexity of the code model",
    )
    axes.legend(fontsize=7.5, loc="upper left")


def _tickets(axes: Axes, measurements: Measurements) -> None:
    for metric, label, colour, style in (
        ("cosine", "cosine", _SKY, "-"),
        ("similarity", "beyond chance", _BLUE, "-"),
        ("chance", "chance: masks of equal density", _GREY, ":"),
    ):
        x, y = _series(measurements, "IMP, tuned", rf"{metric}_(\d+)")
        axes.plot(x, y.mean(0), color=colour, linestyle=style, marker=".", label=label)
        axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0.8, color=_RED, linewidth=0.8, linestyle="--", label="the claim's bar")
    free = 100 * _mean(measurements, "magnitude, tuned", "essential")
    axes.axvspan(0, free, color=_BLUE, alpha=0.08, label=f"free after fine-tuning: {free:.0f} %")
    axes.set_xlim(10, 75)
    axes.set_ylim(0, 1.03)
    axes.set(
        xlabel="weights pruned, %",
        ylabel="similarity",
        title="One-shot masks against lottery tickets",
    )
    axes.legend(fontsize=7.5, loc="lower left")


def _emergence(axes: Axes, measurements: Measurements) -> None:
    whole = "all of the text"
    x, y = _series(measurements, whole, r"free @ (\d+)")
    for row in y:
        axes.plot(x, 100 * row, color=_BLUE, alpha=0.3, linewidth=0.8)
    if len(x):
        axes.plot(x, 100 * y.mean(0), color=_BLUE, linewidth=2, label=whole)
        for arm, colour, marker in (
            (whole, _BLUE, "o"),
            ("30 % of the text", _ORANGE, "s"),
            ("10 % of the text", _RED, "v"),
        ):
            values = 100 * np.array(measurements.values(arm, "essential"))
            place = np.full(len(values), 1.04 * x[-1])
            label = None if arm == whole else f"{arm}, at the end"
            axes.plot(place, values, color=colour, marker=marker, linestyle="", label=label)
    axes.set_ylim(0, 100)
    axes.set(
        xlabel="steps of pre-training (tiny model)",
        ylabel="free weights, %",
        title="Free weights during pre-training",
    )
    axes.legend(fontsize=7.5, loc="lower left")


def _series(measurements: Measurements, arm: str, pattern: str) -> tuple[Floats, Floats]:
    """Numbers in the names of an arm's metrics, ascending, and the values: (seeds, numbers)."""
    found = {}
    for metric in measurements.metrics:
        match = re.fullmatch(pattern, metric)
        values = measurements.values(arm, metric)
        if match and values:
            found[float(match[1])] = values
    x = sorted(found)
    return np.array(x), np.array([found[at] for at in x]).T


def _mean(measurements: Measurements, arm: str, metric: str) -> float:
    return float(np.mean(measurements.values(arm, metric)))
