r"""Allocation from shapes: how many weights of each layer survive, given one density for all.

.. math:: k_l = \min(1, \epsilon\, r_l)\, N_l, \qquad \sum_l k_l = \mathrm{round}(d\,N)

with :math:`N_l` the size of group l, N their sum, d the density and :math:`r_l` the raw density
that names the rule: 1 (Uniform), (n_out + n_in) / (n_out n_in) (Erdos-Renyi, Mocanu et al. 2018),
sum(shape) / prod(shape) (Erdos-Renyi kernel, Evci et al. 2020), and the variants that treat the
first or the last layer by hand (Gale et al. 2019; Liu et al. 2022, arXiv 2202.02643).

Departures: the total is exact (the public codes draw Bernoulli masks of the right expectation); no
group falls below ``min_per_group`` unless that is set to 0; the "plus" rules spread what the layers
fixed by hand leave over the *other* layers (the public code of ``uniform_plus`` divides it by all
weights, so its density misses the one asked for).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from rarefy.budget._filling import fill

Group = Sequence[int] | torch.Tensor | np.ndarray
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ShapeRule(ABC):
    """An allocation that looks at shapes alone.

    Parameters
    ----------
    min_per_group : int, default 1
        No group keeps fewer entries than this (or than it has): a layer that keeps nothing cuts
        the network in two.
    """

    _: KW_ONLY
    min_per_group: int = 1

    def __post_init__(self) -> None:
        check_floor(self.min_per_group)

    def __call__(
        self,
        groups: Mapping[str, Group],
        *,
        density: float,
        cost: Mapping[str, float] | None = None,
    ) -> dict[str, int]:
        """Count of entries each group keeps.

        Parameters
        ----------
        groups : mapping of name to shape
            In layer order. Arrays and tensors stand for their shapes.
        density : float
            Share of all entries that survives, in [0, 1].
        cost : mapping of name to float, optional
            Cost of one entry of the group, such as multiply-adds per weight. With it ``density`` is
            a share of the total cost, which the counts meet to less than the cost of one entry.

        Returns
        -------
        dict of str to int
            Adds up to exactly ``round(density * N)`` when no cost is given.

        Raises
        ------
        ValueError
            If the budget cannot be reached within the rule's limits, or an argument is out of
            range.
        """
        check_density(density)
        shapes = {name: shape_of(group) for name, group in groups.items()}
        sizes = _sizes(shapes)
        low, high = self._limits(shapes)
        prices = _prices(cost, shapes)
        budget = (
            density * float(prices @ sizes)
            if cost is not None
            else round(density * int(sizes.sum()))
        )
        check_reachable(budget, float(prices @ low), float(prices @ high), density)
        counts = fill(self._raw(shapes) * sizes, low, high, budget, prices)
        return dict(zip(shapes, counts.tolist(), strict=True))

    def _limits(self, shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Fewest and most entries of each group."""
        sizes = _sizes(shapes)
        return np.minimum(self.min_per_group, sizes), sizes

    @abstractmethod
    def _raw(self, shapes: Shapes) -> NDArray[np.float64]:
        """Raw density r_l of each group."""


@dataclass(frozen=True)
class Uniform(ShapeRule):
    """The same density everywhere.

    Examples
    --------
    >>> Uniform()({"up": (8, 4), "down": (4, 8)}, density=0.25)
    {'up': 8, 'down': 8}
    """

    def _raw(self, shapes: Shapes) -> NDArray[np.float64]:
        return np.ones(len(shapes))


