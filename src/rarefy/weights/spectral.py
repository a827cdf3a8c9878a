"""Is a mask a good expander? The spectral gaps of its bipartite graph, one of them to a bound.

    Ramanujan's gap    sqrt(d_L - 1) + sqrt(d_R - 1) - sigma_2(m)
    weighted gap       sigma_1(|w|) - sigma_2(|w|)

with d_L and d_R the mean degrees of the units on either side and sigma_i the i-th singular value
of mask or weights as a matrix (an eigenvalue of the graph). At 0 or above, signals spread through
the layer about as fast as through any graph with so few edges; below, parts of it hardly mix. Of
an irregular graph both can be averaged over the sub-graphs of inputs with equally many edges.

Source: Thangarasa et al. 2024, "Sparse-IFT" (arXiv 2303.11525), appendix, after Hoang et al. 2023,
"Revisiting pruning at initialization through the lens of Ramanujan graph", and the authors' code.
Departures: mean degrees, as masks are not regular; units without an edge do not count; the
weighted gap has no bound, as Ramanujan's is on the eigenvalues of edges that are all 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_MIN_DEGREE = 3
"""Sub-graphs of a smaller mean degree on either side are left out, as in the authors' code: the
bound says little about them."""


def ramanujan_gap(mask: Tensor) -> float:
    """Compute how far the second singular value of a mask lies below Ramanujan's bound.

    Parameters
    ----------
    mask : bool Tensor of two or more axes
        As (outputs, the rest).

    Returns
    -------
    float
        The larger the better connected; NaN where fewer than two units on a side have an edge.

    Raises
    ------
    ValueError
        If the mask has fewer than two axes.

    Examples
    --------
    >>> ring = torch.eye(8) + torch.eye(8).roll(1, 0)
    >>> two_parts = torch.block_diag(torch.ones(4, 2), torch.ones(4, 2))
    >>> round(ramanujan_gap(ring > 0), 3), round(ramanujan_gap(two_parts > 0), 3)
    (0.152, -0.096)
    """
    matrix = _graph(mask, "mask").bool()
    if min(matrix.shape) < 2:
        return math.nan
    edges = int(matrix.count_nonzero())
    left, right = (edges / side for side in matrix.shape)
    second = float(torch.linalg.svdvals(matrix.double())[1])
    return math.sqrt(left - 1) + math.sqrt(right - 1) - second


def weighted_gap(weight: Tensor) -> float:
    """Compute how far the first singular value of the weights' magnitudes lies above the second.

    Parameters
    ----------
    weight : Tensor of two or more axes
        As (outputs, the rest), with zeros where it is pruned. Twice the weights, twice the gap.

    Returns
    -------
    float
        The larger the better connected; NaN where fewer than two units on a side have a weight.

    Raises
    ------
    ValueError
        If the weight has fewer than two axes.

    Examples
    --------
    >>> two_parts = torch.block_diag(torch.ones(4, 2), torch.ones(4, 2))
    >>> round(weighted_gap(torch.ones(8, 4)), 3), abs(round(weighted_gap(two_parts), 3))
    (5.657, 0.0)
    """
    matrix = _graph(weight, "weight")
    if min(matrix.shape) < 2:
        return math.nan
    first, second = torch.linalg.svdvals(matrix.abs().double())[:2].tolist()
    return first - second


def mean_subgraph_gap(matrix: Tensor, gap: Callable[[Tensor], float] = ramanujan_gap) -> float:
    """Average a gap over the sub-graphs of inputs that have equally many edges.

    Parameters
    ----------
    matrix : Tensor of two or more axes
        A mask, or weights with zeros where they are pruned, as (outputs, the rest).
    gap : callable, default :func:`ramanujan_gap`
        Or :func:`weighted_gap`.

    Returns
    -------
    float
        NaN where no sub-graph has a mean of three edges on both sides.

    Raises
    ------
    ValueError
        If the matrix has fewer than two axes.

    Examples
    --------
    >>> mean_subgraph_gap(torch.ones(5, 10) > 0) == ramanujan_gap(torch.ones(5, 10) > 0)
    True
    """
    matrix = _graph(matrix, "matrix")
    degrees = matrix.count_nonzero(0)
    gaps = []
    for degree in degrees.unique():
        part = _graph(matrix[:, degrees == degree], "matrix")
        thinnest = int(part.count_nonzero()) / max(*part.shape, 1)
        if thinnest >= _MIN_DEGREE:
            gaps.append(gap(part))
    return sum(gaps) / len(gaps) if gaps else math.nan


def _graph(tensor: Tensor, name: str) -> Tensor:
    """The matrix (outputs, the rest), without the units that have no edge."""
    if tensor.ndim < 2:
        raise ValueError(f"{name} must have two axes or more, got shape {tuple(tensor.shape)}")
    matrix = tensor.flatten(1)
    edge = matrix != 0
    return matrix[edge.any(1)][:, edge.any(0)]
