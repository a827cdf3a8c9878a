r"""What `TsallisMixedRegressor` computes on: groups, their sums, and the two minimisations.

.. math:: V_i^{-1} r = \frac{1}{\sigma^2}\left(r - Z_i L B_i^{-1} L^T Z_i^T r\right), \quad
    B_i = \sigma^2 I + L^T Z_i^T Z_i L, \quad D = L L^T

so that every group costs q by q algebra, all groups in one batch; q is the number of random
effects.

Source: Woodbury's identity; the model is `rarefy.regression.mixed_effects`. Departures: none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import gammaln
from sklearn.utils.validation import check_array

from rarefy.operators import Penalty
from rarefy.regression.composite import Composite, Vector
from rarefy.regression.conjugate_gradient import conjugate_gradient


@dataclass
class MixedFit:
    """Parameters on the way to the optimum."""

    nu: float
    b: Vector  # of the standardised features, the intercept first
    noise_var: float
    factor: NDArray  # L of D = L L^T, lower triangular
    objectives: list[float] = field(default_factory=list)
    converged: bool = False
    log_likelihood: float = 0.0


@dataclass(frozen=True)
class _Whitened:
    """B = s I + L^T Z^T Z L of every group: V^-1 r = (r - Z L B^-1 L^T Z^T r) / s."""

    chol: NDArray  # (N, q, q) of B
    log_det: Vector  # (N,) of V


@dataclass(frozen=True)
class MixedDesign:
    """Rows sorted by group, features standardised, and the groups' sums."""

    X: Vector
    y: Vector
    effects: Vector  # Z, (n, q)
    starts: NDArray[np.int_]
    sizes: NDArray[np.int_]
    labels: NDArray
    centre: Vector
    scale: Vector
    penalised: NDArray[np.bool_]
    shared: bool  # whether a group has more than one row, so that D is identified
    grams: NDArray  # Z^T Z of every group, (N, q, q)

    @classmethod
    def of(cls, X: NDArray, y: NDArray, groups: Any, Z: Any, *, fit_intercept: bool) -> MixedDesign:
        """Check groups and Z, sort and standardise."""
        n = len(X)
        labels = np.arange(n) if groups is None else np.asarray(groups)
        if labels.shape != (n,):
            raise ValueError(f"groups must have shape ({n},), got {labels.shape}")
        effects = np.ones((n, 1)) if Z is None else check_array(Z, dtype=np.float64, input_name="Z")
        if len(effects) != n:
            raise ValueError(f"Z must have {n} rows like X, got {len(effects)}")
        if np.linalg.matrix_rank(effects) < effects.shape[1]:
            raise ValueError(
                f"Z has {effects.shape[1]} columns of rank {np.linalg.matrix_rank(effects)}: "
                "random effects that are collinear cannot be told apart"
            )
        names, inverse = np.unique(labels, return_inverse=True)
        order = np.argsort(inverse, kind="stable")
        sizes = np.bincount(inverse)
        starts = np.r_[0, np.cumsum(sizes)[:-1]]
        wide = X.astype(np.float64)
        centre = wide.mean(axis=0) if fit_intercept else np.zeros(X.shape[1])
        scale = np.sqrt(np.mean((wide - centre) ** 2, axis=0))
        scale[scale < 1e-12 * np.maximum(abs(centre), 1e-300)] = 1.0
        standard = (wide - centre) / scale
        if fit_intercept:
            standard = np.column_stack([np.ones(n), standard])
        sorted_effects = effects[order]
        outer = sorted_effects[:, :, None] * sorted_effects[:, None, :]
        return cls(
            X=standard[order],
            y=y.astype(np.float64)[order],
            effects=sorted_effects,
            starts=starts,
            sizes=sizes,
            labels=names,
            centre=centre,
            scale=scale,
            penalised=np.arange(standard.shape[1]) >= int(fit_intercept),
            shared=bool(sizes.max() > 1),
            grams=np.add.reduceat(outer, starts),
        )

    def sums(self, rows: NDArray) -> NDArray:
        """Sum rows over each group."""
        return np.add.reduceat(rows, self.starts)

    def spread(self, per_group: NDArray) -> NDArray:
        """Give each row its group's value."""
        return np.repeat(per_group, self.sizes, axis=0)

    def whiten(self, fit: MixedFit) -> _Whitened:
        """Factor what every group's inverse needs."""
        q = len(fit.factor)
        inner = fit.noise_var * np.eye(q) + fit.factor.T @ self.grams[:, :q, :q] @ fit.factor
        chol = np.linalg.cholesky(inner)
        log_det = (self.sizes - q) * np.log(fit.noise_var)
        log_det = log_det + 2 * np.sum(np.log(np.diagonal(chol, axis1=1, axis2=2)), axis=1)
        return _Whitened(chol, log_det)

    def solve(self, fit: MixedFit, rows: NDArray, white: _Whitened | None = None) -> NDArray:
        """V^-1 of every group times its rows, shape (n, k)."""
        q = len(fit.factor)
        if not q:
            return rows / fit.noise_var
        white = white or self.whiten(fit)
        projected = self.effects[:, :, None] * rows[:, None, :]
        inner = fit.factor.T @ self.sums(projected)
        low = np.linalg.solve(white.chol, inner)
        back = fit.factor @ np.linalg.solve(np.swapaxes(white.chol, 1, 2), low)
        return (rows - np.einsum("nq,nqk->nk", self.effects, self.spread(back))) / fit.noise_var

    def distances(self, fit: MixedFit) -> Vector:
        """Squared length of each group's residual under V^-1."""
        residual = (self.y - self.X @ fit.b)[:, None]
        return self.sums(residual[:, 0] * self.solve(fit, residual)[:, 0])

    def weights(self, fit: MixedFit) -> Vector:
        """(nu + n_i) / (nu + d_i) of every group."""
        if np.isinf(fit.nu):
            return np.ones(len(self.sizes))
        return (fit.nu + self.sizes) / (fit.nu + self.distances(fit))

    def objective(self, fit: MixedFit, penalty: Penalty | None) -> float:
        """What is minimised: mean over groups, without constants, plus the penalty."""
        tail = _tail(self.distances(fit), self.sizes, fit.nu)
        smooth = float(np.mean(self.whiten(fit).log_det / 2 + tail))
        if penalty is None:
            return smooth
        return smooth + float(penalty.value(fit.b[self.penalised] / fit.noise_var**0.5))

    def log_likelihood(self, fit: MixedFit) -> float:
        """Log-likelihood with its constants, so that degrees of freedom compare."""
        m = self.sizes
        if np.isinf(fit.nu):
            constant = m / 2 * np.log(2 * np.pi)
        else:
            half = (fit.nu + m) / 2
            constant = gammaln(fit.nu / 2) - gammaln(half) + m / 2 * np.log(np.pi * fit.nu)
        tail = _tail(self.distances(fit), m, fit.nu)
        return -float(np.sum(self.whiten(fit).log_det / 2 + tail + constant))

    def start(self, penalty: Penalty | None) -> Vector:
        """Least squares; with a penalty the intercept alone, for fits may be perfect there."""
        used = np.flatnonzero(~self.penalised) if penalty else np.arange(len(self.penalised))
        b = np.zeros(len(self.penalised))
        b[used] = np.linalg.lstsq(self.X[:, used], self.y, rcond=None)[0]
        return b

    def best_coefficients(self, fit: MixedFit, penalty: Penalty | None) -> Vector:
        """One reweighted least-squares step for b, or the penalised minimum; variances stay."""
        if penalty is not None:
            unit = fit.noise_var**0.5
            problem = Composite(unit * self.X, _GroupLoss(self, fit), penalty, self.penalised)
            return unit * conjugate_gradient(problem, fit.b / unit, tol=1e-7, max_iter=500).coef
        weights = self.spread(self.weights(fit))[:, None]
        solved = weights * self.solve(fit, np.column_stack([self.X, self.y]))
        return np.linalg.lstsq(self.X.T @ solved[:, :-1], self.X.T @ solved[:, -1], rcond=None)[0]

    def best_variances(self, fit: MixedFit, penalty: Penalty | None) -> tuple[float, NDArray]:
        """Minimise over the log-variance and L with its diagonal's logarithms; b stays."""
        q = len(fit.factor)
        residual = self.y - self.X @ fit.b
        squares = torch.from_numpy(self.sums(residual**2))
        cross = torch.from_numpy(self.sums(residual[:, None] * self.effects[:, :q]))
        grams, sizes = torch.from_numpy(self.grams[:, :q, :q].copy()), torch.from_numpy(self.sizes)
        coefficients = torch.from_numpy(fit.b[self.penalised])
        rows, columns = np.tril_indices(q)
        diagonal = torch.from_numpy(rows == columns)

        def objective(packed: Vector) -> tuple[float, Vector]:
            parameters = torch.from_numpy(packed).requires_grad_()
            noise = parameters[0].exp()
            entries = torch.where(diagonal, parameters[1:].exp(), parameters[1:])
            factor = torch.zeros(q, q, dtype=torch.float64).index_put(
                (torch.from_numpy(rows), torch.from_numpy(columns)), entries
            )
            inner = noise * torch.eye(q, dtype=torch.float64) + factor.T @ grams @ factor
            chol = torch.linalg.cholesky(inner)
            low = torch.linalg.solve_triangular(
                chol, (cross @ factor).unsqueeze(-1), upper=False
            ).squeeze(-1)
            distance = (squares - (low**2).sum(-1)) / noise
            log_det = (sizes - q) * parameters[0] + 2 * chol.diagonal(dim1=1, dim2=2).log().sum(-1)
            if np.isinf(fit.nu):
                tail = distance / 2
            else:
                tail = (fit.nu + sizes) / 2 * torch.log1p(distance / fit.nu)
            value = (log_det / 2 + tail).mean()
            if penalty is not None:
                value = value + penalty.value(coefficients / noise.sqrt())
            (gradient,) = torch.autograd.grad(value, parameters)
            return value.item(), gradient.numpy()

        start = fit.factor[rows, columns].copy()
        on_diagonal = rows == columns
        start[on_diagonal] = np.log(np.maximum(start[on_diagonal], 1e-150))
        start = np.r_[np.log(fit.noise_var), start]
        # A variance that falls to nothing has its minimum at minus infinity: far enough is there.
        floor = np.log(max(float(np.mean(self.y**2)), 1e-290)) - 60
        bounds = [(floor, None)] + [
            (floor / 2 - 10, None) if d else (None, None) for d in on_diagonal
        ]
        found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds)
        packed = found.x if found.fun <= objective(start)[0] else start
        factor = np.zeros((q, q))
        entries = packed[1:].copy()
        entries[on_diagonal] = np.exp(entries[on_diagonal])
        factor[rows, columns] = entries
        return float(np.exp(packed[0])), factor

    def random_effects(self, fit: MixedFit) -> list[NDArray]:
        """D Z^T V^-1 r of each group."""
        q = self.effects.shape[1]
        if not len(fit.factor):
            return [np.zeros(q) for _ in self.sizes]
        solved = self.solve(fit, (self.y - self.X @ fit.b)[:, None])
        return list(self.sums(self.effects * solved) @ (fit.factor @ fit.factor.T))

    def standard_errors(self, fit: MixedFit, penalty: Penalty | None) -> Vector:
        """From the expected information of b, on the standardised scale."""
        used = np.flatnonzero((fit.b != 0) | ~self.penalised) if penalty else np.arange(len(fit.b))
        share = np.ones(len(self.sizes))
        if np.isfinite(fit.nu):
            share = (fit.nu + self.sizes) / (fit.nu + self.sizes + 2)
        part = self.X[:, used]
        information = part.T @ (self.spread(share)[:, None] * self.solve(fit, part))
        errors = np.zeros(len(fit.b))
        errors[used] = np.sqrt(np.maximum(np.diag(np.linalg.pinv(information)), 0.0))
        return errors[self.penalised]


