r"""Matching pursuit of many rows, forward and backward, without a residual kept.

Forward, the products :math:`s = D r` are carried along instead of the residual: with the Gram
matrix :math:`G = D D^T` a step is :math:`s \leftarrow s - c\,G_j`, O(f) a row where a product with
the dictionary is O(f d). Each pass over s also finds its largest block, so that looking for the
best atom reads one block. Backward, a step is undone, :math:`r_t = r_{t+1} + c_t D_{j_t}`, so all
that is stored are coefficients and atoms. With h the gradient of the coefficients and g that of
the residual, from the last step to the first:

.. math:: a = (h_t - \langle g, D_j \rangle)\,1[c_t \ne 0], \quad
    \partial D_j \mathrel{+}= a\,r_t - c_t\,g, \quad g \leftarrow g + a\,D_j

and the gradient of x is the last g. Twin: :func:`rarefy.operators.matching_pursuit` and autograd.

Source: matching pursuit is Mallat and Zhang 1993; both rearrangements are rarefy's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rarefy.kernels.cpu._threads import side_by_side, thread_count

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]

BLOCK = 64
REFRESH = 32
"""Steps after which the products are computed anew, so that rounding does not pile up."""


def pursue(
    x: Floats,
    dictionary: Floats,
    steps: int,
    *,
    tol: float = 0.0,
    signed: bool = False,
    threads: int | None = None,
) -> tuple[Floats, Indices, Floats]:
    """Matching pursuit of every row.

    Parameters
    ----------
    x : float32 array, shape (b, d)
    dictionary : float32 array, shape (f, d)
        Rows of norm 1.
    steps, tol, signed
        As in :func:`rarefy.operators.matching_pursuit`.
    threads : int, optional
        Default 1.

    Returns
    -------
    coefficients : float32 array, shape (b, steps)
    atoms : int64 array, shape (b, steps)
    residual : float32 array, shape (b, d)
    """
    rows, width = len(x), len(dictionary)
    gram = dictionary @ dictionary.T
    coefficients = np.zeros((rows, steps), np.float32)
    atoms = np.zeros((rows, steps), np.int64)
    residual = np.ascontiguousarray(x, np.float32)
    for start in range(0, steps, REFRESH):
        stop = min(start + REFRESH, steps)
        padded = -(-width // BLOCK) * BLOCK
        products = np.full((rows, padded), 0 if signed else -np.inf, np.float32)
        np.matmul(residual, dictionary.T, out=products[:, :width])
        squares = np.einsum("bd,bd->b", residual, residual)

        def part(a: int, b: int, start: int = start, stop: int = stop, p: Floats = products,
                 q: Floats = squares) -> None:  # fmt: skip
            _pursue(p[a:b], gram, q[a:b], tol * tol, signed, coefficients[a:b, start:stop],
                    atoms[a:b, start:stop])  # fmt: skip

        _shared(part, rows, threads)
        residual = _residual(residual, dictionary, coefficients, atoms, start, stop)
    return coefficients, atoms, residual


def pursue_backward(
    residual: Floats,
    dictionary: Floats,
    coefficients: Floats,
    atoms: Indices,
    gradient: Floats,
    *,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Gradients of x and the dictionary from those of the coefficients.

    Parameters
    ----------
    residual, coefficients, atoms
        What :func:`pursue` returned.
    dictionary : float32 array, shape (f, d)
    gradient : float32 array, shape (b, steps)

    Returns
    -------
    x_gradient : float32 array, shape (b, d)
    dictionary_gradient : float32 array, shape (f, d)
    """
    x_gradient = np.zeros_like(residual)
    parts: list[Floats] = []

    def part(a: int, b: int) -> None:
        total = np.zeros_like(dictionary)
        parts.append(total)
        _backward(residual[a:b].copy(), dictionary, coefficients[a:b], atoms[a:b], gradient[a:b],
                  x_gradient[a:b], total)  # fmt: skip

    _shared(part, len(residual), threads)
    return x_gradient, sum(parts[1:], start=parts[0]) if parts else np.zeros_like(dictionary)


def _shared(part: Callable[[int, int], None], rows: int, threads: int | None) -> None:
    count = max(1, min(thread_count(threads, 1), rows))
    cuts = [rows * i // count for i in range(count + 1)]
    side_by_side([partial(part, a, b) for a, b in zip(cuts, cuts[1:], strict=False)])


def _residual(
    x: Floats, dictionary: Floats, coefficients: Floats, atoms: Indices, start: int, stop: int
) -> Floats:
    out = x.copy()
    _subtract(out, dictionary, coefficients[:, start:stop], atoms[:, start:stop])
    return out


@njit(cache=True, nogil=True, fastmath=True)
def _subtract(out: Any, dictionary: Any, coefficients: Any, atoms: Any) -> None:
    for i in range(out.shape[0]):
        for t in range(coefficients.shape[1]):
            c = coefficients[i, t]
            if c != 0:
                row = dictionary[atoms[i, t]]
                for e in range(out.shape[1]):
                    out[i, e] -= c * row[e]


# no fastmath flag "ninf": products beyond the dictionary's width are minus infinity
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp"})
def _pursue(
    products: Any,
    gram: Any,
    squares: Any,
    tol2: Any,
    signed: Any,
    coefficients: Any,
    atoms: Any,
) -> None:
    rows, padded = products.shape
    width = gram.shape[0]
    blocks = padded // BLOCK
    best = np.empty(blocks, np.float32)
    for i in range(rows):
        s = products[i]
        left = squares[i]
        for block in range(blocks):
            best[block] = _block_max(s, block * BLOCK, signed)
        for t in range(coefficients.shape[1]):
            if left <= tol2:
                break
            top = 0
            for block in range(1, blocks):
                if best[block] > best[top]:
                    top = block
            if not best[top] > 0:
                break
            j = top * BLOCK
            while (abs(s[j]) if signed else s[j]) != best[top]:
                j += 1
            c = s[j]
            coefficients[i, t] = c
            atoms[i, t] = j
            left -= c * c
            row = gram[j]
            for block in range(blocks):
                low = block * BLOCK
                if low + BLOCK <= width:
                    for e in range(low, low + BLOCK):
                        s[e] -= c * row[e]
                else:
                    for e in range(low, width):
                        s[e] -= c * row[e]
                best[block] = _block_max(s, low, signed)


@njit(
    cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz", "arcp", "nnan"}, inline="always"
)
def _block_max(s: Any, low: Any, signed: Any) -> Any:
    top = np.float32(-np.inf)
    if signed:
        for e in range(low, low + BLOCK):
            top = max(top, abs(s[e]))
    else:
        for e in range(low, low + BLOCK):
            top = max(top, s[e])
    return top


@njit(cache=True, nogil=True, fastmath=True)
def _backward(
    residual: Any,
    dictionary: Any,
    coefficients: Any,
    atoms: Any,
    gradient: Any,
    x_gradient: Any,
    total: Any,
) -> None:
    rows, steps = coefficients.shape
    d = dictionary.shape[1]
    for i in range(rows):
        r = residual[i]
        g = x_gradient[i]
        for back in range(steps):
            t = steps - 1 - back
            c = coefficients[i, t]
            if c == 0:
                continue
            j = atoms[i, t]
            row = dictionary[j]
            out = total[j]
            a = gradient[i, t]
            for e in range(d):
                a -= g[e] * row[e]
            for e in range(d):
                r[e] += c * row[e]
                out[e] += a * r[e] - c * g[e]
                g[e] += a * row[e]
