r"""Mutual information by nearest neighbours, many columns with one target.

Two continuous variables (Kraskov, Stögbauer and Grassberger 2004, their first estimator), with
:math:`c_x(i)` the samples nearer to i in x than its k-th neighbour is in the plane, i included:

.. math:: I = \psi(n) + \psi(k) - \langle \psi(c_x) + \psi(c_y) \rangle

One continuous, one discrete (Ross 2014), with the k-th neighbour among the n_i of i's own class and
:math:`m_i` the samples of all classes nearer than it:

.. math:: I = \psi(n) + \langle \psi(k) - \psi(n_i) - \psi(m_i) \rangle

A search tree is not needed: in the order of x, the neighbours of i are looked at outwards until x
alone is farther than the k-th found, about :math:`\sqrt{nk}` of them, and what was looked at holds
:math:`c_x`. Samples farther by exactly that distance are not counted, as in scikit-learn.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@njit(cache=True, nogil=True)
def _nearer_above(x: Floats, i: int, last: int, distance: float) -> int:
    """Last index, at most ``last``, of the ascending x that is nearer than that above ``x[i]``."""
    low = i
    while low < last:
        middle = (low + last + 1) // 2
        if x[middle] - x[i] < distance:
            low = middle
        else:
            last = middle - 1
    return low


@njit(cache=True, nogil=True)
def _nearer_below(x: Floats, i: int, first: int, distance: float) -> int:
    """First index, at least ``first``, that is nearer than that below ``x[i]``."""
    high = i
    while first < high:
        middle = (first + high) // 2
        if x[i] - x[middle] < distance:
            high = middle
        else:
            first = middle + 1
    return high


@njit(cache=True, nogil=True)
def _nearer(x: Floats, i: int, distance: float) -> int:
    """How many of the ascending x are nearer to ``x[i]`` than that, itself included.

    Steps double until they are past the end, so that the cost follows the count and not n.
    """
    n = len(x)
    stride = 1
    while i + stride < n and x[i + stride] - x[i] < distance:
        stride *= 2
    above = _nearer_above(x, i, min(i + stride, n - 1), distance)
    stride = 1
    while i - stride >= 0 and x[i] - x[i - stride] < distance:
        stride *= 2
    return above - _nearer_below(x, i, max(i - stride, 0), distance) + 1


@njit(cache=True, nogil=True)
def _insert(nearest: Floats, distance: float) -> None:
    """Put a distance among the ascending nearest, in place of the last."""
    place = len(nearest) - 1
    while place > 0 and nearest[place - 1] > distance:
        nearest[place] = nearest[place - 1]
        place -= 1
    nearest[place] = distance


@njit(cache=True, nogil=True)
def ksg_information(
    ascending: Floats, order: Integers, y: Floats, y_ascending: Floats, y_rank: Integers, k: int,
    psi: Floats,
) -> Floats:  # fmt: skip
    """Kraskov's estimate of continuous columns and a continuous target.

    Parameters
    ----------
    ascending : float64 array, shape (p, n)
        Every column in ascending order, on the target's scale.
    order : int64 array, shape (p, n)
        Where each came from.
    y, y_ascending : float64 array, shape (n,)
    y_rank : int64 array, shape (n,)
        Places of y in ``y_ascending``.
    k : int
        Neighbours, below n.
    psi : float64 array, shape (n + 1,)
        The digamma function of 0, 1, ..., n.

    Returns
    -------
    float64 array, shape (p,)
    """
    p, n = ascending.shape
    scores = np.zeros(p)
    nearest = np.empty(k)
    along = np.empty(n)
    for j in range(p):
        x = ascending[j]
        for i in range(n):
            along[i] = y[order[j, i]]
        total = 0.0
        for i in range(n):
            nearest[:] = np.inf
            left, right = i - 1, i + 1
            leftwards, rightwards = True, True
            # a side is done once x alone is farther than the k-th neighbour found so far
            while leftwards or rightwards:
                if rightwards:
                    rightwards = right < n and x[right] - x[i] < nearest[k - 1]
                    if rightwards:
                        distance = max(x[right] - x[i], abs(along[right] - along[i]))
                        right += 1
                        if distance < nearest[k - 1]:
                            _insert(nearest, distance)
                if leftwards:
                    leftwards = left >= 0 and x[i] - x[left] < nearest[k - 1]
                    if leftwards:
                        distance = max(x[i] - x[left], abs(along[left] - along[i]))
                        left -= 1
                        if distance < nearest[k - 1]:
                            _insert(nearest, distance)
            radius = nearest[k - 1]
            last = _nearer_above(x, i, right - 1, radius)
            first = _nearer_below(x, i, left + 1, radius)
            total += psi[last - first + 1]
            total += psi[_nearer(y_ascending, y_rank[order[j, i]], radius)]
        scores[j] = max(0.0, psi[n] + psi[k] - total / n)
    return scores


@njit(cache=True, nogil=True)
def _ross(x: Floats, labels: Integers, classes: int, k: int, psi: Floats) -> float:
    """Ross's estimate of one ascending column and its samples' labels; below 0 is missing."""
    counts = np.zeros(classes, np.int64)
    for label in labels:
        if label >= 0:
            counts[label] += 1
    # a class of one has no neighbour: its sample is left out
    starts = np.zeros(classes + 1, np.int64)
    for c in range(classes):
        starts[c + 1] = starts[c] + (counts[c] if counts[c] > 1 else 0)
    n = starts[classes]
    if n == 0:
        return 0.0
    kept = np.empty(n)
    members = np.empty(n, np.int64)
    filled = starts[:-1].copy()
    place = 0
    for i in range(len(x)):
        label = labels[i]
        if label >= 0 and counts[label] > 1:
            kept[place] = x[i]
            members[filled[label]] = place
            filled[label] += 1
            place += 1
    total = 0.0
    for c in range(classes):
        size = starts[c + 1] - starts[c]
        own = members[starts[c] : starts[c + 1]]
        neighbours = min(k, size - 1)
        for s in range(size):
            here = kept[own[s]]
            radius = np.inf
            # any k + 1 in a row that hold this sample bound the distance of its k-th neighbour
            for first in range(max(0, s - neighbours), min(s, size - 1 - neighbours) + 1):
                after = kept[own[first + neighbours]] - here
                radius = min(radius, max(here - kept[own[first]], after))
            total += psi[neighbours] - psi[size] - psi[_nearer(kept, own[s], radius)]
    return max(0.0, psi[n] + total / n)


@njit(cache=True, nogil=True)
def ross_information(
    ascending: Floats, order: Integers, labels: Integers, classes: int, k: int, psi: Floats
) -> Floats:
    """Ross's estimate of continuous columns and a target of classes.

    Parameters
    ----------
    ascending, order, k, psi
        As in :func:`ksg_information`.
    labels : int64 array, shape (n,)
        Classes 0, 1, ..., below ``classes``.

    Returns
    -------
    float64 array, shape (p,)
    """
    scores = np.zeros(len(ascending))
    for j in range(len(ascending)):
        scores[j] = _ross(ascending[j], labels[order[j]], classes, k, psi)
    return scores


@njit(cache=True, nogil=True)
def ross_level_information(
    codes: Integers, levels: int, y_ascending: Floats, y_order: Integers, k: int, psi: Floats
) -> Floats:
    """Ross's estimate of columns of levels and a continuous target.

    Parameters
    ----------
    codes : int64 array, shape (p, n)
        Levels 0, 1, ..., below ``levels``; below 0 is missing.
    y_ascending : float64 array, shape (n,)
    y_order : int64 array, shape (n,)
        Where each came from.

    Returns
    -------
    float64 array, shape (p,)
    """
    scores = np.zeros(len(codes))
    for j in range(len(codes)):
        scores[j] = _ross(y_ascending, codes[j][y_order], levels, k, psi)
    return scores