@dataclass(frozen=True)
class _GroupLoss:
    """The groups' mean loss as a function of X b, variances held."""

    design: MixedDesign
    fit: MixedFit

    @property
    def bound(self) -> float:
        """At most (nu + n_i) / nu over the noise's variance, for the group where that is most."""
        share = 1.0 if np.isinf(self.fit.nu) else 1.0 + self.design.sizes.max() / self.fit.nu
        return share / (self.fit.noise_var * len(self.design.sizes))

    def value(self, eta: Vector) -> float:
        residual = (self.design.y - eta)[:, None]
        solved = self.design.solve(self.fit, residual)
        distances = self.design.sums(residual[:, 0] * solved[:, 0])
        return float(np.mean(_tail(distances, self.design.sizes, self.fit.nu)))

    def slope(self, eta: Vector) -> Vector:
        residual = (self.design.y - eta)[:, None]
        solved = self.design.solve(self.fit, residual)[:, 0]
        nu, sizes = self.fit.nu, self.design.sizes
        if np.isinf(nu):
            return -solved / len(sizes)
        distances = self.design.sums(residual[:, 0] * solved)
        weights = (nu + sizes) / (nu + distances)
        return -self.design.spread(weights) * solved / len(sizes)


def _tail(distances: Vector, sizes: NDArray[np.int_], nu: float) -> Vector:
    if np.isinf(nu):
        return distances / 2
    return (nu + sizes) / 2 * np.log1p(distances / nu)
