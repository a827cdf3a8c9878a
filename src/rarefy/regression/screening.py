r"""Screening: which of very many columns tell something about a target, nonlinear effects included.

:math:`s_j = I(x_j; y)` for every column j, by :mod:`rarefy.regression.mutual_information`; the k
largest are kept, and *clumping* leaves out a column whose mutual information with a better one
exceeds a threshold. Columns are read in blocks and forgotten, so that a table may be far larger
than memory.

Source: Yang 2025, part 1 (fastHDMI). Departures: see
:mod:`rarefy.regression.mutual_information`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from rarefy.data.columns import Columns, array_columns
from rarefy.regression.mutual_information import (
    Bandwidth,
    Estimator,
    Floats,
    Scorer,
    Settings,
    Target,
    continuous_scorer,
    level_scorer,
)

BLOCK_BYTES = 1 << 26
"""Size of a block of columns as float64."""

MOST_CLASSES = 10
"""Whole numbers with at most so many different values are taken for classes."""

FEW = 20

Progress = Callable[[str, float], None]


def mutual_info_screen(
    X: ArrayLike | Columns,
    y: ArrayLike,
    *,
    estimator: Estimator = "kde",
    discrete_features: bool | Literal["auto"] = "auto",
    discrete_target: bool | Literal["auto"] = "auto",
    bandwidth: Bandwidth = 1.0,
    grid: int = 64,
    n_neighbors: int = 3,
    random_state: int = 0,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Mutual information of every column with a target.

    Parameters
    ----------
    X : array-like, sparse matrix, memory map or Columns, shape (n, p)
        Read in blocks of 64 MB; :func:`rarefy.data.open_columns` opens files.
    y : array-like, shape (n,)
        Numbers, or labels of classes.
    estimator : {"kde", "binning", "knn", "pearson"}
        Kernel densities see any smooth effect and rank best where effects are nonlinear; bins, and
        nearest neighbours, need no smoothness; Pearson sees the linear part only.
    discrete_features : bool or "auto"
        Whether columns hold levels, for which tables are exact. "auto": where X is boolean or of
        8-bit integers. A mixture cannot be ranked together, as the estimates differ in bias. In
        8-bit integers a level below 0 is a missing one, and its pair is left out.
    discrete_target : bool or "auto"
        Whether y are classes. "auto": labels that are no numbers, and whole numbers with at most
        10 different values.
    bandwidth : float or {"silverman", "scott", "isj"}
        Standard deviation of the (Epanechnikov) kernel in units of each variable's. The default,
        heavy smoothing, is what the paper's figures were made with. A rule gives each variable its
        own, and with classes, as published, each class of each column its own, which makes scores
        hard to compare: prefer a number there.
    grid : int
        Points on each axis of a density. A cell should stay below a bandwidth.
    n_neighbors : int
        Neighbours of "knn"; scikit-learn's default.
    random_state : int
        Seed of the noise of 1e-10 that parts equal values for "knn".
    n_jobs : int, optional
        Threads; one by default, all cores with -1.
    progress : callable, optional
        Called as ``progress(message, fraction)``.

    Returns
    -------
    float64 array, shape (p,)
        In nats, at least 0, and 0 for a constant column.

    Raises
    ------
    ValueError
        If something is not finite, shapes do not fit, y is constant, or an option is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.regression import mutual_info_screen
    >>> X = np.random.default_rng(0).standard_normal((500, 4))
    >>> y = X[:, 2] ** 2
    >>> int(mutual_info_screen(X, y).argmax())
    2
    """
    settings = Settings(
        estimator=estimator, bandwidth=bandwidth, grid=grid, n_neighbors=n_neighbors,
        seed=random_state,
    )  # fmt: skip
    columns = X if isinstance(X, Columns) else array_columns(X)
    target = read_target(y, discrete=discrete_target, n_rows=columns.n_rows)
    _check(settings, columns)
    scorer = _scorer(columns, target, settings, discrete_features)
    threads = effective_n_jobs(n_jobs)
    scores = np.empty(columns.n_columns)
    width = max(1, BLOCK_BYTES // (8 * columns.n_rows))
    for start, block in columns.blocks(width):
        stop = start + len(block)
        if progress is not None:
            progress(f"column {start:,} of {columns.n_columns:,}", start / columns.n_columns)
        _check_block(columns, start, block)
        scores[start:stop] = _side_by_side(scorer, block, threads)
    return scores


def clump(
    X: ArrayLike | Columns,
    scores: ArrayLike,
    *,
    threshold: float,
    k: int,
    estimator: Estimator = "kde",
    discrete_features: bool | Literal["auto"] = "auto",
    bandwidth: Bandwidth = 1.0,
    grid: int = 64,
    n_neighbors: int = 3,
    random_state: int = 0,
    n_jobs: int | None = None,
) -> NDArray[np.int64]:
    """Columns in the order of their scores, without those that repeat a better one.

    Parameters
    ----------
    X : as in `mutual_info_screen`
    scores : array-like, shape (p,)
    threshold : float
        A column whose mutual information with a kept one is above it, in nats, is left out. The
        scale is the estimator's: two normal variables with correlation 0.9 have 0.83 exactly and
        by "pearson", but about 0.1 by "kde" at bandwidth 1.
    k : int
        How many columns to keep, at most.
    estimator, discrete_features, bandwidth, grid, n_neighbors, random_state, n_jobs
        As in `mutual_info_screen`.

    Returns
    -------
    int64 array, at most k
        Columns, the best first.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((300, 3))
    >>> X[:, 1] = X[:, 0]
    >>> clump(X, [0.9, 0.8, 0.1], threshold=0.1, k=2).tolist()
    [0, 2]
    """
    settings = Settings(
        estimator=estimator, bandwidth=bandwidth, grid=grid, n_neighbors=n_neighbors,
        seed=random_state,
    )  # fmt: skip
    columns = X if isinstance(X, Columns) else array_columns(X)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (columns.n_columns,):
        raise ValueError(
            f"scores has shape {scores.shape}, X has {columns.n_columns} columns: one score for "
            "each is wanted"
        )
    if not threshold >= 0:
        raise ValueError(f"threshold is {threshold}, at least 0 is wanted")
    discrete = _discrete(columns, discrete_features)
    threads = effective_n_jobs(n_jobs)
    best_first = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    against: list[Scorer] = []
    # a few more candidates at a time than can be kept, so that most chunks are the only one
    for start in range(0, len(best_first), 2 * k):
        chunk = best_first[start : start + 2 * k]
        block = np.concatenate([columns.read(int(j), int(j) + 1) for j in chunk])
        block = np.ascontiguousarray(block, np.int8 if discrete else np.float64)
        alive = np.arange(len(chunk))

        def unlike(scorer: Scorer, block: Any = block) -> None:
            nonlocal alive
            if len(alive):
                alive = alive[_side_by_side(scorer, block[alive], threads) <= threshold]

        for scorer in against:
            unlike(scorer)
        while len(alive):
            kept.append(int(chunk[alive[0]]))
            if len(kept) == k:
                return np.array(kept)
            reference, alive = block[alive[0]], alive[1:]
            if reference.min() < reference.max():
                classes = int(reference.max()) + 1 if discrete else 0
                target = Target(reference.astype(np.float64), classes)
                scorer = _scorer(columns, target, settings, discrete)
                against.append(scorer)
                unlike(scorer)
    return np.array(kept, np.int64)


class MutualInfoScreener(SelectorMixin, BaseEstimator):
    """Keep the k columns that tell most about the target.

    Parameters
    ----------
    k : int, default 10
        Columns to keep; all where there are fewer.
    estimator : {"kde", "binning", "knn", "pearson"}
        As in :func:`mutual_info_screen`, like those that follow.
    clump : float, optional
        Leave out a column whose mutual information with a better one is above this, in nats; as
        in :func:`clump`. Fewer than k may then be left.
    discrete_features, discrete_target : bool or "auto"
    bandwidth : float or {"silverman", "scott", "isj"}
    grid, n_neighbors : int
    random_state : int
    n_jobs : int, optional

    Attributes
    ----------
    scores_ : array, shape (p,)
        Mutual information of every column with the target, in nats.
    selected_ : array
        Kept columns, the best first.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from rarefy.regression import MutualInfoScreener
    >>> X = np.random.default_rng(0).standard_normal((500, 100))
    >>> y = X[:, 7] ** 2 + np.abs(X[:, 30])
    >>> screener = MutualInfoScreener(k=2).fit(X, y)
    >>> screener.get_support(indices=True).tolist()
    [7, 30]
    >>> screener.transform(X).shape
    (500, 2)
    """

    def __init__(
        self,
        k: int = 10,
        *,
        estimator: Estimator = "kde",
        clump: float | None = None,
        discrete_features: bool | Literal["auto"] = "auto",
        discrete_target: bool | Literal["auto"] = "auto",
        bandwidth: Bandwidth = 1.0,
        grid: int = 64,
        n_neighbors: int = 3,
        random_state: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.k = k
        self.estimator = estimator
        self.clump = clump
        self.discrete_features = discrete_features
        self.discrete_target = discrete_target
        self.bandwidth = bandwidth
        self.grid = grid
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> MutualInfoScreener:
        """Score every column and choose.

        Parameters
        ----------
        X : array-like, sparse matrix or memory map, shape (n, p)
        y : array-like, shape (n,)

        Raises
        ------
        ValueError
            As :func:`mutual_info_screen`, and where k or clump is out of range.
        """
        if self.k < 1:
            raise ValueError(f"k is {self.k}, at least 1 is wanted")
        # blocks are checked as they are read: a memory map must not be read whole before
        checked, y = validate_data(self, X, y, accept_sparse="csc", ensure_all_finite=False)
        columns = array_columns(X if isinstance(X, np.memmap) else checked)
        options: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("estimator", "discrete_features", "bandwidth", "grid", "n_neighbors",
                         "random_state", "n_jobs")
        }  # fmt: skip
        self.scores_ = mutual_info_screen(
            columns, y, discrete_target=self.discrete_target, **options
        )
        if self.clump is None:
            self.selected_ = np.argsort(-self.scores_, kind="stable")[: self.k]
        else:
            self.selected_ = clump(columns, self.scores_, threshold=self.clump, k=self.k, **options)
        return self

    def _get_support_mask(self) -> NDArray[np.bool_]:
        check_is_fitted(self)
        mask = np.zeros(self.n_features_in_, bool)
        mask[self.selected_] = True
        return mask

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.sparse = True
        return tags


def read_target(y: ArrayLike, *, discrete: bool | Literal["auto"], n_rows: int) -> Target:
    """Check a target and turn labels into classes."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (n_rows,):
        raise ValueError(
            f"y has shape {array.shape}, X has {n_rows} rows: one value each is wanted"
        )
    numbers = array.dtype.kind in "iuf"
    if numbers and not np.isfinite(array).all():
        raise ValueError("y holds NaN or infinity")
    if not numbers and discrete is False:
        raise ValueError(f"y holds {array.dtype}, numbers are wanted where it is no class")
    labels, classes = np.unique(array, return_inverse=True)
    if len(labels) < 2:
        raise ValueError("y is constant, one class or one value: nothing can be told about it")
    if discrete == "auto":
        whole = not numbers or bool((labels == np.floor(labels)).all())
        discrete = not numbers or (whole and len(labels) <= MOST_CLASSES)
    if discrete:
        if len(labels) > n_rows / 2 and len(labels) > MOST_CLASSES:
            raise ValueError(
                f"y has {len(labels)} classes in {n_rows} rows; give discrete_target=False where "
                "it is a number"
            )
        return Target(classes.astype(np.float64), len(labels))
    return Target(array.astype(np.float64))


def _check(settings: Settings, columns: Columns) -> None:
    if settings.estimator not in ("kde", "binning", "knn", "pearson"):
        raise ValueError(
            f"estimator is {settings.estimator!r}; 'kde', 'binning', 'knn' or 'pearson' is wanted"
        )
    bandwidth = settings.bandwidth
    if isinstance(bandwidth, str):
        if bandwidth not in ("silverman", "scott", "isj"):
            raise ValueError(
                f"bandwidth is {bandwidth!r}; a number, 'silverman', 'scott' or 'isj' is wanted"
            )
    elif not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth is {bandwidth}, a number above 0 is wanted")
    if settings.grid < 4:
        raise ValueError(f"grid is {settings.grid}, at least 4 points are wanted")
    if columns.n_columns == 0:
        raise ValueError("there is no column to screen")
    n = columns.n_rows
    if settings.estimator == "knn" and not 1 <= settings.n_neighbors < n:
        raise ValueError(
            f"n_neighbors is {settings.n_neighbors}; between 1 and {n - 1} is wanted for {n} rows"
        )
    if n < FEW:
        warnings.warn(f"{n} rows are few: mutual information will be mostly noise", stacklevel=3)


def _discrete(columns: Columns, discrete: bool | Literal["auto"]) -> bool:
    if discrete == "auto":
        return columns.dtype.kind == "b" or columns.dtype in (np.int8, np.uint8)
    return discrete


def _scorer(
    columns: Columns, target: Target, settings: Settings, discrete: bool | Literal["auto"]
) -> Scorer:
    """Scorer of blocks of any dtype."""
    if not _discrete(columns, discrete):
        scorer = continuous_scorer(target, settings)
        return lambda block: scorer(np.ascontiguousarray(block, np.float64))
    scorer = level_scorer(target, settings)
    return lambda block: scorer(np.ascontiguousarray(_codes(block)))


def _codes(block: NDArray[Any]) -> NDArray[Any]:
    """Levels as small integers from 0; 8-bit integers are that already."""
    if block.dtype.itemsize == 1:
        return block.view(np.int8) if block.dtype.kind == "b" else block
    return np.stack([np.unique(column, return_inverse=True)[1] for column in block])


def _check_block(columns: Columns, start: int, block: NDArray[Any]) -> None:
    if block.dtype.kind == "f" and not np.isfinite(block).all():
        bad = start + int(np.argmin(np.isfinite(block).all(axis=1)))
        raise ValueError(
            f"column {columns.name(bad)} of X holds NaN or infinity; impute it or leave it out"
        )


def _side_by_side(scorer: Scorer, block: NDArray[Any], threads: int) -> Floats:
    from rarefy.kernels.cpu._threads import side_by_side

    parts: Sequence[NDArray[Any]] = np.array_split(block, min(threads, len(block)))
    return np.concatenate(side_by_side([partial(scorer, part) for part in parts]))
