"""The figure of paper 26, and how fields come into it.

Measurements are numbers, and a figure is drawn from them alone. So a row of a field travels as one
number: its pixels in 16 greys, as the digits of a number to the base 16. Twelve such digits are
exact in a float; wider fields are drawn by their middle twelve columns and rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from rarefy.evidence.claims import Measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 24
_COLUMNS = 6
_GREYS = 16
_WIDEST = 12


def pack(dictionary: Tensor, patch: int) -> dict[str, float]:
    """Take units at equal distances in the dictionary as numbers, one for each row of a field."""
    chosen = np.linspace(0, len(dictionary) - 1, min(_SHOWN, len(dictionary))).astype(int)
    fields = dictionary.numpy()[chosen].reshape(-1, patch, patch)
    if (margin := (patch - _WIDEST) // 2) > 0:
        inner = slice(margin, margin + _WIDEST)
        fields = fields[:, inner, inner]
    largest = np.abs(fields).max((1, 2), keepdims=True).clip(1e-12)
    greys = np.rint((fields / largest + 1) / 2 * (_GREYS - 1)).astype(np.int64)
    numbers = greys @ _GREYS ** np.arange(fields.shape[2])
    return {
        f"field_{unit:02}_{row:02}": float(number)
        for unit, rows in enumerate(numbers)
        for row, number in enumerate(rows)
    }


def unpack(measurements: Measurements, arm: str) -> np.ndarray:
    """Fields (units, rows, columns) in greys from 0 to 1, as `pack` gave them for seed 0."""
    names = [name for name in measurements.metrics if name.startswith("field_")]
    units = len({name.split("_")[1] for name in names})
    numbers = np.array([measurements.by_seed(arm, name)[0] for name in sorted(names)])
    side = len(numbers) // units
    digits = numbers.astype(np.int64).reshape(units, side, 1) // _GREYS ** np.arange(side) % _GREYS
    return digits / (_GREYS - 1)


def draw(measurements: Measurements, methods: tuple[str, ...], levels: tuple[str, ...]) -> Figure:
    """Error against sparsity; the kinds of fields; below, fields of each method."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(12.5, 7.4))
    halves: Any = drawn.subfigures(2, 1, height_ratios=(1, 0.85))
    above, below = halves
    curves, debiased, kinds = above.subplots(1, 3)
    _draw_curves(curves, measurements, methods, levels, "error")
    _draw_curves(debiased, measurements, methods, levels, "debiased")
    curves.set(title="At equal sparsity", ylabel="error, share of the patches' variance")
    debiased.set(title="Without shrinkage", ylabel="error, least squares on the same units")
    _draw_kinds(kinds, measurements, methods)
    for axes, method in zip(below.subplots(1, len(methods)), methods, strict=True):
        axes.imshow(_mosaic(unpack(measurements, method)), cmap="gray", vmin=0, vmax=1)
        axes.set_title(_NAMES[method])
        axes.set_axis_off()
    return drawn


_NAMES = {"soft": "soft (l1)", "hard": "hard (l0)", "cel0": "CEL0", "half": "half (l1/2)"}


def _draw_curves(
    axes: Axes,
    measurements: Measurements,
    methods: tuple[str, ...],
    levels: tuple[str, ...],
    metric: str,
) -> None:
    from rarefy.evidence.figures import COLOURS
    from rarefy.evidence.verdict import estimate

    at = [float(level) for level in levels]
    for method, colour in zip(methods, COLOURS, strict=False):
        found = [estimate(measurements.values(method, f"{metric}_{level}")) for level in levels]
        low = [e.mean - (e.mean if e.low is None else max(e.low, e.mean / 10)) for e in found]
        high = [0.0 if e.high is None else e.high - e.mean for e in found]
        axes.errorbar(
            at,
            [e.mean for e in found],
            yerr=(low, high),
            color=colour,
            marker="o",
            capsize=2,
            label=_NAMES[method],
        )
    larger = [arm for arm in measurements.arms if arm.endswith(" atoms") and "," in arm]
    for arm, marker in zip(larger, "^*", strict=False):
        level = estimate(measurements.values(arm, f"{metric}_{levels[0]}")).mean
        axes.plot(at[:1], [level], marker, color=COLOURS[0], markersize=9, label=arm)
    axes.set(xlabel="active units for a patch", yscale="log")
    axes.legend(fontsize=8)


def _draw_kinds(axes: Axes, measurements: Measurements, methods: tuple[str, ...]) -> None:
    from rarefy.evidence.verdict import estimate

    bottom = np.zeros(len(methods))
    names = [name for name in measurements.metrics if name.startswith("share_")]
    for name in names:
        height = [100 * estimate(measurements.values(method, name)).mean for method in methods]
        label = name.removeprefix("share_")
        axes.bar(range(len(methods)), height, bottom=bottom, width=0.6, label=label)
        bottom += height
    axes.set_xticks(range(len(methods)), [_NAMES[method] for method in methods], fontsize=9)
    axes.set(ylabel="% of units", title="Kinds of fields in sparse codes", ylim=(0, 128))
    axes.legend(fontsize=8, ncols=2, loc="upper center")


def _mosaic(fields: np.ndarray) -> np.ndarray:
    """Lay fields out in rows of six with a white line between."""
    units, side = fields.shape[:2]
    rows = -(-units // _COLUMNS)
    sheet = np.ones((rows * (side + 1) - 1, _COLUMNS * (side + 1) - 1))
    for unit, field in enumerate(fields):
        top, left = unit // _COLUMNS * (side + 1), unit % _COLUMNS * (side + 1)
        sheet[top : top + side, left : left + side] = field
    return sheet
