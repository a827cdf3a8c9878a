r"""DSnoT: repair a pruned linear layer by swapping weights, without training.

With the signed contribution ``C_ij = W_ij mu_j`` of each weight to its output's expected value,
pruning leaves row i the error

.. math:: \epsilon_i = \sum_{j : M_{ij} = 0} C_{ij}

While ``|eps_i|`` is above a threshold and cycles are left, a row
grows the pruned weight with the largest ``sign(eps_i) C_ij / v_j^gamma``, and
prunes, of the kept weights with ``sign(C_ij) = - sign(eps_i)``, the one with the smallest Wanda
score ``|W_ij| ||x_j||``. In N:M patterns it prunes in the group of the grown weight instead.

Source: Zhang et al. 2024, "Dynamic sparse no training", sections 3.2 and 3.3, and the released
code for units and order. Departures: the exact input variance ``v`` by default; lists end instead
of wrapping round; the threshold scales with the calibration length; below 2,048 inputs fewer
cycles and the same-sign guard, because 50 swaps are a third of a narrow row.

Axis letters: o outputs, i inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rarefy.operators import NM
from rarefy.weights.calibrate import LayerStats
from rarefy.weights.from_scores import check_pattern
from rarefy.weights.scores import wanda

RELEASED_TOKENS = 2048
"""Sequence length in whose units the released threshold of 0.1 is."""

NARROW = 2048
"""Below this many inputs a layer is narrow (see Departures)."""


@dataclass(frozen=True)
class DSnoTResult:
    """A repaired mask.

    Attributes
    ----------
    mask : bool Tensor, shape (o, i)
        As many kept in every row as before.
    error_before, error_after : float64 Tensor, shape (o,)
        ``eps`` of each row, signed, with the old and the new mask.
    swaps : int64 Tensor, shape (o,)
    """

    mask: Tensor
    error_before: Tensor
    error_after: Tensor
    swaps: Tensor


def dsnot(
    weight: Tensor,
    mask: Tensor,
    stats: LayerStats,
    *,
    pattern: NM | None = None,
    score: Tensor | None = None,
    max_cycles: int | Literal["auto"] = "auto",
    threshold: float = 0.1,
    threshold_mode: Literal["scaled", "released", "relative"] = "scaled",
    var_power: float = 1.0,
    same_sign: bool | None = None,
    accept: Literal["always", "if_mse_drops"] = "always",
    grow: Literal["contribution", "magnitude", "random"] = "contribution",
    prune: Literal["wanda", "magnitude", "random"] = "wanda",
    generator: torch.Generator | None = None,
) -> DSnoTResult:
    """Swap weights of a pruned layer until each row's expected output is near the dense one.

    Parameters
    ----------
    weight : Tensor, shape (o, i)
        The dense weight. Not changed.
    mask : bool Tensor, shape (o, i)
        True is kept. A row that keeps all or nothing stays as it is.
    stats : LayerStats
    pattern : NM, optional
        The pattern ``mask`` obeys, and the result will.
    score : Tensor, shape (o, i), optional
        What ``prune`` ranks by, instead: with a pattern, the released code takes the score of the
        method that made the mask.
    max_cycles : int or "auto", default "auto"
        Most swaps of a row. ``"auto"`` is the released 50 from 2,048 inputs on, below that
        ``max(1, round(50 i / 4096))``.
    threshold : float, default 0.1
        Rows with ``|eps|`` up to this are done.
    threshold_mode : {"scaled", "released", "relative"}, default "scaled"
        Units: per 2,048 tokens and scaled to the calibration length; as it stands (the released
        code); or relative to ``|sum_j C_ij|`` of the row.
    var_power : float, default 1.0
        ``gamma``; 0 switches the variance term off.
    same_sign : bool, optional
        Stop before a swap that turns ``eps`` to the other sign. By default on for patterns, as
        released, and for fewer than 2,048 inputs.
    accept : {"always", "if_mse_drops"}, default "always"
        ``"if_mse_drops"`` passes over a swap that would not lower the squared output error
        ``||(W - W m) X||^2`` of its row: a smaller mean error can hide a larger one. It needs the
        Gram matrix of ``stats``. Not in the paper.
    grow, prune : str
        Ablations of the two criteria: grow by ``|C|`` whatever its sign or at random; prune by
        magnitude or at random.
    generator : torch.Generator, optional
        For the random ones, on the CPU.

    Returns
    -------
    DSnoTResult
        On the weight's device; the work is done on the CPU in float32.

    Raises
    ------
    ValueError
        If shapes do not match, a choice is unknown, a random one has no generator, or ``accept``
        asks for a Gram matrix that was not gathered.

    Examples
    --------
    >>> stats = LayerStats(4)
    >>> stats.update(torch.tensor([[[1.0, 1, 1, 1], [3.0, 3, 3, 1]]]))
    >>> weight = torch.tensor([[1.0, -0.5, 2, 3]])
    >>> dsnot(weight, torch.tensor([[False, True, False, True]]), stats).mask
    tensor([[False, False,  True,  True]])
    """
    # Numba takes most of a second to import; only this method pays for it.
    from rarefy.kernels.cpu.swaps import Quadratic, swap_rows

    check_mask(weight, mask)
    inputs = weight.shape[1]
    narrow = inputs < NARROW
    if pattern is not None:
        check_pattern(pattern, inputs, "the layer")
    if max_cycles == "auto":
        cycles = max(1, round(50 * inputs / 4096)) if narrow else 50
    else:
        cycles = max_cycles
    if accept not in ("always", "if_mse_drops"):
        raise ValueError(f"accept must be 'always' or 'if_mse_drops', got {accept!r}")
    if same_sign is None:
        same_sign = narrow or pattern is not None
    dense = weight.detach().cpu().float()
    contribution = dense * stats.mean_sum.cpu()
    ranking = _growth(grow, contribution, stats, var_power, generator)
    if score is None:
        score = _pruning(prune, dense, stats, generator)
    swapped = swap_rows(
        contribution.numpy(),
        ranking.contiguous().numpy(),
        score.detach().cpu().float().contiguous().numpy(),
        mask.cpu().contiguous().numpy(),
        _thresholds(threshold, threshold_mode, contribution, stats).numpy(),
        cycles=cycles,
        same_sign=same_sign,
        signed=grow == "contribution",
        group=0 if pattern is None else pattern.m,
        falling=None
        if accept == "always"
        else Quadratic(dense.contiguous().numpy(), stats.gram.cpu().numpy()),
        threads=min(torch.get_num_threads(), len(dense)) or 1,
    )
    return DSnoTResult(*(torch.from_numpy(part).to(weight.device) for part in swapped))


def random_swaps(
    weight: Tensor, mask: Tensor, stats: LayerStats, *, generator: torch.Generator, **options: Any
) -> DSnoTResult:
    """Make as many swaps in each row as DSnoT would, but at random: its control.

    Parameters
    ----------
    weight, mask, stats
        As for :func:`dsnot`.
    generator : torch.Generator
        Of the CPU.
    **options
        Handed to :func:`dsnot`, which is run for its counts. With a pattern each revived weight
        replaces a random kept one of its group.

    Returns
    -------
    DSnoTResult
    """
    guided = dsnot(weight, mask, stats, **options)
    pattern, swaps = options.get("pattern"), guided.swaps.cpu()
    new = mask.cpu().clone()
    order = torch.rand(new.shape, generator=generator)
    if pattern is None:
        places = order.argsort(1)
        kept = new.gather(1, places)
        # The place of each entry in the random order of its own side.
        turn = torch.where(kept, kept.cumsum(1), (~kept).cumsum(1))
        new ^= torch.zeros_like(new).scatter_(1, places, turn <= swaps.unsqueeze(1))
    else:
        _swap_in_groups(new, order, swaps, pattern.m)
    contribution = weight.detach().cpu().float() * stats.mean_sum.cpu()
    error = contribution.masked_fill(new, 0).double().sum(1)
    return DSnoTResult(
        new.to(mask.device), guided.error_before, error.to(mask.device), guided.swaps
    )


def check_mask(weight: Tensor, mask: Tensor) -> None:
    """Refuse a mask that is not boolean or not of the weight's shape, and a weight with NaN."""
    if mask.shape != weight.shape or mask.dtype != torch.bool:
        raise ValueError(
            f"mask must be boolean of the weight's shape {tuple(weight.shape)}, "
            f"got {mask.dtype} of {tuple(mask.shape)}"
        )
    if bool(weight.isnan().any()):
        raise ValueError("weight holds NaN: no weight of its rows can be ranked")


