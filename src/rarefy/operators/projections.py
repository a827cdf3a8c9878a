r"""Projections: keep the best entries of an array and zero the rest.

.. math:: P(x) = x \odot S, \qquad S = \arg\max_{S \in \mathcal{S}} \sum_i S_i\, s(x_i)

with the score s the magnitude, the value or the positive part of an entry and the family of
supports :math:`\mathcal{S}` what the class names: k per row, k per column, k in all, n of every m,
whole blocks. With s the magnitude, P(x) is a nearest point to x among all arrays supported in
:math:`\mathcal{S}`: TopK is then the AbsTopK of sparse autoencoders, the projection of iterative
hard thresholding, and the mask of magnitude pruning, all three.

Sources: TopK codes (Makhzani and Frey 2013; Gao et al. 2024); BatchTopK (Bussmann et al. 2024);
feature and mutual choice (Ayonrinde 2024, arXiv 2411.02124); AbsTopK (Zhu et al. 2025, arXiv
2510.00404); N:M (Zhou et al. 2021); JumpReLU (Rajamanoharan et al. 2024).

Departures: counts are exact where the usual code keeps or drops all ties: of equal scores the
lowest index wins. NaN has no rank and is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from math import inf, prod
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rarefy.operators._arrays import Array, has_nan, like, to_tensor, widen

Score = Literal["magnitude", "value", "positive"]


@dataclass(frozen=True)
class Projection(ABC):
    """What every projection shares: the score, the mask, and what the gradient does.

    Parameters
    ----------
    by : {"magnitude", "value", "positive"}, default "magnitude"
        What makes an entry good: |x|, x itself, or the positive part of x; "positive" keeps only
        entries above 0, so it may keep fewer than the count asked for.
    straight_through : bool, default False
        Gradient of a torch result with respect to x: False passes it through the kept entries
        only, True passes it through unchanged.
    """

    _: KW_ONLY
    by: Score = "magnitude"
    straight_through: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("magnitude", "value", "positive"):
            raise ValueError(f"by must be 'magnitude', 'value' or 'positive', got {self.by!r}")

    def __call__(self, x: Array) -> Array:
        """Copy of x with every entry outside the mask set to 0.

        Parameters
        ----------
        x : Tensor or ndarray of floats

        Returns
        -------
        Tensor or ndarray
            Of x's shape, kind, dtype and device.

        Raises
        ------
        ValueError
            If x holds NaN, or its shape does not fit the pattern.
        """
        z = to_tensor(x)
        keep = self._mask(z)
        if self.straight_through:
            return like(_StraightThrough.apply(z, keep), x)
        return like(torch.where(keep, z, 0.0), x)

    def mask(self, x: Array) -> Array:
        """Bool mask of the entries kept, of x's shape, kind and device; raises as the call does."""
        return like(self._mask(to_tensor(x)), x)

    @torch.no_grad()
    def _mask(self, x: Tensor) -> Tensor:
        if has_nan(x):
            raise ValueError(f"x of shape {tuple(x.shape)} holds NaN, which has no rank")
        # values rank as their positive parts do, once what is not positive is dropped below
        scores = x.abs() if self.by == "magnitude" else x
        # a 0-d array is one entry
        keep = self._keep(scores if x.ndim else scores.reshape(1)).reshape(x.shape)
        return keep & (x > 0) if self.by == "positive" else keep

    @abstractmethod
    def _keep(self, scores: Tensor) -> Tensor:
        """Support of the best scores; at least 1-d and free of NaN."""


@dataclass(frozen=True)
class TopK(Projection):
    """Keep the k best entries along an axis, or all of them where there are no more than k.

    Parameters
    ----------
    k : int
    axis : int or None, default -1
        None takes the k best of the whole array.

    Examples
    --------
    >>> import numpy as np
    >>> TopK(2)(np.array([3.0, -4.0, 1.0, 3.0])).tolist()
    [3.0, -4.0, 0.0, 0.0]
    """

    k: int
    _: KW_ONLY
    axis: int | None = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("k", self.k)

    def _keep(self, scores: Tensor) -> Tensor:
        if self.axis is None:
            return _top(scores.reshape(1, -1), self.k).reshape(scores.shape)
        rows = scores.movedim(_checked_axis(self.axis, scores), -1)
        keep = _top(rows.reshape(_rows(rows), rows.shape[-1]), self.k)
        return keep.reshape(rows.shape).movedim(-1, self.axis)


@dataclass(frozen=True)
class BatchTopK(Projection):
    """Keep the k * B best entries of a batch of B rows: k per row on average.

    Rows are along the last axis; every other axis counts as batch.

    Parameters
    ----------
    k : float
        Need not be whole, the budget is: it is rounded to the nearest count.
    """

    k: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.k, Real) or isinstance(self.k, bool) or not 0 <= self.k < inf:
            raise ValueError(f"k must be a number of at least 0, got {self.k!r}")

    def _keep(self, scores: Tensor) -> Tensor:
        budget = round(self.k * _rows(scores))
        return _top(scores.reshape(1, -1), budget).reshape(scores.shape)


