r"""Proximal nonlinear conjugate gradient.

Away from the solution, conjugate directions of the proximal gradient (``R``):

.. math:: G = \tfrac1t (b - \mathrm{soft}(b - t g, t \lambda)), \quad
    d = -G + \beta d_{-}, \quad
    \beta = \max\!\left(0, \frac{\langle G, G - G_{-}\rangle}{\|G_{-}\|^2}\right)

with a search along d, one proximal step behind it, and the bare proximal step where that does not
lower F enough. Once the signs have repeated, conjugate gradient on the manifold they span (``M``):
there F is smooth, its gradient :math:`g + \lambda\,\mathrm{sign}(b)`, and a step ends where the
first sign would change. Every manifold phase ends with a proximal step, which may bring in
coefficients. F never rises.

Source: Yang, PhD thesis (McGill 2025), part D, whose abstract names the method; the update is Polak
and Ribiere's with restart, the identification of the manifold Liang, Fadili and Peyre 2017.
Departures: a reconstruction: the thesis's own constants are not known.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from rarefy.regression.accelerated_gradient import check_start
from rarefy.regression.composite import Composite, Descent, Vector

Phases = Literal["both", "proximal", "manifold"]
# Signs that repeat this often are taken as found; as is a direction less downhill than this share.
_REPEATS = 3
_DOWNHILL = 1e-3
# A step must lower F by this share of what its slope promises (Armijo).
_ARMIJO = 1e-4
_HALVINGS = 30


def conjugate_gradient(
    problem: Composite,
    start: Vector | None = None,
    *,
    phases: Phases = "both",
    tol: float = 1e-6,
    max_iter: int = 1000,
) -> Descent:
    """Minimise a composite problem; F never rises.

    Parameters
    ----------
    problem : Composite
    start : ndarray, shape (p,), optional
        Zeros otherwise.
    phases : {"both", "proximal", "manifold"}, default "both"
        ``R`` until the signs have repeated three times and then ``M``; ``R`` only; or ``M`` as
        soon as they have repeated once.
    tol : float, default 1e-6
        Stop once a proximal step of length 1 / L moves no coefficient by as much.
    max_iter : int, default 1000
        Gradients, to within one iteration's.

    Returns
    -------
    Descent

    Raises
    ------
    ValueError
        If an option is out of its range or the start does not fit.
    """
    if phases not in get_args(Phases):
        raise ValueError(f"phases must be one of {get_args(Phases)}, got {phases!r}")
    point = _Point(problem, check_start(problem, start, tol, max_iter))
    step = 1.0 / problem.lipschitz
    wanted = {"both": _REPEATS, "proximal": max_iter + 1, "manifold": 1}[phases]
    objectives, gradients = [point.value], [0]
    direction = previous = None
    repeats, converged = 0, False
    while gradients[-1] < max_iter:
        gradient = problem.gradient(point.b, point.eta)
        proximal = problem.soft(point.b - step * gradient, step)
        mapped = (point.b - proximal) / step
        if step * abs(mapped).max(initial=0.0) < tol:
            converged = True
            break
        direction = _direction(mapped, previous, direction)
        previous = mapped
        if repeats >= wanted:
            moved, trials = point.to(proximal), 0
        else:
            found, trials = _searched(point, direction, gradient, step)
            moved = found or point.to(proximal)
        same = bool((np.sign(moved.b) == np.sign(point.b)).all())
        repeats = repeats + 1 if same else 0
        point = moved
        objectives.append(point.value)
        gradients.append(gradients[-1] + 1 + trials)
        if repeats >= wanted:
            point, values = _on_manifold(point, max_iter - gradients[-1], 0.1 * tol / step)
            objectives += values
            gradients += range(gradients[-1] + 1, gradients[-1] + 1 + len(values))
            direction = previous = None
    return Descent(
        point.b,
        np.array(objectives),
        np.array(gradients),
        problem.stationarity(point.b),
        converged,
    )


class _Point:
    """b with X b and F(b), so that steps along a known direction cost no product with X."""

    def __init__(self, problem: Composite, b: Vector, eta: Vector | None = None) -> None:
        self.problem = problem
        self.b = b
        self.eta = problem.X @ b if eta is None else eta
        self.value = problem.value(b, self.eta)

    def to(self, b: Vector) -> _Point:
        return _Point(self.problem, b)

    def along(self, direction: Vector, image: Vector, length: float) -> _Point:
        return _Point(self.problem, self.b + length * direction, self.eta + length * image)


def _direction(mapped: Vector, previous: Vector | None, direction: Vector | None) -> Vector:
    """Polak and Ribiere's, or straight down where that is not downhill."""
    if previous is None or direction is None:
        return -mapped
    beta = max(0.0, float(mapped @ (mapped - previous)) / max(float(previous @ previous), 1e-300))
    conjugate = -mapped + beta * direction
    downhill = float(mapped @ conjugate) <= -_DOWNHILL * float(mapped @ mapped)
    return conjugate if downhill else -mapped