@dataclass(frozen=True)
class UniformPlus(Uniform):
    """Uniform, but the first convolution stays dense and the last linear layer keeps a fifth.

    Parameters
    ----------
    last : float, default 0.2
        Least density of the last group with two dimensions.
    """

    last: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("last", self.last)

    def _limits(self, shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low, high = super()._limits(shapes)
        convolutions = [i for i, shape in enumerate(shapes.values()) if len(shape) > 2]
        if convolutions:
            low[convolutions[0]] = high[convolutions[0]]
        for i in _last_linear(shapes):
            low[i] = max(low[i], round(self.last * int(high[i])))
        return low, high


@dataclass(frozen=True)
class ErdosRenyi(ShapeRule):
    """Density in proportion to (n_out + n_in) / (n_out n_in); kernel sizes are ignored."""

    def _raw(self, shapes: Shapes) -> NDArray[np.float64]:
        return np.array([_share_of_sum((*shape, 1, 1)[:2]) for shape in shapes.values()])


@dataclass(frozen=True)
class ErdosRenyiKernel(ShapeRule):
    """Density in proportion to sum(shape) / prod(shape): ErdosRenyi that counts the kernel's axes.

    Parameters
    ----------
    power : float, default 1.0
        Exponent of that ratio; 0 is Uniform.

    Examples
    --------
    >>> ErdosRenyiKernel()({"conv": (16, 4, 3, 3), "fc": (10, 16)}, density=0.5)
    {'conv': 208, 'fc': 160}
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.power):
            raise ValueError(f"power must be finite, got {self.power}")

    def _raw(self, shapes: Shapes) -> NDArray[np.float64]:
        return np.array([_share_of_sum(shape) for shape in shapes.values()]) ** self.power


@dataclass(frozen=True)
class ErdosRenyiKernelPlus(ErdosRenyiKernel):
    """ErdosRenyiKernel on what is left after the last linear layer has its own density.

    Wide classifiers otherwise come out too sparse (Liu et al. 2022).

    Parameters
    ----------
    power : float, default 1.0
    last : float, default 1.0
        Density of the last group with two dimensions.
    """

    last: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("last", self.last)

    def _limits(self, shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low, high = super()._limits(shapes)
        for i in _last_linear(shapes):
            low[i] = high[i] = max(low[i], round(self.last * int(high[i])))
        return low, high


@dataclass(frozen=True)
class Fixed(Uniform):
    """Densities given by hand; groups that are not named share the rest uniformly.

    Parameters
    ----------
    densities : mapping of name to float
    """

    densities: Mapping[str, float]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, share in self.densities.items():
            _check_share(f"densities[{name!r}]", share)

    def _limits(self, shapes: Shapes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        low, high = super()._limits(shapes)
        unknown = sorted(set(self.densities) - set(shapes))
        if unknown:
            raise ValueError(f"densities names groups that are not there: {', '.join(unknown)}")
        for i, name in enumerate(shapes):
            if name in self.densities:
                low[i] = high[i] = max(low[i], round(self.densities[name] * int(high[i])))
        return low, high


def shape_of(group: Group) -> tuple[int, ...]:
    """Shape that a group stands for."""
    shape = group.shape if isinstance(group, (torch.Tensor, np.ndarray)) else group
    return tuple(map(int, shape))


def _sizes(shapes: Shapes) -> NDArray[np.int64]:
    return np.array([math.prod(shape) for shape in shapes.values()], dtype=np.int64)


def check_density(density: float) -> None:
    """Refuse a density outside [0, 1], NaN included."""
    _check_share("density", density)


def check_floor(min_per_group: int) -> None:
    """Refuse a negative or fractional least count."""
    if not isinstance(min_per_group, int) or min_per_group < 0:
        raise ValueError(f"min_per_group must be a whole number >= 0, got {min_per_group!r}")


def check_reachable(budget: float, least: float, most: float, density: float) -> None:
    """Refuse a budget outside what the groups' limits allow, with the numbers."""
    if not least <= budget <= most:
        bound = f"need at least {least:.12g}" if budget < least else f"can take at most {most:.12g}"
        raise ValueError(
            f"density {density:g} is a budget of {budget:.12g}, but the groups {bound} with the "
            "counts this rule fixes and min_per_group; change the density or those"
        )


def _check_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {share}")


def _prices(
    cost: Mapping[str, float] | None, shapes: Shapes
) -> NDArray[np.float64] | NDArray[np.int64]:
    """Cost of one entry of each group; whole numbers, hence exact sums, where none is given."""
    if cost is None:
        return np.ones(len(shapes), dtype=np.int64)
    missing = [name for name in shapes if name not in cost]
    if missing:
        raise ValueError(f"cost lacks the groups {', '.join(missing)}")
    prices = np.array([cost[name] for name in shapes], dtype=np.float64)
    if not (np.isfinite(prices).all() and (prices > 0).all()):
        raise ValueError("cost must be positive and finite for every group")
    return prices


def _share_of_sum(shape: tuple[int, ...]) -> float:
    size = math.prod(shape)
    # an empty group keeps nothing whatever its raw density is
    return sum(shape) / size if shape and size else 1.0


def _last_linear(shapes: Shapes) -> list[int]:
    """Index of the last group with two dimensions, if there is one."""
    return [i for i, shape in enumerate(shapes.values()) if len(shape) == 2][-1:]
