r"""Mutual information of many columns with one target, each from one small table.

Every estimator here fills a table :math:`t` of row cells by target cells, and

.. math:: I = \log N + \frac{1}{N} \Bigl(\sum_{ab} t_{ab} \log t_{ab}
    - \sum_a t_{a\cdot} \log t_{a\cdot} - \sum_b t_{\cdot b} \log t_{\cdot b}\Bigr)

with N the table's mass. They differ in how the table is filled: a kernel density puts a sample on
the two grid points beside it and smooths both axes, O(n + G^3) a column instead of the
O(n G + n G^2) of kernel matrices; bins and levels count. The inner loops run over whole rows of
the table and the logarithm is a series without branches, so that LLVM makes vectors of both.

Columns are rows of the arrays here, so that each is contiguous. Target cells below 0 and levels
below 0 are missing and leave their pair out.

Source: Yang 2025 (fastHDMI, arXiv 2410.10082). Departures: a product kernel where theirs is
radial; standardised values beyond :data:`LIMIT` are moved there, so that one wild value cannot
stretch the grid past the bandwidth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LIMIT = 8.0
"""Standard deviations beyond which a value counts as this far."""

REACH = 5.0**0.5
"""An Epanechnikov kernel of standard deviation 1 is 0 from here on."""

_ROOT_HALF = 0.5**0.5
_LOG_2 = 0.6931471805599453
_ONE = 0x3FF0000000000000
_MANTISSA = 0x000FFFFFFFFFFFFF


@njit(cache=True, nogil=True)
def smoothing_weights(weights: Floats, bandwidth: float, step: float) -> None:
    """Fill with an Epanechnikov kernel at 0, 1, 2, ... steps, of mass 1 over both sides."""
    mass = 0.0
    for m in range(len(weights)):
        u = m * step / (REACH * bandwidth)
        weights[m] = max(0.0, 1.0 - u * u)
        mass += weights[m] if m == 0 else 2.0 * weights[m]
    weights /= mass


# The order of a sum may change in these three, which is what makes vectors of them.
_REORDER = {"reassoc", "contract"}


@njit(cache=True, nogil=True, fastmath=_REORDER)
def _sum(x: Floats) -> float:
    total = 0.0
    for value in x:
        total += value
    return total


@njit(cache=True, nogil=True, fastmath=_REORDER)
def _deviation(x: Floats, mean: float) -> float:
    total = 0.0
    for value in x:
        total += (value - mean) * (value - mean)
    return np.sqrt(total / len(x))


@njit(cache=True, nogil=True, fastmath=_REORDER)
def _sum_x_log_x(x: Floats, scratch: Floats) -> float:
    """Sum of x log x, 0 at 0: the exponent by its bits, the mantissa by atanh's series."""
    bits = x.view(np.int64)
    mantissas = scratch.view(np.int64)
    for i in range(len(x)):
        mantissas[i] = (bits[i] & _MANTISSA) | _ONE
    total = 0.0
    for i in range(len(x)):
        # half the mantissa, in [1/2, 1); twice below the root of 1/2, where the series is short
        half = 0.5 * scratch[i]
        low = half < _ROOT_HALF
        value = 2.0 * half if low else half
        exponent = np.float64((bits[i] >> 52) - 1022) - (1.0 if low else 0.0)
        s = (value - 1.0) / (value + 1.0)
        q = s * s
        series = 1 / 19
        series = series * q + 1 / 17
        series = series * q + 1 / 15
        series = series * q + 1 / 13
        series = series * q + 1 / 11
        series = series * q + 1 / 9
        series = series * q + 1 / 7
        series = series * q + 1 / 5
        series = series * q + 1 / 3
        series = series * q + 1.0
        total += x[i] * (exponent * _LOG_2 + 2.0 * s * series)
    return total


@njit(cache=True, nogil=True)
def _table_information(table: Floats, scratch: Floats) -> float:
    """Mutual information of a table of non-negative masses."""
    rows, columns = table.shape
    row_sums = np.empty(rows)
    column_sums = np.zeros(columns)
    for a in range(rows):
        row = table[a]
        row_sums[a] = _sum(row)
        for b in range(columns):
            column_sums[b] += row[b]
    mass = _sum(row_sums)
    if mass <= 0.0:
        return 0.0
    inner = (
        _sum_x_log_x(table.reshape(rows * columns), scratch)
        - _sum_x_log_x(row_sums, scratch)
        - _sum_x_log_x(column_sums, scratch)
    )
    return max(0.0, np.log(mass) + inner / mass)


@njit(cache=True, nogil=True)
def _smooth_target(table: Floats, smoother: Floats, out: Floats) -> None:
    """Product of the table, most of it 0, and the target's smoothing matrix."""
    rows, columns = table.shape
    out[:] = 0.0
    for a in range(rows):
        for b in range(columns):
            count = table[a, b]
            if count != 0.0:
                for c in range(columns):
                    out[a, c] += count * smoother[b, c]


