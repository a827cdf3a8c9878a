r"""Sparse Bayesian learning with a Kronecker-structured dictionary and support.

.. math:: y = (H_1 \otimes \dots \otimes H_I)\, x + n, \qquad
    x \sim \mathcal{N}(0, \mathrm{diag}(g_1 \otimes \dots \otimes g_I)), \quad g_i \ge 0

Expectation maximisation over :math:`\sum_i N_i` hyperparameters in place of :math:`\prod_i N_i`.
With :math:`H_i \,\mathrm{diag}(g_i)\, H_i^H = U_i \,\mathrm{diag}(p_i)\, U_i^H`,
:math:`W_i = \mathrm{diag}(g_i) H_i^H U_i`, :math:`P = p_1 \circ \dots \circ p_I` and
:math:`D = 1 / (\sigma^2 + P)` the posterior is

.. math:: \mu = (D \odot (Y \times_i U_i^H)) \times_i W_i, \qquad
    v = g_1 \circ \dots \circ g_I - D \times_i |W_i|^2

and the hyperparameters minimise :math:`\sum_j \log \gamma_j + d_j / \gamma_j` over Kronecker
:math:`\gamma`, where :math:`d = v + |\mu|^2`: by alternating exact updates (``am``), by one round
of them (``ksbl``), or by the best rank-one fit of d, the minimiser without structure (``svd``).

Source: He and Joseph, "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery With
Application to IRS-MIMO Channel Estimation", IEEE TSP 2024 (arXiv 2307.14719), sections III and V,
with the constants of the authors' released code. Departures: the posterior is computed in the
factors' eigenbases, where the authors form the Kronecker products and the full covariance (the
numbers are the same, the memory is not); the inner loop stops on a relative change, so that it
does not depend on y's units.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

from rarefy.regression.kronecker import check_factors, check_measurements, multiply_modes, outer

Method = Literal["svd", "am", "ksbl"]

# Authors' constants: inner stopping and sweeps, those of coupled modes, and what is added there.
_SWEEP_TOL, _SWEEPS = 1e-5, 500
_COUPLED_TOL, _COUPLED_SWEEPS = 1e-4, 10
_COUPLED_FLOOR = 1e-5
# Entries are divided by each other's hyperparameters; this far below the largest they are zero.
_TINY = 1e-12

Update = Callable[[NDArray, list[NDArray]], list[NDArray]]


class KroneckerSBL(BaseEstimator):
    """Recover x, sparse along every mode, from ``y = (H_1 kron ... kron H_I) x + noise``.

    The nonzeros of x should lie in a box: a product of one small index set per mode. Their values
    are free.

    Parameters
    ----------
    method : {"svd", "am", "ksbl"}, default "svd"
        How the hyperparameters are kept a Kronecker product: the best rank-one fit (fastest and
        most accurate in the paper), alternating minimisation (its cost never rises), or one round
        of it (the earlier algorithm, as a baseline).
    noise_var : float or "learn", default "learn"
        Variance of the noise, E|n|^2; learned by EM from a tenth of y's variance.
    max_iter : int, default 150
        EM iterations, as in the authors' code.
    tol : float, default 1e-4
        Stop once the hyperparameters change by less, relative to their norm.
    prune : "auto", float or sequence of floats, default "auto"
        Drop an index of a mode when its hyperparameter is below this share of the mode's largest;
        one share per mode or one for all, 0 for none. Auto is the authors' choice: 1e-3 for
        ``svd``, 5e-3 for ``am`` with learned noise, else 1e-2.
    coupling : sequence of floats, optional
        Block sparsity (the paper's PC-KroSBL; only with ``am``): a mode's hyperparameters become
        ``(I + beta * (super- and subdiagonal)) @ g``, so that neighbours survive together. One
        beta in [0, 1] per mode, 0 for a mode without blocks.

    Attributes
    ----------
    coef_ : ndarray, shape (N_1, ..., N_I)
        Posterior mean of x, of the input's precision.
    posterior_var_ : ndarray, shape (N_1, ..., N_I)
        Posterior variance of each entry; 0 where it was pruned.
    gammas_ : list of ndarray, shapes (N_i,)
        Hyperparameters; all but the last have norm 1.
    support_ : list of ndarray of int
        Indices of each mode that were never pruned.
    noise_var_ : float
    n_iter_ : int
    cost_history_ : ndarray, shape (n_iter_,)
        ``log det S + y^H S^-1 y`` at the start of each iteration, S the covariance of y.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> factors = [rng.normal(size=(6, 10)), rng.normal(size=(6, 10))]
    >>> x = np.zeros((10, 10))
    >>> x[np.ix_([2, 7], [0, 4])] = [[1, -2], [3, 1]]
    >>> y = factors[0] @ x @ factors[1].T
    >>> sbl = KroneckerSBL(noise_var=1e-6).fit(factors, y)
    >>> sbl.support_[0].tolist(), sbl.support_[1].tolist()
    ([2, 7], [0, 4])
    >>> bool(abs(sbl.coef_ - x).max() < 1e-3)
    True
    """

    def __init__(
        self,
        method: Method = "svd",
        *,
        noise_var: float | Literal["learn"] = "learn",
        max_iter: int = 150,
        tol: float = 1e-4,
        prune: float | Sequence[float] | Literal["auto"] = "auto",
        coupling: Sequence[float] | None = None,
    ) -> None:
        self.method = method
        self.noise_var = noise_var
        self.max_iter = max_iter
        self.tol = tol
        self.prune = prune
        self.coupling = coupling

    def fit(
        self,
        factors: Sequence[ArrayLike],
        y: ArrayLike,
        *,
        start: Sequence[ArrayLike] | None = None,
    ) -> KroneckerSBL:
        """Estimate x.

        Parameters
        ----------
        factors : sequence of arrays, shapes (M_i, N_i), real or complex
        y : array, shape (M_1, ..., M_I) or its C-order vector
        start : sequence of arrays, shapes (N_i,), optional
            Positive hyperparameters to start from; all ones otherwise.

        Returns
        -------
        KroneckerSBL
            Itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, sizes do not fit, or an input is not finite.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` iterations did not reach ``tol``, or y is zero.
        """
        full = check_factors(factors)
        measured = check_measurements(y, full)
        kind = np.result_type(*full, measured)
        full = [factor.astype(np.result_type(np.float64, factor)) for factor in full]
        measured = measured.astype(np.result_type(np.float64, measured))
        shares = self._check(len(full))
        gammas = _check_start(start, full)
        noise = 0.1 * float(np.var(measured)) if self.noise_var == "learn" else self.noise_var
        if not measured.any():
            warnings.warn("y is all zero, and so is the estimate", ConvergenceWarning, stacklevel=2)
            gammas, noise = [np.zeros_like(g) for g in gammas], 1.0
        # A variance of zero would divide by zero where y fits exactly.
        floor = np.finfo(float).eps * float(np.mean(abs(measured) ** 2)) or 1.0
        noise = max(noise, floor)

        kept = [np.arange(factor.shape[1]) for factor in full]
        active, couplings = full, _couplings(self.coupling, full)
        costs: list[float] = []
        change = 0.0
        for _ in range(self.max_iter if measured.any() else 0):
            before = outer(gammas)
            keep = [g >= share * g.max() for g, share in zip(gammas, shares, strict=True)]
            if not all(k.all() for k in keep):
                kept = [index[k] for index, k in zip(kept, keep, strict=True)]
                gammas = [g[k] for g, k in zip(gammas, keep, strict=True)]
                active = [factor[:, k] for factor, k in zip(active, keep, strict=True)]
                couplings = [c and c.restrict(k) for c, k in zip(couplings, keep, strict=True)]
            posterior = _posterior(active, measured, gammas, noise)
            costs.append(posterior.cost)
            gammas = self._update(couplings)(posterior.second_moment, gammas)
            if self.noise_var == "learn":
                noise = max(posterior.expected_error / measured.size, floor)
            after = np.zeros_like(before)
            after[np.ix_(*keep)] = outer(gammas)
            change = float(np.linalg.norm(after - before) / np.linalg.norm(before))
            if change <= self.tol:
                break
        else:
            if measured.any():
                warnings.warn(
                    f"after {self.max_iter} iterations the hyperparameters still change by "
                    f"{change:.1e} of their norm, more than tol={self.tol:g}",
                    ConvergenceWarning,
                    stacklevel=2,
                )

        final = _posterior(active, measured, gammas, noise)
        shape = tuple(factor.shape[1] for factor in full)
        self.coef_ = np.zeros(shape, kind)
        self.posterior_var_ = np.zeros(shape, np.zeros(0, kind).real.dtype)
        self.coef_[np.ix_(*kept)] = final.mean
        self.posterior_var_[np.ix_(*kept)] = final.variance
        self.gammas_ = [np.zeros(size) for size in shape]
        for whole, index, part in zip(self.gammas_, kept, gammas, strict=True):
            whole[index] = part
        self.support_ = kept
        self.noise_var_ = float(noise)
        self.n_iter_ = len(costs)
        self.cost_history_ = np.array(costs)
        return self

    def _check(self, modes: int) -> list[float]:
        """Refuse parameters that are out of range; the share below which each mode prunes."""
        if self.method not in get_args(Method):
            raise ValueError(f"method must be one of {get_args(Method)}, got {self.method!r}")
        given = self.noise_var
        if given != "learn" and not (not isinstance(given, str) and 0 < given < np.inf):
            raise ValueError(f"noise_var must be positive and finite or 'learn', got {given!r}")
        if self.max_iter < 1 or self.tol < 0:
            raise ValueError(
                f"max_iter must be at least 1 and tol at least 0, got {self.max_iter} and "
                f"{self.tol}"
            )
        if self.coupling is not None:
            if self.method != "am":
                raise ValueError(f"coupling needs method 'am', got {self.method!r}")
            if len(self.coupling) != modes or not all(0 <= beta <= 1 for beta in self.coupling):
                raise ValueError(
                    f"coupling must be {modes} numbers from 0 to 1, one per factor; got "
                    f"{list(self.coupling)}"
                )
            if max(self.coupling) > 0.95:
                warnings.warn(
                    f"coupling of {max(self.coupling)} makes the coupling matrix nearly singular; "
                    "0.5 and 0.8 are the paper's",
                    UserWarning,
                    stacklevel=3,
                )
        if self.prune == "auto":
            learned = self.method == "am" and self.noise_var == "learn"
            prune = 1e-3 if self.method == "svd" else 5e-3 if learned else 1e-2
            return [prune] * modes
        shares = np.atleast_1d(np.asarray(self.prune, float))
        if len(shares) not in (1, modes) or not ((shares >= 0) & (shares < 1)).all():
            raise ValueError(
                f"prune must be 'auto' or shares in [0, 1), one or one per factor; got "
                f"{self.prune!r}"
            )
        return list(np.broadcast_to(shares, modes))

    def _update(self, couplings: list[_Coupling | None]) -> Update:
        if self.method == "svd":
            return _rank_one
        if any(couplings):
            return partial(
                _alternate, sweeps=_COUPLED_SWEEPS, tol=_COUPLED_TOL, couplings=couplings
            )
        return partial(
            _alternate,
            sweeps=1 if self.method == "ksbl" else _SWEEPS,
            tol=_SWEEP_TOL,
            couplings=couplings,
        )


@dataclass(frozen=True)
class _Posterior:
    mean: NDArray
    variance: NDArray
    second_moment: NDArray  # variance + |mean|^2
    expected_error: float  # E ||y - Hx||^2 under the posterior
    cost: float


def _posterior(
    factors: Sequence[NDArray], y: NDArray, gammas: Sequence[NDArray], noise: float
) -> _Posterior:
    """Mean and variances of x given y, in the eigenbases of H_i diag(g_i) H_i^H."""
    weighted = [g[:, None] * h.conj().T for h, g in zip(factors, gammas, strict=True)]
    pairs = [np.linalg.eigh(h @ w) for h, w in zip(factors, weighted, strict=True)]
    signal = outer([np.maximum(p, 0.0) for p, _ in pairs])
    precision = 1.0 / (noise + signal)
    rotated = multiply_modes(y, [u.conj().T for _, u in pairs])
    back = [w @ u for w, (_, u) in zip(weighted, pairs, strict=True)]
    mean = multiply_modes(precision * rotated, back)
    prior = outer(gammas)
    explained = multiply_modes(precision, [abs(w) ** 2 for w in back])
    variance = np.maximum(prior - explained, 0.0)
    energy = abs(rotated) ** 2
    return _Posterior(
        mean=mean,
        variance=variance,
        second_moment=variance + abs(mean) ** 2,
        # y - H mu is noise * precision in the rotated basis; the rest is the trace of H V H^H
        expected_error=float(
            np.sum((noise * precision) ** 2 * energy) + noise * np.sum(signal * precision)
        ),
        cost=float(np.sum(energy * precision) - np.sum(np.log(precision))),
    )


def _rank_one(moment: NDArray, gammas: list[NDArray]) -> list[NDArray]:  # noqa: ARG001
    """The mode vectors of the moment's best rank-one fit, one mode split off after the other."""
    vectors = []
    rest = moment
    while rest.ndim > 1:
        unfolded = rest.reshape(rest.shape[0], -1)
        # the top left singular vector; of the two Gram matrices the smaller one
        if unfolded.shape[0] <= unfolded.shape[1]:
            left = abs(np.linalg.eigh(unfolded @ unfolded.T)[1][:, -1])
        else:
            left = unfolded @ np.linalg.eigh(unfolded.T @ unfolded)[1][:, -1]
            left = abs(left) / (np.linalg.norm(left) or 1.0)
        vectors.append(left)
        rest = (left @ unfolded).reshape(rest.shape[1:])
    return [*vectors, abs(rest)]


@dataclass(frozen=True)
class _Coupling:
    """What neighbours in a mode lend each other: prior = matrix @ g, with g non-negative."""

    matrix: NDArray

    def restrict(self, keep: NDArray) -> _Coupling:
        return _Coupling(self.matrix[np.ix_(keep, keep)])

    def nearest(self, target: NDArray) -> NDArray:
        return _COUPLED_FLOOR + self.matrix @ nnls(self.matrix, target)[0]


def _couplings(betas: Sequence[float] | None, factors: Sequence[NDArray]) -> list[_Coupling | None]:
    sizes = [factor.shape[1] for factor in factors]
    if betas is None:
        return [None] * len(sizes)
    return [
        _Coupling(np.eye(n) + beta * (np.eye(n, k=1) + np.eye(n, k=-1))) if beta else None
        for n, beta in zip(sizes, betas, strict=True)
    ]


def _alternate(
    moment: NDArray,
    gammas: list[NDArray],
    *,
    sweeps: int,
    tol: float,
    couplings: Sequence[_Coupling | None],
) -> list[NDArray]:
    """Minimise ``sum log gamma + moment / gamma`` over one mode's vector after the other."""
    modes = range(moment.ndim)
    unfolded = [np.moveaxis(moment, i, 0).reshape(moment.shape[i], -1) for i in modes]
    gammas = [np.maximum(g, _TINY * g.max()) for g in gammas]
    for _ in range(sweeps):
        old = gammas[:]
        for i in modes:
            others = [1.0 / gammas[j] for j in modes if j != i]
            rest = outer(others).ravel() if others else np.ones(1)
            best = unfolded[i] @ rest / rest.size
            coupling = couplings[i]
            best = best if coupling is None else coupling.nearest(best)
            gammas[i] = np.maximum(best, _TINY * best.max())
        for i in modes[:-1]:
            norm = np.linalg.norm(gammas[i])
            gammas[i] = gammas[i] / norm
            gammas[-1] = gammas[-1] * norm
        if _relative_change(gammas, old) <= tol:
            break
    return gammas


def _relative_change(new: Sequence[NDArray], old: Sequence[NDArray]) -> float:
    """Norm of kron(new) - kron(old) over that of kron(old), from the factors alone."""
    news, olds, both = (
        prod(float(a @ b) for a, b in zip(left, right, strict=True))
        for left, right in ((new, new), (old, old), (new, old))
    )
    return max(news + olds - 2.0 * both, 0.0) ** 0.5 / olds**0.5


def _check_start(start: Sequence[ArrayLike] | None, factors: Sequence[NDArray]) -> list[NDArray]:
    sizes = [factor.shape[1] for factor in factors]
    gammas = [np.ones(n) for n in sizes] if start is None else [np.array(g, float) for g in start]
    if [g.shape for g in gammas] != [(n,) for n in sizes]:
        raise ValueError(
            f"start must be vectors of lengths {sizes}, the factors' columns; got shapes "
            f"{[g.shape for g in gammas]}"
        )
    if not all((g > 0).all() and np.isfinite(g).all() for g in gammas):
        raise ValueError("start must be positive and finite")
    norms = [float(np.linalg.norm(g)) for g in gammas[:-1]]
    return [*(g / n for g, n in zip(gammas[:-1], norms, strict=True)), gammas[-1] * prod(norms)]