@dataclass(frozen=True)
class FeatureTopK(Projection):
    """Keep the k best entries of every column, so that each feature fires k times a batch.

    Columns are along the last axis; every other axis counts as batch.

    Parameters
    ----------
    k : int or sequence of int
        One count, or one for each column.
    """

    k: int | Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.k, int):
            _check_count("k", self.k)
        else:
            object.__setattr__(self, "k", tuple(int(count) for count in self.k))
            for place, count in enumerate(self.k):
                _check_count(f"k[{place}]", count)

    def _keep(self, scores: Tensor) -> Tensor:
        width = scores.shape[-1]
        columns = scores.reshape(_rows(scores), width).t().contiguous()
        if isinstance(self.k, int):
            return _top(columns, self.k).t().reshape(scores.shape)
        if len(self.k) != width:
            raise ValueError(f"k holds {len(self.k)} counts but x has {width} columns")
        counts = torch.tensor(self.k, dtype=torch.int64, device=scores.device)
        return _top(columns, counts).t().reshape(scores.shape)


@dataclass(frozen=True)
class MutualTopK(Projection):
    """Keep the k best entries of the whole array: rows and columns share one budget.

    Parameters
    ----------
    k : int
        Total, unlike the k of ``BatchTopK``.
    """

    k: int

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("k", self.k)

    def _keep(self, scores: Tensor) -> Tensor:
        return _top(scores.reshape(1, -1), self.k).reshape(scores.shape)


@dataclass(frozen=True)
class NM(Projection):
    """Keep the n best of every m consecutive entries along an axis.

    Parameters
    ----------
    n, m : int
        0 <= n <= m; 2 and 4 are what sparse tensor cores take.
    axis : int, default -1
        Its size must be a multiple of m.

    Examples
    --------
    >>> import numpy as np
    >>> NM(2, 4)(np.array([1.0, -3.0, 2.0, 0.5, 7.0, 7.0, 7.0, 7.0])).tolist()
    [0.0, -3.0, 2.0, 0.0, 7.0, 7.0, 0.0, 0.0]
    """

    n: int
    m: int
    _: KW_ONLY
    axis: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_count("n", self.n)
        _check_count("m", self.m)
        if not 0 < self.m >= self.n:
            raise ValueError(f"N:M needs 0 <= n <= m and m >= 1, got {self.n}:{self.m}")

    def _keep(self, scores: Tensor) -> Tensor:
        axis = _checked_axis(self.axis, scores)
        if scores.shape[axis] % self.m:
            raise ValueError(
                f"{self.n}:{self.m} needs axis {self.axis} to be a multiple of {self.m}, "
                f"got {scores.shape[axis]} in shape {tuple(scores.shape)}"
            )
        rows = scores.movedim(axis, -1)
        groups = rows.reshape(-1, self.m)
        if self.n == 1 and 8 < self.m <= 64:
            keep = _first_best(groups)
        else:
            # a group's ranks take m (m - 1) / 2 comparisons: beyond 32 selecting is cheaper
            keep = _ranks(groups) < self.n if self.m <= 32 else _top(groups, self.n)
        return keep.reshape(rows.shape).movedim(-1, axis)


