"""What :func:`rarefy.weights.compare` found: points, and their picture.

Source: none. Departures: none.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rarefy.evidence.figures import to_svg
from rarefy.operators import NM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@dataclass(frozen=True)
class Point:
    """One method at one sparsity.

    Attributes
    ----------
    method : str
    target : str
        What was asked for: a sparsity, ``"0"`` of the dense model, or a pattern.
    sparsity : float
        What it came to, over the weights that were to be pruned.
    value : float
        The metric.
    mask_seconds, train_seconds : float
        Wall time of choosing the masks (with repair and updates of weights) and of training.
    training_density : float or None
        Mean density over the training's steps: what sparse kernels could save of its cost.
    macs : float or None
        Multiply-accumulates of the whole model over the dense model's.
    """

    method: str
    target: str
    sparsity: float
    value: float
    mask_seconds: float
    train_seconds: float
    training_density: float | None
    macs: float | None


@dataclass(frozen=True)
class Comparison:
    """Points of a comparison, the dense model's first.

    Index it by reference (``found["dense"]``), or by method and sparsity
    (``found["wanda", 0.5]``, ``found["wanda", NM(2, 4)]``).
    """

    points: tuple[Point, ...]

    def __getitem__(self, key: str | tuple[str, float | NM]) -> Point:
        method, target = (key, 0.0) if isinstance(key, str) else key
        wanted = method, target_name(target)
        for point in self.points:
            if (point.method, point.target) == wanted:
                return point
        raise KeyError(" at ".join(wanted))

    @property
    def methods(self) -> list[str]:
        """Names of the methods, the references first."""
        return list(dict.fromkeys(point.method for point in self.points))

    @property
    def targets(self) -> list[str]:
        """What was asked for, the dense model's ``"0"`` left out."""
        return list(dict.fromkeys(p.target for p in self.points if p.target != "0"))

    def to_json(self) -> list[dict[str, Any]]:
        """Give the points as dictionaries; a metric that is not finite becomes ``None``."""
        return [
            asdict(point) | {"value": point.value if math.isfinite(point.value) else None}
            for point in self.points
        ]

    def to_markdown(self) -> str:
        """Give a table: one line a point."""
        lines = [
            "| method | sparsity | metric | mask, s | training, s | operations |",
            "|---|--:|--:|--:|--:|--:|",
        ]
        for p in self.points:
            macs = "" if p.macs is None else f"{p.macs:.1%}"
            seconds = f"{p.mask_seconds:.3g}", f"{p.train_seconds:.3g}"
            cells = (p.method, p.target, f"{p.value:.4g}", *seconds, macs)
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines)

    def svg(self, *, metric: str = "metric", log: bool = False) -> str:
        """Draw the metric against the density, and against the operations where counted.

        Parameters
        ----------
        metric : str, default "metric"
            Its name, on the axis.
        log : bool, default False
            Logarithmic metric, as perplexity wants.

        Returns
        -------
        str
            An ``<svg>`` element.
        """
        return to_svg(lambda: self._figure(metric, log), name="compare")

    def _figure(self, metric: str, log: bool) -> Figure:
        from matplotlib.figure import Figure

        counted = all(point.macs is not None for point in self.points)
        drawn = Figure(figsize=(11, 4.4) if counted else (7.2, 4.4))
        axes = drawn.subplots(1, 1 + counted, squeeze=False, sharey=True)[0]
        self._draw(axes[0], "density of the pruned weights", [1 - p.sparsity for p in self.points])
        if counted:
            self._draw(axes[1], "operations, of the dense model's", [p.macs for p in self.points])
        axes[0].set_ylabel(metric)
        if log:
            axes[0].set_yscale("log")
        drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
        return drawn

    def _draw(self, axes: Axes, label: str, across: list[Any]) -> None:
        for number, method in enumerate(self.methods):
            here = sorted(
                (x, point.value, ":" in point.target)
                for x, point in zip(across, self.points, strict=True)
                if point.method == method and math.isfinite(point.value)
            )
            marker = _MARKERS[number % len(_MARKERS)]
            if method.startswith("dense") and "gradual" not in method:
                for _, value, _ in here:
                    style = ":" if method == "dense" else "--"
                    axes.axhline(value, color="0.35", linestyle=style, linewidth=1, label=method)
                continue
            # A pattern is another kind of mask: it stands beside the line, not on it.
            line = [(x, value) for x, value, pattern in here if not pattern]
            apart = [(x, value) for x, value, pattern in here if pattern]
            (drawn,) = axes.plot(*_columns(line), marker=marker, markersize=4, label=method)
            axes.plot(
                *_columns(apart),
                color=drawn.get_color(),
                marker=marker,
                markersize=8,
                markerfacecolor="none",
                linestyle="",
            )
        axes.set_xlabel(label)
        axes.set_xlim(1.02, 0)


def target_name(target: float | NM) -> str:
    """Write a target as on the command line: ``0.5`` or ``2:4``."""
    return f"{target.n}:{target.m}" if isinstance(target, NM) else f"{target:g}"


def _columns(rows: list[tuple[Any, float]]) -> tuple[list[Any], list[float]]:
    return [x for x, _ in rows], [y for _, y in rows]
