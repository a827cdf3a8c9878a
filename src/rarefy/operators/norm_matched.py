r"""Keep, in every row, as many of the best entries as match a norm.

With the scores of a row in descending order, :math:`s_1 \ge s_2 \ge \dots`,

.. math:: n = \arg\min_{m \ge 1}\; \Bigl|\, \bigl(s_1^2 + \dots + s_m^2\bigr)^{1/2} - t \,\Bigr|

entries are kept, where t is the row's target: no count is chosen, each row takes what it needs.

Source: Lee et al. 2025 (arXiv 2503.24277), section 5, top-AFA. Departures: a row of target 0 keeps
nothing, where the paper's keeps one entry; sums are taken in double precision.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor

from rarefy.operators.projections import Projection


@dataclass(frozen=True, eq=False)
class NormMatched(Projection):
    """Keep the largest entries of every row until their norm is nearest to a target.

    A row whose positive scores fall short of the target keeps them all.

    Parameters
    ----------
    target : float, or Tensor or ndarray of x's shape without its last axis
    scale : Tensor or ndarray, shape (x.shape[-1],), optional
        Factors of the scores, such as the norms of a dictionary's rows; default 1.
    nearest : bool, default True
        Stop at the nearest norm, below or above; False stops at the first that reaches the target.
    k_min, k_max : int, default 1 and no limit
        Least and largest number of entries that a row keeps.

    Raises
    ------
    ValueError
        If a target is negative or not finite, or the limits are not ``0 <= k_min <= k_max``.

    Examples
    --------
    >>> NormMatched(5.0)(torch.tensor([[4.0, 1.0, 3.0], [0.5, 0.0, -9.0]])).tolist()
    [[4.0, 0.0, 3.0], [0.0, 0.0, -9.0]]
    """

    target: float | Tensor | np.ndarray
    _: KW_ONLY
    scale: Tensor | np.ndarray | None = None
    nearest: bool = True
    k_min: int = 1
    k_max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        target = torch.as_tensor(self.target)
        if not bool(torch.isfinite(target).all()) or bool((target < 0).any()):
            raise ValueError("target must be finite and at least 0 everywhere")
        if self.k_min < 0 or (self.k_max is not None and self.k_max < max(1, self.k_min)):
            raise ValueError(
                f"limits must be 0 <= k_min <= k_max and k_max >= 1, got {self.k_min} and "
                f"{self.k_max}"
            )

    def _keep(self, scores: Tensor) -> Tensor:
        scores = scores.clamp(min=0)
        if self.scale is not None:
            scale = torch.as_tensor(self.scale, device=scores.device)
            if scale.shape != scores.shape[-1:]:
                raise ValueError(
                    f"scale is of shape {tuple(scale.shape)} but x has {scores.shape[-1]} columns"
                )
            scores = scores * scale
        target = torch.as_tensor(self.target, device=scores.device, dtype=torch.float64)
        if target.ndim and target.shape != scores.shape[:-1]:
            raise ValueError(
                f"target is of shape {tuple(target.shape)} but x is of {tuple(scores.shape)}"
            )
        order = scores.sort(dim=-1, descending=True, stable=True)
        counts = self._counts(order.values.double(), target.expand(scores.shape[:-1]))
        ranks = torch.arange(scores.shape[-1], device=scores.device)
        kept = (ranks < counts[..., None]) & (order.values > 0)
        return torch.zeros_like(kept).scatter_(-1, order.indices, kept)

    def _counts(self, best: Tensor, target: Tensor) -> Tensor:
        """How many of each row's scores, in descending order, are kept."""
        norms = best.square().cumsum(-1).sqrt()
        if self.nearest:
            counts = (norms - target[..., None]).abs().argmin(-1) + 1
        else:
            counts = (norms < target[..., None]).sum(-1) + 1
        limit = best.shape[-1] if self.k_max is None else self.k_max
        return torch.where(target > 0, counts.clamp(self.k_min, limit), 0)
