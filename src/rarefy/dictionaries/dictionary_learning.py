r"""A dictionary learned together with its sparse codes, under any penalty of the house.

.. math:: \min_{D, R} \tfrac12 \|X - R D\|_F^2 + \Phi(R), \qquad \|d_j\| = 1

A batch of inputs is coded from 0 by `sparse_codes`, then the dictionary is moved once by a rule of
`dictionary_updates`; and so on.

Source: "Beyond l1 sparse coding in V1" (Rentzeperis et al., PLoS Comput Biol 2023; arXiv
2301.10002). Departures: the paper's gradient rule is ``update="gradient"``; the default is the
online surrogate, which has oriented fields after hundreds of batches where the gradient needs
thousands. Atoms start as inputs with a little noise, not as noise. A unit that was silent for 20
batches is given the input that is reconstructed worst; ``revive_after=None`` leaves it silent.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from torch import Tensor

from rarefy.dictionaries.dictionary_updates import Gradient, Surrogate
from rarefy.dictionaries.sparse_coding import Encoder, sparse_codes
from rarefy.operators import Penalty

_NOISE = 0.05


class DictionaryLearner(Encoder):
    """Learn a dictionary in which inputs have sparse codes (a scikit-learn transformer).

    Parameters
    ----------
    n_components : int, default 128
        How many atoms.
    penalty : Penalty, optional
        Any of `rarefy.operators`; ``L1(0.1)`` by default. Strengths of different penalties are not
        comparable: compare codes at equal sparsity or equal error, with `tune_penalty`.
    batch_size : int, default 256
        Inputs to a batch (the paper's are 250).
    max_steps : int, default 300
        Batches of `fit`; the inputs are passed over in a new order each time.
    update : {"surrogate", "gradient"}, default "surrogate"
        The rule that moves the dictionary.
    lr : float, default 5e-3
        Rate of the gradient rule, of the sum over a batch; the paper's.
    revive_after : int or None, default 20
        Batches after which a silent unit is given another atom; None for never.
    max_iter : int, default 1000
        At most so many iterations for each code.
    tol : float, default 1e-2
        A code stops when a step moves it by less than this share of its norm; the paper's.
    random_state : int, RandomState or None, default None
        Of the start, and of the order of the inputs.

    Attributes
    ----------
    components_ : ndarray (m, d)
        Atoms as rows, of unit norm.
    n_iter_ : int
        Batches learned from.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.operators import CEL0
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 2)) @ np.array([[1.0, 1, 0, 0], [0, 0, 1, -1]])
    >>> learner = DictionaryLearner(2, CEL0(0.1), max_steps=20, random_state=0).fit(X)
    >>> error = X - learner.inverse_transform(learner.transform(X))
    >>> bool((error**2).mean() < 0.05 * (X**2).mean())
    True
    """

    def __init__(
        self,
        n_components: int = 128,
        penalty: Penalty | None = None,
        *,
        batch_size: int = 256,
        max_steps: int = 300,
        update: Literal["surrogate", "gradient"] = "surrogate",
        lr: float = 5e-3,
        revive_after: int | None = 20,
        max_iter: int = 1000,
        tol: float = 1e-2,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.penalty = penalty
        self.batch_size = batch_size
        self.max_steps = max_steps
        self.update = update
        self.lr = lr
        self.revive_after = revive_after
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: ArrayLike | Tensor, y: Any = None) -> DictionaryLearner:  # noqa: ARG002
        """Learn a dictionary from X (n, d).

        Raises
        ------
        ValueError
            If X is not finite or a parameter is out of its range.

        Warns
        -----
        ConvergenceWarning
            If every code was zero: the dictionary is still its start.
        """
        self._check_parameters()
        x = self._rows(X, reset=True)
        generator = self._start(x)
        active = False
        for rows in self._batches(len(x), generator):
            active |= self._step(x[rows])
        self._end(active)
        return self

    def partial_fit(self, X: ArrayLike | Tensor, y: Any = None) -> DictionaryLearner:  # noqa: ARG002
        """Learn from X (n, d) as one batch; the first call starts a new dictionary from it."""
        self._check_parameters()
        fresh = not hasattr(self, "components_")
        x = self._rows(X, reset=fresh)
        if fresh:
            self._start(x)
        self._end(self._step(x.to(self._dictionary)))
        return self

    def _check_parameters(self) -> None:
        self._check_solver()
        for name in ("n_components", "batch_size", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.update not in ("surrogate", "gradient"):
            raise ValueError(f"update is {self.update!r}, expected 'surrogate' or 'gradient'")
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}, expected a positive number")
        if self.revive_after is not None and self.revive_after < 1:
            raise ValueError(f"revive_after is {self.revive_after}, expected None or at least 1")

    def _start(self, x: Tensor) -> torch.Generator:
        """Take noisy inputs as the first atoms; the generator is for the order of the inputs."""
        seed = check_random_state(self.random_state).randint(2**31)
        generator = torch.Generator().manual_seed(int(seed))
        m = self.n_components
        chosen = torch.cat(
            [torch.randperm(len(x), generator=generator) for _ in range(0, m, len(x))]
        )
        atoms = _unit(x[chosen[:m].to(x.device)])
        # Inputs that repeat or are zero must still give atoms that differ.
        noise = torch.randn(atoms.shape, generator=generator, dtype=torch.float64).to(atoms)
        self._dictionary = _unit(atoms + _NOISE * noise)
        rule = Surrogate(self._dictionary) if self.update == "surrogate" else Gradient(self.lr)
        self._rule: Surrogate | Gradient = rule
        self._silent_for = torch.zeros(m, dtype=torch.long, device=x.device)
        self.n_iter_ = 0
        return generator

    def _batches(self, n: int, generator: torch.Generator) -> Iterator[Tensor]:
        """Rows of each batch, pass after pass."""
        steps = 0
        while True:
            for rows in torch.randperm(n, generator=generator).split(self.batch_size):
                if steps == self.max_steps:
                    return
                steps += 1
                yield rows

    def _step(self, x: Tensor) -> bool:
        """Learn from one batch; whether any unit was active."""
        penalty = self._penalty()
        codes = sparse_codes(
            x, self._dictionary, penalty, max_iter=self.max_iter, tol=self.tol
        ).codes
        self.n_iter_ += 1
        active = (codes != 0).any(0)
        if not bool(active.any()):
            return False
        self._dictionary = self._rule(self._dictionary, x, codes)
        self._silent_for = torch.where(active, 0, self._silent_for + 1)
        if self.revive_after is not None:
            silent = (self._silent_for >= self.revive_after).nonzero().ravel()[: len(x)]
            if len(silent):
                self._revive(silent, x, codes)
        return True

    def _revive(self, silent: Tensor, x: Tensor, codes: Tensor) -> None:
        """Give silent units the inputs that are reconstructed worst."""
        error = (x - codes @ self._dictionary).square().sum(1)
        self._dictionary[silent] = _unit(x[error.topk(len(silent)).indices])
        self._silent_for[silent] = 0
        self._rule.forget(silent)

    def _end(self, active: bool) -> None:
        self.components_ = self._dictionary.cpu().numpy().copy()
        if not active:
            warnings.warn(
                f"every code was zero under {self._penalty()}, and the dictionary did not move; "
                "lower lam",
                ConvergenceWarning,
                stacklevel=3,
            )


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
