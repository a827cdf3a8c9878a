r"""Coordinate descent on a penalised least-squares problem, accelerated by extrapolation.

.. math:: \min_b \tfrac12 \|t - Z b\|^2 + \sum_j \varphi(b_j), \qquad
    b_j \leftarrow \operatorname{prox}_{s_j\varphi}(b_j - s_j Z_j^\top(Zb - t)), \quad
    s_j \le 1/\|Z_j\|^2

for any separable penalty of ``rarefy.operators``. Three forms of Z, one per function: its Gram
matrix (a coordinate that stays costs one number, one that moves a row), Fortran-ordered columns,
and compressed sparse columns that are centred without being filled in. Every ``WINDOW`` epochs the
iterates are extrapolated (Anderson) and the result is taken if the objective falls; since the
gradient and the residual are linear in b, theirs is the same combination and costs no product.

A step is also kept under the penalty's ``max_step``, beyond which the prox is not single-valued.

Source: Friedman, Hastie and Tibshirani 2010 (covariance updates); Bertrand and Massias 2021
(Anderson acceleration of coordinate descent). Departures: a window's iterates are dropped after
the extrapolation, taken or not. Twin: :func:`descend_reference`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from rarefy.operators import Penalty
from rarefy.operators._twins import prox, value

WINDOW = 5
"""Epochs between extrapolations: Bertrand and Massias' choice."""

_FAST = {"reassoc", "contract", "nsz", "arcp"}


@njit(cache=True, nogil=True, fastmath=_FAST)
def descend_gram(
    gram: Any, linear: Any, coef: Any, gradient: Any, steps: Any, twin: Any, epochs: Any, tol: Any
) -> Any:
    """Run epochs on the Gram matrix; ``coef`` and ``gradient`` are updated in place.

    Parameters
    ----------
    gram : float array, C-ordered
        Z^T Z, shape (w, w), in the corner of an array that may be larger.
    linear : float array, shape (w,)
        Z^T t.
    coef, gradient : float arrays, shape (w,)
        b and Z^T(Zb - t).
    steps : float array, shape (w,)
        0 for a coordinate that stays.
    twin : named tuple
        From ``rarefy.operators._twins.twin``.
    epochs : int
        At most so many.
    tol : float
        Stop after an epoch in which no coordinate moved by more than tol times its step.

    Returns
    -------
    int
        Epochs run.
    """
    width = coef.size
    iterates = np.empty((WINDOW + 1, width), coef.dtype)
    states = np.empty((WINDOW + 1, width), coef.dtype)
    for epoch in range(epochs):
        _remember(epoch % WINDOW, coef, gradient, iterates, states)
        largest = 0.0
        for j in range(width):
            step = steps[j]
            if step == 0.0:
                continue
            old = coef[j]
            new = prox(old - step * gradient[j], step, twin)
            move = new - old
            if move != 0.0:
                coef[j] = new
                row = gram[j]
                change = coef.dtype.type(move)
                for k in range(width):
                    gradient[k] += change * row[k]
                largest = max(largest, abs(move) / step)
        if largest <= tol:
            return epoch + 1
        if epoch % WINDOW == WINDOW - 1:
            _remember(WINDOW, coef, gradient, iterates, states)
            if _extrapolate(iterates, states):
                before = _gram_objective(linear, coef, gradient, twin)
                if _gram_objective(linear, iterates[0], states[0], twin) < before:
                    coef[:] = iterates[0]
                    gradient[:] = states[0]
    return epochs


