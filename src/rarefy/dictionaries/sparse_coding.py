r"""Sparse codes of many inputs at once, by proximal gradient, for any penalty of the house.

.. math:: \min_r \tfrac12 \|x - D^\top r\|^2 + \Phi(r), \qquad
          r \leftarrow \operatorname{prox}_{\gamma\Phi}\bigl(r + \gamma D (x - D^\top r)\bigr)

from r = 0, with D's atoms as rows and :math:`\gamma = 0.95 / \|D\|_2^2`, at which the objective
never rises. Convex penalties are accelerated (FISTA). An input whose code has stopped moving leaves
the batch.

Source: "Beyond l1 sparse coding in V1" (Rentzeperis et al., PLoS Comput Biol 2023; arXiv
2301.10002); acceleration by Beck and Teboulle (2009), restarted as O'Donoghue and Candes (2015)
say. Departures: the paper's step is 0.05 whatever the dictionary; its stopping rule looks at the
whole batch, so that a code depended on its neighbours, and here each input has its own.

Axis letters: n inputs, d features, m atoms.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted, validate_data
from torch import Tensor

from rarefy.operators import L1, Penalty

# Enough inputs for a matrix product to run at full speed, few enough to stay in the caches.
_CHUNK = 256
_CHECK_EVERY = 5
# A code this short counts as this long, so that one that tends to 0 can stop.
_SMALLEST = 0.01


class Codes(NamedTuple):
    """Codes (n, m), and how many iterations each took (n,), one more than allowed if unfinished."""

    codes: Tensor
    n_iter: Tensor


def sparse_codes(
    x: Tensor, dictionary: Tensor, penalty: Penalty, *, max_iter: int = 1000, tol: float = 1e-3
) -> Codes:
    """Code every row of x in the atoms of a dictionary.

    Parameters
    ----------
    x : Tensor (n, d)
    dictionary : Tensor (m, d)
        Atoms as rows, of x's dtype and device.
    penalty : Penalty
        Its ``lam`` stands against a squared error with the factor one half.
    max_iter : int, default 1000
    tol : float, default 1e-3
        A code stops when a step moves it by less than this share of its own norm (the paper's
        rule, at 0.01 and with 20 times as many steps to go from 0).

    Returns
    -------
    Codes

    Examples
    --------
    An orthonormal dictionary makes the code the proximal map of the coefficients:

    >>> x = torch.tensor([[3.0, -0.5]])
    >>> sparse_codes(x, torch.eye(2), L1(1.0), tol=1e-6).codes.round(decimals=4)
    tensor([[2., 0.]])
    """
    m, d = dictionary.shape
    step = min(0.95 / max(lipschitz(dictionary), 1e-12), 0.95 * penalty.max_step)
    # The Gram matrix costs m products per entry of a code, the residual 2 d.
    shift = None
    if m <= 2 * d:
        shift = torch.eye(m, dtype=x.dtype, device=x.device) - step * dictionary @ dictionary.T
    codes = x.new_zeros(len(x), m)
    n_iter = torch.empty(len(x), dtype=torch.long, device=x.device)
    for chunk in torch.arange(len(x), device=x.device).split(_CHUNK):
        _descend(x[chunk], dictionary, penalty, step, shift, max_iter, tol, codes, n_iter, chunk)
    return Codes(codes, n_iter)


def lipschitz(dictionary: Tensor) -> float:
    """Squared spectral norm of a dictionary: the Lipschitz constant of the squared error."""
    m, d = dictionary.shape
    gram = dictionary.T @ dictionary if d <= m else dictionary @ dictionary.T
    return float(torch.linalg.eigvalsh(gram)[-1])


def _descend(
    x: Tensor,
    dictionary: Tensor,
    penalty: Penalty,
    step: float,
    shift: Tensor | None,
    max_iter: int,
    tol: float,
    codes: Tensor,
    n_iter: Tensor,
    rows: Tensor,
) -> None:
    """Write the codes of x, which are rows ``rows`` of the whole, into ``codes``."""
    pull = step * x @ dictionary.T
    r = torch.zeros_like(pull)
    ahead, pace = r, r.new_ones(len(r), 1)
    for i in range(1, max_iter + 1):
        if shift is not None:
            gradient_step = torch.addmm(pull, ahead, shift)
        else:
            gradient_step = ahead + pull - step * (ahead @ dictionary) @ dictionary.T
        new = penalty.prox(gradient_step, step)
        change = new - r
        if penalty.convex:
            # momentum of a code that it carries uphill starts anew
            uphill = ((ahead - new) * change).sum(1, keepdim=True) > 0
            pace = torch.where(uphill, 1.0, pace)
            faster = (1 + (1 + 4 * pace**2).sqrt()) / 2
            ahead = torch.addcmul(new, (pace - 1) / faster, change)
            pace = faster
        else:
            ahead = new
        r = new
        if i % _CHECK_EVERY == 0:
            moving = change.norm(dim=1) > tol * (_SMALLEST + r.norm(dim=1))
            if not bool(moving.all()):
                still = ~moving
                codes[rows[still]] = r[still]
                n_iter[rows[still]] = i
                if bool(still.all()):
                    return
                rows, r, ahead, pace, pull = (part[moving] for part in (rows, r, ahead, pace, pull))
    codes[rows] = r
    n_iter[rows] = max_iter + 1


class Encoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What a given dictionary and a learned one have in common: ``components_`` and coding in it.

    A subclass has the parameters ``penalty``, ``max_iter`` and ``tol``.
    """

    penalty: Penalty | None
    max_iter: int
    tol: float
    components_: np.ndarray

    def transform(self, X: ArrayLike | Tensor) -> Any:
        """Code X.

        Parameters
        ----------
        X : array-like or Tensor (n, d)

        Returns
        -------
        ndarray or Tensor (n, m)
            Of X's kind and dtype.

        Raises
        ------
        ValueError
            If X is not finite or has another number of features than the dictionary.

        Warns
        -----
        ConvergenceWarning
            If some codes were still moving after ``max_iter`` iterations.
        """
        check_is_fitted(self, "components_")
        x = self._rows(X, reset=False)
        found = sparse_codes(
            x,
            torch.as_tensor(self.components_).to(x),
            self._penalty(),
            max_iter=self.max_iter,
            tol=self.tol,
        )
        if moving := int((found.n_iter > self.max_iter).sum()):
            warnings.warn(
                f"{moving} of {len(x)} codes were still moving after {self.max_iter} iterations; "
                "raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found.codes if isinstance(X, Tensor) else found.codes.numpy()

    def inverse_transform(self, codes: ArrayLike | Tensor) -> Any:
        """Reconstruct the inputs from codes (n, m): ndarray or Tensor (n, d), as ``codes`` is."""
        check_is_fitted(self, "components_")
        r: Any
        dictionary: Any
        if isinstance(codes, Tensor):
            r, dictionary = codes, torch.as_tensor(self.components_).to(codes)
        else:
            r = check_array(codes, dtype=[np.float64, np.float32], input_name="codes")
            dictionary = self.components_.astype(r.dtype, copy=False)
        if r.ndim != 2 or r.shape[1] != len(dictionary):
            raise ValueError(
                f"codes has shape {tuple(r.shape)}, expected (n, {len(dictionary)}): a coefficient "
                "for each atom"
            )
        return r @ dictionary

    def _penalty(self) -> Penalty:
        if self.penalty is None:
            return L1(0.1)
        if not isinstance(self.penalty, Penalty):
            raise TypeError(
                f"penalty is {self.penalty!r}, expected an object of rarefy.operators such as "
                "L1(0.1) or CEL0(0.1)"
            )
        return self.penalty

    def _check_solver(self) -> None:
        self._penalty()
        if self.max_iter < 1:
            raise ValueError(f"max_iter is {self.max_iter}, expected at least 1")
        if not 0 < self.tol < math.inf:
            raise ValueError(f"tol is {self.tol}, expected a positive number")

    def _rows(self, X: ArrayLike | Tensor, *, reset: bool) -> Tensor:
        """X as a checked tensor of float32 or float64; ``reset`` says that X sets the width."""
        if not isinstance(X, Tensor):
            x = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32])
            return torch.from_numpy(np.require(x, requirements=["C", "W"]))
        if X.ndim != 2 or not X.is_floating_point() or not len(X):
            raise ValueError(
                f"X is a tensor of {X.dtype} and shape {tuple(X.shape)}, expected floats of shape "
                "(n, d)"
            )
        if not bool(torch.isfinite(X).all()):
            raise ValueError("X contains NaN or infinity; drop or fill those rows")
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return X

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SparseCoder(Encoder):
    """Code inputs in a dictionary that is given (a scikit-learn transformer).

    Parameters
    ----------
    dictionary : array-like (m, d)
        Atoms as rows. They are used as they are; penalties of different strength are comparable
        when they have unit norm.
    penalty : Penalty, optional
        Any of `rarefy.operators`; ``L1(0.1)`` by default.
    max_iter : int, default 1000
        At most so many iterations for each input.
    tol : float, default 1e-3
        A code stops when a step moves it by less than this share of its norm.

    Attributes
    ----------
    components_ : ndarray (m, d)
        The dictionary.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import L0
    >>> coder = SparseCoder(np.eye(3), L0(0.5)).fit(np.zeros((1, 3)))
    >>> coder.transform(np.array([[2.0, -0.5, 1.5]])).round(1).tolist()
    [[2.0, 0.0, 1.5]]
    """

    def __init__(
        self,
        dictionary: ArrayLike,
        penalty: Penalty | None = None,
        *,
        max_iter: int = 1000,
        tol: float = 1e-3,
    ) -> None:
        self.dictionary = dictionary
        self.penalty = penalty
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: ArrayLike | Tensor, y: Any = None) -> SparseCoder:  # noqa: ARG002
        """Check the dictionary against X's number of features; there is nothing to learn."""
        self._check_solver()
        x = self._rows(X, reset=True)
        atoms = self.dictionary
        if isinstance(atoms, Tensor):
            atoms = atoms.detach().cpu().numpy()
        components = check_array(atoms, dtype=[np.float64, np.float32], input_name="dictionary")
        if components.shape[1] != x.shape[1]:
            raise ValueError(
                f"dictionary has atoms of {components.shape[1]} features, but X has {x.shape[1]}"
            )
        self.components_ = components
        self.n_iter_ = 1
        return self
