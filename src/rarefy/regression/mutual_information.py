r"""Estimators of the mutual information of columns and one target, in nats.

============ =========================================================================
``kde``      :math:`\sum_{ab} p_{ab} \log (p_{ab} / p_a p_b)` of a kernel density on a grid
``binning``  the same of counts in Birgé and Rozenholc's number of equal bins
``knn``      Kraskov's and Ross's nearest neighbours, as in scikit-learn
``pearson``  :math:`-\frac12 \log (1 - r^2)`, exact for a bivariate normal
============ =========================================================================

All that concerns the target is prepared once; a *scorer* then takes columns, each a contiguous
row, and gives their scores one by one, so that no score depends on how columns were put into
blocks. Columns of levels (genotypes) get exact tables, or densities of the target given the level.

Source: Yang 2025, Contributions to Robust and Efficient Methods for Analysis of High Dimensional
Data, part 1 (fastHDMI). Departures: the number of grid points; a product kernel; bandwidths given
by a rule are used, where the published bivariate routine computes them and stays at 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rarefy.regression.bandwidths import class_bandwidths, isj_bandwidth, rule_of_thumb

Estimator = Literal["kde", "binning", "knn", "pearson"]
Bandwidth = float | Literal["silverman", "scott", "isj"]
Floats = NDArray[np.float64]
Scorer = Callable[[NDArray[Any]], Floats]

MOST_BINS = 99


class Target(NamedTuple):
    """What columns are scored against.

    ``values`` are numbers, or classes 0, 1, ... where there are ``n_classes``; a class below 0 is
    missing.
    """

    values: Floats
    n_classes: int = 0

    @property
    def classes(self) -> NDArray[np.int64]:
        """Values as integers."""
        return self.values.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How mutual information is estimated; :func:`mutual_info_screen` says what each means."""

    estimator: Estimator = "kde"
    bandwidth: Bandwidth = 1.0
    grid: int = 64
    n_neighbors: int = 3
    seed: int = 0


def linfoot(information: ArrayLike) -> Floats:
    r"""Linfoot's informational correlation, :math:`\sqrt{1 - e^{-2 I}}`, between 0 and 1.

    Of a bivariate normal it is the absolute correlation.

    Parameters
    ----------
    information : array-like
        Mutual information in nats.

    Examples
    --------
    >>> linfoot([0.0, 0.5]).round(3)
    array([0.   , 0.795])
    """
    return np.sqrt(-np.expm1(-2 * np.asarray(information, np.float64)))


def continuous_scorer(target: Target, settings: Settings) -> Scorer:
    """Scorer of columns of numbers: float64, shape (p, n)."""
    make = {"kde": _kde, "binning": _binning, "knn": _knn, "pearson": _pearson}
    return make[settings.estimator](target, settings)


def level_scorer(target: Target, settings: Settings) -> Scorer:
    """Scorer of columns of levels 0, 1, ..., missing below 0: integers, shape (p, n)."""
    if settings.estimator == "pearson":
        scorer = _pearson(target, settings)
        return lambda codes: scorer(np.where(codes < 0, np.nan, codes).astype(np.float64))
    if settings.estimator == "knn" and not target.n_classes:
        return _knn_of_levels(target, settings)
    side = _side(target, settings)

    def score(codes: NDArray[Any]) -> Floats:
        from rarefy.kernels.cpu.information import level_information

        return level_information(codes, int(codes.max(initial=0)) + 1, *side)

    return score


class _Side(NamedTuple):
    """The target's axis of a table: cells, the way to the next cell, and how cells spread."""

    cells: NDArray[np.int64]
    fractions: Floats
    smoother: Floats


def _side(target: Target, settings: Settings) -> _Side:
    if target.n_classes:
        return _Side(target.classes, np.empty(0), np.eye(target.n_classes))
    y = target.values
    if settings.estimator == "binning":
        from rarefy.kernels.cpu.information import best_bins

        low, high = y.min(), y.max()
        bins = best_bins(y, low, high, MOST_BINS, _x_log_x(len(y)))
        cells = np.minimum(((y - low) / (high - low) * bins).astype(np.int64), bins - 1)
        return _Side(cells, np.empty(0), np.eye(bins))
    from rarefy.kernels.cpu.information import LIMIT, REACH, smoothing_weights

    width = _bandwidth(y, settings.bandwidth)
    z = np.clip((y - y.mean()) / y.std(), -LIMIT, LIMIT)
    low, high = z.min() - REACH * width, z.max() + REACH * width
    step = (high - low) / (settings.grid - 1)
    places = (z - low) / step
    cells = np.minimum(places.astype(np.int64), settings.grid - 2)
    weights = np.empty(settings.grid)
    smoothing_weights(weights, width, step)
    points = np.arange(settings.grid)
    return _Side(cells, places - cells, weights[np.abs(points[:, None] - points)])


