"""The penalty's strength at which codes are as sparse, or as exact, as is asked for.

Strengths of different penalties mean different things, so that methods can only be compared at
equal sparsity or equal error. Both change in one direction with log lam; a secant search in
(log lam, log of what is measured) finds the strength in a few fits.

Source: none in particular. Departures: none.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from rarefy.dictionaries.sparse_coding import Encoder

Learner = TypeVar("Learner", bound=Encoder)

# No secant step changes lam by more than this factor: far away the curve is not a line.
_LARGEST_FACTOR = 16.0
# Stands for 0, of which there is no logarithm.
_NOTHING = 1e-9


class Tuned(NamedTuple, Generic[Learner]):
    """The fitted learner, its ``lam``, what was measured with it, and how many fits it took."""

    learner: Learner
    lam: float
    value: float
    fits: int


def tune_penalty(
    learner: Learner,
    X: ArrayLike,
    *,
    target_l0: float | None = None,
    target_error: float | None = None,
    rtol: float = 0.05,
    max_fits: int = 10,
) -> Tuned[Learner]:
    """Fit a learner at the strength that meets a target; the learner that is given stays as it is.

    Parameters
    ----------
    learner : SparseCoder or DictionaryLearner
        Its penalty's ``lam`` is where the search starts.
    X : array-like (n, d)
        Learned from, and measured on.
    target_l0 : float, optional
        Mean number of active units for an input.
    target_error : float, optional
        Mean squared error as a share of X's variance about 0. Exactly one target is given.
    rtol : float, default 0.05
        How near is near enough, as a share of the target.
    max_fits : int, default 10
        After so many fits the nearest is returned.

    Returns
    -------
    Tuned

    Raises
    ------
    ValueError
        If not exactly one positive target is given, or the learner's ``lam`` is 0.

    Examples
    --------
    >>> from rarefy.dictionaries import SparseCoder
    >>> from rarefy.operators import L0
    >>> X = np.random.default_rng(0).standard_normal((400, 8))
    >>> tuned = tune_penalty(SparseCoder(np.eye(8), L0(0.01)), X, target_l0=2.0)
    >>> 1.9 <= tuned.value <= 2.1
    True
    """
    if (target_l0 is None) == (target_error is None):
        raise ValueError("give one of target_l0 and target_error, and only one")
    name, target = (
        ("target_l0", target_l0) if target_l0 is not None else ("target_error", target_error)
    )
    if target is None or not 0 < target < math.inf:
        raise ValueError(f"{name} is {target}, expected a positive number")
    penalty = learner._penalty()
    if penalty.lam == 0:
        raise ValueError("lam of the learner's penalty is 0, and the search multiplies it")
    x = np.asarray(X)

    def fit(log_lam: float) -> Tuned[Learner]:
        lam = math.exp(log_lam)
        fitted = clone(learner).set_params(penalty=replace(penalty, lam=lam)).fit(x)
        codes = fitted.transform(x)
        if target_l0 is not None:
            value = float((codes != 0).sum(1).mean())
        else:
            error = x - fitted.inverse_transform(codes)
            value = float((error**2).mean() / (x**2).mean())
        return Tuned(fitted, lam, value, 0)

    # more strength: fewer units and more error
    slope = -1.0 if target_l0 is not None else 1.0
    at = math.log(penalty.lam)
    trials: list[Tuned[Learner]] = []
    trail: list[tuple[float, float]] = []
    while len(trials) < max_fits:
        trials.append(fit(at))
        value = trials[-1].value
        trail.append((at, math.log(max(value, _NOTHING) / target)))
        if abs(value / target - 1) <= rtol:
            break
        at = _next(trail, slope)
    nearest = min(range(len(trials)), key=lambda i: abs(trail[i][1]))
    return trials[nearest]._replace(fits=len(trials))


def _next(trail: list[tuple[float, float]], slope: float) -> float:
    """Secant through the last two trials; a first step, or one that points wrong, by the slope."""
    at, off = trail[-1]
    if len(trail) > 1:
        before, was = trail[-2]
        secant = (off - was) / (at - before) if at != before else 0.0
        slope = secant if secant * slope > 0.05 else slope
    largest = math.log(_LARGEST_FACTOR)
    return at - min(max(off / slope, -largest), largest)
