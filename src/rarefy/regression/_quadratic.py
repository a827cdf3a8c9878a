r"""The weighted least-squares problem on a working set of columns, in three forms.

.. math:: \tfrac12 \sum_i w_i (z_i - \beta_0 - x_i^\top b)^2, \qquad
    Z = \sqrt{w}\,(X - \mathbf 1 m^\top), \quad t = \sqrt{w}\,(z - \bar z)

with m and :math:`\bar z` the weighted means, which eliminates the intercept. A form knows its
columns' indices, runs epochs from given coefficients, and says the gradient, :math:`\|t - Zb\|^2`
and :math:`t^\top(t - Zb)` where it stands. ``GramForm`` also grows, so that a path of strengths
computes each inner product once. Forms hold float64 whatever X holds: extrapolation multiplies
rounding errors, and a working set is small.

Source: Friedman, Hastie and Tibshirani 2010. Departures: the Gram matrix is that of every column
that has been in a working set, not of the columns that have been nonzero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from rarefy.kernels.cpu.coordinate_descent import descend_dense, descend_gram, descend_sparse
from rarefy.operators import Penalty
from rarefy.regression._optimality import l1_ratio

Array = np.ndarray


class _Centred:
    """The rows' weights and the centred target."""

    def __init__(self, X: Any, weights: Array, target: Array, *, centre: bool) -> None:
        self.X, self.weights, self.centre = X, weights, centre
        self.total = float(weights.sum())
        self.roots = np.sqrt(weights)
        self.target_mean = float(weights @ target) / self.total if centre else 0.0
        self.target = self.roots * (target - self.target_mean)
        self.indices = np.empty(0, np.int64)
        self.means = np.empty(0)

    def intercept(self, coef: Array) -> float:
        """The intercept that belongs to these coefficients."""
        return self.target_mean - float(self.means @ coef) if self.centre else 0.0

    def jump(self, coef: Array, penalty: Penalty) -> None:
        """Move towards the minimum over the present signs, where the form can afford to."""

    def _dense(self, columns: Array) -> tuple[Array, Array]:
        """Z and m of some columns."""
        block = np.asfortranarray(self.X[:, columns], np.float64)
        means = self.weights @ block / self.total if self.centre else np.zeros(len(columns))
        block -= means
        block *= self.roots[:, None]
        return block, means


class GramForm(_Centred):
    """On the Gram matrix; ``include`` adds columns, ``restrict`` lets some go."""

    def __init__(self, X: Any, weights: Array, target: Array, *, centre: bool) -> None:
        super().__init__(X, weights, target, centre=centre)
        # Z^T and the Gram matrix, with room to grow beyond the columns that are in
        self._rows = np.empty((0, len(target)))
        self._gram = np.empty((0, 0))
        self.linear = np.empty(0)
        self._norm = float(self.target @ self.target)

    @property
    def squares(self) -> Array:
        """Squared norms of the columns."""
        return self._gram.diagonal()[: len(self.indices)].copy()

    def include(self, columns: Array) -> None:
        """Make sure that these columns are in; the columns already in keep their places."""
        fresh = np.setdiff1d(columns, self.indices)
        old, new = len(self.indices), len(self.indices) + len(fresh)
        if old == new:
            return
        if new > len(self._gram):
            self._hold(np.arange(old), 2 * new)
        block, means = self._dense(fresh)
        self._rows[old:new] = block.T
        cross = self._rows[:new] @ block
        self._gram[:new, old:new] = cross
        self._gram[old:new, :old] = cross[:old].T
        self.linear = np.concatenate([self.linear, self.target @ block])
        self.indices = np.concatenate([self.indices, fresh])
        self.means = np.concatenate([self.means, means])

    def restrict(self, columns: Array) -> None:
        """Let go of every other column."""
        kept = np.flatnonzero(np.isin(self.indices, columns))
        self._hold(kept, 2 * len(kept))
        self.linear, self.means = self.linear[kept], self.means[kept]
        self.indices = self.indices[kept]

    def _hold(self, kept: Array, room: int) -> None:
        """Move these places to the front of new arrays."""
        rows, gram = np.empty((room, self._rows.shape[1])), np.zeros((room, room))
        rows[: len(kept)] = self._rows[kept]
        gram[: len(kept), : len(kept)] = self._gram[np.ix_(kept, kept)]
        self._rows, self._gram = rows, gram

    def start(self, coef: Array) -> None:
        """Stand at these coefficients."""
        on = np.flatnonzero(coef)
        self._gradient = coef[on] @ self._gram[on, : len(coef)] - self.linear

    def descend(self, coef: Array, steps: Array, twin: Any, epochs: int, tol: float) -> int:
        """Run epochs; ``coef`` is updated in place."""
        return descend_gram(
            self._gram, self.linear, coef, self._gradient, steps, twin, epochs, tol
        )  # fmt: skip

    def jump(self, coef: Array, penalty: Penalty) -> None:
        """Solve for the nonzero coefficients with their signs held, and go there.

        The objective is a convex quadratic while no sign changes, so the way there is downhill up
        to the first coefficient that reaches zero, which is where it ends.
        """
        on = np.flatnonzero(coef)
        ell1, ell2 = penalty.lam * l1_ratio(penalty), penalty.lam * (1 - l1_ratio(penalty))
        system = self._gram[np.ix_(on, on)]
        system.flat[:: len(on) + 1] += ell2
        try:
            factor = cho_factor(system, overwrite_a=True, check_finite=False)
        except LinAlgError:  # columns that depend on each other: no one minimum
            return
        here = coef[on]
        move = cho_solve(factor, self.linear[on] - ell1 * np.sign(here)) - here
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = np.where(here * move < 0, -here / move, np.inf)
        share = float(reach.min(initial=1.0))
        coef[on] = np.where(reach <= share, 0.0, here + share * move)
        self.start(coef)

    def gradient(self) -> Array:
        """Z^T (Zb - t)."""
        return self._gradient

    def energies(self, coef: Array) -> tuple[float, float]:
        """Squared norm of the residual, and its product with t."""
        along = self._norm - float(self.linear @ coef)
        return max(along + float(self._gradient @ coef), 0.0), along


