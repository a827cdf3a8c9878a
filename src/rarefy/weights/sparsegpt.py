r"""SparseGPT: prune a linear layer column by column and let the columns to come make up for it.

.. math:: \min_{\hat W,\,M} \lVert W X - (M \odot \hat W) X \rVert^2

With ``H = X X' + damp mean(diag H) I`` and ``U`` the upper Cholesky factor of ``H^-1``: a weight
costs ``w_ij^2 / U_jj^2``; removing it moves the later ones by ``- (w_ij / U_jj) U_j,j:``, the
optimal-brain-surgeon step for the columns not yet passed.

Source: Frantar and Alistarh 2023, algorithm 1 and section 3.3. Departures: counts are exact (the
kept weights of the first j column blocks are ``round(density * entries so far)``), where the
public code cuts at a quantile and drops ties.

Axis letters: o outputs, i inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.operators import NM, TopK
from rarefy.weights.from_scores import check_density, check_pattern, pattern_mask


class SparseGPTResult(NamedTuple):
    """A pruned layer: the updated weight, zero where ``mask`` is False."""

    weight: Tensor
    mask: Tensor


def obs_factor(gram: Tensor, *, damp: float = 0.01, name: str = "the layer") -> Tensor:
    """Compute ``U``, upper triangular, with ``U' U = (H + damp mean(diag H) I)^-1``.

    Parameters
    ----------
    gram : Tensor, shape (i, i)
        ``sum x x'`` over calibration tokens, in any scale.
    damp : float, default 0.01
        The paper's value.
    name : str
        For the error message.

    Returns
    -------
    float32 Tensor, shape (i, i)

    Raises
    ------
    ValueError
        If ``H`` is not positive definite for all the damping.
    """
    hessian = gram.float().clone()
    diagonal = hessian.diagonal()
    diagonal[diagonal == 0] = 1  # a dead input: its weights are zeroed, its row is free
    diagonal += damp * diagonal.mean()
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
        return torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            f"the Hessian of {name} is not positive definite with damp={damp}: "
            "give a larger damp, or more calibration tokens"
        ) from error


def sparsegpt_score(weight: Tensor, factor: Tensor) -> Tensor:
    """Compute ``w_ij^2 / U_jj^2``, the loss increase of removing one weight.

    Parameters
    ----------
    weight : Tensor, shape (o, i)
    factor : Tensor, shape (i, i)
        From :func:`obs_factor`.

    Returns
    -------
    float32 Tensor, shape (o, i)
    """
    return (weight.detach().float() / factor.diagonal()).square()


@torch.no_grad()
def sparsegpt(
    weight: Tensor,
    gram: Tensor,
    *,
    density: float | None = None,
    sparsity: float | None = None,
    pattern: NM | None = None,
    block: int = 128,
    damp: float = 0.01,
    name: str = "the layer",
) -> SparseGPTResult:
    """Prune one linear layer by SparseGPT.

    Parameters
    ----------
    weight : Tensor, shape (o, i)
        Not changed.
    gram : Tensor, shape (i, i)
        ``sum x x'`` over calibration tokens (:attr:`LayerStats.gram`), in any scale.
    density, sparsity : float in [0, 1]
        Exactly one of the two, unless ``pattern`` is given. Holds within each block of columns;
        rows may differ.
    pattern : NM, optional
        Keep n of every m consecutive inputs, chosen when the columns before are done.
    block : int, default 128
        Columns whose mask is chosen together and whose updates are applied lazily.
    damp : float, default 0.01
    name : str
        For error messages.

    Returns
    -------
    SparseGPTResult
        Of the weight's dtype; the work is done in float32.

    Raises
    ------
    TypeError, ValueError
        On bad densities or patterns, weights that are NaN, or a Hessian that is not positive
        definite.
    """
    if bool(weight.isnan().any()):
        raise ValueError(f"the weights of {name} hold NaN: no order, so no mask")
    if pattern is None:
        kept_share = check_density(density=density, sparsity=sparsity)
    elif density is not None or sparsity is not None:
        raise TypeError("give either pattern or one of density and sparsity: a pattern is both")
    else:
        block = max(block // pattern.m, 1) * pattern.m
        check_pattern(pattern, weight.shape[1], name)
    outputs, inputs = weight.shape
    factor = obs_factor(gram, damp=damp, name=name)
    scale = factor.diagonal().tolist()
    # Transposed, so that what the inner loop touches lies together.
    work = weight.detach().float().t().clone(memory_format=torch.contiguous_format)
    work[gram.diagonal() == 0] = 0
    mask = torch.zeros(inputs, outputs, dtype=torch.bool, device=weight.device)
    kept = 0
    for start in range(0, inputs, block):
        stop = min(start + block, inputs)
        columns, u = work[start:stop], factor[start:stop, start:stop]
        keep = mask[start:stop]
        if pattern is None:
            upto = round(kept_share * outputs * stop)
            score = sparsegpt_score(columns.t(), u)
            keep.copy_(TopK(upto - kept, by="value", axis=None).mask(score).t())
            kept = upto
        errors = torch.empty_like(columns)
        for j in range(stop - start):
            if pattern is not None and j % pattern.m == 0:
                group = slice(j, j + pattern.m)
                score = sparsegpt_score(columns[group].t(), u[group, group])
                keep[group] = pattern_mask(score, pattern, name=name).t()
            error = columns[j].masked_fill(keep[j], 0).div_(scale[start + j])
            columns[j:].addr_(u[j, j:], error, alpha=-1)
            errors[j] = error
        work[stop:].addmm_(factor[start:stop, stop:].t(), errors, alpha=-1)
    # The step sets pruned entries to zero up to rounding only.
    work.masked_fill_(~mask, 0)
    return SparseGPTResult(work.t().contiguous().to(weight.dtype), mask.t().contiguous())
