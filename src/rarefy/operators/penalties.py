r"""Sparsity penalties and their proximal maps.

A penalty is :math:`\Phi(x) = \sum_i \varphi(|x_i|)` and its proximal map

.. math:: \operatorname{prox}_{s\Phi}(z) = \arg\min_x \tfrac12 \|x - z\|^2 + s\,\Phi(x)

which acts on each entry by itself, keeps its sign and shrinks its magnitude. Every class below
therefore states two formulas on magnitudes :math:`m \ge 0`: :math:`\varphi(m)` and the prox of it.

Sources: soft and hard thresholding (Donoho and Johnstone 1994); SCAD (Fan and Li 2001); MCP
(Zhang 2010); half thresholding, q = 1/2 (Xu et al. 2012); q = 2/3 (Cao, Sun and Xu 2013); CEL0
(Soubies, Blanc-Feraud and Aubert 2015); capped l1 (Zhang 2010); log-sum (Candes, Wakin and Boyd
2008); as gathered in "Beyond l1 sparse coding in V1" (arXiv 2301.10002).

Departures: none. Where two points tie for the minimum the smaller magnitude is taken. ``step`` is
the factor of the *whole* penalty against a squared distance with the factor one half; papers that
drop the half or put the step inside ``lam`` differ by that factor.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rarefy.operators._arrays import Array, like, to_tensor, widen


@dataclass(frozen=True)
class Penalty(ABC):
    r"""A separable even penalty :math:`\Phi(x) = \sum_i \varphi(|x_i|)`.

    Parameters
    ----------
    lam : float
        Strength, at least 0; at 0 the prox is the identity.
    positive : bool, default False
        Also require x >= 0: the value is infinite where an entry is negative, and the prox sends
        negative entries to 0. ``L1(lam, positive=True)`` is the shifted ReLU and
        ``L0(lam, positive=True)`` the JumpReLU.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    convex: ClassVar[bool] = False

    lam: float
    _: KW_ONLY
    positive: bool = False

    def __post_init__(self) -> None:
        _check_range("lam", self.lam, 0, math.inf, closed=True)

    @property
    def max_step(self) -> float:
        """Steps of the prox must be below this; beyond it the prox's problem is not convex."""
        return math.inf

    def value(self, x: Array) -> Array:
        """Penalty of x, summed over all entries.

        Parameters
        ----------
        x : Tensor or ndarray of floats, any shape

        Returns
        -------
        Tensor or ndarray
            0-d, of x's kind, dtype and device; 0 for an empty x.
        """
        z = widen(to_tensor(x))
        total = self._value(z.abs()).sum()
        if self.positive:
            total = torch.where((z < 0).any(), math.inf, total)
        return like(total, x)

    def prox(self, x: Array, step: float = 1.0) -> Array:
        """Proximal map of ``step`` times the penalty, entry by entry.

        Differentiable almost everywhere (torch); NaN stays NaN.

        Parameters
        ----------
        x : Tensor or ndarray of floats, any shape
        step : float, default 1.0
            Positive and below ``max_step``.

        Returns
        -------
        Tensor or ndarray
            Of x's shape, kind, dtype and device.

        Raises
        ------
        ValueError
            If ``step`` is not positive, not finite, or not below ``max_step``.
        """
        _check_range("step", step, 0, self.max_step)
        z = widen(to_tensor(x))
        if self.positive:
            z = z.clamp(min=0)
        magnitude = z.abs() if self.lam == 0 else self._prox(z.abs(), step)
        # adding +0 turns the -0 of a negative entry that was zeroed into 0
        return like(torch.copysign(magnitude, z) + 0.0, x)

    @abstractmethod
    def _value(self, m: Tensor) -> Tensor:
        """Penalty of each magnitude."""

    @abstractmethod
    def _prox(self, m: Tensor, step: float) -> Tensor:
        """Magnitude of the prox at each magnitude, for lam > 0."""


@dataclass(frozen=True)
class L1(Penalty):
    """``lam * |x|``; its prox is soft thresholding.

    Examples
    --------
    >>> import numpy as np
    >>> L1(lam=1.0).prox(np.array([-3.0, 0.5, 2.0]), step=0.5).tolist()
    [-2.5, 0.0, 1.5]
    """

    convex: ClassVar[bool] = True

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * m

    def _prox(self, m: Tensor, step: float) -> Tensor:
        return _soft(m, step * self.lam)


@dataclass(frozen=True)
class L0(Penalty):
    """``lam * [x != 0]``; its prox keeps the entries above ``sqrt(2 * step * lam)``."""

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * (m != 0).to(m.dtype)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        return _hard(m, math.sqrt(2 * step * self.lam))


