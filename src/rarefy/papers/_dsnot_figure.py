"""The figure of paper 33: the repair by start pruner and sparsity, and each of its parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.papers._dsnot_claims import SPARSITIES, STARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure


def draw(measurements: Measurements, parts: Sequence[str]) -> Figure:
    """Perplexity against sparsity with and without DSnoT; and what each part of it does."""
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(10, 4.8))
    curves, bars = drawn.subplots(1, 2, width_ratios=(1.15, 1))
    _draw_curves(curves, measurements)
    _draw_bars(bars, measurements, parts)
    return drawn


def _draw_curves(axes: Axes, measurements: Measurements) -> None:
    at = [int(sparsity) for sparsity in SPARSITIES]
    for i, (name, start) in enumerate(STARTS.items()):
        shown = {"magnitude": "magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT"}[name]
        for arm, style, label in (
            (start, "--", shown),
            (f"{name}+dsnot", "-", f"{shown} + DSnoT"),
        ):
            found = [_exp_estimate(measurements.values(arm, f"log_ppl_{s}")) for s in SPARSITIES]
            mean, low, high = zip(*found, strict=True)
            axes.plot(at, mean, style, color=f"C{i}", marker="o", ms=4, label=label)
            axes.fill_between(at, low, high, color=f"C{i}", alpha=0.15, lw=0)
    dense = _exp_estimate(measurements.values("dense", "log_ppl"))[0]
    axes.axhline(dense, color="C6", lw=1, ls=":")
    axes.text(at[-1], 0.985 * dense, "dense", color="C6", ha="right", va="top", fontsize=9)
    axes.set(yscale="log", xlabel="sparsity, %", ylabel="perplexity on held-out text")
    axes.margins(y=0.1)
    axes.set_xticks(at)
    _plain_log(axes.yaxis)
    axes.legend(fontsize=9)
    axes.set_title("The repair, by start pruner", loc="left", fontsize=11)


def _draw_bars(axes: Axes, measurements: Measurements, arms: Sequence[str]) -> None:
    names = []
    for place, arm in enumerate(arm for arm in reversed(arms) if arm != "wanda"):
        pairs = measurements.paired(arm, "wanda", "log_ppl_80")
        ratio, low, high = _exp_estimate([ours - start for ours, start in pairs])
        colour = "C1" if arm == "wanda+dsnot" else "C6"
        axes.barh(place, ratio - 1, left=1, color=colour, alpha=0.75)
        axes.plot([low, high], [place, place], "k-", lw=1.2)
        axes.annotate(
            f"{ratio:.2f}",
            (max(ratio, high, 1.0), place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
        names.append(arm.removeprefix("wanda+").replace("dsnot", "DSnoT"))
    axes.axvline(1, color="black", lw=0.8)
    axes.set(xscale="log", xlabel="perplexity ÷ that of Wanda alone, at 80 %")
    axes.margins(x=0.12)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.grid(visible=False, axis="y")
    _plain_log(axes.xaxis)
    axes.set_title("Part by part (below 1 repairs)", loc="left", fontsize=11)


def _exp_estimate(logs: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of logarithms, as factors; one value is its own interval."""
    from rarefy.evidence import estimate

    found = estimate(logs)
    low = found.mean if found.low is None else found.low
    high = found.mean if found.high is None else found.high
    return math.exp(found.mean), math.exp(low), math.exp(high)


def _plain_log(axis: Axis) -> None:
    """Write 50, 100, 200 on a logarithmic axis rather than powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())