def _swap_in_groups(new: Tensor, order: Tensor, swaps: Tensor, m: int) -> None:
    """Swap in place, one a round in every row: the first in ``order`` with room in its group."""
    rows = torch.arange(len(new))
    was, order = new.clone(), order.view(len(new), -1, m)
    for done in range(int(swaps.max()) if len(swaps) else 0):
        droppable = (was & new).view_as(order)
        revivable = ~(was | new).view_as(order) & droppable.any(-1, keepdim=True)
        revived = order.masked_fill(~revivable, torch.inf).flatten(1).argmin(1)
        group = revived // m
        inside = order[rows, group].masked_fill(~droppable[rows, group], torch.inf)
        dropped = group * m + inside.argmin(1)
        live = (swaps > done) & revivable.flatten(1).any(1)
        new[rows[live], revived[live]] = True
        new[rows[live], dropped[live]] = False


def _growth(
    grow: str,
    contribution: Tensor,
    stats: LayerStats,
    var_power: float,
    generator: torch.Generator | None,
) -> Tensor:
    if grow == "contribution":
        return contribution * _spread(stats).pow(-var_power) if var_power else contribution
    if grow == "magnitude":
        return contribution.abs()
    if grow == "random":
        return _random(contribution, generator)
    raise ValueError(f"grow must be 'contribution', 'magnitude' or 'random', got {grow!r}")


def _pruning(
    prune: str, dense: Tensor, stats: LayerStats, generator: torch.Generator | None
) -> Tensor:
    if prune == "wanda":
        return wanda(dense, stats.norm.cpu())
    if prune == "magnitude":
        return dense.abs()
    if prune == "random":
        return _random(dense, generator)
    raise ValueError(f"prune must be 'wanda', 'magnitude' or 'random', got {prune!r}")


def _spread(stats: LayerStats) -> Tensor:
    """Input variances, kept off zero: a constant input would be infinitely attractive."""
    variance = stats.variance.cpu()
    varying = variance[variance > 0]
    if not len(varying):
        return torch.ones_like(variance)
    return variance.clamp_min(1e-4 * float(varying.median()))


def _random(like: Tensor, generator: torch.Generator | None) -> Tensor:
    if generator is None:
        raise ValueError("a random criterion needs generator=, a seeded torch.Generator")
    return torch.rand(like.shape, generator=generator)


def _thresholds(threshold: float, mode: str, contribution: Tensor, stats: LayerStats) -> Tensor:
    if mode == "relative":
        return threshold * contribution.double().sum(1).abs()
    if mode == "scaled":
        threshold *= stats.tokens / stats.sequences / RELEASED_TOKENS
    elif mode != "released":
        raise ValueError(f"threshold_mode must be 'scaled', 'released' or 'relative', got {mode!r}")
    return torch.full((len(contribution),), threshold, dtype=torch.float64)