class ColumnForm(_Centred):
    """On a copy of the columns."""

    def __init__(
        self, X: Any, weights: Array, target: Array, columns: Array, *, centre: bool
    ) -> None:
        super().__init__(X, weights, target, centre=centre)
        self.indices = columns
        self.columns, self.means = self._dense(columns)
        self.squares = np.einsum("ij,ij->j", self.columns, self.columns)

    def start(self, coef: Array) -> None:
        """Stand at these coefficients."""
        self._residual = self.target - self.columns @ coef

    def descend(self, coef: Array, steps: Array, twin: Any, epochs: int, tol: float) -> int:
        """Run epochs; ``coef`` is updated in place."""
        return descend_dense(self.columns, coef, self._residual, steps, twin, epochs, tol)

    def gradient(self) -> Array:
        """Z^T (Zb - t)."""
        return -(self.columns.T @ self._residual)

    def energies(self, coef: Array) -> tuple[float, float]:  # noqa: ARG002
        """Squared norm of the residual, and its product with t."""
        return float(self._residual @ self._residual), float(self.target @ self._residual)


class SparseForm(_Centred):
    """On a copy of the sparse columns, centred implicitly."""

    def __init__(
        self, X: Any, weights: Array, target: Array, columns: Array, *, centre: bool
    ) -> None:
        super().__init__(X, weights, target, centre=centre)
        self.indices = columns
        part = X[:, columns]
        sums = part.T @ weights
        self.means = sums / self.total if centre else np.zeros(len(columns))
        part.data = part.data * self.roots[part.indices]
        # one signature of the compiled loop, whatever integers X has; a part needs no wider ones
        self._indices = part.indices.astype(np.int32, copy=False)
        self._indptr = part.indptr.astype(np.int32, copy=False)
        self.part = part
        squares = np.asarray(part.multiply(part).sum(axis=0)).ravel()
        self.squares = squares - self.means**2 * self.total
        self._rows = self.roots if centre else np.zeros_like(self.roots)

    def start(self, coef: Array) -> None:
        """Stand at these coefficients."""
        self._residual = self.target - self.part @ coef
        if self.centre:
            self._residual += self._rows * float(self.means @ coef)

    def descend(self, coef: Array, steps: Array, twin: Any, epochs: int, tol: float) -> int:
        """Run epochs; ``coef`` is updated in place."""
        return descend_sparse(self.part.data, self._indices, self._indptr, self._rows, self.means,
                              coef, self._residual, steps, twin, epochs, tol)  # fmt: skip

    def gradient(self) -> Array:
        """Z^T (Zb - t)."""
        return -(self.part.T @ self._residual)

    def energies(self, coef: Array) -> tuple[float, float]:  # noqa: ARG002
        """Squared norm of the residual, and its product with t."""
        return float(self._residual @ self._residual), float(self.target @ self._residual)


def working_form(X: Any, weights: Array, target: Array, columns: Array, *, centre: bool) -> Any:
    """The problem on these columns, in the form that suits X."""
    form = SparseForm if sp.issparse(X) else ColumnForm
    return form(X, weights, target, columns, centre=centre)
