"""Who chose what: interaction matrices from a file, their k-core, splits, a planted generator.

An interaction matrix ``X`` (users x items) holds 1 where a user chose an item. Ids are kept beside
it, so that a row can be named.

    k-core   the largest part in which every user has >= a items and every item >= b users
    split    of each user's n items, floor(share n) to each held-out part, at random
    planted  p(i | u)  ~  softmax_i( <a_u, b_i> + log pop_i ),   pop_i = (i + 1)^-popularity

Source: the usual preparation of implicit-feedback data. Departures: none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class Interactions(NamedTuple):
    """An interaction matrix and the ids of its rows and columns.

    Attributes
    ----------
    matrix : csr_array of float32, shape (users, items)
        Ones.
    users, items : array of str
    """

    matrix: csr_array
    users: np.ndarray
    items: np.ndarray


class Split(NamedTuple):
    """Three matrices of one shape that share no entry."""

    train: csr_array
    validation: csr_array
    test: csr_array


def interactions(pairs: Iterable[tuple[str, str]]) -> Interactions:
    """Gather (user, item) pairs in a matrix; a pair that comes twice counts once.

    Parameters
    ----------
    pairs : iterable of (str, str)

    Returns
    -------
    Interactions
        Rows and columns in the order of first appearance.

    Examples
    --------
    >>> found = interactions([("ann", "tea"), ("bob", "tea"), ("ann", "rye"), ("ann", "tea")])
    >>> found.matrix.toarray().astype(int).tolist(), found.items.tolist()
    ([[1, 1], [1, 0]], ['tea', 'rye'])
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    entries = {
        (users.setdefault(user, len(users)), items.setdefault(item, len(items)))
        for user, item in pairs
    }
    rows, columns = np.array(sorted(entries), dtype=np.int64).reshape(-1, 2).T
    return Interactions(
        _ones(rows, columns, (len(users), len(items))), np.array([*users]), np.array([*items])
    )


def read_interactions(path: str | os.PathLike[str]) -> Interactions:
    """Read a text file of interactions: ``user item`` or ``user item item ...`` on each line.

    Further columns of numbers cannot be told from items: cut ratings and times off first.

    Parameters
    ----------
    path : path
        UTF-8, separated by blanks or tabs; LightGCN's data sets have the second form.

    Returns
    -------
    Interactions

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a line has a user and no item, or the file holds no interaction.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no such file of interactions: {os.fspath(path)}")
    pairs = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            user, *chosen = line.split() or [""]
            if user and not chosen:
                raise ValueError(
                    f"line {number} of {os.fspath(path)} is {line.strip()!r}; a user and at least "
                    "one item are wanted, separated by blanks"
                )
            pairs += [(user, item) for item in chosen]
    if not pairs:
        raise ValueError(f"{os.fspath(path)} is empty: a user and an item on each line are wanted")
    return interactions(pairs)


def k_core(found: Interactions, *, user: int, item: int) -> Interactions:
    """Keep the largest part in which every user and every item has enough interactions.

    Parameters
    ----------
    found : Interactions
    user : int
        Items that a user must have.
    item : int
        Users that an item must have.

    Returns
    -------
    Interactions
        With fewer rows and columns.

    Raises
    ------
    ValueError
        If nothing is left.
    """
    matrix, users, items = found
    while matrix.nnz:
        rich = np.diff(matrix.indptr) >= user
        matrix, users = matrix[rich], users[rich]
        popular = np.bincount(matrix.indices, minlength=matrix.shape[1]) >= item
        matrix, items = matrix[:, popular], items[popular]
        if rich.all() and popular.all():
            return Interactions(matrix, users, items)
    raise ValueError(
        f"no part of the {found.matrix.nnz} interactions has {user} items for each user and "
        f"{item} users for each item: ask for less"
    )


def split_interactions(
    matrix: csr_array,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    generator: torch.Generator,
) -> Split:
    """Hold out a random share of each user's items.

    Parameters
    ----------
    matrix : sparse matrix, shape (users, items)
    test, validation : float, default 0.2 and 0.1
        Shares; rounded down for each user, so that small users keep theirs for training.
    generator : torch.Generator

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If the shares are not in [0, 1), or together not below 1.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> g = torch.Generator().manual_seed(0)
    >>> parts = split_interactions(csr_array(np.ones((3, 10))), generator=g)
    >>> [part.sum(axis=1).tolist() for part in parts]
    [[7.0, 7.0, 7.0], [1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]
    """
    from scipy.sparse import csr_array

    if not (test >= 0 and validation >= 0 and test + validation < 1):
        raise ValueError(
            f"test and validation must be shares that leave some to train on, got {test} and "
            f"{validation}"
        )
    matrix = csr_array(matrix)
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    lots = torch.rand(matrix.nnz, generator=generator, dtype=torch.float64).numpy()
    order = np.lexsort((lots, rows))
    # Place of each interaction in its user's shuffled list.
    place = np.empty(matrix.nnz, dtype=np.int64)
    place[order] = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    # The guard keeps 10 * 0.3 from flooring to 2.
    tested = np.floor(counts * test + 1e-9)[rows]
    validated = tested + np.floor(counts * validation + 1e-9)[rows]
    parts = (place >= validated, (place >= tested) & (place < validated), place < tested)
    train, validation_part, test_part = (
        _ones(rows[part], matrix.indices[part], matrix.shape) for part in parts
    )
    return Split(train, validation_part, test_part)


def planted_interactions(
    users: int = 2000,
    items: int = 1500,
    *,
    rank: int = 8,
    per_user: int = 40,
    popularity: float = 1.0,
    generator: torch.Generator,
) -> csr_array:
    """Draw interactions from latent factors and a skewed popularity.

    Parameters
    ----------
    users, items : int, default 2000 and 1500
    rank : int, default 8
        Of the affinity between users and items, whose entries have variance 4.
    per_user : int, default 40
        Items of each user, drawn without replacement.
    popularity : float, default 1.0
        Exponent of Zipf's law; item 0 is the most popular.
    generator : torch.Generator

    Returns
    -------
    csr_array of float32, shape (users, items)

    Raises
    ------
    ValueError
        If a user is to have more items than there are.
    """
    if not 1 <= per_user <= items:
        raise ValueError(f"per_user must be from 1 to the {items} items, got {per_user}")
    a = torch.randn(users, rank, generator=generator)
    b = torch.randn(items, rank, generator=generator)
    logits = 2 * a @ b.T / rank**0.5 - popularity * torch.arange(1, items + 1).log()
    # The largest of logits with Gumbel noise are a sample without replacement.
    noise = -torch.rand(users, items, generator=generator).clamp_min(1e-30).log()
    chosen = (logits - noise.log()).topk(per_user).indices
    rows = np.repeat(np.arange(users), per_user)
    return _ones(rows, chosen.flatten().numpy(), (users, items))


def _ones(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> csr_array:
    from scipy.sparse import csr_array

    matrix = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sort_indices()
    return matrix
