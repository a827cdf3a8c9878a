"""Ranking metrics over all items: Recall@k, NDCG@k, hit rate, in one pass over users.

    Recall@k = |top_k & test_u| / |test_u|
    NDCG@k   = sum_{r <= k, hit} 1 / log2(r + 1)  /  sum_{r <= min(k, |test_u|)} 1 / log2(r + 1)

averaged over the users who have test items; what a user had in training is never recommended.

Source: the evaluation of LightGCN and of Dynamic Sparse Learning. Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_USERS_AT_ONCE = 1024


def rank_items(scores: Tensor, *, k: int, exclude: csr_array | None = None) -> Tensor:
    """Find the ids of each user's k best items, best first.

    Parameters
    ----------
    scores : Tensor, shape (n, I)
    k : int
    exclude : sparse matrix, shape (n, I), optional
        Items not to recommend.

    Returns
    -------
    Tensor of int64, shape (n, k)

    Raises
    ------
    ValueError
        If ``k`` is not positive, or a user has fewer items left to recommend.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> rank_items(torch.tensor([[1.0, 3.0, 2.0]]), k=2, exclude=csr_array([[0, 1, 0]])).tolist()
    [[2, 0]]
    """
    items = scores.shape[1]
    seen = np.zeros(len(scores), int) if exclude is None else np.diff(exclude.indptr)
    left = items - int(seen.max(initial=0))
    if not 1 <= k <= left:
        raise ValueError(f"k must be from 1 to the {left} items that every user has left, got {k}")
    if exclude is not None:
        rows = torch.from_numpy(np.repeat(np.arange(len(scores)), seen)).to(scores.device)
        columns = torch.from_numpy(exclude.indices.astype(np.int64)).to(scores.device)
        scores = scores.index_put((rows, columns), scores.new_tensor(-torch.inf))
    return scores.topk(k).indices


def evaluate_ranking(
    scores: Callable[[Tensor], Tensor],
    train: csr_array,
    test: csr_array,
    *,
    k: int | Sequence[int] = 20,
) -> dict[str, float]:
    """Measure a recommender on held-out interactions.

    Parameters
    ----------
    scores : callable ``users -> (n, I)``
        A model's :meth:`scores`; called with up to 1,024 user ids at a time.
    train : sparse matrix, shape (U, I)
        Excluded from the ranking.
    test : sparse matrix, shape (U, I)
    k : int or sequence of int, default 20

    Returns
    -------
    dict of str to float
        ``recall@k``, ``ndcg@k`` and ``hit@k`` (share of users with a hit) for each k.

    Raises
    ------
    ValueError
        If the shapes differ, no user has a test item, or k is more than a user has left.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> train, test = csr_array([[1, 0, 0, 0]]), csr_array([[0, 1, 0, 1]])
    >>> evaluate_ranking(lambda users: torch.tensor([[9.0, 3.0, 2.0, 1.0]]), train, test, k=1)
    {'recall@1': 0.5, 'ndcg@1': 1.0, 'hit@1': 1.0}
    """
    from scipy.sparse import csr_array

    if train.shape != test.shape:
        raise ValueError(f"train and test differ in shape: {train.shape} and {test.shape}")
    train, test = csr_array(train), csr_array(test)
    wanted = (k,) if isinstance(k, int) else tuple(k)
    users = np.flatnonzero(np.diff(test.indptr))
    if not len(users):
        raise ValueError("test is empty: at least one user with one item is wanted")
    deepest = max(wanted)
    gain = 1 / np.log2(np.arange(2, deepest + 2))
    ideal = np.cumsum(gain)
    parts: list[np.ndarray] = []
    for start in range(0, len(users), _USERS_AT_ONCE):
        some = users[start : start + _USERS_AT_ONCE]
        ranked = rank_items(scores(torch.from_numpy(some)), k=deepest, exclude=train[some])
        relevant = test[some].toarray() != 0
        hits = np.take_along_axis(relevant, ranked.cpu().numpy(), axis=1)
        n = relevant.sum(axis=1)
        parts.append(
            np.stack(
                [
                    value
                    for depth in wanted
                    for value in (
                        hits[:, :depth].sum(axis=1) / n,
                        hits[:, :depth] @ gain[:depth] / ideal[np.minimum(depth, n) - 1],
                        hits[:, :depth].any(axis=1),
                    )
                ]
            )
        )
    names = [f"{name}@{depth}" for depth in wanted for name in ("recall", "ndcg", "hit")]
    means = np.concatenate(parts, axis=1).mean(axis=1)
    return dict(zip(names, means.tolist(), strict=True))
