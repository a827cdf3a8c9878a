r"""Random pivots as a preconditioner for sparse regression.

.. math:: Z \subset \{1, \dots, d\} \text{ uniform}, \quad |Z| = m, \qquad
    r_i = (I - P_Z)\, x_i, \qquad \tilde r_i = \sqrt N\, r_i / \|r_i\|

where :math:`P_Z` projects on the span of the pivots' columns. For a random support T of size k the
coefficients on the new dictionary are small *whatever X is*: split Z into l blocks of k - 1. By
exchangeability column i of T is closer to the span of T's others than to that of any block with
probability at most 1 / (l + 1), and :math:`\|r_i\|` is at most the least of those distances, so

.. math:: \|v\|_1 \le \sum_{i \in T} \frac{\|r_i\|}{\mathrm{dist}(x_i, x_{T \setminus i})}
    \frac{\|X w\|}{\sqrt N} \le k\, \frac{\|Xw\|}{\sqrt N}
    \quad\text{with probability } \ge 1 - \frac{k}{l + 1} - \frac{k m}{d}

Source: Chandrasekaran, Meka and Stavropoulos 2025 (arXiv 2511.06211), phase 1. Departures: the
paper's preconditioner may be found in another way; this is a reconstruction with the proof above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data


@dataclass(frozen=True)
class PivotBasis:
    """Pivots of a matrix of p columns, and what the other columns are beyond their span.

    Attributes
    ----------
    pivots : ndarray of int, shape (m,)
        Independent columns, in the order of the pivoted factorisation.
    q : ndarray, shape (n, m)
        Orthonormal basis of their span.
    r : ndarray, shape (m, m)
        Upper triangular, ``X[:, pivots] = q @ r``.
    coefficients : ndarray, shape (m, p)
        Of every column on the pivots: its projection is ``X[:, pivots] @ coefficients``.
    residual_norms : ndarray, shape (p,)
        Length of every column beyond the span.
    scales : ndarray, shape (p,)
        Brings a residual to length sqrt(n); 0 where nothing is left of it.
    """

    pivots: NDArray[np.int_]
    q: NDArray
    r: NDArray
    coefficients: NDArray
    residual_norms: NDArray
    scales: NDArray

    def residuals(self, X: NDArray) -> NDArray:
        """Columns of the matrix the basis was made of, less their projection; twice over."""
        left = X - self.q @ (self.q.T @ X)
        return left - self.q @ (self.q.T @ left)

    def on_pivots(self, projected: NDArray) -> NDArray:
        """Coefficients of the pivots whose combination has these coordinates in ``q``."""
        return solve_triangular(self.r, projected)


def random_pivot_basis(
    X: NDArray, n_pivots: int, *, random_state: Any = None, rtol: float = 1e-10
) -> PivotBasis:
    """Draw pivots and factorise them.

    Parameters
    ----------
    X : ndarray, shape (n, p)
        Centred, columns of comparable scale.
    n_pivots : int
        At most n - 1. Pivots that depend on others are dropped.
    random_state : int, RandomState or None
    rtol : float, default 1e-10
        A pivot, or a residual, below this share of the largest pivot, or of its own column, is
        taken as dependent: it is noise of the arithmetic.

    Returns
    -------
    PivotBasis

    Raises
    ------
    ValueError
        If there are not fewer pivots than rows, or more than columns.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(20, 50))
    >>> basis = random_pivot_basis(X, 4, random_state=0)
    >>> bool(abs(X[:, basis.pivots].T @ basis.residuals(X)).max() < 1e-12)
    True
    """
    return pivots_and_residuals(X, n_pivots, random_state=random_state, rtol=rtol)[0]


def pivots_and_residuals(
    X: NDArray, n_pivots: int, *, random_state: Any, rtol: float
) -> tuple[PivotBasis, NDArray]:
    """:func:`random_pivot_basis`, and the residuals that it computed on the way, shape (n, p)."""
    n, p = X.shape
    if not 0 <= n_pivots < n:
        raise ValueError(f"n_pivots must be < n_samples = {n} and at least 0, got {n_pivots}")
    if n_pivots > p:
        raise ValueError(f"n_pivots must be at most n_features = {p}, got {n_pivots}")
    drawn = check_random_state(random_state).choice(p, n_pivots, replace=False)
    q, r, order = qr(X[:, drawn], mode="economic", pivoting=True)
    size = abs(np.diag(r))
    rank = int(np.sum(size > rtol * size.max(initial=0.0)))
    q, r, pivots = q[:, :rank], r[:rank, :rank], drawn[order[:rank]]
    inside = q.T @ X
    left = X - q @ inside
    left -= q @ (q.T @ left)
    norms = np.sqrt(np.einsum("ij,ij->j", left, left))
    norms[pivots] = 0.0
    kept = norms > rtol * np.sqrt(np.einsum("ij,ij->j", X, X))
    scales = np.zeros(p)
    scales[kept] = n**0.5 / norms[kept]
    coefficients = solve_triangular(r, inside) if rank else np.zeros((0, p))
    return PivotBasis(pivots, q, r, coefficients, norms, scales), left


def preconditioner_quality(
    X: NDArray, basis: PivotBasis, k: int, *, n_supports: int = 200, random_state: Any = None
) -> NDArray:
    r"""Bound on the new coefficients' l1 norm for random supports, in units of |Xw| / sqrt(n).

    .. math:: \sum_{i \in T} \|r_i\| / \mathrm{dist}(x_i, \mathrm{span}\, x_{T \setminus i})

    Parameters
    ----------
    X : ndarray, shape (n, p)
        What the basis was made of.
    basis : PivotBasis
    k : int
        Size of a support.
    n_supports : int, default 200
    random_state : int, RandomState or None

    Returns
    -------
    ndarray, shape (n_supports,)
        Infinite for a support whose columns are dependent.

    Raises
    ------
    ValueError
        If k is not from 1 to the smaller of n and p.
    """
    n, p = X.shape
    if not 1 <= k <= min(n, p):
        raise ValueError(f"k must be from 1 to {min(n, p)}, got {k}")
    rng = check_random_state(random_state)
    bounds = np.empty(n_supports)
    for s in range(n_supports):
        support = rng.choice(p, k, replace=False)
        r = qr(X[:, support], mode="r")[0][:k]
        if abs(np.diag(r)).min() == 0:
            bounds[s] = np.inf
            continue
        # the distance of a column to the others' span is one over its row of the inverse
        inverse = solve_triangular(r, np.eye(k))
        bounds[s] = basis.residual_norms[support] @ np.linalg.norm(inverse, axis=1)
    return bounds


class PivotPreconditioner(TransformerMixin, BaseEstimator):
    """Change of columns by random pivots, for any linear model behind it.

    The first columns are an orthonormal basis of the pivots' span, the others the residuals that
    are left, all of length sqrt(n_samples) on the training rows.

    Parameters
    ----------
    n_pivots : int, default 10
        At least the number of columns that matter, up to four times as many. Where there are fewer
        rows or columns it is as many as fit.
    rtol : float, default 1e-10
        As in :func:`random_pivot_basis`.
    random_state : int, RandomState or None

    Attributes
    ----------
    basis_ : PivotBasis
    kept_ : ndarray of int
        Columns whose residuals are there, behind the pivots.

    Examples
    --------
    >>> from sklearn.linear_model import Lasso
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 1)) + 1e-3 * rng.normal(size=(60, 200))
    >>> y = 1e3 * (X[:, 3] - X[:, 7])
    >>> change = PivotPreconditioner(n_pivots=4, random_state=0).fit(X)
    >>> lasso = Lasso(alpha=0.05).fit(change.transform(X), y)
    >>> coef = change.inverse_coef(lasso.coef_)
    >>> bool(np.mean((X @ coef - X.mean(0) @ coef - (y - y.mean())) ** 2) < 0.1 * y.var())
    True
    """

    def __init__(
        self, n_pivots: int = 10, *, rtol: float = 1e-10, random_state: Any = None
    ) -> None:
        self.n_pivots = n_pivots
        self.rtol = rtol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> PivotPreconditioner:  # noqa: ARG002
        """Draw the pivots of X, shape (n_samples, n_features)."""
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        if self.n_pivots < 0:
            raise ValueError(f"n_pivots must be at least 0, got {self.n_pivots}")
        self.centre_ = X.mean(axis=0)
        centred = (X - self.centre_).astype(np.float64)
        count = min(self.n_pivots, len(X) - 1, X.shape[1])
        self.basis_ = random_pivot_basis(
            centred, count, random_state=self.random_state, rtol=self.rtol
        )
        self.kept_ = np.flatnonzero(self.basis_.scales)
        self._root = len(X) ** 0.5
        self._n_features_out = len(self.basis_.pivots) + len(self.kept_)
        return self

    def transform(self, X: Any) -> NDArray:
        """New columns, shape (n_samples, pivots + residuals)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        centred = (X - self.centre_).astype(np.float64)
        basis = self.basis_
        inside = solve_triangular(basis.r, centred[:, basis.pivots].T, trans="T").T
        left = centred - centred[:, basis.pivots] @ basis.coefficients
        scaled = left[:, self.kept_] * basis.scales[self.kept_]
        return np.hstack([self._root * inside, scaled]).astype(X.dtype, copy=False)

    def inverse_coef(self, coef: NDArray) -> NDArray:
        """Coefficients on the original columns, from those on the new ones."""
        check_is_fitted(self)
        basis, m = self.basis_, len(self.basis_.pivots)
        if np.shape(coef) != (m + len(self.kept_),):
            raise ValueError(f"coef must have shape ({m + len(self.kept_)},), got {np.shape(coef)}")
        original = np.zeros(len(basis.scales))
        original[self.kept_] = basis.scales[self.kept_] * coef[m:]
        inside = self._root * np.asarray(coef[:m], float)
        original[basis.pivots] = basis.on_pivots(inside) - basis.coefficients @ original
        return original
