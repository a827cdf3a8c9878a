"""Scalar twins of the penalties, compiled by Numba for inner loops (coordinate descent).

``NAME_value(x, lam, ...)`` and ``NAME_prox(x, step, lam, ...)`` on one signed float compute what
``Penalty.value`` and ``Penalty.prox`` of the class of that name compute on an array; formulas and
sources are in ``penalties``. Clean input is assumed: the parameters are those of a constructed
penalty, ``step`` is below its ``max_step``, and for ``positive=True`` the caller passes
``max(x, 0.0)``. Importing this module imports Numba; nothing else in the package does.

Departures: none.
"""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True)
def soft(x: float, cut: float) -> float:
    """Soft thresholding at ``cut``."""
    return math.copysign(max(abs(x) - cut, 0.0), x) + 0.0


@njit(cache=True)
def hard(x: float, cut: float) -> float:
    """Hard thresholding at ``cut``."""
    return 0.0 if abs(x) <= cut else x


@njit(cache=True)
def l1_value(x: float, lam: float) -> float:
    """Twin of ``L1.value``."""
    return lam * abs(x)


@njit(cache=True)
def l1_prox(x: float, step: float, lam: float) -> float:
    """Twin of ``L1.prox``."""
    return soft(x, step * lam)


@njit(cache=True)
def l0_value(x: float, lam: float) -> float:
    """Twin of ``L0.value``."""
    return lam if x != 0.0 else 0.0


@njit(cache=True)
def l0_prox(x: float, step: float, lam: float) -> float:
    """Twin of ``L0.prox``."""
    return hard(x, math.sqrt(2.0 * step * lam))


@njit(cache=True)
def lq_value(x: float, lam: float, q: float) -> float:
    """Twin of ``Lq.value``."""
    return lam * abs(x) ** q


@njit(cache=True)
def lq_prox(x: float, step: float, lam: float, q: float) -> float:
    """Twin of ``Lq.prox``."""
    mu, z = step * lam, abs(x)
    if mu == 0.0:
        return x
    beta = (2.0 * mu * (1.0 - q)) ** (1.0 / (2.0 - q))
    if z <= beta + mu * q * beta ** (q - 1.0):
        return 0.0
    if q == 0.5:
        angle = math.acos(mu / 4.0 * (z / 3.0) ** -1.5)
        root = 2.0 / 3.0 * z * (1.0 + math.cos(2.0 / 3.0 * (math.pi - angle)))
    elif q == 2.0 / 3.0:
        angle = math.acosh(27.0 / 16.0 * z**2 * (2.0 * mu) ** -1.5) / 3.0
        side = 2.0 / math.sqrt(3.0) * (2.0 * mu) ** 0.25 * math.sqrt(math.cosh(angle))
        root = ((side + math.sqrt(2.0 * z / side - side**2)) / 2.0) ** 3
    else:
        root, previous = z, math.inf
        # the iterates fall onto the root, so the first that does not fall is the root
        while root < previous:
            previous = root
            slope = 1.0 + mu * q * (q - 1.0) * root ** (q - 2.0)
            root = max(root - (root + mu * q * root ** (q - 1.0) - z) / slope, beta)
    return math.copysign(root, x)


@njit(cache=True)
def elastic_net_value(x: float, lam: float, l1_ratio: float) -> float:
    """Twin of ``ElasticNet.value``."""
    return lam * (l1_ratio * abs(x) + (1.0 - l1_ratio) / 2.0 * x**2)


@njit(cache=True)
def elastic_net_prox(x: float, step: float, lam: float, l1_ratio: float) -> float:
    """Twin of ``ElasticNet.prox``."""
    mu = step * lam
    return soft(x, mu * l1_ratio) / (1.0 + mu * (1.0 - l1_ratio))


@njit(cache=True)
def mcp_value(x: float, lam: float, gamma: float) -> float:
    """Twin of ``MCP.value``."""
    m = min(abs(x), gamma * lam)
    return lam * m - m**2 / (2.0 * gamma)


@njit(cache=True)
def mcp_prox(x: float, step: float, lam: float, gamma: float) -> float:
    """Twin of ``MCP.prox``."""
    if abs(x) <= gamma * lam:
        return soft(x, step * lam) / (1.0 - step / gamma)
    return x


@njit(cache=True)
def scad_value(x: float, lam: float, a: float) -> float:
    """Twin of ``SCAD.value``."""
    m = min(abs(x), a * lam)
    if m <= lam:
        return lam * m
    return (2.0 * a * lam * m - m**2 - lam**2) / (2.0 * (a - 1.0))


@njit(cache=True)
def scad_prox(x: float, step: float, lam: float, a: float) -> float:
    """Twin of ``SCAD.prox``."""
    m = abs(x)
    if m <= lam * (1.0 + step):
        return soft(x, step * lam)
    if m <= a * lam:
        return math.copysign(((a - 1.0) * m - step * a * lam) / (a - 1.0 - step), x)
    return x


@njit(cache=True)
def cel0_value(x: float, lam: float, a: float) -> float:
    """Twin of ``CEL0.value``."""
    flat = math.sqrt(2.0 * lam) / a
    return lam - a**2 / 2.0 * (min(abs(x), flat) - flat) ** 2


@njit(cache=True)
def cel0_prox(x: float, step: float, lam: float, a: float) -> float:
    """Twin of ``CEL0.prox``."""
    curvature = step * a**2
    if curvature >= 1.0:
        return hard(x, math.sqrt(2.0 * step * lam))
    shrunk = soft(abs(x), math.sqrt(2.0 * lam) * step * a) / (1.0 - curvature)
    return math.copysign(min(abs(x), shrunk), x) + 0.0


@njit(cache=True)
def capped_l1_value(x: float, lam: float, theta: float) -> float:
    """Twin of ``CappedL1.value``."""
    return lam * min(abs(x), theta)


@njit(cache=True)
def capped_l1_prox(x: float, step: float, lam: float, theta: float) -> float:
    """Twin of ``CappedL1.prox``."""
    mu, m = step * lam, abs(x)
    low, high = min(max(m - mu, 0.0), theta), max(m, theta)
    low_cost = (low - m) ** 2 / 2.0 + mu * low
    high_cost = (high - m) ** 2 / 2.0 + mu * theta
    return math.copysign(low if low_cost <= high_cost else high, x) + 0.0


@njit(cache=True)
def log_sum_value(x: float, lam: float, epsilon: float) -> float:
    """Twin of ``LogSum.value``."""
    return lam * math.log1p(abs(x) / epsilon)


@njit(cache=True)
def log_sum_prox(x: float, step: float, lam: float, epsilon: float) -> float:
    """Twin of ``LogSum.prox``."""
    mu, z = step * lam, abs(x)
    if mu == 0.0:
        return x
    if z <= max(0.0, 2.0 * math.sqrt(mu) - epsilon):
        return 0.0
    discriminant = max((z + epsilon) ** 2 - 4.0 * mu, 0.0)
    root = max((z - epsilon + math.sqrt(discriminant)) / 2.0, 0.0)
    cost = (root - z) ** 2 / 2.0 + mu * math.log1p(root / epsilon)
    return 0.0 if cost >= z**2 / 2.0 else math.copysign(root, x)