@dataclass(frozen=True)
class Lq(Penalty):
    """``lam * |x|**q`` for 0 < q < 1: sparser than l1 at the same fit, and less shrinkage.

    The prox is a closed form at q = 1/2 (half thresholding) and q = 2/3, Newton's method elsewhere.

    Parameters
    ----------
    lam : float
    q : float, default 0.5
    """

    q: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("q", self.q, 0, 1)

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * m**self.q

    def _prox(self, m: Tensor, step: float) -> Tensor:
        mu, q = step * self.lam, self.q
        # at the cut the stationary point beta and 0 reach the same objective
        beta = (2 * mu * (1 - q)) ** (1 / (2 - q))
        cut = beta + mu * q * beta ** (q - 1)

        def root(z: Tensor) -> Tensor:
            if q == 1 / 2:
                return _half_root(z, mu)
            if q == 2 / 3:
                return _two_thirds_root(z, mu)
            return _newton_root(z, mu, q, beta)

        return _where_above(m, cut, root)


@dataclass(frozen=True)
class ElasticNet(Penalty):
    """``lam * (l1_ratio * |x| + (1 - l1_ratio) / 2 * x**2)``, scikit-learn's parametrisation.

    Parameters
    ----------
    lam : float
    l1_ratio : float, default 0.5
        Share of the l1 part, in [0, 1].
    """

    convex: ClassVar[bool] = True

    l1_ratio: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("l1_ratio", self.l1_ratio, 0, 1, closed=True)

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * (self.l1_ratio * m + (1 - self.l1_ratio) / 2 * m**2)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        mu = step * self.lam
        return _soft(m, mu * self.l1_ratio) / (1 + mu * (1 - self.l1_ratio))


@dataclass(frozen=True)
class MCP(Penalty):
    """Minimax concave penalty: l1 near 0, tapering to a constant at ``gamma * lam``.

    ``lam * |x| - x**2 / (2 * gamma)`` up to ``gamma * lam``, then ``gamma * lam**2 / 2``.

    Parameters
    ----------
    lam : float
    gamma : float, default 3.0
        Concavity, positive; steps of the prox must be below it.
    """

    gamma: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("gamma", self.gamma, 0, math.inf)

    @property
    def max_step(self) -> float:
        """``gamma``."""
        return self.gamma

    def _value(self, m: Tensor) -> Tensor:
        m = m.clamp(max=self.gamma * self.lam)
        return self.lam * m - m**2 / (2 * self.gamma)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        shrunk = _soft(m, step * self.lam) / (1 - step / self.gamma)
        return torch.where(m <= self.gamma * self.lam, shrunk, m)


@dataclass(frozen=True)
class SCAD(Penalty):
    """Smoothly clipped absolute deviation: l1 up to ``lam``, constant from ``a * lam`` on.

    Parameters
    ----------
    lam : float
    a : float, default 3.7
        Where the penalty stops growing, above 2 (3.7 is Fan and Li's Bayes-risk argument); steps
        of the prox must be below ``a - 1``.
    """

    a: float = 3.7

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("a", self.a, 2, math.inf)

    @property
    def max_step(self) -> float:
        """``a - 1``."""
        return self.a - 1

    def _value(self, m: Tensor) -> Tensor:
        lam, a = self.lam, self.a
        m = m.clamp(max=a * lam)
        tapering = (2 * a * lam * m - m**2 - lam**2) / (2 * (a - 1))
        return torch.where(m <= lam, lam * m, tapering)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        lam, a = self.lam, self.a
        tapering = ((a - 1) * m - step * a * lam) / (a - 1 - step)
        beyond = torch.where(m <= a * lam, tapering, m)
        return torch.where(m <= lam * (1 + step), _soft(m, step * lam), beyond)


@dataclass(frozen=True)
class CEL0(Penalty):
    """Continuous exact l0: the tightest continuous penalty with l0's global minimisers.

    ``lam - a**2 / 2 * (|x| - sqrt(2 * lam) / a)**2`` up to ``sqrt(2 * lam) / a``, then ``lam``.
    With ``a = 1`` it is ``MCP(sqrt(2 * lam), gamma=1)``. Where ``step * a**2 >= 1`` the prox is
    that of l0, so every step is valid.

    Parameters
    ----------
    lam : float
    a : float, default 1.0
        Norm of the column of the design that multiplies x, positive.
    """

    a: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("a", self.a, 0, math.inf)

    def _value(self, m: Tensor) -> Tensor:
        flat = math.sqrt(2 * self.lam) / self.a
        return self.lam - self.a**2 / 2 * (m.clamp(max=flat) - flat) ** 2

    def _prox(self, m: Tensor, step: float) -> Tensor:
        curvature = step * self.a**2
        if curvature >= 1:
            return _hard(m, math.sqrt(2 * step * self.lam))
        shrunk = _soft(m, math.sqrt(2 * self.lam) * step * self.a) / (1 - curvature)
        return torch.minimum(m, shrunk)


