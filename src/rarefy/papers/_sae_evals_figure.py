"""The figure of paper 27: control against features changed, occlusion, over-splitting."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from rarefy.evidence.claims import Measurements
from rarefy.evidence.figures import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREEN, _PINK, _ORANGE, _SKY, _GREY = COLOURS
_LEARNED = (
    ("top-k", _GREEN, "-"),
    ("gated", _PINK, "-"),
    ("vanilla", _BLUE, "-"),
    ("other text", _ORANGE, "--"),
    ("frozen decoder", _RED, "--"),
)


def draw(measurements: Measurements) -> Figure:
    """Draw the three panels; a panel without measurements stays empty."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13.5, 4.2))
    control, occlusion, splitting = drawn.subplots(1, 3, width_ratios=(1.2, 1, 1))
    _control(control, measurements)
    _occlusion(occlusion, measurements)
    _splitting(splitting, measurements)
    return drawn


def _control(axes: Axes, measurements: Measurements) -> None:
    axes.axhline(1, color=_GREY, linestyle=":", label="one supervised feature")
    for arm, colour, style in _LEARNED:
        x, y = _series(measurements, arm, r"control_(\d+)")
        if not len(x):
            continue
        axes.plot(x, y.mean(0), color=colour, linestyle=style, marker=".", label=arm)
        axes.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.15, linewidth=0)
    axes.axhline(0, color=_GREY, linewidth=0.8)
    axes.set(
        xlabel="features changed by an edit",
        ylabel="control, 0 no edit to 1 supervised",
        title="Editing an attribute of linear IOI",
    )
    axes.legend(fontsize=7.5)


def _occlusion(axes: Axes, measurements: Measurements) -> None:
    bars = (
        ("large_near", "larger attribute", _BLUE),
        ("small_near", "smaller attribute", _ORANGE),
    )
    places = [
        (f"{arm.split(', ')[1]}\nλ = {l1}", arm, l1)
        for arm in ("occlusion, 2 to 1", "occlusion, 1 to 1")
        for l1 in ("0.2", "0.3")
    ]
    for offset, (metric, label, colour) in zip((-0.2, 0.2), bars, strict=True):
        for place, (_, arm, l1) in enumerate(places):
            values = measurements.values(arm, f"{metric}_{l1}")
            if values:
                axes.bar(
                    place + offset,
                    np.mean(values),
                    0.4,
                    color=colour,
                    label=label if not place else None,
                )
    axes.set_xticks(range(len(places)), [text for text, _, _ in places])
    axes.set_ylim(0, 1)
    axes.set(ylabel="values with a feature of F1 ≥ 0.9", title="Occlusion: a = u + v")
    axes.legend(fontsize=7.5)


def _splitting(axes: Axes, measurements: Measurements) -> None:
    for who, label, colour in (
        ("ideal", "the 2 ideal features", _BLUE),
        ("random", "1,000 random features", _RED),
    ):
        x, y = _series(measurements, "two Gaussians", rf"{who}_loss_(\d+)")
        if len(x):
            axes.plot(x, y.mean(0), color=colour, marker=".", label=label)
    axes.set(xlabel="λ", ylabel="loss", title="Over-splitting: one bit in 100 dimensions")
    axes.legend(fontsize=7.5)


def _series(measurements: Measurements, arm: str, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in the names of an arm's metrics, ascending, and the values: (seeds, numbers)."""
    found = {}
    for metric in measurements.metrics:
        match = re.fullmatch(pattern, metric)
        values = measurements.values(arm, metric)
        if match and values:
            found[float(match[1])] = values
    x = sorted(found)
    return np.array(x), np.array([found[at] for at in x]).T