@njit(cache=True, nogil=True, fastmath=_FAST)
def descend_dense(
    columns: Any, coef: Any, residual: Any, steps: Any, twin: Any, epochs: Any, tol: Any
) -> Any:
    """Run epochs on Fortran-ordered columns; ``coef`` and ``residual`` are updated in place.

    Parameters
    ----------
    columns : float array, shape (n, w), Fortran-ordered
        Z.
    coef : float array, shape (w,)
    residual : float array, shape (n,)
        t - Zb.
    steps, twin, epochs, tol
        As in :func:`descend_gram`.

    Returns
    -------
    int
        Epochs run.
    """
    rows, width = columns.shape
    iterates = np.empty((WINDOW + 1, width), coef.dtype)
    states = np.empty((WINDOW + 1, rows), coef.dtype)
    for epoch in range(epochs):
        _remember(epoch % WINDOW, coef, residual, iterates, states)
        largest = 0.0
        for j in range(width):
            step = steps[j]
            if step == 0.0:
                continue
            column = columns[:, j]
            product = coef.dtype.type(0.0)
            for i in range(rows):
                product += column[i] * residual[i]
            old = coef[j]
            new = prox(old + step * product, step, twin)
            move = new - old
            if move != 0.0:
                coef[j] = new
                change = coef.dtype.type(move)
                for i in range(rows):
                    residual[i] -= change * column[i]
                largest = max(largest, abs(move) / step)
        if largest <= tol:
            return epoch + 1
        if epoch % WINDOW == WINDOW - 1:
            _leap(coef, residual, iterates, states, twin)
    return epochs


@njit(cache=True, nogil=True, fastmath=_FAST)
def descend_sparse(
    data: Any,
    indices: Any,
    indptr: Any,
    rows: Any,
    means: Any,
    coef: Any,
    residual: Any,
    steps: Any,
    twin: Any,
    epochs: Any,
    tol: Any,
) -> Any:
    """Run epochs on sparse columns, centred implicitly; updates ``coef``, ``residual`` in place.

    Column j of Z is that of the sparse matrix less ``means[j] * rows``. The residual is orthogonal
    to ``rows``, so a product with Z_j is one with the sparse column, and the part of the residual
    along ``rows`` is carried as one number.

    Parameters
    ----------
    data, indices, indptr
        The columns, compressed.
    rows : float array, shape (n,)
        The direction every column is centred against; zeros where none is.
    means : float array, shape (w,)
        Coefficient of each column along ``rows``.
    coef : float array, shape (w,)
    residual : float array, shape (n,)
        t - Zb.
    steps, twin, epochs, tol
        As in :func:`descend_gram`.

    Returns
    -------
    int
        Epochs run.
    """
    width, count = coef.size, residual.size
    along = 0.0
    for i in range(count):
        along += rows[i] * rows[i]
    iterates = np.empty((WINDOW + 1, width), coef.dtype)
    states = np.empty((WINDOW + 1, count), coef.dtype)
    # what is left of the residual is residual + offset * rows
    offset = 0.0
    for epoch in range(epochs):
        if epoch % WINDOW == 0:
            _settle(residual, rows, offset)
            offset = 0.0
            _remember(0, coef, residual, iterates, states)
        else:
            _remember(epoch % WINDOW, coef, residual, iterates, states)
            _settle(states[epoch % WINDOW], rows, offset)
        largest = 0.0
        for j in range(width):
            step = steps[j]
            if step == 0.0:
                continue
            product = offset * means[j] * along
            for k in range(indptr[j], indptr[j + 1]):
                product += data[k] * residual[indices[k]]
            old = coef[j]
            new = prox(old + step * product, step, twin)
            move = new - old
            if move != 0.0:
                coef[j] = new
                for k in range(indptr[j], indptr[j + 1]):
                    residual[indices[k]] -= move * data[k]
                offset += move * means[j]
                largest = max(largest, abs(move) / step)
        if largest <= tol:
            _settle(residual, rows, offset)
            return epoch + 1
        if epoch % WINDOW == WINDOW - 1:
            _settle(residual, rows, offset)
            offset = 0.0
            _leap(coef, residual, iterates, states, twin)
    _settle(residual, rows, offset)
    return epochs


@njit(cache=True, nogil=True, fastmath=_FAST)
def violations(coef: Any, gradient: Any, steps: Any, twin: Any) -> Any:
    """How far each coordinate is from optimal: ``|b - prox(b - s g)| / s``, a gradient's unit."""
    out = np.empty(coef.size, coef.dtype)
    for j in range(coef.size):
        step = steps[j]
        if step == 0.0:
            out[j] = 0.0
        else:
            out[j] = abs(coef[j] - prox(coef[j] - step * gradient[j], step, twin)) / step
    return out


@njit(cache=True, nogil=True)
def penalty_sum(coef: Any, twin: Any) -> Any:
    """The penalty of all coefficients."""
    total = 0.0
    for j in range(coef.size):
        if coef[j] != 0.0:
            total += value(coef[j], twin)
    return total


