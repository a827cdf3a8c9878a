r"""A linear mixed-effects model of maximal Tsallis entropy: outlying groups count for less.

.. math:: y_i = X_i b + Z_i u_i + e_i, \qquad V_i = Z_i D Z_i^T + \sigma^2 I, \qquad
    d_i = r_i^T V_i^{-1} r_i

with :math:`r_i = y_i - X_i b`. The law that maximises Tsallis entropy at a given location and
scatter is q-Gaussian; for q above 1 it is a multivariate Student t with nu degrees of freedom, nu
shared by all groups so that margins stay in the family. Minimised is

.. math:: \frac1N \sum_i \left[\tfrac12 \log|V_i|
    + \tfrac{\nu + n_i}{2} \log\!\left(1 + \tfrac{d_i}{\nu}\right)\right]
    + \sum_j \varphi_\lambda(b_j / \sigma)

and each group weighs :math:`w_i = (\nu + n_i) / (\nu + d_i)`. As nu grows this becomes the Gaussian
model. The penalty weighs coefficients in units of the noise: of b itself, it could not stop a
perfect fit from buying any likelihood with a variance of nothing (Stadler, Buhlmann and van de Geer
2010). b and the variances take turns: b by reweighted least squares, or with a penalty by proximal
conjugate gradient; the variances by L-BFGS.

Source: Yang, PhD thesis (McGill 2025), part C, whose abstract names the model; Pinheiro, Liu and Wu
2001 for the t form, Lange, Little and Taylor 1989 for its information. Departures: a
reconstruction: the thesis's own parametrisation is not known.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from rarefy.operators import Penalty
from rarefy.regression._mixed_design import MixedDesign, MixedFit

# Degrees of freedom tried by "profile"; the last is the Gaussian model.
_PROFILE = (3.0, 4.0, 6.0, 10.0, 30.0, np.inf)


class TsallisMixedRegressor(RegressorMixin, BaseEstimator):
    """Linear mixed-effects regression that outlying groups do not sway.

    Parameters
    ----------
    nu : float or "profile", default 4
        Degrees of freedom of the groups' law; ``inf`` is the Gaussian model. "profile" takes the
        likeliest of 3, 4, 6, 10, 30 and infinity.
    penalty : Penalty, optional
        A two-sided L1, MCP or SCAD on the coefficients of the standardised features in units of the
        noise; with N groups ``lam = sqrt(2 * n_samples * log(n_features)) / N`` is about the least
        that keeps noise out. None fits all of them.
    fit_intercept : bool, default True
        Never penalised.
    tol : float, default 1e-8
        Stop once a round lowers the objective by less, relative to its size.
    max_iter : int, default 200
        Rounds.

    Attributes
    ----------
    coef_ : ndarray, shape (n_features,)
    intercept_ : float
    bse_ : ndarray, shape (n_features,)
        Standard errors of the coefficients from the expected information, of the chosen ones where
        there is a penalty (and 0 for the others); the choice itself is taken as given.
    noise_var_ : float
        Scatter of a row; its variance is ``nu / (nu - 2)`` times as large.
    random_cov_ : ndarray, shape (q, q)
        Scatter D of the random effects; 0 where every group has one row.
    random_effects_ : dict
        Best linear predictor of each group's effects, shape (q,).
    weights_ : dict
        Weight of each group; far below 1 is an outlier.
    nu_ : float
    log_likelihood_ : float
    objective_history_ : ndarray
    n_iter_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(30), 5)
    >>> X = rng.normal(size=(150, 2))
    >>> y = X @ [1.0, -2.0] + rng.normal(size=30)[groups] + 0.1 * rng.normal(size=150)
    >>> y[:5] += 50 * rng.normal(size=5)
    >>> model = TsallisMixedRegressor().fit(X, y, groups=groups)
    >>> bool(abs(model.coef_ - [1, -2]).max() < 0.05), model.weights_[0] < 0.01
    (True, True)
    """

    def __init__(
        self,
        nu: float | Literal["profile"] = 4.0,
        *,
        penalty: Penalty | None = None,
        fit_intercept: bool = True,
        tol: float = 1e-8,
        max_iter: int = 200,
    ) -> None:
        self.nu = nu
        self.penalty = penalty
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, groups: Any = None, Z: Any = None) -> TsallisMixedRegressor:
        """Fit the model.

        Parameters
        ----------
        X : array, shape (n_samples, n_features)
        y : array, shape (n_samples,)
        groups : array, shape (n_samples,), optional
            Label of each row's group, in any order; every row its own otherwise.
        Z : array, shape (n_samples, q), optional
            Columns with random effects; with groups a random intercept otherwise.

        Returns
        -------
        TsallisMixedRegressor
            Itself.

        Raises
        ------
        ValueError
            If an input is not finite, sizes do not fit, an option is out of its range, or the
            random effects are collinear.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` rounds did not reach ``tol``; the message says what was.
        """
        self._check()
        X, y = validate_data(
            self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2
        )
        design = MixedDesign.of(X, y, groups, Z, fit_intercept=self.fit_intercept)
        found = [
            self._best(design, nu)
            for nu in (_PROFILE if self.nu == "profile" else (float(self.nu),))
        ]
        best = max(found, key=lambda fit: fit.log_likelihood)
        if not best.converged:
            warnings.warn(
                f"after {self.max_iter} rounds the objective still fell by "
                f"{-np.diff(best.objectives)[-1]:.1e}, more than tol={self.tol:g} of its size",
                ConvergenceWarning,
                stacklevel=2,
            )
        dtype = X.dtype
        coef = best.b[1:] if self.fit_intercept else best.b
        self.coef_ = (coef / design.scale).astype(dtype)
        shift = float(design.centre @ (coef / design.scale))
        self.intercept_ = dtype.type((best.b[0] if self.fit_intercept else 0.0) - shift)
        self.bse_ = (design.standard_errors(best, self.penalty) / design.scale).astype(dtype)
        self.noise_var_ = best.noise_var
        self.random_cov_ = best.factor @ best.factor.T
        effects = design.random_effects(best)
        weights = design.weights(best)
        self.random_effects_ = dict(zip(design.labels.tolist(), effects, strict=True))
        self.weights_ = dict(zip(design.labels.tolist(), weights.tolist(), strict=True))
        self.nu_ = best.nu
        self.log_likelihood_ = best.log_likelihood
        self.objective_history_ = np.array(best.objectives)
        self.n_iter_ = len(best.objectives) - 1
        return self

    def predict(self, X: Any, groups: Any = None, Z: Any = None) -> NDArray:
        """Predict the targets of X.

        Parameters
        ----------
        X : array, shape (n_samples, n_features)
        groups : array, shape (n_samples,), optional
            Groups that were seen in `fit` add their random effects; others and None add nothing.
        Z : array, shape (n_samples, q), optional
            As in `fit`.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted = X @ self.coef_ + self.intercept_
        if groups is None:
            return predicted
        q = self.random_cov_.shape[0]
        effects = np.ones((len(X), 1)) if Z is None else check_array(Z, ensure_2d=True)
        if effects.shape != (len(X), q):
            raise ValueError(f"Z must have shape ({len(X)}, {q}), got {effects.shape}")
        known = self.random_effects_
        nothing = np.zeros(q)
        rows = np.array([known.get(label, nothing) for label in np.asarray(groups).tolist()])
        return predicted + np.sum(effects * rows, axis=1).astype(predicted.dtype)

    def _check(self) -> None:
        if self.nu != "profile" and not (not isinstance(self.nu, str) and self.nu > 0):
            raise ValueError(f"nu must be positive or 'profile', got {self.nu!r}")
        if self.penalty is not None and not isinstance(self.penalty, Penalty):
            raise TypeError(f"penalty must be a Penalty or None, got {self.penalty!r}")
        if self.tol < 0 or self.max_iter < 1:
            raise ValueError(
                f"tol must be at least 0 and max_iter at least 1, got {self.tol} and "
                f"{self.max_iter}"
            )

    def _best(self, design: MixedDesign, nu: float) -> MixedFit:
        """Descend from the plain start; with a penalty also from what half of it leaves.

        A noise variance that starts large makes a nonconvex penalty shrink where it need not, and
        the shrunk fit keeps the variance large; from below it finds the better of the two minima.
        """
        first = self._descend(design, self._start(design, nu), self.penalty)
        if self.penalty is None:
            return first
        half = dataclasses.replace(self.penalty, lam=self.penalty.lam / 2)
        light = self._descend(design, self._start(design, nu), half)
        second = self._descend(design, light, self.penalty)
        # a bounded penalty cannot stop a perfect fit: with this many coefficients it is one
        if np.count_nonzero(second.b) > len(design.y) / 2:
            return first
        return min(first, second, key=lambda fit: fit.objectives[-1])

    def _start(self, design: MixedDesign, nu: float) -> MixedFit:
        b = design.start(self.penalty)
        spread = float(np.mean((design.y - design.X @ b) ** 2))
        # half of what is left to the groups, and never a variance of zero to begin with
        spread = max(spread, 1e-12 * float(np.mean(design.y**2)), 1e-300)
        q = design.effects.shape[1] if design.shared else 0
        scales = np.sqrt(np.mean(design.effects**2, axis=0))[:q]
        factor = np.diag(np.sqrt(spread / 2) / scales) if q else np.zeros((0, 0))
        return MixedFit(nu, b, spread / (2 if q else 1), factor)

    def _descend(self, design: MixedDesign, start: MixedFit, penalty: Penalty | None) -> MixedFit:
        """Take turns between b and the variances until the objective rests."""
        fit = MixedFit(start.nu, start.b, start.noise_var, start.factor)
        fit.objectives.append(design.objective(fit, penalty))
        for _ in range(self.max_iter):
            fit.b = design.best_coefficients(fit, penalty)
            fit.noise_var, fit.factor = design.best_variances(fit, penalty)
            fit.objectives.append(design.objective(fit, penalty))
            before, after = fit.objectives[-2:]
            if before - after <= self.tol * max(abs(after), 1.0):
                fit.converged = True
                break
        fit.log_likelihood = design.log_likelihood(fit)
        return fit
