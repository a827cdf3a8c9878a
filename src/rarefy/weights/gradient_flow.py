"""How gradients flow to kept and to pruned weights, and how noisy they are, while a model trains.

Of each tensor at each recorded step, with g the gradient that the optimizer is handed:

    variance  Var(g) over all entries, over the kept and over the pruned ones
    moment    Var(v) over all entries, v the running mean of g^2 that Adam keeps
    flips     |m_t - m_{t-1}|_1
    change    |w_t m_t - w_{t-1} m_{t-1}| / |w_{t-1} m_{t-1}|

Source: Bambhaniya et al. 2024 (arXiv 2402.04744), section 3, and the summary of its authors' code.
Departures: kept and pruned entries are told apart, since a rule that hands pruned weights no
gradient lowers the variance over all of them by that alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from rarefy.weights.masks import Masks


class GradientRecord(NamedTuple):
    """One tensor at one step; see the head of this module.

    What is not defined is NaN: ``moment`` without Adam, ``change`` at the first record, the
    variance of no entries.
    """

    step: int
    name: str
    variance: float
    variance_kept: float
    variance_pruned: float
    square_kept: float
    """Mean square of the gradient over the kept entries."""
    moment: float
    flips: int
    change: float


class GradientFlow:
    """Record the gradients of masked weights before every so many optimizer steps.

    Parameters
    ----------
    weights : mapping of str to Tensor
        Live parameters, for example :attr:`NMTraining.weights`.
    masks : callable ``() -> Masks``
        Those in force: ``lambda: training.masks``.
    optimizer : torch optimizer
        Gradients are read as it finds them, so after clipping.
    every : int, default 1
        Steps between records; flips and change are counted from one record to the next.

    Attributes
    ----------
    records : list of GradientRecord

    Examples
    --------
    >>> weight = torch.nn.Parameter(torch.ones(2, 2))
    >>> sgd = torch.optim.SGD([weight], lr=0.1)
    >>> keep = Masks({"w": torch.tensor([[True, False], [True, False]])})
    >>> with GradientFlow({"w": weight}, lambda: keep, sgd) as flow:
    ...     (weight * torch.tensor([[1.0, 5.0], [3.0, 5.0]])).sum().backward()
    ...     sgd.step()
    >>> flow.records[0].variance_kept, flow.records[0].variance_pruned
    (1.0, 0.0)
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        masks: Callable[[], Masks],
        optimizer: Optimizer,
        *,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self._weights, self._masks, self._optimizer = dict(weights), masks, optimizer
        self._every = every
        self._last: dict[str, tuple[Tensor, Tensor]] = {}
        self._taken = 0
        self.records: list[GradientRecord] = []
        self._hook = optimizer.register_step_pre_hook(lambda *_: self._before_step())

    def series(self, field: str) -> tuple[list[int], list[float]]:
        """List steps and a field of the records, its mean over the tensors.

        Raises
        ------
        ValueError
            If there is no such field.
        """
        if field not in GradientRecord._fields[2:]:
            raise ValueError(
                f"no field {field!r}; there are {', '.join(GradientRecord._fields[2:])}"
            )
        at: dict[int, list[float]] = {}
        for record in self.records:
            at.setdefault(record.step, []).append(getattr(record, field))
        return list(at), [math.fsum(values) / len(values) for values in at.values()]

    def detach(self) -> None:
        """Record no more."""
        self._hook.remove()

    def __enter__(self) -> GradientFlow:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    @torch.no_grad()
    def _before_step(self) -> None:
        if self._taken % self._every == 0:
            masks = self._masks()
            self.records += [
                self._record(name, weight, weight.grad, masks[name])
                for name, weight in self._weights.items()
                if weight.grad is not None
            ]
        self._taken += 1

    def _record(self, name: str, weight: Tensor, grad: Tensor, mask: Tensor) -> GradientRecord:
        grad = grad.float()
        kept = grad[mask]
        slots = self._optimizer.state.get(weight, {})
        sparse = weight.float().masked_fill(~mask, 0)
        flips, change = 0, math.nan
        if name in self._last:
            mask_before, sparse_before = self._last[name]
            flips = int((mask ^ mask_before).count_nonzero())
            size = float(sparse_before.norm())
            change = float((sparse - sparse_before).norm()) / size if size else math.nan
        self._last[name] = mask.clone(), sparse
        return GradientRecord(
            step=self._taken,
            name=name,
            variance=_variance(grad),
            variance_kept=_variance(kept),
            variance_pruned=_variance(grad[~mask]),
            square_kept=float(kept.square().mean()) if len(kept) else math.nan,
            moment=_variance(slots["exp_avg_sq"]) if "exp_avg_sq" in slots else math.nan,
            flips=flips,
            change=change,
        )


def _variance(entries: Tensor) -> float:
    return float(entries.float().var(correction=0)) if entries.numel() else math.nan
