"""Neighbourhoods of items: the baseline that needs no training and is often hard to beat.

    s_ij = |U_i & U_j| / (sqrt(|U_i| |U_j|) + shrink),   k largest of each row,   s_ii = 0
    score_uj = sum_{i in u's items} s_ij

Source: Sarwar et al. 2001 (item-based filtering, cosine); Deshpande and Karypis 2004 (top k).
Departures: none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_ITEMS_AT_ONCE = 1024


class ItemKNN:
    """Recommend what is chosen by those who chose the same.

    Parameters
    ----------
    interactions : sparse matrix, shape (U, I)
        Of training, zeros and ones.
    neighbours : int, default 50
        Kept of each item; ties fall to the lower id.
    shrink : float, default 0.0
        Added to the denominator: similarities of few users count for less.

    Attributes
    ----------
    similarity : sparse matrix, shape (I, I)
        Row i holds the neighbours of item i.

    Raises
    ------
    ValueError
        If ``neighbours`` is not positive or ``shrink`` is negative.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> x = csr_array([[1, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 0]])
    >>> ItemKNN(x).scores(torch.tensor([3])).argsort(descending=True)[0, 0].item()
    1
    """

    def __init__(
        self, interactions: csr_array, *, neighbours: int = 50, shrink: float = 0.0
    ) -> None:
        from scipy.sparse import csr_array, vstack

        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}")
        if not shrink >= 0:
            raise ValueError(f"shrink must not be negative, got {shrink}")
        self._rows = csr_array(interactions, dtype=np.float64)
        columns = self._rows.T.tocsr()
        length = np.sqrt(np.asarray(columns.sum(axis=1)).ravel())
        blocks = []
        for start in range(0, columns.shape[0], _ITEMS_AT_ONCE):
            together = (columns[start : start + _ITEMS_AT_ONCE] @ self._rows).tocoo()
            row, column = together.coords
            row = row + start
            weight = together.data / (length[row] * length[column] + shrink)
            weight[row == column] = 0
            blocks.append(_largest(row, column, weight, neighbours, columns.shape[0], start))
        self.similarity: csr_array = vstack(blocks, format="csr")

    def scores(self, users: Tensor) -> Tensor:
        """Scores of all items for some users, (n, I)."""
        found = self._rows[users.cpu().numpy()] @ self.similarity
        return torch.from_numpy(found.toarray()).to(torch.float32)


def _largest(
    row: np.ndarray, column: np.ndarray, weight: np.ndarray, k: int, items: int, start: int
) -> csr_array:
    """Keep the k largest of each row of a block."""
    from scipy.sparse import csr_array

    order = np.lexsort((column, -weight, row))
    row, column, weight = row[order], column[order], weight[order]
    first = np.searchsorted(row, row)
    kept = (np.arange(len(row)) - first < k) & (weight > 0)
    height = min(_ITEMS_AT_ONCE, items - start)
    return csr_array((weight[kept], (row[kept] - start, column[kept])), shape=(height, items))
