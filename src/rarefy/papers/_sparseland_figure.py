"""The figure of paper 20: equal weights, mask or allocation, and speed against density."""

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
_KINDS = (("small and dense", _GREY), ("RigL", _BLUE), ("SET", _GREEN), ("static", _RED))
_VARIANTS = ("", ", shuffled", ", reinitialised", ", random")
_BACKENDS = (
    ("sliced", "rows sliced off", _GREY),
    ("packed", "rarefy's kernel", _BLUE),
    ("csr", "CSR", _RED),
)


def draw(measurements: Measurements) -> Figure:
    """Draw the three panels; a panel without measurements stays empty."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(13.5, 4.2))
    equal, ablation, speed = drawn.subplots(1, 3)
    _equal_weights(equal, measurements)
    _ablation(ablation, measurements)
    _speed(speed, measurements)
    return drawn


def _equal_weights(axes: Axes, measurements: Measurements) -> None:
    for kind, colour in _KINDS:
        found = {}
        for arm in measurements.arms:
            match = re.fullmatch(rf"MLP, (\d+) weights, {kind}", arm)
            if match:
                found[int(match[1])] = 100 * np.array(measurements.values(arm, "accuracy"))
        x = sorted(found)
        if not x:
            continue
        axes.plot(x, [found[n].mean() for n in x], color=colour, marker="o", label=kind)
        low, high = [found[n].min() for n in x], [found[n].max() for n in x]
        axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(x, [f"{n:,}" for n in x])
        axes.minorticks_off()
    axes.set(xlabel="weights", ylabel="accuracy, %", title="MLPs with as many weights")
    axes.legend()


def _ablation(axes: Axes, measurements: Measurements) -> None:
    place = np.arange(len(_VARIANTS))
    for shift, criterion, colour in ((-0.1, "SNIP", _ORANGE), (0.1, "magnitude", _BLUE)):
        for i, variant in enumerate(_VARIANTS):
            values = 100 * np.array(measurements.values(criterion + variant, "accuracy"))
            if len(values):
                label = f"{criterion} mask" if not variant else None
                axes.plot(
                    np.full(len(values), place[i] + shift), values, "o", color=colour, alpha=0.4
                )
                axes.plot(place[i] + shift, values.mean(), "D", color=colour, label=label)
    names = [variant.removeprefix(", ") or "the mask" for variant in _VARIANTS]
    axes.set_xticks(place, names)
    axes.set(ylabel="accuracy, %", title="The mask, or how many in each layer (5 %)")
    axes.legend()


def _speed(axes: Axes, measurements: Measurements) -> None:
    for backend, label, colour in _BACKENDS:
        found = {}
        for metric in measurements.metrics:
            match = re.fullmatch(rf"clock_{backend}_speedup_([\d.]+)", metric)
            if match:
                found[float(match[1])] = float(np.mean(measurements.values("latency", metric)))
        x = sorted(found)
        if x:
            axes.plot(x, [found[d] for d in x], color=colour, marker="o", label=label)
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(x, [f"{100 * d:g}" for d in x])
            axes.minorticks_off()
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="weights kept, %", ylabel="times as fast as dense", title="One large layer")
    axes.legend()
