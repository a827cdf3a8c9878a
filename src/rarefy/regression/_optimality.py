r"""How far from optimal: the duality gap where the penalty is convex, else the KKT violation.

For :math:`P(b) = \sum_i \omega_i f_i(\eta_i) + \lambda (r |b|_1 + \tfrac{1-r}{2} \|b\|^2)` every
:math:`s \in [0, 1]` with :math:`s\,|g_j + \lambda(1-r) b_j| \le \lambda r`, g the gradient of the
loss, bounds the optimum from below by

.. math:: D(s) = -\sum_i \omega_i f_i^*(s f_i'(\eta_i)) - s^2 \lambda \tfrac{1-r}{2} \|b\|^2

(the elastic net as an l1 problem on the design with :math:`\sqrt{\lambda(1-r)} I` below it), and
:math:`P - D` at the largest such s bounds P less the optimum. The KKT violation is
:math:`\max_j |b_j - \operatorname{prox}_{s_j\varphi}(b_j - s_j g_j)| / s_j` with :math:`s_j` the
inverse of the column's curvature: for l1 the distance of -g to the subdifferential, and for any
penalty 0 exactly where no coordinate would move.

Source: Fercoq, Gramfort and Salmon 2015; Ndiaye et al. 2017. Departures: none.
"""

from __future__ import annotations

import numpy as np

from rarefy.operators import L1, ElasticNet, Penalty
from rarefy.regression.losses import Loss, Vector


def has_gap(penalty: Penalty) -> bool:
    """Whether a duality gap is defined: an l1 part of strength above 0."""
    return isinstance(penalty, (L1, ElasticNet)) and penalty.lam * l1_ratio(penalty) > 0


def l1_ratio(penalty: Penalty) -> float:
    """The share of the l1 part of a convex penalty."""
    return penalty.l1_ratio if isinstance(penalty, ElasticNet) else 1.0


def dual_scale(penalty: Penalty, coef: Vector, gradient: Vector) -> float:
    """The largest s in [0, 1] that makes the gradient dual feasible."""
    ratio = l1_ratio(penalty)
    slopes = gradient + penalty.lam * (1 - ratio) * coef if ratio < 1 else gradient
    steepest = float((-slopes if penalty.positive else np.abs(slopes)).max(initial=0.0))
    return min(1.0, penalty.lam * ratio / steepest) if steepest > 0 else 1.0


def ridge(penalty: Penalty, coef: Vector) -> float:
    """Half the squared norm of the coefficients, as the penalty counts it."""
    ratio = l1_ratio(penalty)
    return penalty.lam * (1 - ratio) / 2 * float(coef @ coef) if ratio < 1 else 0.0


def duality_gap(
    penalty: Penalty,
    loss: Loss,
    y: Vector,
    eta: Vector,
    weights: Vector,
    coef: Vector,
    gradient: Vector,
) -> float:
    """P less D, at least 0 up to rounding.

    ``coef`` and ``gradient`` may be those of a working set: the gap is then that of the problem
    on it.
    """
    scale = dual_scale(penalty, coef, gradient)
    ell2 = ridge(penalty, coef)
    primal = float(weights @ loss.value(y, eta)) + ell2
    primal += penalty.lam * l1_ratio(penalty) * float(np.abs(coef).sum())
    dual = -float(weights @ loss.conjugate(y, scale * loss.slope(y, eta))) - scale**2 * ell2
    return primal - dual


def quadratic_gap(
    penalty: Penalty, squared: float, along: float, coef: Vector, gradient: Vector
) -> float:
    """The gap of half the squared residual, from its squared norm and its product with t."""
    scale = dual_scale(penalty, coef, gradient)
    ell2 = ridge(penalty, coef)
    primal = squared / 2 + ell2 + penalty.lam * l1_ratio(penalty) * float(np.abs(coef).sum())
    return primal - (scale * along - scale**2 * (squared / 2 + ell2))