@dataclass(frozen=True)
class CappedL1(Penalty):
    """``lam * min(|x|, theta)``: l1 that stops growing at ``theta``; every step is valid.

    Parameters
    ----------
    lam : float
    theta : float, default 1.0
        Positive.
    """

    theta: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("theta", self.theta, 0, math.inf)

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * m.clamp(max=self.theta)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        mu, theta = step * self.lam, self.theta
        # the best point on either side of the kink at theta; the cheaper one is the prox
        low, high = _soft(m, mu).clamp(max=theta), m.clamp(min=theta)
        low_cost = (low - m) ** 2 / 2 + mu * low
        high_cost = (high - m) ** 2 / 2 + mu * theta
        return torch.where(low_cost <= high_cost, low, high)


@dataclass(frozen=True)
class LogSum(Penalty):
    """``lam * log(1 + |x| / epsilon)``: what reweighted l1 descends on; every step is valid.

    Parameters
    ----------
    lam : float
    epsilon : float, default 1.0
        Positive; the smaller, the closer to l0 in shape.
    """

    epsilon: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("epsilon", self.epsilon, 0, math.inf)

    def _value(self, m: Tensor) -> Tensor:
        return self.lam * torch.log1p(m / self.epsilon)

    def _prox(self, m: Tensor, step: float) -> Tensor:
        mu, epsilon = step * self.lam, self.epsilon

        def root(z: Tensor) -> Tensor:
            # the larger root of (x - z)(x + epsilon) + mu = 0, kept where it beats 0
            discriminant = ((z + epsilon) ** 2 - 4 * mu).clamp(min=0)
            x = ((z - epsilon + discriminant.sqrt()) / 2).clamp(min=0)
            cost = (x - z) ** 2 / 2 + mu * torch.log1p(x / epsilon)
            return torch.where(cost >= z**2 / 2, 0.0, x)

        # below this cut the quadratic has no real root
        return _where_above(m, max(0.0, 2 * math.sqrt(mu) - epsilon), root)


def _soft(m: Tensor, cut: float) -> Tensor:
    return (m - cut).clamp(min=0)


def _hard(m: Tensor, cut: float) -> Tensor:
    # "<=" and not ">": NaN fails both, and must come out as NaN
    return torch.where(m <= cut, 0.0, m)


def _where_above(m: Tensor, cut: float, root: Callable[[Tensor], Tensor]) -> Tensor:
    """``root`` on the magnitudes above ``cut`` and 0 on the rest.

    The root is evaluated only where it is wanted: it costs more than the selection, few entries
    survive, and below the cut its square roots and arc cosines are undefined, which would put NaN
    into the gradient of entries that are zeroed anyway.
    """
    keep = ~(m <= cut)
    return torch.zeros_like(m).masked_scatter(keep, root(m[keep]))


def _half_root(z: Tensor, mu: float) -> Tensor:
    """Larger root of x + mu / (2 sqrt(x)) = z (Xu et al. 2012, theorem 1)."""
    angle = torch.arccos(mu / 4 * (z / 3) ** -1.5)
    return 2 / 3 * z * (1 + torch.cos(2 / 3 * (math.pi - angle)))


def _two_thirds_root(z: Tensor, mu: float) -> Tensor:
    """Larger root of x + 2 mu / (3 cbrt(x)) = z (Cao, Sun and Xu 2013).

    With y = cbrt(x) it is y**4 - z y + 2 mu / 3 = 0, solved by Ferrari's resolvent.
    """
    angle = torch.arccosh(27 / 16 * z**2 * (2 * mu) ** -1.5) / 3
    side = 2 / math.sqrt(3) * (2 * mu) ** 0.25 * torch.cosh(angle).sqrt()
    return ((side + (2 * z / side - side**2).sqrt()) / 2) ** 3


def _newton_root(z: Tensor, mu: float, q: float, beta: float) -> Tensor:
    """Larger root of x + mu q x**(q - 1) = z by Newton's method from x = z.

    On [beta, z] the left side is convex with slope at least 1 - q / 2, so the iterates fall onto
    the root from above; the clamp guards against the last rounding. Only the last iteration is
    recorded by autograd: at the root its derivative is the exact one.
    """

    def iterate(x: Tensor) -> Tensor:
        slope = 1 + mu * q * (q - 1) * x ** (q - 2)
        return (x - (x + mu * q * x ** (q - 1) - z) / slope).clamp(min=beta)

    with torch.no_grad():
        x = z
        for _ in range(_NEWTON_ITERATIONS):
            x = iterate(x)
    return iterate(x)


# the error squares itself each time: these and the recorded one reach float64 for q up to 0.99
_NEWTON_ITERATIONS = 5


def _check_range(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    """Refuse a parameter outside the interval; infinity and NaN are outside every interval."""
    inside = low <= value <= high if closed else low < value < high
    if not inside or math.isinf(value):
        least = f"{'at least' if closed else 'above'} {low}"
        most = f"{'at most' if closed else 'below'} {high}" if high < math.inf else "finite"
        raise ValueError(f"{name} must be {least} and {most}, got {value}")
