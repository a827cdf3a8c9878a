r"""Products with a Kronecker product of matrices that is never formed.

.. math:: (H_1 \otimes \dots \otimes H_I)\, \mathrm{vec}(X) =
    \mathrm{vec}(X \times_1 H_1 \cdots \times_I H_I)

A vector of length :math:`\prod_i N_i` is the tensor of shape :math:`(N_1, \dots, N_I)` in C order,
so the last factor's index runs fastest, as in ``numpy.kron``. The product costs
:math:`\sum_i M_1 \cdots M_i N_i \cdots N_I` multiply-adds and no memory beyond the tensors.

Source: Kolda and Bader 2009, section 2.5. Departures: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import LinearOperator


def multiply_modes(x: NDArray, factors: Sequence[NDArray]) -> NDArray:
    """Multiply the i-th axis of x by the i-th factor.

    Parameters
    ----------
    x : ndarray, shape (N_1, ..., N_I)
    factors : I arrays of shapes (M_i, N_i)

    Returns
    -------
    ndarray, shape (M_1, ..., M_I)

    Examples
    --------
    >>> a, b = np.array([[1.0, 2.0]]), np.eye(3)
    >>> multiply_modes(np.ones((2, 3)), [a, b])
    array([[3., 3., 3.]])
    """
    shape = [factor.shape[0] for factor in factors]
    # Each product moves the axis it has multiplied to the end: after the last they are in order.
    for factor in factors:
        x = (factor @ x.reshape(factor.shape[1], -1)).T
    return x.reshape(shape)


def outer(vectors: Sequence[NDArray]) -> NDArray:
    """The tensor whose entries are products of the vectors' entries; `numpy.kron` unraveled."""
    tensor = vectors[0]
    for vector in vectors[1:]:
        tensor = tensor[..., None] * vector
    return tensor


class KroneckerOperator(LinearOperator):
    """The Kronecker product of ``factors`` as a SciPy linear operator.

    Parameters
    ----------
    factors : sequence of arrays, shapes (M_i, N_i), real or complex

    Raises
    ------
    ValueError
        If a factor is not a matrix of finite numbers.

    Examples
    --------
    >>> operator = KroneckerOperator([np.array([[1.0, 2.0]]), np.eye(2)])
    >>> operator.shape, operator @ np.ones(4)
    ((2, 4), array([3., 3.]))
    """

    def __init__(self, factors: Sequence[ArrayLike]) -> None:
        self.factors = check_factors(factors)
        shape = tuple(prod(f.shape[axis] for f in self.factors) for axis in (0, 1))
        super().__init__(np.result_type(*self.factors), shape)

    def _matvec(self, x: NDArray) -> NDArray:
        columns = [factor.shape[1] for factor in self.factors]
        return multiply_modes(x.reshape(columns), self.factors).ravel()

    def _rmatvec(self, y: NDArray) -> NDArray:
        rows = [factor.shape[0] for factor in self.factors]
        return multiply_modes(y.reshape(rows), [f.conj().T for f in self.factors]).ravel()


def check_factors(factors: Sequence[ArrayLike]) -> list[NDArray]:
    """The factors as floating or complex arrays, refused unless matrices of finite numbers."""
    arrays = [np.asarray(factor) for factor in factors]
    if not arrays:
        raise ValueError("factors is empty; at least one matrix is wanted")
    for i, factor in enumerate(arrays):
        if factor.ndim != 2 or not factor.size or factor.dtype.kind not in "iufc":
            raise ValueError(
                f"factors[{i}] must be a matrix of numbers, got shape {factor.shape} of "
                f"{factor.dtype}"
            )
        if not np.isfinite(factor).all():
            raise ValueError(f"factors[{i}] has entries that are not finite")
    dtype = np.result_type(np.float32, *arrays)
    return [factor.astype(dtype, copy=False) for factor in arrays]


def check_measurements(y: ArrayLike, factors: Sequence[NDArray]) -> NDArray:
    """Y as a finite tensor of the factors' rows, from that tensor or its C-order vector."""
    rows = tuple(factor.shape[0] for factor in factors)
    array = np.asarray(y)
    if array.shape not in (rows, (prod(rows),)) or array.dtype.kind not in "iufc":
        raise ValueError(
            f"y must be numbers of shape {rows} or ({prod(rows)},), the factors' rows; got shape "
            f"{array.shape} of {array.dtype}"
        )
    if not np.isfinite(array).all():
        raise ValueError("y has entries that are not finite")
    return array.reshape(rows).astype(np.result_type(np.float32, array), copy=False)
