r"""Sparse Bayesian learning on a dense dictionary.

.. math:: y = Hx + n, \quad x_j \sim \mathcal{N}(0, \gamma_j), \qquad
    \mu = \Gamma H^H S^{-1} y, \quad v_j = \gamma_j - \gamma_j^2\, h_j^H S^{-1} h_j, \quad
    \gamma_j \leftarrow v_j + |\mu_j|^2

with :math:`S = \sigma^2 I + H \Gamma H^H`. Each expectation-maximisation step lowers
:math:`\log\det S + y^H S^{-1} y`, whose minima are sparse. The pattern-coupled form ties each
entry's precision to its neighbours', for x with blocks of unknown place.

Sources: Tipping 2001; Wipf and Rao 2004; the noise rule and the pruning are those of He and Joseph
2024 (arXiv 2307.14719); coupling is Fang, Shen, Li and Li 2015. Departures: with fewer atoms left
than measurements the posterior is solved in the atoms' space, which gives the same numbers for
less work.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from rarefy.regression.kronecker import check_factors, check_measurements


@dataclass(frozen=True)
class SparseBayesFit:
    """What sparse Bayesian learning found.

    Attributes
    ----------
    mean, variance : ndarray, shape (N,)
        Posterior mean and variance of each entry; 0 where it was pruned.
    gamma : ndarray of float, shape (N,)
        Prior variances; 0 where pruned.
    support : ndarray of int
        Entries that were never pruned.
    noise_var : float
    cost_history : ndarray
        ``log det S + y^H S^-1 y`` at the start of each iteration.
    """

    mean: NDArray
    variance: NDArray
    gamma: NDArray
    support: NDArray
    noise_var: float
    cost_history: NDArray


def sparse_bayes(
    dictionary: ArrayLike,
    y: ArrayLike,
    *,
    noise_var: float | Literal["learn"] = "learn",
    max_iter: int = 150,
    tol: float = 1e-4,
    prune: float = 1e-3,
    start: ArrayLike | None = None,
) -> SparseBayesFit:
    """Sparse Bayesian learning of one vector of measurements, real or complex.

    Parameters
    ----------
    dictionary : array, shape (M, N)
    y : array, shape (M,)
    noise_var : float or "learn", default "learn"
        Variance of the noise; learned by EM from a tenth of y's variance.
    max_iter : int, default 150
    tol : float, default 1e-4
        Stop once gamma changes by less, relative to its norm.
    prune : float, default 1e-3
        Drop entries whose gamma is below this share of the largest; 0 for none.
    start : array, shape (N,), optional
        Positive prior variances to start from; ones otherwise.

    Returns
    -------
    SparseBayesFit

    Raises
    ------
    ValueError
        If a parameter is out of range, sizes do not fit, or an input is not finite.

    Warns
    -----
    ConvergenceWarning
        If ``max_iter`` iterations did not reach ``tol``.
    """
    (full,) = check_factors([dictionary])
    measured = check_measurements(y, [full])
    _check_numbers(noise_var, max_iter, tol, prune)
    full = full.astype(np.result_type(np.float64, full), copy=False)
    measured = measured.astype(np.result_type(np.float64, measured), copy=False)
    n_atoms = full.shape[1]
    gamma = np.ones(n_atoms) if start is None else np.array(start, float)
    if gamma.shape != (n_atoms,) or not (gamma > 0).all() or not np.isfinite(gamma).all():
        raise ValueError(
            f"start must be {n_atoms} positive finite numbers, got shape {gamma.shape}"
        )
    floor = np.finfo(float).eps * float(np.mean(abs(measured) ** 2)) or np.finfo(float).tiny
    noise = max(0.1 * float(np.var(measured)) if noise_var == "learn" else noise_var, floor)

    kept, active = np.arange(n_atoms), full
    costs, change = [], np.inf
    for _ in range(max_iter):
        before = gamma
        keep = gamma >= prune * gamma.max()
        if not keep.all():
            kept, gamma, active = kept[keep], gamma[keep], active[:, keep]
        mean, variance, cost = _posterior(active, measured, gamma, noise)
        costs.append(cost)
        old, gamma = gamma, variance + abs(mean) ** 2
        if noise_var == "learn":
            unexplained = np.linalg.norm(measured - active @ mean) ** 2
            # a gamma of zero is an entry that nothing is left to learn of
            sure = np.divide(variance, old, out=np.ones_like(old), where=old > 0)
            noise = max(float(unexplained + noise * np.sum(1.0 - sure)) / len(measured), floor)
        after = np.zeros_like(before)
        after[keep] = gamma
        change = float(np.linalg.norm(after - before) / (np.linalg.norm(before) or 1.0))
        if change <= tol:
            break
    else:
        warnings.warn(
            f"after {max_iter} iterations the prior variances still change by {change:.1e} of "
            f"their norm, more than tol={tol:g}",
            ConvergenceWarning,
            stacklevel=2,
        )
    mean, variance, _ = _posterior(active, measured, gamma, noise)
    return SparseBayesFit(
        mean=_scatter(mean, kept, n_atoms),
        variance=_scatter(variance, kept, n_atoms),
        gamma=_scatter(gamma, kept, n_atoms),
        support=kept,
        noise_var=noise,
        cost_history=np.array(costs),
    )


def pattern_coupled_sbl(
    dictionary: ArrayLike,
    y: ArrayLike,
    *,
    noise_var: float,
    coupling: float = 0.9,
    max_iter: int = 150,
    tol: float = 1e-4,
) -> SparseBayesFit:
    r"""Sparse Bayesian learning whose precisions are tied to those of both neighbours.

    .. math:: x_j \sim \mathcal{N}(0, 1 / (\alpha_j + \eta\,\alpha_{j-1} + \eta\,\alpha_{j+1}))

    with a Gamma(1/2, 1e-4) prior on each alpha; an alpha over 1,000 times the smallest is taken as
    infinite.

    Parameters
    ----------
    dictionary : array, shape (M, N)
    y : array, shape (M,)
    noise_var : float
    coupling : float, default 0.9
        eta, as in the study of He and Joseph 2024.
    max_iter : int, default 150
    tol : float, default 1e-4
        Stop once the mean changes by less, relative to its norm.

    Returns
    -------
    SparseBayesFit
        Its ``gamma`` holds the prior variances.

    Raises
    ------
    ValueError
        If a parameter is out of range, sizes do not fit, or an input is not finite.
    """
    (full,) = check_factors([dictionary])
    measured = check_measurements(y, [full])
    _check_numbers(noise_var, max_iter, tol, 0.0)
    if noise_var == "learn" or not 0 <= coupling <= 1:
        raise ValueError(
            f"noise_var must be a number and coupling from 0 to 1, got {noise_var!r} and {coupling}"
        )
    precision = _with_neighbours(np.ones(full.shape[1]), coupling)
    mean, variance, cost = _posterior(full, measured, 1.0 / precision, noise_var)
    costs = [cost]
    for _ in range(max_iter):
        before = mean
        moment = _with_neighbours(variance + abs(mean) ** 2, coupling)
        alpha = (0.5 + 0.5) / (0.5 * moment + 1e-4)
        alpha[alpha > 1e3 * alpha.min()] = 1e10
        precision = _with_neighbours(alpha, coupling)
        mean, variance, cost = _posterior(full, measured, 1.0 / precision, noise_var)
        costs.append(cost)
        if np.linalg.norm(mean - before) <= tol * np.linalg.norm(before):
            break
    return SparseBayesFit(
        mean=mean,
        variance=variance,
        gamma=1.0 / precision,
        support=np.flatnonzero(alpha < 1e10),
        noise_var=noise_var,
        cost_history=np.array(costs),
    )


class SparseBayesianRegressor(RegressorMixin, BaseEstimator):
    """Linear regression with an automatic relevance prior, by sparse Bayesian learning.

    Parameters
    ----------
    fit_intercept : bool, default True
        Centre X and y first.
    noise_var : float or "learn", default "learn"
    max_iter : int, default 2000
    tol : float, default 1e-3
        Stop once the prior variances change by less, relative to their norm; where nothing is
        relevant they fall as one over the iterations.
    prune : float, default 1e-3
        Drop features whose prior variance, in units of the feature's scale, is below this share of
        the largest.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
        Posterior mean.
    posterior_var_ : ndarray, shape (n_features,)
    gamma_ : ndarray, shape (n_features,)
        Prior variances.
    intercept_ : float
    noise_var_ : float
    n_iter_ : int
    cost_history_ : ndarray, shape (n_iter_,)
        Negative log evidence, twice and without constants.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(40, 100))
    >>> y = 3 * X[:, 5] - 2 * X[:, 60] + 0.1 * rng.normal(size=40)
    >>> sbl = SparseBayesianRegressor().fit(X, y)
    >>> np.flatnonzero(abs(sbl.coef_) > 0.5).tolist()
    [5, 60]
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        noise_var: float | Literal["learn"] = "learn",
        max_iter: int = 2000,
        tol: float = 1e-3,
        prune: float = 1e-3,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.noise_var = noise_var
        self.max_iter = max_iter
        self.tol = tol
        self.prune = prune

    def fit(self, X: Any, y: Any) -> SparseBayesianRegressor:
        """Fit X, shape (n_samples, n_features), to y, shape (n_samples,)."""
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2
        )
        y = np.asarray(y, X.dtype)
        centre = X.mean(axis=0) if self.fit_intercept else np.zeros(X.shape[1], X.dtype)
        offset = y.mean() if self.fit_intercept else X.dtype.type(0)
        centred = X - centre
        # the prior's scale is each feature's own, so that units change nothing
        scale = np.sqrt(np.mean(centred**2, axis=0))
        scale[scale == 0] = 1.0
        height = float(np.sqrt(np.mean((y - offset) ** 2))) or 1.0
        found = sparse_bayes(
            centred / scale,
            (y - offset) / height,
            noise_var="learn" if self.noise_var == "learn" else self.noise_var / height**2,
            max_iter=self.max_iter,
            tol=self.tol,
            prune=self.prune,
        )
        self.coef_ = (found.mean * height / scale).astype(X.dtype)
        self.posterior_var_ = (found.variance * height**2 / scale**2).astype(X.dtype)
        self.gamma_ = (found.gamma * height**2 / scale**2).astype(X.dtype)
        self.intercept_ = X.dtype.type(offset - centre @ self.coef_)
        self.noise_var_ = found.noise_var * height**2
        self.n_iter_ = len(found.cost_history)
        self.cost_history_ = found.cost_history
        return self

    def predict(self, X: Any) -> NDArray:
        """Posterior mean of the targets of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_ + self.intercept_


def _posterior(
    h: NDArray, y: NDArray, gamma: NDArray, noise: float
) -> tuple[NDArray, NDArray, float]:
    """Mean, variance and cost; the Cholesky factor is of the smaller of the two spaces."""
    rows, atoms = h.shape
    if atoms >= rows:
        weighted = h * gamma
        chol = cho_factor(noise * np.eye(rows) + weighted @ h.conj().T, lower=True)
        inner = solve_triangular(chol[0], weighted, lower=True)
        variance = gamma - np.sum(abs(inner) ** 2, axis=0)
        solved = cho_solve(chol, y)
        mean = weighted.conj().T @ solved
        logdet = 2.0 * np.sum(np.log(np.diag(chol[0]).real))
        fit = float((y.conj() @ solved).real)
    else:
        root = np.sqrt(gamma)
        scaled = h * root
        chol = cho_factor(np.eye(atoms) + scaled.conj().T @ scaled / noise, lower=True)
        inner = solve_triangular(chol[0], np.diag(root), lower=True)
        variance = np.sum(abs(inner) ** 2, axis=0)
        mean = root * cho_solve(chol, scaled.conj().T @ y) / noise
        logdet = 2.0 * np.sum(np.log(np.diag(chol[0]).real)) + rows * np.log(noise)
        fit = float((y.conj() @ (y - h @ mean)).real) / noise
    return mean, np.maximum(variance, 0.0), float(logdet) + fit


def _with_neighbours(x: NDArray, coupling: float) -> NDArray:
    total = x.copy()
    total[1:] += coupling * x[:-1]
    total[:-1] += coupling * x[1:]
    return total


def _scatter(values: NDArray, index: NDArray, size: int) -> NDArray:
    whole = np.zeros(size, values.dtype)
    whole[index] = values
    return whole


def _check_numbers(noise_var: float | str, max_iter: int, tol: float, prune: float) -> None:
    if noise_var != "learn" and not (not isinstance(noise_var, str) and 0 < noise_var < np.inf):
        raise ValueError(f"noise_var must be positive and finite or 'learn', got {noise_var!r}")
    if max_iter < 1 or tol < 0 or not 0 <= prune < 1:
        raise ValueError(
            f"max_iter must be at least 1, tol at least 0 and prune in [0, 1), got {max_iter}, "
            f"{tol} and {prune}"
        )
