r"""How often features fire, as a law of their rank (Zipf and Mandelbrot).

.. math:: p(r) = c\,(r + q)^{-s}, \qquad r = 1, 2, \ldots

Trained dictionaries follow it but for their rarest features, which fall below: those are starved,
not rare. So the law is fitted without them, and tells how often they should fire.

Source: Ayonrinde 2024 (arXiv 2411.02124) for the law and its use. Departures: the fit, least
squares in log space, and the start ``s = 1``, ``q = 10`` are ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.budget._filling import fill

_FEWEST = 20


@dataclass(frozen=True)
class ZipfLaw:
    """Density of a feature as a function of its rank, 1 for the feature that fires most.

    Parameters
    ----------
    s : float, default 1
        Exponent; 0 makes all features equal.
    q : float, default 10
        How many ranks the head is flattened by.
    c : float, default 1
        Scale.

    Examples
    --------
    >>> law = ZipfLaw.fit([0.4 / r for r in range(1, 101)])
    >>> round(law.s, 3), round(law.c, 3), abs(law.q) < 0.01
    (1.0, 0.4, True)
    >>> law.counts(100, 256, total=1024).sum()
    np.int64(1024)
    """

    s: float = 1.0
    q: float = 10.0
    c: float = 1.0

    @classmethod
    def fit(cls, densities: Any, *, drop_tail: float = 0.25) -> ZipfLaw:
        """Fit the law to densities by least squares between logarithms.

        Parameters
        ----------
        densities : array-like of float, shape (f,)
            In any order; zeros are ranked and then left out.
        drop_tail : float, default 0.25
            Share of the lowest ranks that the law is not fitted to.

        Raises
        ------
        ValueError
            If a density is negative or not finite, or ``drop_tail`` is not in [0, 1).

        Warns
        -----
        UserWarning
            If fewer than 20 ranks are left to fit; the law is then the mean density for all.
        """
        from scipy.optimize import minimize_scalar

        upper = _upper(densities, drop_tail)
        live = upper[upper > 0]
        if len(live) < _FEWEST:
            warnings.warn(
                f"{len(live)} features fire often enough to fit a law to, {_FEWEST} are wanted: "
                "all ranks get the same density",
                stacklevel=2,
            )
            return cls(s=0.0, q=0.0, c=float(np.mean(np.asarray(densities, dtype=np.float64))))
        ranks, logs = np.arange(1, len(live) + 1), np.log(live)

        def line(log_q: float) -> tuple[float, float, float]:
            """Error, slope and intercept of the best line over the logarithms of r + q."""
            at = np.log(ranks + np.expm1(log_q))
            slope, level = np.polyfit(at, logs, 1)
            return float(np.square(logs - slope * at - level).sum()), slope, level

        # The error may have several minima in q: the best of a grid is refined. Beyond twice the
        # ranks the law is no power any more but an exponential, and s and c run away.
        grid = np.linspace(0, np.log1p(2 * len(live)), 50)
        best = int(np.argmin([line(at)[0] for at in grid]))
        found = minimize_scalar(
            lambda at: line(at)[0],
            bounds=(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]),
            method="bounded",
            options={"xatol": 1e-6},
        )
        _, slope, level = line(found.x)
        return cls(s=float(-slope), q=float(np.expm1(found.x)), c=float(np.exp(level)))

    def expected(self, ranks: Any) -> NDArray[np.float64]:
        """Density at ranks counted from 1, of their shape."""
        return self.c * (np.asarray(ranks, dtype=np.float64) + self.q) ** -self.s

    def ks_distance(self, densities: Any, *, drop_tail: float = 0.25) -> float:
        """Largest gap between the cumulated shares of firing, seen and expected.

        Parameters
        ----------
        densities : array-like of float, shape (f,)
        drop_tail : float, default 0.25
            Share of the lowest ranks to leave out.
        """
        seen = _upper(densities, drop_tail)
        expected = self.expected(np.arange(1, len(seen) + 1))
        gaps = np.cumsum(seen) / seen.sum() - np.cumsum(expected) / expected.sum()
        return float(np.abs(gaps).max())

    def counts(self, features: int, rows: int, *, total: int) -> NDArray[np.int64]:
        """How many rows of a batch each rank gets, ``total`` in all, by largest remainder.

        Parameters
        ----------
        features, rows : int
        total : int
            Matches to give away, k for each row.

        Returns
        -------
        ndarray of int64, shape (features,)
            Descending, at most ``rows`` each and, where there are enough matches, at least 1.

        Raises
        ------
        ValueError
            If there are more matches than features and rows could make.
        """
        if not 0 <= total <= features * rows:
            raise ValueError(
                f"total must be from 0 to {features} features times {rows} rows, got {total}"
            )
        least = np.full(features, int(total >= features), dtype=np.int64)
        most = np.full(features, rows, dtype=np.int64)
        return fill(
            self.expected(np.arange(1, features + 1)), least, most, total, np.ones(features)
        )


def ranks_of(densities: Any) -> NDArray[np.int64]:
    """Rank of every feature, 1 for the one that fires most; of equal ones the first is ahead."""
    order = np.argsort(-np.asarray(densities), kind="stable")
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def _upper(densities: Any, drop_tail: float) -> NDArray[np.float64]:
    """Densities of the upper ranks, descending."""
    values = np.asarray(densities, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError("densities must be one finite number of at least 0 for each feature")
    if not 0 <= drop_tail < 1:
        raise ValueError(f"drop_tail must be at least 0 and below 1, got {drop_tail}")
    return np.sort(values)[::-1][: max(1, round((1 - drop_tail) * len(values)))]