def _bandwidth(x: Floats, bandwidth: Bandwidth) -> float:
    """Of one of two continuous variables, in standard deviations."""
    if bandwidth == "isj":
        return isj_bandwidth(x) / float(x.std())
    if isinstance(bandwidth, str):
        return rule_of_thumb(bandwidth, len(x), 2)
    return float(bandwidth)


def _kde(target: Target, settings: Settings) -> Scorer:
    side = _side(target, settings)
    bandwidth = settings.bandwidth

    def score(columns: Floats) -> Floats:
        from rarefy.kernels.cpu.information import kde_information

        widths = np.ones((len(columns), 1))
        if not isinstance(bandwidth, str):
            widths *= bandwidth
        else:
            if target.n_classes:
                widths = np.ones((len(columns), target.n_classes))
            for width, x in zip(widths, columns, strict=True):
                # a constant column scores 0 whatever its bandwidth
                if x.min() < x.max():
                    width[:] = (
                        class_bandwidths(x, target.classes, target.n_classes, bandwidth) / x.std()
                        if target.n_classes
                        else _bandwidth(x, bandwidth)
                    )
        return kde_information(columns, *side, widths, settings.grid)

    return score


def _binning(target: Target, settings: Settings) -> Scorer:
    cells, _, smoother = _side(target, settings)
    table = _x_log_x(len(cells))

    def score(columns: Floats) -> Floats:
        from rarefy.kernels.cpu.information import binned_information

        return binned_information(columns, cells, len(smoother), MOST_BINS, table)

    return score


def _pearson(target: Target, settings: Settings) -> Scorer:  # noqa: ARG001
    values = np.where(target.values < 0, np.nan, target.values) if target.n_classes else None

    def score(columns: Floats) -> Floats:
        from rarefy.kernels.cpu.information import squared_correlations

        y = target.values if values is None else values
        shares = squared_correlations(columns, y, target.n_classes)
        # a column that is the target itself: as much as double precision can tell
        return -0.5 * np.log(np.maximum(1 - shares, np.finfo(float).eps))

    return score


def _knn(target: Target, settings: Settings) -> Scorer:
    n, k = len(target.values), settings.n_neighbors
    noise_of_x, noise_of_y = np.random.default_rng(settings.seed).standard_normal((2, n))
    psi = _psi(n)
    if target.n_classes:
        from rarefy.kernels.cpu.neighbours import ross_information

        tail: tuple[Any, ...] = (target.classes, target.n_classes, k, psi)
        information: Callable[..., Floats] = ross_information
    else:
        from rarefy.kernels.cpu.neighbours import ksg_information

        y = _untied(target.values[None] / target.values.std(), noise_of_y)[0]
        order = np.argsort(y)
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        tail = (y, y[order], rank, k, psi)
        information = ksg_information

    def score(columns: Floats) -> Floats:
        spread = columns.std(axis=1)
        varies = columns.min(axis=1) < columns.max(axis=1)
        scores = np.zeros(len(columns))
        x = _untied(columns[varies] / spread[varies, None], noise_of_x)
        order = np.argsort(x, axis=1)
        scores[varies] = information(np.take_along_axis(x, order, 1), order, *tail)
        return scores

    return score


def _knn_of_levels(target: Target, settings: Settings) -> Scorer:
    n = len(target.values)
    noise = np.random.default_rng(settings.seed).standard_normal((2, n))[1]
    y = _untied(target.values[None] / target.values.std(), noise)[0]
    order = np.argsort(y)
    psi = _psi(n)

    def score(codes: NDArray[Any]) -> Floats:
        from rarefy.kernels.cpu.neighbours import ross_level_information

        levels = int(codes.max(initial=0)) + 1
        return ross_level_information(codes, levels, y[order], order, settings.n_neighbors, psi)

    return score


def _untied(columns: Floats, noise: Floats) -> Floats:
    """Columns, those that hold a value twice moved by a ten-billionth, as Kraskov advises."""
    ascending = np.sort(columns, axis=1)
    tied = (ascending[:, 1:] == ascending[:, :-1]).any(axis=1)
    if tied.any():
        columns = columns.copy()
        size = np.maximum(1, np.abs(columns[tied]).mean(axis=1, keepdims=True))
        columns[tied] += 1e-10 * size * noise
    return columns


def _psi(n: int) -> Floats:
    from scipy.special import digamma

    return np.concatenate([[-np.inf], digamma(np.arange(1, n + 1))])


def _x_log_x(n: int) -> Floats:
    x = np.arange(1, n + 1)
    return np.concatenate([[0.0], x * np.log(x)])
