r"""Bandwidths of kernel densities, as standard deviations of the kernel.

``scott`` and ``silverman`` are rules of thumb for a normal density in d dimensions, in units of
the sample's standard deviation:

.. math:: h_{\text{scott}} = n^{-1/(d+4)}, \quad
    h_{\text{silverman}} = \bigl(n (d + 2) / 4\bigr)^{-1/(d+4)}

``isj`` is the improved Sheather-Jones plug-in for one dimension (Botev, Grotowski and Kroese 2010,
section 5), which assumes no normal density: with :math:`\hat f` on a grid of the unit interval and
:math:`a_k` its cosine transform, the squared bandwidth is the fixed point

.. math:: t = \bigl(2 N \sqrt\pi\, \lVert f'' \rVert^2\bigr)^{-2/5}, \quad
    \lVert f^{(s)} \rVert^2 = \tfrac12 \pi^{2s} \sum_k k^{2s} a_k^2 e^{-k^2 \pi^2 t_s}

in which :math:`t_s` follows from :math:`\lVert f^{(s+1)} \rVert^2`, from s = 7 down to 2. KDEpy's
routine of that name, which the paper used, gives 2 to 3 times less: it multiplies by the range of
the data where the grid is longer.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Literal["scott", "silverman"]

_GRID = 1024
_STAGES = 7


def rule_of_thumb(rule: Rule, n: int, dimensions: int) -> float:
    """Bandwidth of standardised data.

    Examples
    --------
    >>> rule_of_thumb("scott", 1000, 1)
    0.251188643150958
    """
    factor = n if rule == "scott" else n * (dimensions + 2) / 4
    return factor ** (-1 / (dimensions + 4))


def isj_bandwidth(x: ArrayLike) -> float:
    """Improved Sheather-Jones bandwidth of a sample.

    Parameters
    ----------
    x : array-like, shape (n,)
        With at least two different values.

    Returns
    -------
    float
        On the scale of ``x``. Silverman's where the equation has no solution, as with very few
        samples.

    Raises
    ------
    ValueError
        If all values are equal.
    """
    from scipy.fft import dct
    from scipy.optimize import brentq

    x = np.asarray(x, np.float64).ravel()
    low, high = float(x.min()), float(x.max())
    if not low < high:
        raise ValueError("x is constant; a bandwidth needs at least two different values")
    margin = (high - low) / 10
    start, length = low - margin, high - low + 2 * margin
    counts = np.histogram(x, _GRID, (start, start + length))[0]
    squares = dct(counts / len(x))[1:] ** 2
    frequencies = np.arange(1, _GRID, dtype=np.float64) ** 2
    # repeated values carry no more about the density's shape
    n = len(np.unique(x))

    def norm(s: int, t: float) -> float:
        # beyond these the exponential is under 1e-22
        few = int(math.sqrt(50 / t) / math.pi) + 1
        powers = frequencies[:few] ** s
        terms = powers * squares[:few] * np.exp(-frequencies[:few] * np.pi**2 * t)
        return 0.5 * np.pi ** (2 * s) * float(terms.sum())

    def excess(t: float) -> float:
        roughness = norm(_STAGES, t)
        for s in range(_STAGES - 1, 1, -1):
            odd = math.prod(range(1, 2 * s, 2)) / math.sqrt(2 * math.pi)
            constant = (1 + 0.5 ** (s + 0.5)) / 3
            roughness = norm(s, (2 * constant * odd / (n * roughness)) ** (2 / (3 + 2 * s)))
        return t - (2 * n * math.sqrt(math.pi) * roughness) ** (-2 / 5)

    # the first change of sign is the solution; larger t oversmooth
    edges = np.geomspace(1e-8, 0.1, 22)
    below = excess(edges[0])
    for left, right in itertools.pairwise(edges):
        above = excess(right)
        if below < 0 <= above:
            return math.sqrt(brentq(excess, left, right)) * length
        below = above
    return float(x.std()) * rule_of_thumb("silverman", len(x), 1)


def class_bandwidths(
    x: NDArray[np.float64], classes: NDArray[np.int64], n_classes: int, rule: str
) -> NDArray[np.float64]:
    """One bandwidth for each class of a column, on the column's scale.

    A class of one value gets a tenth of the column's deviation, as its own would be 0.
    """
    widths = np.empty(n_classes)
    for c in range(n_classes):
        own = x[classes == c]
        if len(own) == 0 or own.min() == own.max():
            widths[c] = 0.1 * x.std()
        elif rule == "isj":
            widths[c] = isj_bandwidth(own)
        else:
            widths[c] = own.std() * rule_of_thumb(rule, len(own), 1)  # type: ignore[arg-type]
    return widths