@njit(cache=True, nogil=True, fastmath=_FAST)
def _objective(coef: Any, residual: Any, twin: Any) -> Any:
    total = 0.0
    for i in range(residual.size):
        total += residual[i] * residual[i]
    return total / 2.0 + penalty_sum(coef, twin)


@njit(cache=True, nogil=True, fastmath=_FAST)
def _gram_objective(linear: Any, coef: Any, gradient: Any, twin: Any) -> Any:
    # up to |t|^2 / 2, as gradient = gram coef - linear
    total = 0.0
    for j in range(coef.size):
        total += coef[j] * (gradient[j] - linear[j])
    return total / 2.0 + penalty_sum(coef, twin)


@njit(cache=True, nogil=True)
def _leap(coef: Any, residual: Any, iterates: Any, states: Any, twin: Any) -> None:
    """Extrapolate a window, and go there if the objective is lower."""
    _remember(WINDOW, coef, residual, iterates, states)
    if _extrapolate(iterates, states):
        before = _objective(coef, residual, twin)
        if _objective(iterates[0], states[0], twin) < before:
            coef[:] = iterates[0]
            residual[:] = states[0]


@njit(cache=True, nogil=True)
def _remember(place: Any, coef: Any, state: Any, iterates: Any, states: Any) -> None:
    iterates[place] = coef
    states[place] = state


@njit(cache=True, nogil=True, fastmath=_FAST)
def _settle(residual: Any, rows: Any, offset: Any) -> None:
    if offset != 0.0:
        for i in range(residual.size):
            residual[i] += offset * rows[i]


@njit(cache=True, nogil=True, fastmath=_FAST)
def _extrapolate(iterates: Any, states: Any) -> Any:
    """Put the combination of iterates 1.. whose step is least into place 0; False if none is.

    The weights c, of sum 1, minimise the norm of the combined differences D^T c: they are
    proportional to the solution of D D^T c = 1.
    """
    size = iterates.shape[0] - 1
    width = iterates.shape[1]
    system = np.empty((size, size + 1), np.float64)
    for a in range(size):
        system[a, size] = 1.0
        for b in range(a + 1):
            total = 0.0
            for j in range(width):
                total += (iterates[a + 1, j] - iterates[a, j]) * (
                    iterates[b + 1, j] - iterates[b, j]
                )
            system[a, b] = total
            system[b, a] = total
    # Gauss-Jordan without pivoting: the matrix is positive definite or of no use
    largest = 0.0
    for a in range(size):
        largest = max(largest, system[a, a])
    for a in range(size):
        pivot = system[a, a]
        if not pivot > 1e-14 * largest:
            return False
        for b in range(a, size + 1):
            system[a, b] /= pivot
        for c in range(size):
            if c != a:
                factor = system[c, a]
                for b in range(a, size + 1):
                    system[c, b] -= factor * system[a, b]
    total = 0.0
    for a in range(size):
        total += system[a, size]
    if not abs(total) > 0.0:
        return False
    iterates[0] = 0.0
    states[0] = 0.0
    for a in range(size):
        weight = iterates.dtype.type(system[a, size] / total)
        for j in range(width):
            iterates[0, j] += weight * iterates[a + 1, j]
        for i in range(states.shape[1]):
            states[0, i] += weight * states[a + 1, i]
    return True


def descend_reference(
    columns: np.ndarray,
    target: np.ndarray,
    coef: np.ndarray,
    penalty: Penalty,
    *,
    epochs: int,
) -> np.ndarray:
    """The epochs in plain NumPy, without extrapolation.

    Parameters
    ----------
    columns : float array, shape (n, w)
    target : float array, shape (n,)
    coef : float array, shape (w,)
        Where to start.
    penalty : Penalty
    epochs : int

    Returns
    -------
    float array, shape (w,)
    """
    coef = coef.copy()
    for _ in range(epochs):
        for j, column in enumerate(columns.T):
            norm = column @ column
            if norm > 0:
                step = min(1 / norm, 0.9 * penalty.max_step)
                slope = column @ (columns @ coef - target)
                coef[j] = penalty.prox(np.array([coef[j] - step * slope]), step)[0]
    return coef