@njit(cache=True, nogil=True)
def _smooth_column(table: Floats, weights: Floats, reach: int, out: Floats) -> None:
    """Spread every row over its neighbours; column c with the weights ``weights[:, c]``."""
    rows, columns = table.shape
    out[:] = 0.0
    for b in range(rows):
        empty = True
        for c in range(columns):
            if table[b, c] != 0.0:
                empty = False
                break
        if not empty:
            for a in range(max(0, b - reach), min(rows, b + reach + 1)):
                distance = abs(a - b)
                for c in range(columns):
                    out[a, c] += weights[distance, c] * table[b, c]


@njit(cache=True, nogil=True)
def kde_information(
    columns: Floats,
    cells: Integers,
    fractions: Floats,
    smoother: Floats,
    bandwidths: Floats,
    grid: int,
) -> Floats:
    """Mutual information of kernel densities.

    Parameters
    ----------
    columns : float64 array, shape (p, n)
    cells : int64 array, shape (n,)
        A class, or the grid point of the target below the sample.
    fractions : float64 array, shape (n,), or empty for classes
        How far the sample is on its way to the next grid point.
    smoother : float64 array, shape (t, t)
        Spreads a target cell over its neighbours; the identity for classes.
    bandwidths : float64 array, shape (p, 1) or (p, t)
        Standard deviation of the columns' kernel in units of theirs, one for all or for each class.
    grid : int
        Points on the columns' axis.

    Returns
    -------
    float64 array, shape (p,)
        In nats; 0 where a column is constant.
    """
    p, n = columns.shape
    t = len(smoother)
    continuous = len(fractions) > 0
    scores = np.zeros(p)
    table = np.empty((grid, t))
    smooth = np.empty((grid, t))
    scratch = np.empty(grid * t + grid + t)
    weights = np.empty((grid, t))
    for j in range(p):
        x = columns[j]
        low, high = x.min(), x.max()
        if not low < high:
            continue
        mean = _sum(x) / n
        deviation = _deviation(x, mean)
        margin = REACH * bandwidths[j].max()
        start = max((low - mean) / deviation, -LIMIT) - margin
        step = (min((high - mean) / deviation, LIMIT) + margin - start) / (grid - 1)
        first, last = (-LIMIT - start) / step, (LIMIT - start) / step
        scale = 1.0 / (deviation * step)
        origin = mean + start * deviation
        table[:] = 0.0
        for i in range(n):
            place = min(max((x[i] - origin) * scale, first), last)
            a = min(int(place), grid - 2)
            f = place - a
            b = cells[i]
            if continuous:
                g = fractions[i]
                table[a, b] += (1.0 - f) * (1.0 - g)
                table[a, b + 1] += (1.0 - f) * g
                table[a + 1, b] += f * (1.0 - g)
                table[a + 1, b + 1] += f * g
            else:
                table[a, b] += 1.0 - f
                table[a + 1, b] += f
        for c in range(bandwidths.shape[1]):
            smoothing_weights(weights[:, c], bandwidths[j, c], step)
        for c in range(bandwidths.shape[1], t):
            weights[:, c] = weights[:, 0]
        if continuous:
            _smooth_target(table, smoother, smooth)
            table, smooth = smooth, table
        _smooth_column(table, weights, int(margin / step), smooth)
        scores[j] = _table_information(smooth, scratch)
    return scores


@njit(cache=True, nogil=True)
def level_information(
    codes: Any, levels: int, cells: Integers, fractions: Floats, smoother: Floats
) -> Floats:
    """Mutual information of columns of levels 0, 1, ...; a smoothed target as in a kernel density.

    Parameters
    ----------
    codes : int array, shape (p, n)
        Below ``levels``.
    levels : int
    cells, fractions, smoother
        As in :func:`kde_information`; empty fractions count cells without smoothing.

    Returns
    -------
    float64 array, shape (p,)
    """
    p, n = codes.shape
    t = len(smoother)
    continuous = len(fractions) > 0
    scores = np.zeros(p)
    table = np.empty((levels, t))
    smooth = np.empty((levels, t))
    scratch = np.empty(levels * t + levels + t)
    for j in range(p):
        table[:] = 0.0
        for i in range(n):
            a, b = codes[j, i], cells[i]
            if a >= 0 and b >= 0:
                if continuous:
                    table[a, b] += 1.0 - fractions[i]
                    table[a, b + 1] += fractions[i]
                else:
                    table[a, b] += 1.0
        if continuous:
            _smooth_target(table, smoother, smooth)
            scores[j] = _table_information(smooth, scratch)
        else:
            scores[j] = _table_information(table, scratch)
    return scores


@njit(cache=True, nogil=True)
def _bin(x: Floats, low: float, high: float, bins: int, i: int) -> int:
    return min(int((x[i] - low) / (high - low) * bins), bins - 1)


