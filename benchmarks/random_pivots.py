"""Paper 22's estimator beside its peers: one draw of pivots, and the whole choice of their number.

The card asks for a draw within 1.5 times one lasso at the same strength and one QR, and for the
whole of ``n_pivots="auto"`` within 12 times scikit-learn's ``LassoCV``; the goals below are the
inverses. 200 rows, 1,000 columns that lean on their neighbours, one thread.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from _timing import median_ratio, row
from rarefy.regression import RandomPivotLasso

N, D, PIVOTS = 200, 1000, 20


def rows() -> list[dict[str, Any]]:
    """One draw, and the automatic fit."""
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [draw(), auto()]


def draw() -> dict[str, Any]:
    """A draw of 20 pivots at a given strength, beside celer's lasso and a QR of as many columns."""
    from celer import Lasso

    X, y = table()
    model = RandomPivotLasso(PIVOTS, alpha=0.05, n_draws=1, random_state=0)

    def theirs() -> None:
        Lasso(alpha=0.05, tol=1e-3).fit(X, y)
        np.linalg.qr(X[:, :PIVOTS])

    ours, other, _ = median_ratio(lambda: model.fit(X, y), theirs)
    return row("regression.random_pivots.draw", "celer + QR", ours, other, goal=1 / 1.5)


def auto() -> dict[str, Any]:
    """Five-fold choice among all sizes and strengths, beside ``LassoCV``'s among strengths."""
    from sklearn.linear_model import LassoCV

    X, y = table()
    ours, theirs, _ = median_ratio(
        lambda: RandomPivotLasso(random_state=0).fit(X, y),
        lambda: LassoCV(cv=5).fit(X, y),
        repeats=5,
        warmup=1,
    )
    return row("regression.random_pivots.auto", "scikit-learn LassoCV", ours, theirs, goal=1 / 12)


def table() -> tuple[np.ndarray, np.ndarray]:
    """Random walks as columns, and a target of eight of them."""
    rng = np.random.default_rng(0)
    X = np.cumsum(rng.normal(size=(N, D)), axis=1)
    X = (X - X.mean(0)) / X.std(0)
    chosen = rng.choice(D, 8, replace=False)
    clean = X[:, chosen] @ rng.normal(size=8)
    return X, clean / clean.std() + 0.5 * rng.normal(size=N)
