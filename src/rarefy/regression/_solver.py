r"""Working-set descent for a penalised linear model, going from strength to strength.

.. math:: \min_{b, b_0} \sum_i \omega_i f(y_i, x_i^\top b + b_0) + \sum_j \varphi(b_j), \qquad
    \textstyle\sum_i \omega_i = 1

One pass of ``PathSolver.solve``: score every column by its violation, let the best into the
working set, solve the problem on the set, and compute the full gradient, which says whether that
is the solution and, if not, scores the next columns. The first set is foreseen by inflating the
gradient by the ratio of the last strength to this one, to first order the sequential strong rule
:math:`|g_j| \ge 2\lambda - \lambda_{\text{last}}`; a column it missed enters in the next pass.
The gradient at one strength's end is the next one's start, so a step of a path costs one product
with X more often than not.

On the set, least squares is one quadratic problem; other losses are a sequence of them
(proximal Newton) with a backtracking line search.

Source: Tibshirani et al. 2012 (strong rules); Massias, Gramfort and Salmon 2018 and Bertrand et
al. 2022 (working sets that double). Departures: none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from rarefy.kernels.cpu.coordinate_descent import WINDOW, penalty_sum, violations
from rarefy.operators import Penalty
from rarefy.operators._twins import twin
from rarefy.regression._optimality import duality_gap, has_gap, quadratic_gap
from rarefy.regression._quadratic import GramForm, working_form
from rarefy.regression.losses import Loss, SquaredLoss, Vector

SMALLEST_SET = 100
GRAM_LIMIT = 4096
"""Columns beyond which the Gram matrix (128 MiB) gives way to the columns themselves."""
_EPOCHS = WINDOW
_STEP_SHARE = 0.9
"""Of the penalty's largest step, where a column's curvature would allow more."""
_NEWTON_STEPS = 100
_INTERCEPT_STEPS = 20
_JUMP_EVERY = 20 * WINDOW
"""Epochs between direct solves on the support: about what one costs at a thousand columns."""
_SET_SHARE = 0.3
"""Of the tolerance, for the problem on a working set."""
_FLOOR = 1e-6
"""Of the tolerance, below which rounding alone keeps the whole problem from it."""


@dataclass(frozen=True)
class Solution:
    """Where the solver stopped.

    ``gap`` is the duality gap, or NaN where the penalty is not convex; ``violation`` the largest
    KKT violation, in a gradient's unit; ``converged`` whether the one that applies is below its
    tolerance, ``target``.
    """

    coef: np.ndarray
    intercept: float
    gap: float
    violation: float
    target: float
    n_iter: int
    converged: bool


class PathSolver:
    """One data set, solved at one strength after the other.

    Parameters
    ----------
    X : float array or CSC array, shape (n, p)
    y : float64 array, shape (n,)
    weights : float64 array, shape (n,)
        Positive, of sum 1.
    loss : Loss
    fit_intercept : bool
    tol : float
        The gap is brought under tol times the loss that the null model leaves; a KKT violation
        under tol times the largest one of the null model.
    max_iter : int
        Epochs per strength, at most.
    """

    def __init__(
        self,
        X: Any,
        y: Vector,
        weights: Vector,
        loss: Loss,
        *,
        fit_intercept: bool,
        tol: float,
        max_iter: int,
    ) -> None:
        self.X, self.y, self.weights, self.loss = X, y, weights, loss
        self.fit_intercept, self.max_iter = fit_intercept, max_iter
        self.coef = np.zeros(X.shape[1])
        self.intercept = loss.null_intercept(float(weights @ y)) if fit_intercept else 0.0
        self.eta = np.full(len(y), self.intercept)
        self._gram = (
            GramForm(X, weights, y, centre=fit_intercept)
            if isinstance(loss, SquaredLoss) and not sp.issparse(X)
            else None
        )
        self._curvature = (
            loss.bound * centred_squares(X, weights, centre=fit_intercept)
            if np.isfinite(loss.bound)
            else None
        )
        self._refresh()
        self.null_gradient = np.abs(self.gradient)
        null = float(weights @ (loss.value(y, self.eta) - loss.saturated(y)))
        steepest = float(self.null_gradient.max(initial=0.0))
        # the second parts are rounding errors: all there is where the target is constant
        size = float(weights @ y**2) * float(np.finfo(X.dtype).eps)
        widest = float(self.curvature().max(initial=0.0))
        self._still = 4 * float(np.finfo(np.float64).eps) * steepest
        self._gap_target = tol * null + size
        self._kkt_target = tol * steepest + np.sqrt(size * widest * np.finfo(X.dtype).eps)

    def curvature(self) -> np.ndarray:
        """Curvature along each column: the loss's bound, or the present one where it has none."""
        if self._curvature is not None:
            return self._curvature
        weights = self.weights * self.loss.curvature(self.y, self.eta)
        return centred_squares(self.X, weights, centre=self.fit_intercept)

    def solve(self, penalty: Penalty, *, foresight: float = 1.0) -> Solution:
        """Minimise from where the last strength ended.

        Parameters
        ----------
        penalty : Penalty
        foresight : float, default 1
            The last strength over this one: how far the gradient may be from its new place.
        """
        of = twin(penalty)
        target = self._gap_target if has_gap(penalty) else self._kkt_target
        steps = steps_of(self.curvature(), penalty)
        reached = self._reached(penalty, violations(self.coef, self.gradient, steps, of))[2]
        scores = violations(self.coef, self.gradient * foresight, steps, of)
        working = np.flatnonzero(self.coef)
        n_iter, share = 0, _SET_SHARE
        foreseen = foresight > 1
        while True:
            room = len(working) // 4 if foreseen else len(working)
            working, cut = enlarge(working, scores, max(room, SMALLEST_SET))
            # violators were left out: no use in solving this set to the end
            cut = cut and not foreseen
            foreseen = False
            inner = max(share * target, 0.1 * reached) if cut else share * target
            n_iter += self._solve_on(working, penalty, of, inner, self.max_iter - n_iter)
            self._refresh()
            if self._curvature is None:
                steps = steps_of(self.curvature(), penalty)
            scores = violations(self.coef, self.gradient, steps, of)
            gap, violation, reached = self._reached(penalty, scores)
            if reached <= target or n_iter >= self.max_iter:
                break
            outside = scores.copy()
            outside[working] = 0
            if not (cut or outside.any()):
                share /= 10
                if share < _FLOOR:
                    break
        return Solution(
            self.coef.astype(self.X.dtype),
            self.intercept,
            gap,
            violation,
            target,
            n_iter,
            reached <= target,
        )

    def _reached(self, penalty: Penalty, scores: np.ndarray) -> tuple[float, float, float]:
        """The gap (NaN where there is none), the violation, and the one that decides."""
        violation = float(scores.max(initial=0.0))
        if not has_gap(penalty):
            return np.nan, violation, violation
        gap = duality_gap(penalty, self.loss, self.y, self.eta, self.weights, self.coef,
                          self.gradient)  # fmt: skip
        return gap, violation, gap

    def _refresh(self) -> None:
        slope = self.weights * self.loss.slope(self.y, self.eta)
        self.gradient = (self.X.T @ slope.astype(self.X.dtype)).astype(np.float64)

    def _solve_on(
        self, working: np.ndarray, penalty: Penalty, of: Any, tol: float, budget: int
    ) -> int:
        """Solve the problem on the working set; the epochs it took."""
        if isinstance(self.loss, SquaredLoss):
            return self._least_squares(working, penalty, of, tol, budget)
        return self._newton(working, penalty, of, tol, budget)

    def _least_squares(
        self, working: np.ndarray, penalty: Penalty, of: Any, tol: float, budget: int
    ) -> int:
        form: Any = self._gram
        if form is not None and len(working) <= GRAM_LIMIT:
            if len(form.indices) > 1.2 * len(working) + SMALLEST_SET:
                form.restrict(working)
            form.include(working)
        else:
            form = working_form(
                self.X, self.weights, self.y, working, centre=self.fit_intercept
            )  # fmt: skip
        coef = self.coef[form.indices]
        epochs = minimise(form, coef, penalty, of, tol, self._still, budget)
        self.coef[form.indices] = coef
        self._stand(form, coef)
        return epochs

    def _stand(self, form: Any, coef: np.ndarray) -> None:
        support = form.indices[coef != 0]
        self.intercept = form.intercept(coef)
        self.eta = np.asarray(self.X[:, support] @ self.coef[support], np.float64) + self.intercept

    def _newton(
        self, working: np.ndarray, penalty: Penalty, of: Any, tol: float, budget: int
    ) -> int:
        """Proximal Newton steps on the working set."""
        part = self.X[:, working]
        coef = self.coef[working]
        epochs = 0
        objective = self._objective(coef, self.eta, of)
        reached = self._reached_on(part, coef, penalty, of)
        for _ in range(_NEWTON_STEPS):
            slope = self.loss.slope(self.y, self.eta)
            # a saturated row curves by next to nothing and would ask for an endless step
            bend = np.maximum(self.loss.curvature(self.y, self.eta), 1e-6)
            form = working_form(part, self.weights * bend, self.eta - slope / bend,
                                np.arange(len(working)), centre=self.fit_intercept)  # fmt: skip
            new = coef.copy()
            inner = 0.1 * max(tol, reached)
            epochs += minimise(form, new, penalty, of, inner, self._still, budget - epochs)
            move = new - coef
            shift = form.intercept(new) - self.intercept
            along = np.asarray(part @ move, np.float64) + shift
            size = 1.0
            while size > 1e-10:
                trial = coef + size * move
                eta = self.eta + size * along
                if self._objective(trial, eta, of) <= objective:
                    break
                size /= 2
            else:
                break
            coef, self.eta = trial, eta
            self.intercept += size * shift
            self._settle_intercept()
            objective = self._objective(coef, self.eta, of)
            reached = self._reached_on(part, coef, penalty, of)
            if reached <= tol or epochs >= budget:
                break
        self.coef[working] = coef
        return epochs

    def _settle_intercept(self) -> None:
        """Newton's method on the intercept alone: a dual point needs slopes of sum 0."""
        for _ in range(_INTERCEPT_STEPS if self.fit_intercept else 0):
            slope = self.weights * self.loss.slope(self.y, self.eta)
            total = float(slope.sum())
            if abs(total) <= 1e-15 * float(np.abs(slope).sum()):
                break
            step = total / float(self.weights @ self.loss.curvature(self.y, self.eta))
            step = min(max(step, -1.0), 1.0)
            self.eta = self.eta - step
            self.intercept -= step

    def _reached_on(self, part: Any, coef: np.ndarray, penalty: Penalty, of: Any) -> float:
        """Gap or violation of the problem on some columns."""
        slope = self.weights * self.loss.slope(self.y, self.eta)
        gradient = part.T @ slope
        if has_gap(penalty):
            return duality_gap(
                penalty, self.loss, self.y, self.eta, self.weights, coef, gradient
            )  # fmt: skip
        bend = self.weights * self.loss.curvature(self.y, self.eta)
        squares = centred_squares(part, bend, centre=self.fit_intercept)
        return float(violations(coef, gradient, steps_of(squares, penalty), of).max(initial=0.0))

    def _objective(self, coef: np.ndarray, eta: Vector, of: Any) -> float:
        return float(self.weights @ self.loss.value(self.y, eta)) + float(penalty_sum(coef, of))