@njit(cache=True, nogil=True)
def best_bins(x: Floats, low: float, high: float, most: int, x_log_x: Floats) -> int:
    """Number of equal bins, from 2, of Birgé and Rozenholc's penalised likelihood.

    ``x_log_x`` holds the value for 0 to n.
    """
    n = len(x)
    counts = np.empty(most, np.int64)
    best, chosen = -np.inf, 2
    for bins in range(2, most + 1):
        counts[:bins] = 0
        for i in range(n):
            counts[_bin(x, low, high, bins, i)] += 1
        value = n * np.log(bins) - (bins - 1 + np.log(bins) ** 2.5)
        for b in range(bins):
            value += x_log_x[counts[b]]
        if value > best:
            best, chosen = value, bins
    return chosen


@njit(cache=True, nogil=True)
def binned_information(
    columns: Floats, cells: Integers, target_cells: int, most: int, x_log_x: Floats
) -> Floats:
    """Plug-in mutual information of columns in their best bins and target cells.

    Parameters
    ----------
    columns : float64 array, shape (p, n)
    cells : int64 array, shape (n,)
        Classes or bins of the target, below ``target_cells``.
    target_cells : int
    most : int
        The most bins a column can have.
    x_log_x : float64 array, shape (n + 1,)
        Its value for 0, 1, ..., n.

    Returns
    -------
    float64 array, shape (p,)
    """
    p, n = columns.shape
    scores = np.zeros(p)
    scratch = np.empty(most * target_cells + most + target_cells)
    for j in range(p):
        x = columns[j]
        low, high = x.min(), x.max()
        if not low < high:
            continue
        bins = best_bins(x, low, high, most, x_log_x)
        table = np.zeros((bins, target_cells))
        for i in range(n):
            table[_bin(x, low, high, bins, i), cells[i]] += 1.0
        scores[j] = _table_information(table, scratch)
    return scores


@njit(cache=True, nogil=True)
def squared_correlations(columns: Floats, y: Floats, classes: int) -> Floats:
    """Squared correlation with a target, or with the best coding of its classes.

    Parameters
    ----------
    columns : float64 array, shape (p, n)
        NaN is missing, here and in ``y``: its pair is left out.
    y : float64 array, shape (n,)
        Values, or classes 0, 1, ....
    classes : int
        How many classes; 0 where ``y`` are values.

    Returns
    -------
    float64 array, shape (p,)
        0 where either side of the pairs is constant.
    """
    p, n = columns.shape
    shares = np.zeros(p)
    sums = np.empty(max(classes, 1))
    counts = np.empty(max(classes, 1))
    for j in range(p):
        x = columns[j]
        count, x_mean, y_mean = 0, 0.0, 0.0
        low, high = np.inf, -np.inf
        for i in range(n):
            if x[i] == x[i] and y[i] == y[i]:
                count += 1
                x_mean += x[i]
                y_mean += y[i]
                low, high = min(low, x[i]), max(high, x[i])
        if not low < high:
            continue
        x_mean /= count
        y_mean /= count
        sums[:] = 0.0
        counts[:] = 0.0
        total, target, product = 0.0, 0.0, 0.0
        for i in range(n):
            if x[i] == x[i] and y[i] == y[i]:
                u, v = x[i] - x_mean, y[i] - y_mean
                total += u * u
                target += v * v
                product += u * v
                if classes:
                    sums[int(y[i])] += u
                    counts[int(y[i])] += 1.0
        if classes:
            for c in range(classes):
                if counts[c] > 0.0:
                    shares[j] += sums[c] * sums[c] / counts[c]
            shares[j] /= total
        elif target > 0.0:
            shares[j] = product * product / (total * target)
    return shares


def kde_information_reference(
    columns: Floats,
    cells: Integers,
    fractions: Floats,
    smoother: Floats,
    bandwidths: Floats,
    grid: int,
) -> Floats:
    """What :func:`kde_information` computes, as the products of matrices that it stands for."""
    rows = np.arange(len(cells))
    target = np.zeros((len(cells), len(smoother)))
    target[rows, cells] = 1 - fractions if len(fractions) else 1.0
    if len(fractions):
        target[rows, cells + 1] += fractions
    scores = np.zeros(len(columns))
    for j, x in enumerate(columns):
        if x.min() == x.max():
            continue
        z = np.clip((x - x.mean()) / x.std(), -LIMIT, LIMIT)
        margin = REACH * bandwidths[j].max()
        points = np.linspace(z.min() - margin, z.max() + margin, grid)
        hats = np.maximum(0, 1 - np.abs(z[:, None] - points) / (points[1] - points[0]))
        density = np.zeros((grid, len(smoother)))
        for b in range(len(smoother)):
            width = REACH * bandwidths[j, b if bandwidths.shape[1] > 1 else 0]
            kernel = np.maximum(0, 1 - ((points[:, None] - points) / width) ** 2)
            kernel /= kernel[grid // 2].sum()
            density[:, b] = kernel @ (hats.T @ (target @ smoother)[:, b])
        p = density / density.sum()
        outer = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
        positive = p > 0
        scores[j] = max(0.0, float((p[positive] * np.log(p[positive] / outer[positive])).sum()))
    return scores