def _searched(
    point: _Point, direction: Vector, gradient: Vector, step: float
) -> tuple[_Point | None, int]:
    """A proximal step behind the best along the direction, None where F does not fall; trials."""
    problem = point.problem
    image = problem.X @ direction
    length = _newton_length(point, direction, image, float(gradient @ direction)) or step
    trials = 0
    while length >= step or not trials:
        trials += 1
        trial = point.along(direction, image, length)
        behind = problem.soft(trial.b - step * problem.gradient(trial.b, trial.eta), step)
        moved = point.to(behind)
        if moved.value <= point.value - _ARMIJO * float(np.sum((behind - point.b) ** 2)) / step:
            return moved, trials
        length /= 2.0
    return None, trials


def _newton_length(point: _Point, direction: Vector, image: Vector, slope: float) -> float | None:
    """Length of the Newton step along a direction of negative slope; None where F is not convex."""
    problem = point.problem
    probe = (
        1e-4
        * max(1.0, float(np.linalg.norm(point.b)))
        / max(float(np.linalg.norm(direction)), 1e-300)
    )
    eta = point.eta + probe * image
    rise = (problem.smooth.slope(eta) - problem.smooth.slope(point.eta)) @ image
    b = point.b + probe * direction
    rise += (problem.concave_slope(b) - problem.concave_slope(point.b)) @ direction
    curvature = float(rise) / probe
    return -slope / curvature if slope < 0 and curvature > 0 else None


def _on_manifold(point: _Point, budget: int, tol: float) -> tuple[_Point, list[float]]:
    """Conjugate gradient on the nonzeros, signs fixed, until one changes or nothing is left."""
    problem = point.problem
    support = np.flatnonzero((point.b != 0) | ~problem.penalises)
    sign = np.sign(point.b)
    values: list[float] = []
    direction = previous = None
    # so many directions are conjugate at most
    for _ in range(min(budget, len(support))):
        gradient = np.zeros_like(point.b)
        smooth = problem.gradient(point.b, point.eta) + problem.lam * np.where(
            problem.penalises, sign, 0.0
        )
        gradient[support] = smooth[support]
        if abs(gradient).max(initial=0.0) < tol:
            break
        direction = _direction(gradient, previous, direction)
        previous = gradient
        image = problem.X[:, support] @ direction[support]
        moved, ended = _line(point, direction, image, float(gradient @ direction))
        if moved is None:
            break
        point = moved
        values.append(point.value)
        if ended:
            break
    return point, values


def _line(
    point: _Point, direction: Vector, image: Vector, slope: float
) -> tuple[_Point | None, bool]:
    """Step along the manifold; whether it ended at a change of sign."""
    problem = point.problem
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = np.where(
            problem.penalises & (direction * point.b < 0), -point.b / direction, np.inf
        )
    edge = float(crossings.min(initial=np.inf))
    length = _newton_length(point, direction, image, slope)
    length = min(edge, 1.0 / problem.lipschitz if length is None else length)
    for _ in range(_HALVINGS):
        moved = point.along(direction, image, length)
        ended = length >= edge
        if ended:
            moved.b[crossings <= edge] = 0.0
        if moved.value <= point.value + _ARMIJO * length * slope:
            return moved, ended
        length /= 2.0
    return None, False
