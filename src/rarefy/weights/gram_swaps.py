r"""Repair a pruned linear layer by the swaps that lower its squared output error most.

With :math:`G = X'X` of the calibration inputs and d the weights that a row has lost, the error of
the row's outputs is

.. math:: \|(w - w m) X'\|^2 = d \, G \, d'

Each swap of a kept and a pruned weight changes it by a few entries of G. In every row the best
swap of all is made, and the next, until none lowers the error: a local optimum.

Source: Zimmer et al. 2025, "SparseSwaps" (arXiv 2512.10922). The criterion that DSnoT's expected
error stands in for, and its yardstick: a swap costs ``kept x pruned`` operations a row.
Departures: at most ``max_cycles`` swaps a row.

Axis letters: o outputs, i inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rarefy.operators import NM
from rarefy.weights.calibrate import LayerStats
from rarefy.weights.dsnot import DSnoTResult, check_mask
from rarefy.weights.from_scores import check_pattern


def gram_swaps(
    weight: Tensor,
    mask: Tensor,
    stats: LayerStats,
    *,
    pattern: NM | None = None,
    score: Tensor | None = None,  # noqa: ARG001 - what prune_lm hands to every repair
    max_cycles: int = 50,
) -> DSnoTResult:
    """Swap weights of a pruned layer as long as that lowers each row's squared output error.

    Takes the place of :func:`rarefy.weights.dsnot`, as ``prune_lm(..., refine=gram_swaps)`` too.

    Parameters
    ----------
    weight : Tensor, shape (o, i)
        The dense weight. Not changed.
    mask : bool Tensor, shape (o, i)
        True is kept.
    stats : LayerStats
        With a Gram matrix.
    pattern : NM, optional
        The pattern ``mask`` obeys, and the result will: swaps stay within a group.
    score : Tensor, optional
        Not used: no ranking decides here.
    max_cycles : int, default 50
        Most swaps of a row.

    Returns
    -------
    DSnoTResult
        Its errors are the *expected* ones, which need not fall;
        :func:`rarefy.weights.output_error` measures what does.

    Raises
    ------
    ValueError
        If shapes do not match, or no Gram matrix was gathered.

    Examples
    --------
    >>> stats = LayerStats(3, gram=True)
    >>> stats.update(torch.tensor([[[1.0, 1, 0], [1.0, 1, 1]]]))  # the first two always agree
    >>> weight = torch.tensor([[2.0, -2, 1]])
    >>> gram_swaps(weight, torch.tensor([[True, False, False]]), stats).mask
    tensor([[False, False,  True]])
    """
    # Numba takes most of a second to import; only this method pays for it.
    from rarefy.kernels.cpu.best_swaps import best_swaps
    from rarefy.kernels.cpu.swaps import Quadratic

    check_mask(weight, mask)
    if pattern is not None:
        check_pattern(pattern, weight.shape[1], "the layer")
    dense, was = weight.detach().cpu().float().contiguous(), mask.cpu().contiguous()
    improved = best_swaps(
        Quadratic(dense.numpy(), stats.gram.cpu().numpy()),
        was.numpy(),
        cycles=max_cycles,
        group=0 if pattern is None else pattern.m,
        threads=min(torch.get_num_threads(), len(dense)) or 1,
    )
    new = torch.from_numpy(improved.mask)
    contribution = (dense * stats.mean_sum.cpu()).double()
    before, after = (contribution.masked_fill(kept, 0).sum(1) for kept in (was, new))
    parts = (new, before, after, torch.from_numpy(improved.swaps))
    return DSnoTResult(*(part.to(weight.device) for part in parts))
