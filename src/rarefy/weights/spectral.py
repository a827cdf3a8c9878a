"""Is a mask a good expander? The spectral gap of its bipartite graph to Ramanujan's bound.

    gap = sqrt(d_L - 1) + sqrt(d_R - 1) - sigma_2(m)

with d_L and d_R the mean degrees of the units on either side and sigma_2 the second singular value
of the mask as a matrix (the second eigenvalue of the graph). At 0 or above, signals spread through
the layer about as fast as through any graph with so few edges; below, parts of it hardly mix.

Source: Thangarasa et al. 2024, "Sparse-IFT" (arXiv 2303.11525), appendix, after Hoang et al. 2023.
Departures: mean degrees, as masks are not regular; units without an edge do not count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


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
    if mask.ndim < 2:
        raise ValueError(f"mask must have two axes or more, got shape {tuple(mask.shape)}")
    matrix = mask.flatten(1)
    matrix = matrix[matrix.any(1)][:, matrix.any(0)]
    if min(matrix.shape) < 2:
        return math.nan
    edges = int(matrix.count_nonzero())
    left, right = (edges / side for side in matrix.shape)
    second = float(torch.linalg.svdvals(matrix.double())[1])
    return math.sqrt(left - 1) + math.sqrt(right - 1) - second