@dataclass(frozen=True)
class Blocks(Projection):
    """Keep the k best blocks of a tiling, whole.

    The last ``len(shape)`` axes are tiled from their start; a block at the far edge may be smaller
    than the others. Each index of the axes before those has its own tiling and its own k blocks.

    Parameters
    ----------
    shape : sequence of int
        Size of a block, one number for each tiled axis.
    k : int
    reduce : {"sum", "mean"}, default "sum"
        Score of a block from the scores of its entries; they differ only for blocks cut by an edge.
    """

    shape: Sequence[int]
    k: int
    _: KW_ONLY
    reduce: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must hold block sizes of at least 1, got {self.shape}")
        _check_count("k", self.k)
        if self.reduce not in ("sum", "mean"):
            raise ValueError(f"reduce must be 'sum' or 'mean', got {self.reduce!r}")

    def _keep(self, scores: Tensor) -> Tensor:
        tiled = len(self.shape)
        if scores.ndim < tiled:
            raise ValueError(f"blocks of {self.shape} need {tiled} axes, got {scores.ndim}")
        scores = widen(scores)
        blocks = self._pool(scores.clamp(min=0) if self.by == "positive" else scores)
        if self.reduce == "mean":
            blocks = blocks / self._pool(torch.ones_like(scores))
        lead, grid = blocks.shape[:-tiled], blocks.shape[-tiled:]
        keep = _top(blocks.reshape(prod(lead), prod(grid)), self.k).reshape(blocks.shape)
        for axis, size in enumerate(self.shape, start=-tiled):
            keep = keep.repeat_interleave(size, dim=axis).narrow(axis, 0, scores.shape[axis])
        return keep

    def _pool(self, x: Tensor) -> Tensor:
        """Sum of every block, one axis after the other."""
        for axis, size in enumerate(self.shape, start=-len(self.shape)):
            x = x.movedim(axis, -1)
            x = torch.nn.functional.pad(x, (0, -x.shape[-1] % size))
            x = x.unflatten(-1, (x.shape[-1] // size, size)).sum(-1).movedim(-1, axis)
        return x


@dataclass(frozen=True, eq=False)
class Threshold(Projection):
    """Keep the entries whose score is above a threshold, strictly.

    ``by="value"`` is the JumpReLU of trained sparse autoencoders, ``by="magnitude"`` its two-sided
    form. No gradient reaches the threshold.

    Parameters
    ----------
    tau : float, or Tensor or ndarray of shape (x.shape[-1],)
        One threshold, or one for each feature (last axis).
    """

    tau: float | Tensor | np.ndarray

    def __post_init__(self) -> None:
        super().__post_init__()
        tau = torch.as_tensor(self.tau)
        if tau.ndim > 1 or bool(torch.isnan(tau).any()):
            raise ValueError(
                f"tau must be a number or one per feature, without NaN, got shape "
                f"{tuple(tau.shape)}"
            )

    def _keep(self, scores: Tensor) -> Tensor:
        if isinstance(self.tau, (int, float)):
            return scores > self.tau
        tau = torch.as_tensor(self.tau, device=scores.device)
        if tau.ndim and tau.shape[0] != scores.shape[-1]:
            raise ValueError(f"tau is per {tau.shape[0]} features but x has {scores.shape[-1]}")
        return scores > tau


def _top(scores: Tensor, k: int | Tensor) -> Tensor:
    """Mask of the k best of each row of a 2-d array; of equal scores the lowest index wins.

    ``k`` is one count, or a tensor of one for each row; counts above the width keep the whole row.
    """
    rows, width = scores.shape
    if scores.numel() == 0 or (isinstance(k, int) and k >= width):
        return torch.ones_like(scores, dtype=torch.bool)
    # cut at the best entry that is not kept, or at the worst of all where all are kept
    if isinstance(k, Tensor):
        counts = k.clamp(max=width)
        best = scores.topk(min(int(counts.max()) + 1, width), dim=-1).values
        cut = best.gather(-1, counts.clamp(max=width - 1)[:, None])
    else:
        counts = torch.full((rows,), k, device=scores.device)
        best = scores.topk(k + 1, dim=-1, sorted=False).values
        cut = best.amin(-1, keepdim=True)
    keep = scores > cut
    short = torch.count_nonzero(best > cut, dim=-1) < counts
    if bool(short.any()):
        keep[short] = _fill_with_ties(scores[short], cut[short], counts[short])
    return keep


def _fill_with_ties(scores: Tensor, cut: Tensor, counts: Tensor) -> Tensor:
    """Mask of the entries above each row's cut and of the first that equal it, up to the counts."""
    above, tied = scores > cut, scores == cut
    room = counts - torch.count_nonzero(above, dim=-1)
    return above | (tied & (tied.cumsum(-1) <= room[:, None]))


def _ranks(groups: Tensor) -> Tensor:
    """Rank of every entry in its group of a (groups, m) array, 0 the best, from all pairs.

    An earlier entry is ahead of a later one when its score is at least as high, which breaks ties
    towards the lowest index. Every comparison runs over all groups at once: for small groups that
    beats a sort or a selection in each of them.
    """
    count, m = groups.shape
    # few slices are read in place, strided; many are first laid out one after the other
    entries = groups.unbind(-1) if m <= 8 else groups.t().contiguous().unbind(0)
    # start as if behind every later entry and ahead of every earlier one
    ranks = [
        torch.full((count,), m - 1 - i, dtype=torch.uint8, device=groups.device) for i in range(m)
    ]
    for later in range(1, m):
        for earlier in range(later):
            ahead = (entries[earlier] >= entries[later]).view(torch.uint8)
            ranks[earlier] -= ahead
            ranks[later] += ahead
    return torch.stack(ranks, dim=-1)


def _first_best(groups: Tensor) -> Tensor:
    """Mask of the best entry of every group of a (groups, m) array, the first of equals.

    One pass over the places of all groups at once: torch's own argmax works group by group.
    """
    count, m = groups.shape
    entries = groups.t().contiguous()
    best = entries[0].clone()
    place = torch.zeros(count, dtype=torch.uint8, device=groups.device)
    for i in range(1, m):
        place.masked_fill_(entries[i] > best, i)
        torch.maximum(best, entries[i], out=best)
    return place[:, None] == torch.arange(m, dtype=torch.uint8, device=groups.device)


class _StraightThrough(torch.autograd.Function):
    """Select in the forward pass, identity in the backward pass."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, keep: Tensor) -> Tensor:
        return torch.where(keep, x, 0.0)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _rows(x: Tensor) -> int:
    """Number of rows along the last axis; counted, since an empty row has no entries to divide."""
    return prod(x.shape[:-1])


def _checked_axis(axis: int, x: Tensor) -> int:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is out of range for shape {tuple(x.shape)}")
    return axis


def _check_count(name: str, count: Any) -> None:
    if not isinstance(count, Integral) or isinstance(count, bool) or count < 0:
        raise ValueError(f"{name} must be a whole number of at least 0, got {count!r}")
