r"""Orthogonal matching pursuit over a Kronecker product of dictionaries (N-way OMP).

.. math:: (j_1, \dots, j_I) = \arg\max |R \times_i H_i^H|, \qquad
    S_i \leftarrow S_i \cup \{j_i\}, \qquad
    X_{S_1 \times \dots \times S_I} = Y \times_i H_{S_i}^+, \quad R = Y - X \times_i H_i

Each step adds at most one atom to every mode and fits all coefficients in the box of chosen atoms
again, mode by mode. With a single factor it is orthogonal matching pursuit.

Source: Caiafa and Cichocki 2013, with the stopping rules of He and Joseph 2024 (arXiv 2307.14719).
Departures: none; like theirs, the atoms are not normalised before they are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from rarefy.regression.kronecker import check_factors, check_measurements, multiply_modes


class KroneckerOMP(BaseEstimator):
    """Greedy recovery of x, sparse along every mode, from ``y = (H_1 kron ... kron H_I) x``.

    Parameters
    ----------
    n_nonzero_per_mode : int or sequence of int, default 10
        At most so many atoms of each mode (10 in He and Joseph's study).
    tol : float, default 1e-2
        Stop once the residual's norm is at most this share of y's. ``sqrt(M * noise_var)`` over
        y's norm stops at the noise.

    Attributes
    ----------
    coef_ : ndarray, shape (N_1, ..., N_I)
    support_ : list of ndarray of int
        Atoms of each mode, in the order they were chosen.
    n_iter_ : int

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> factors = [rng.normal(size=(6, 9)), rng.normal(size=(6, 9))]
    >>> x = np.zeros((9, 9))
    >>> x[3, 5] = 2.0
    >>> omp = KroneckerOMP().fit(factors, factors[0] @ x @ factors[1].T)
    >>> [index.tolist() for index in omp.support_]
    [[3], [5]]
    """

    def __init__(self, n_nonzero_per_mode: int | Sequence[int] = 10, *, tol: float = 1e-2) -> None:
        self.n_nonzero_per_mode = n_nonzero_per_mode
        self.tol = tol

    def fit(self, factors: Sequence[ArrayLike], y: ArrayLike) -> KroneckerOMP:
        """Estimate x from factors of shapes (M_i, N_i) and y of shape (M_1, ..., M_I) or a vector.

        Raises
        ------
        ValueError
            If a parameter is out of range, sizes do not fit, or an input is not finite.
        """
        matrices = check_factors(factors)
        measured = check_measurements(y, matrices)
        limits = np.broadcast_to(self.n_nonzero_per_mode, len(matrices))
        if (limits < 1).any() or self.tol < 0:
            raise ValueError(
                f"n_nonzero_per_mode must be at least 1 and tol at least 0, got "
                f"{self.n_nonzero_per_mode} and {self.tol}"
            )
        adjoints = [matrix.conj().T for matrix in matrices]
        chosen: list[list[int]] = [[] for _ in matrices]
        residual = measured
        box: NDArray = np.zeros([0] * len(matrices), measured.dtype)
        self.n_iter_ = 0
        while np.linalg.norm(residual) > self.tol * np.linalg.norm(measured):
            correlation = abs(multiply_modes(residual, adjoints))
            best = np.unravel_index(np.argmax(correlation), correlation.shape)
            grew = False
            for atoms, atom, limit in zip(chosen, best, limits, strict=True):
                if int(atom) not in atoms and len(atoms) < limit:
                    atoms.append(int(atom))
                    grew = True
            if not grew:
                break
            used = [matrix[:, atoms] for matrix, atoms in zip(matrices, chosen, strict=True)]
            box = multiply_modes(measured, [np.linalg.pinv(part) for part in used])
            residual = measured - multiply_modes(box, used)
            self.n_iter_ += 1
        self.support_ = [np.array(atoms, int) for atoms in chosen]
        self.coef_ = np.zeros([m.shape[1] for m in matrices], np.result_type(measured, *matrices))
        if self.n_iter_:
            self.coef_[np.ix_(*self.support_)] = box
        return self