def minimise(
    form: Any, coef: np.ndarray, penalty: Penalty, of: Any, tol: float, still: float, budget: int
) -> int:
    """Epochs on a working set's quadratic problem until its gap or violation is under ``tol``.

    An epoch in which nothing moves by more than ``still``, a gradient that is mere rounding, is
    the last one too.
    """
    steps = steps_of(form.squares, penalty)
    form.start(coef)
    epochs = 0
    while epochs < budget:
        ran = form.descend(coef, steps, of, min(_EPOCHS, budget - epochs), still)
        epochs += ran
        if has_gap(penalty):
            if epochs % _JUMP_EVERY == 0:
                form.jump(coef, penalty)
            squared, along = form.energies(coef)
            reached = quadratic_gap(penalty, squared, along, coef, form.gradient())
        else:
            reached = violations(coef, form.gradient(), steps, of).max(initial=0.0)
        if reached <= tol or ran < _EPOCHS:
            break
    return epochs


def steps_of(curvature: np.ndarray, penalty: Penalty) -> np.ndarray:
    """Step of each coordinate: its inverse curvature, under the penalty's limit; 0 for none."""
    with np.errstate(divide="ignore"):
        steps = np.minimum(1 / curvature, _STEP_SHARE * penalty.max_step)
    steps[curvature <= 0] = 0
    return steps


