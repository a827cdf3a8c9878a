"""Part A of paper 43 in one picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rarefy.evidence.claims import Measurements
from rarefy.evidence.figures import COLOURS
from rarefy.evidence.verdict import estimate
from rarefy.papers._robust_screening import ESTIMATORS, TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_screening(axis: Axes, measurements: Measurements) -> None:
    """How well each estimator ranks the true columns, by kind of effect and of target."""
    names = [name for name, _, _ in TASKS]
    width = 0.8 / len(ESTIMATORS)
    for place, arm in enumerate(ESTIMATORS):
        shown = [
            (x, estimate(measurements.values(arm, f"auroc_{name}")))
            for x, name in enumerate(names)
            if measurements.values(arm, f"auroc_{name}")
        ]
        axis.bar(
            [x + width * (place - (len(ESTIMATORS) - 1) / 2) for x, _ in shown],
            [value.mean for _, value in shown],
            yerr=[0.0 if value.low is None else value.mean - value.low for _, value in shown],
            width=0.9 * width,
            color=COLOURS[place],
            label=arm.removeprefix("screen/"),
        )
    axis.axhline(0.5, color="0.4", linewidth=1, linestyle=":")
    axis.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axis.set(ylim=(0.4, 1.0), ylabel="AUROC of the true columns")
    axis.legend(fontsize=8, ncols=3, loc="upper center")
