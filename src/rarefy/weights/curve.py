r"""The quality-against-sparsity curve and where it turns: how much of a model is free.

Two estimators of the essential range:

- tolerance: the largest ``s`` up to which the metric has lost at most ``delta`` of its dense value;
- knee: the farthest point from the chord (Kneedle), and the breakpoint ``t`` of the least squares
  fit :math:`y = a + b s + c\,(s - t)_+` with its interval, against one straight line by BIC.

Source: Jaiswal et al. 2023, "The emergence of essential sparsity", who judge by eye; Kneedle is
Satopaa et al. 2011. Departures: the estimators are ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from rarefy.weights.masks import Masks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Knee:
    """Where a curve turns.

    Attributes
    ----------
    kneedle : float
        Grid point farthest above the chord.
    breakpoint, low, high : float
        Of the two-segment fit, with its bootstrap interval.
    sharpness : float
        Slope of the loss after the break over the slope before it; infinite where nothing was
        lost before.
    bic_gain : float
        BIC of one line minus BIC of two segments: above 0, the break is worth its parameters.
    """

    kneedle: float
    breakpoint: float
    low: float
    high: float
    sharpness: float
    bic_gain: float


@dataclass(frozen=True)
class SparsityCurve:
    """A metric over a grid of sparsities.

    Parameters
    ----------
    sparsities : sequence of float
        Rising, beginning with 0.
    values : sequence of sequences of float
        One row a seed, one column a sparsity.
    greater_is_better : bool
        True for accuracy, False for perplexity.
    log : bool, default False
        Seek the knee in the logarithm of the metric, as perplexity wants.

    Raises
    ------
    ValueError
        If the shapes do not fit, the grid does not rise from 0, or a value is not finite.

    Examples
    --------
    >>> curve = SparsityCurve((0, 0.5, 1), [[1.0, 1.0, 0.0]], greater_is_better=True)
    >>> curve.essential(delta=0.1)
    0.55
    """

    sparsities: Sequence[float]
    values: Sequence[Sequence[float]]
    greater_is_better: bool
    log: bool = False

    def __post_init__(self) -> None:
        grid, values = np.asarray(self.sparsities, float), np.asarray(self.values, float)
        if values.ndim != 2 or values.shape[1] != len(grid) or not len(values):
            raise ValueError(
                f"values must have a row for each seed and {len(grid)} columns, one for each "
                f"sparsity, got shape {values.shape}"
            )
        if len(grid) < 2 or grid[0] != 0 or (np.diff(grid) <= 0).any():
            raise ValueError(f"sparsities must rise from 0, got {list(self.sparsities)}")
        if not np.isfinite(values).all():
            raise ValueError("values must be finite: leave diverged runs out of the grid")

    def essential(self, *, delta: float, smooth: bool = False) -> float:
        """Find the largest sparsity up to which at most ``delta`` of the dense value is lost.

        Parameters
        ----------
        delta : float
            Relative to the dense value: 0.01 of accuracy, 0.05 of perplexity.
        smooth : bool, default False
            Make the mean curve monotone first (isotonic regression), for noisy metrics.

        Returns
        -------
        float
            Interpolated between grid points; the end of the grid if never lost.
        """
        grid = np.asarray(self.sparsities, float)
        loss = -self._quality(log=False).mean(0)
        if smooth:
            from scipy.optimize import isotonic_regression

            loss = isotonic_regression(loss).x
        allowed = loss[0] + delta * abs(loss[0])
        over = np.flatnonzero(loss > allowed)
        if not len(over):
            return float(grid[-1])
        i = over[0]
        share = (allowed - loss[i - 1]) / (loss[i] - loss[i - 1])
        return float(grid[i - 1] + share * (grid[i] - grid[i - 1]))

    def knee(self, *, confidence: float = 0.95, resamples: int = 500, seed: int = 0) -> Knee:
        """Find where the curve turns, and how sharply.

        Parameters
        ----------
        confidence : float, default 0.95
            Of the percentile interval; seeds are resampled where there are several, else the
            residuals of the fit.
        resamples : int, default 500
        seed : int, default 0
            Of the resampling.

        Returns
        -------
        Knee

        Raises
        ------
        ValueError
            If the grid has fewer than five points: two lines would fit anything.
        """
        grid, quality = np.asarray(self.sparsities, float), self._quality(log=self.log)
        if len(grid) < 5:
            raise ValueError(f"a knee needs at least five sparsities, got {len(grid)}")
        loss = -quality
        segments = _TwoSegments(grid)
        fit = segments.fit(loss.mean(0))
        rng = np.random.default_rng(seed)
        breaks = [
            segments.fit(_resampled(loss, fit.fitted, rng).mean(0)).at for _ in range(resamples)
        ]
        tail = 100 * (1 - confidence) / 2
        low, high = np.percentile(breaks, [tail, 100 - tail])
        return Knee(
            kneedle=kneedle(grid, quality.mean(0)),
            breakpoint=fit.at,
            low=float(low),
            high=float(high),
            sharpness=(fit.before + fit.turn) / fit.before if fit.before > 0 else np.inf,
            bic_gain=_bic(loss, _one_line(grid, loss), 2) - _bic(loss, fit.fitted, 4),
        )

    def records(self) -> list[dict[str, float]]:
        """List every point: what ``pandas.DataFrame`` or ``csv.DictWriter`` wants.

        Returns
        -------
        list of dict
            ``{"row": ..., "sparsity": ..., "value": ...}``, row by row.

        Examples
        --------
        >>> SparsityCurve((0, 0.5), [[1.0, 0.8]], greater_is_better=True).records()
        [{'row': 0, 'sparsity': 0, 'value': 1.0}, {'row': 0, 'sparsity': 0.5, 'value': 0.8}]
        """
        return [
            {"row": row, "sparsity": sparsity, "value": value}
            for row, values in enumerate(self.values)
            for sparsity, value in zip(self.sparsities, values, strict=True)
        ]

    def plot(self, axes: Axes | None = None, *, label: str | None = None) -> Axes:
        """Draw the mean of the rows, a band from the least to the largest, and nothing else.

        Parameters
        ----------
        axes : matplotlib Axes, optional
            Where to draw; new ones by default, which no window shows
            (``axes.figure.savefig("curve.svg")``).
        label : str, optional
            Of the line, for a legend.

        Returns
        -------
        matplotlib Axes
        """
        if axes is None:
            from matplotlib.figure import Figure

            axes = Figure(layout="constrained").subplots()
            axes.set(xlabel="sparsity", yscale="log" if self.log else "linear")
        values = np.asarray(self.values, float)
        (line,) = axes.plot(self.sparsities, values.mean(0), marker=".", label=label)
        if len(values) > 1:
            band = values.min(0), values.max(0)
            axes.fill_between(self.sparsities, *band, color=line.get_color(), alpha=0.15, lw=0)
        return axes

    def _quality(self, *, log: bool) -> Floats:
        values = np.asarray(self.values, float)
        if log:
            values = np.log(values)
        return values if self.greater_is_better else -values


def sparsity_curve(
    model: nn.Module,
    evaluate: Callable[[nn.Module], float],
    mask_at: Callable[[nn.Module, float, int], Masks],
    *,
    greater_is_better: bool,
    grid: Sequence[float] = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    seeds: Sequence[int] = (0,),
    finetune: Callable[[nn.Module, Masks, int], object] | None = None,
    log: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> SparsityCurve:
    """Prune a copy of the model at each sparsity, fine-tune it where asked, and measure.

    Parameters
    ----------
    model : nn.Module
        Not changed.
    evaluate : callable ``model -> float``
    mask_at : callable ``(model, sparsity, seed) -> Masks``
        For one-shot magnitude pruning
        ``lambda m, s, seed: mask_from_scores(magnitude(block_weights(m)), sparsity=s)``.
    greater_is_better : bool
        Direction of the metric.
    grid : sequence of float, default the paper's
    seeds : sequence of int, default (0,)
        Handed to ``mask_at`` and ``finetune``.
    finetune : callable ``(model, masks, seed) -> None``, optional
        "Free" depends on it: show both curves.
    log : bool, default False
        As in :class:`SparsityCurve`.
    progress : callable ``(what, fraction)``, optional

    Returns
    -------
    SparsityCurve
    """
    values: list[list[float]] = []
    for seed in seeds:
        row: list[float] = []
        for s in grid:
            twin = copy.deepcopy(model)
            masks = mask_at(twin, s, seed)
            masks.apply_(twin)
            if finetune is not None:
                finetune(twin, masks, seed)
            row.append(evaluate(twin))
            if progress is not None:
                done = len(values) * len(grid) + len(row)
                progress(f"sparsity {s:.2f}, seed {seed}", done / (len(grid) * len(seeds)))
        values.append(row)
    return SparsityCurve(tuple(grid), values, greater_is_better, log)


def kneedle(x: Floats, y: Floats) -> float:
    """Find the knee of a falling concave curve: the ``x`` farthest above the chord.

    Parameters
    ----------
    x, y : float arrays of one length
        ``x`` rising. Both are scaled to [0, 1] first.

    Returns
    -------
    float
    """
    height = y.max() - y.min()
    if height == 0:
        return float(x[-1])
    across = (x - x[0]) / (x[-1] - x[0])
    up = (y - y.min()) / height
    return float(x[np.argmax(up - (1 - across))])


@dataclass(frozen=True)
class _Segments:
    at: float
    before: float
    turn: float
    fitted: Floats


class _TwoSegments:
    """Least squares for ``a + b x + c (x - t)_+`` on the mean of the rows, over a fine grid of t.

    All rows share x, so fitting their mean gives the coefficients of fitting them all, and one
    pseudo-inverse for each t serves every resample.
    """

    def __init__(self, x: Floats) -> None:
        self._candidates = np.linspace(x[1], x[-2], 201)
        hinge = np.maximum(x - self._candidates[:, None], 0)
        self._designs = np.stack(np.broadcast_arrays(1.0, x, hinge), axis=-1)
        self._inverses = np.linalg.pinv(self._designs)

    def fit(self, mean: Floats) -> _Segments:
        """Fit the mean of the rows, one value for each x."""
        coefficients = self._inverses @ mean
        fitted = np.einsum("tij,tj->ti", self._designs, coefficients)
        best = int(((fitted - mean) ** 2).sum(1).argmin())
        _, before, turn = coefficients[best]
        return _Segments(float(self._candidates[best]), float(before), float(turn), fitted[best])


def _one_line(x: Floats, y: Floats) -> Floats:
    slope, level = np.polyfit(x, y.mean(0), 1)
    return level + slope * x


def _bic(y: Floats, fitted: Floats, parameters: int) -> float:
    # A perfect fit has no noise to estimate; the floor keeps the logarithm finite.
    spread = max(float(((y - fitted) ** 2).mean()), 1e-24)
    return y.size * np.log(spread) + parameters * np.log(y.size)


def _resampled(y: Floats, fitted: Floats, rng: np.random.Generator) -> Floats:
    if len(y) > 1:
        return y[rng.integers(len(y), size=len(y))]
    return fitted + rng.permutation((y - fitted)[0])[rng.integers(y.shape[1], size=y.shape)]