def enlarge(working: np.ndarray, scores: np.ndarray, room: int) -> tuple[np.ndarray, bool]:
    """Let the columns of highest score in, at most ``room`` of them.

    Returns
    -------
    working : int array
        Sorted.
    cut : bool
        Whether some were left out.
    """
    outside = scores.copy()
    outside[working] = 0
    wanting = np.flatnonzero(outside)
    cut = len(wanting) > room
    if cut:
        best = np.argpartition(outside[wanting], -room)[-room:]
        wanting = wanting[best]
    return np.union1d(working, wanting), cut


def centred_squares(X: Any, weights: Vector, *, centre: bool) -> np.ndarray:
    """Weighted sum of squares of each column, about its weighted mean where it is centred.

    A column that is constant up to rounding has 0.
    """
    total = float(weights.sum())
    if sp.issparse(X):
        means = X.T @ weights / total
        squares = X.power(2).T @ weights
        variances = squares - total * means**2 if centre else squares
        return np.where(variances <= 1e-12 * squares, 0.0, variances)
    variances = np.empty(X.shape[1])
    for start in range(0, X.shape[1], _BLOCK):
        block = np.asarray(X[:, start : start + _BLOCK], np.float64)
        if centre:
            means = weights @ block / total
            block = block - means
            floor = total * (1e-14 * np.abs(means)) ** 2 * len(block)
        else:
            floor = np.zeros(block.shape[1])
        part = weights @ np.square(block)
        variances[start : start + _BLOCK] = np.where(part <= floor, 0.0, part)
    return variances


_BLOCK = 256
