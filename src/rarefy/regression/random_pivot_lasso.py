r"""The lasso on what random pivots leave, least squares on the pivots.

.. math:: \hat v = \arg\min_v \frac{1}{2N} \|(I - P_Z) y - \tilde R v\|^2 + \lambda \|v\|_1, \qquad
    \hat y = P_Z y + \tilde R \hat v

With a random support the prediction error is at most
:math:`\sigma^2 m / N + 4 \sigma k \frac{\|Xw\|}{\sqrt N} \sqrt{2 \log d / N}` however badly
conditioned X is: on m = k (k - 1) / delta pivots with probability 1 - delta - k m / d.

Source: Chandrasekaran, Meka and Stavropoulos 2025 (arXiv 2511.06211), phase 2; the bound follows
from that of `rarefy.regression.pivots` and the lasso's slow rate. Departures: the number of pivots
and the strength are chosen by cross-validation, plain lasso among the candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from rarefy.operators import L1
from rarefy.regression.path import penalty_path
from rarefy.regression.pivots import PivotBasis, pivots_and_residuals

# Strengths of a path over its largest. Columns that lean on each other need weak ones; behind
# pivots, with soon as many coefficients as rows, nothing is to be found below these.
_PLAIN_SHARES = np.geomspace(1.0, 1e-3, 30)
_SHARES = np.geomspace(1.0, 2e-2, 15)
# Epochs of coordinate descent for a strength: the weakest need not be exact to be ruled out.
_EPOCHS = 300
# The theory's strength is this many standard errors; the proof needs 2.
_ERRORS = 1.0
_SIGMA_ROUNDS = 10


class RandomPivotLasso(RegressorMixin, BaseEstimator):
    """Sparse regression whose prediction error does not depend on X's conditioning.

    For columns that lean on each other strongly and a support that nobody chose against you. On
    easy designs it falls back to the lasso. Coefficients are sparse up to the pivots.

    Parameters
    ----------
    n_pivots : int, sequence of int or "auto", default "auto"
        Pivots of a draw; the best of several by cross-validation. Auto tries 0, k, 2k and 4k
        where k is given, else 0, 4, 8, 16, ... up to a quarter of the rows.
    k : int, optional
        How many columns matter, where that is known.
    alpha : float, "cv" or "theory", default "cv"
        Strength of the lasso: chosen together with the pivots, ``sigma sqrt(2 log(d) / N)``, or
        given in the unit of y.
    sigma : float, optional
        Standard deviation of the noise, for "theory"; the scaled lasso's estimate otherwise.
    n_draws : int, default 5
        Draws of pivots at each size.
    aggregate : {"mean", "best"}, default "mean"
        Average the draws' coefficients, which lowers the variance that the pivots add, or take the
        draw that is best in cross-validation.
    refit : bool, default False
        Least squares on each draw's pivots and chosen columns, where these are at most half as many
        as the rows.
    cv : int, default 5
        Folds.
    fit_intercept : bool, default True
    tol : float, default 1e-3
        Duality gap over the null model's loss, on each path.
    rtol : float, default 1e-10
        As in :func:`rarefy.regression.random_pivot_basis`.
    random_state : int, RandomState or None

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    n_pivots_ : int
        The number chosen.
    pivots_ : list of ndarray of int
        Of the draws that the coefficients come from.
    alpha_ : float
        Mean strength over draws, columns being scaled to unit variance.
    v_l1_norm_ : float
        Mean l1 norm of the coefficients on the residual dictionary.
    cv_error_ : ndarray, shape (sizes,)
        Least mean squared error of each number of pivots tried; missing where there was no choice.
    n_iter_ : int
        Epochs of the last draw's path.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 2)) @ rng.normal(size=(2, 300))
    >>> X += 1e-3 * rng.normal(size=X.shape)
    >>> support = rng.choice(300, 3, replace=False)
    >>> w = np.linalg.svd(X[:, support] - X[:, support].mean(0))[2][-1]
    >>> signal = X[:, support] @ w
    >>> y = signal / signal.std() + 0.1 * rng.normal(size=100)
    >>> model = RandomPivotLasso(k=3, random_state=0).fit(X, y)
    >>> model.n_pivots_ > 0, bool(model.score(X, y) > 0.5)
    (True, True)
    """

    def __init__(
        self,
        n_pivots: int | Sequence[int] | Literal["auto"] = "auto",
        *,
        k: int | None = None,
        alpha: float | Literal["cv", "theory"] = "cv",
        sigma: float | None = None,
        n_draws: int = 5,
        aggregate: Literal["mean", "best"] = "mean",
        refit: bool = False,
        cv: int = 5,
        fit_intercept: bool = True,
        tol: float = 1e-3,
        rtol: float = 1e-10,
        random_state: Any = None,
    ) -> None:
        self.n_pivots = n_pivots
        self.k = k
        self.alpha = alpha
        self.sigma = sigma
        self.n_draws = n_draws
        self.aggregate = aggregate
        self.refit = refit
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.rtol = rtol
        self.random_state = random_state

    def fit(self, X: Any, y: Any, X_unlabeled: Any = None) -> RandomPivotLasso:
        """Fit the model.

        Parameters
        ----------
        X : array, shape (n_samples, n_features)
        y : array, shape (n_samples,)
        X_unlabeled : array, shape (more, n_features), optional
            Rows without a target, of the same law: they sharpen the residuals' lengths.

        Returns
        -------
        RandomPivotLasso
            Itself.

        Raises
        ------
        ValueError
            If an input is not finite, an option is out of its range, or there are not fewer pivots
            than rows.

        Warns
        -----
        UserWarning
            If there are more pivots than a quarter of the rows.
        """
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2
        )
        more = np.zeros((0, X.shape[1]))
        if X_unlabeled is not None:
            more = check_array(X_unlabeled, dtype=np.float64, input_name="X_unlabeled")
            if more.shape[1] != X.shape[1]:
                raise ValueError(
                    f"X_unlabeled must have {X.shape[1]} columns like X, got {more.shape[1]}"
                )
        sizes = self._sizes(*X.shape)
        rng = check_random_state(self.random_state)
        seeds = rng.randint(2**31 - 1, size=self.n_draws)
        wide, target = X.astype(np.float64), y.astype(np.float64)
        size, share, draws = sizes[0], None, list(range(self._count(sizes[0])))
        if len(sizes) > 1 or self.alpha == "cv" or self.aggregate == "best":
            size, share, draws = self._choose(wide, target, more, sizes, seeds)
        table = _Table(wide, target, more, centre=self.fit_intercept)
        fits = [self._draw(table, size, seeds[d], share) for d in draws]
        self.n_pivots_ = size
        coef = np.mean([fit.coefs[0] for fit in fits], axis=0) / table.scale
        self.coef_ = coef.astype(X.dtype)
        self.intercept_ = X.dtype.type(table.offset - table.centre @ coef)
        self.pivots_ = [fit.pivots for fit in fits]
        self.alpha_ = float(np.mean([fit.strengths[0] for fit in fits]))
        self.v_l1_norm_ = float(np.mean([fit.l1_norms[0] for fit in fits]))
        self.n_iter_ = fits[-1].n_iter
        return self

    def predict(self, X: Any) -> NDArray:
        """Predict the targets of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return X @ self.coef_ + self.intercept_

    def _sizes(self, n: int, p: int) -> list[int]:
        """Refuse options that are out of their range; the numbers of pivots to try."""
        if self.aggregate not in ("mean", "best"):
            raise ValueError(f"aggregate must be 'mean' or 'best', got {self.aggregate!r}")
        if isinstance(self.alpha, str):
            if self.alpha not in ("cv", "theory"):
                raise ValueError(f"alpha must be a number, 'cv' or 'theory', got {self.alpha!r}")
        elif not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be positive and finite, got {self.alpha}")
        for name, least in (("n_draws", 1), ("cv", 2), ("k", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.sigma is not None and self.sigma <= 0:
            raise ValueError(f"sigma must be positive, got {self.sigma}")
        if isinstance(self.n_pivots, str):
            if self.n_pivots != "auto":
                raise ValueError(f"n_pivots must be numbers or 'auto', got {self.n_pivots!r}")
            most = min(n // 4, p)
            if self.k is not None:
                return sorted({0, *(m for m in (self.k, 2 * self.k, 4 * self.k) if m <= most)})
            doubling = [4 * 2**i for i in range(max(most, 1).bit_length())]
            return [0, *(m for m in doubling if m <= most)]
        sizes = sorted({int(m) for m in np.atleast_1d(self.n_pivots)})
        if not sizes or sizes[0] < 0 or sizes[-1] >= n:
            raise ValueError(f"n_pivots must be < n_samples = {n} and at least 0, got {sizes}")
        if sizes[-1] > n / 4:
            warnings.warn(
                f"n_pivots = {sizes[-1]} is over a quarter of the {n} rows: least squares on the "
                "pivots then fits much of the noise",
                UserWarning,
                stacklevel=3,
            )
        return [min(m, p) for m in sizes]

    def _count(self, size: int) -> int:
        """Without pivots all draws are the same."""
        return self.n_draws if size else 1

    def _choose(
        self, X: NDArray, y: NDArray, more: NDArray, sizes: list[int], seeds: NDArray
    ) -> tuple[int, int | None, list[int]]:
        """The size, the place on the path and the draws that predict held-out rows best."""
        widths = {m: len(_shares(m)) if self.alpha == "cv" else 1 for m in sizes}
        error = {m: np.zeros((self._count(m), widths[m])) for m in sizes}
        averaged = {m: np.zeros(widths[m]) for m in sizes}
        folds = KFold(min(self.cv, len(y)), shuffle=True, random_state=int(seeds[0]))
        for train, test in folds.split(X):
            table = _Table(X[train], y[train], more, centre=self.fit_intercept)
            held, wanted = (X[test] - table.centre) / table.scale, y[test] - table.offset
            for m in sizes:
                m_here = min(m, len(train) - 1)
                found = [
                    held @ self._draw(table, m_here, seeds[d], None).coefs.T
                    for d in range(self._count(m))
                ]
                error[m] += [np.sum((p - wanted[:, None]) ** 2, axis=0) for p in found]
                averaged[m] += np.sum((np.mean(found, axis=0) - wanted[:, None]) ** 2, axis=0)
        scores = (
            averaged if self.aggregate == "mean" else {m: e.min(axis=0) for m, e in error.items()}
        )
        # ties go to fewer pivots
        size = min(sizes, key=lambda m: (scores[m].min(), m))
        share = int(np.argmin(scores[size]))
        self.cv_error_ = np.array([scores[m].min() for m in sizes]) / len(y)
        draws = list(range(self._count(size)))
        if self.aggregate == "best":
            draws = [int(np.argmin(error[size][:, share]))]
        return size, share if self.alpha == "cv" else None, draws

    def _draw(self, table: _Table, size: int, seed: int, share: int | None) -> _DrawFit:
        """Fit one draw along its path, or at one place of it."""
        basis, residuals = pivots_and_residuals(
            table.X, size, random_state=int(seed), rtol=self.rtol
        )
        scales = table.scales(basis)
        atoms = residuals * scales
        left = table.y - basis.q @ (basis.q.T @ table.y)
        n, p = atoms.shape
        top = float(abs(atoms.T @ left).max(initial=0.0)) / n
        if self.alpha == "cv":
            strengths = top * _shares(size)[: None if share is None else share + 1]
        else:
            strengths = np.array([self._theory(atoms, left, size, top)])
        if top <= 1e-14 * (float(np.linalg.norm(table.y)) or 1.0) or not (strengths > 0).all():
            v, n_iter = np.zeros((len(strengths), p)), 0
        else:
            path = _lasso(atoms, left, strengths, self.tol)
            v, n_iter = path.coefs, int(path.iterations[-1])
        if share is not None:
            v, strengths = v[-1:], strengths[-1:]
        coefs = scales * v
        rest = basis.q.T @ (table.y[:, None] - table.X @ coefs.T)
        if len(basis.pivots):
            coefs[:, basis.pivots] = basis.on_pivots(rest).T
        if self.refit and len(coefs) == 1:
            coefs = self._least_squares(table, basis, coefs)
        return _DrawFit(coefs, basis.pivots, strengths, abs(v).sum(axis=1), n_iter)

    def _theory(self, atoms: NDArray, left: NDArray, size: int, top: float) -> float:
        if not isinstance(self.alpha, str):
            return float(self.alpha)
        n, p = atoms.shape
        rate = _ERRORS * (2 * np.log(max(p, 2)) / n) ** 0.5
        if self.sigma is not None:
            return self.sigma * rate
        freedom = max(n - size, 1)
        sigma = float(np.linalg.norm(left)) / freedom**0.5
        for _ in range(_SIGMA_ROUNDS):
            strength = min(sigma * rate, top)
            if strength <= 0:
                break
            v = _lasso(atoms, left, np.array([strength]), self.tol).coefs[0]
            before, sigma = sigma, float(np.linalg.norm(left - atoms @ v)) / freedom**0.5
            if abs(sigma - before) <= 1e-3 * before:
                break
        return sigma * rate

    def _least_squares(self, table: _Table, basis: PivotBasis, coefs: NDArray) -> NDArray:
        used = np.union1d(np.flatnonzero(coefs[0]), basis.pivots)
        if not len(used) or len(used) > len(table.y) / 2:
            return coefs
        refitted = np.zeros_like(coefs)
        refitted[0, used] = np.linalg.lstsq(table.X[:, used], table.y, rcond=None)[0]
        return refitted


@dataclass(frozen=True)
class _DrawFit:
    """One draw's coefficients on the table's columns, a row for each strength."""

    coefs: NDArray
    pivots: NDArray[np.int_]
    strengths: NDArray
    l1_norms: NDArray
    n_iter: int


class _Table:
    """Centred rows with columns of unit variance, and unlabelled rows on the same scale."""

    def __init__(self, X: NDArray, y: NDArray, more: NDArray, *, centre: bool) -> None:
        self.centre = X.mean(axis=0) if centre else np.zeros(X.shape[1])
        self.offset = float(y.mean()) if centre else 0.0
        moved = X - self.centre
        self.scale = np.sqrt(np.mean(moved**2, axis=0))
        # a constant column is rounding noise once it is centred
        flat = self.scale <= 1e-12 * abs(self.centre)
        self.scale[flat | (self.scale == 0)] = 1.0
        moved[:, flat] = 0.0
        self.X, self.y = moved / self.scale, y - self.offset
        self.more = (more - self.centre) / self.scale

    def scales(self, basis: PivotBasis) -> NDArray:
        """What brings a residual to unit variance, unlabelled rows counted where there are any."""
        if not len(self.more):
            return basis.scales
        beyond = self.more - self.more[:, basis.pivots] @ basis.coefficients
        total = basis.residual_norms**2 + np.sum(beyond**2, axis=0)
        rows = len(self.X) + len(self.more)
        return np.where(basis.scales > 0, (rows / np.maximum(total, 1e-300)) ** 0.5, 0.0)


def _shares(size: int) -> NDArray:
    return _SHARES if size else _PLAIN_SHARES


def _lasso(atoms: NDArray, y: NDArray, strengths: NDArray, tol: float) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return penalty_path(
            np.asfortranarray(atoms),
            y,
            L1(1.0),
            strengths=strengths,
            fit_intercept=False,
            tol=tol,
            max_iter=_EPOCHS,
        )
