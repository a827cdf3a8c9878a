"""Part C of paper 43: mixed-effects models where some subjects are far noisier than the others."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from rarefy.operators import SCAD
from rarefy.papers._recipe import Trial
from rarefy.papers._robust_claims import SHARES
from rarefy.regression import TsallisMixedRegressor

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NU: dict[str, Any] = {
    "mixed/nu=3": 3.0,
    "mixed/nu=4": 4.0,
    "mixed/nu=5": 5.0,
    "mixed/profile": "profile",
    "mixed/Gaussian": np.inf,
}
_ROWS = 5


def panel(
    rng: np.random.Generator, *, subjects: int, columns: int, share: float
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """X, y, subject of each row and b: a random intercept, and 10 times the noise for some."""
    groups = np.repeat(np.arange(subjects), _ROWS)
    X = rng.normal(size=(len(groups), columns))
    b = np.zeros(columns)
    b[:5] = [1.0, -2.0, 0.5, 1.5, -1.0]
    loud = rng.permutation(subjects) < round(share * subjects)
    noise = np.where(loud, 10.0, 1.0)[groups] * rng.normal(size=len(groups))
    return X, X @ b + rng.normal(size=subjects)[groups] + noise, groups, b


def measure_mixed(arm: str, trial: Trial) -> dict[str, float]:
    """Mean squared error of b at each share of outlying subjects, and with many columns."""
    subjects = trial.pick(smoke=20, default=60, full=60)
    repeats = trial.pick(smoke=1, default=6, full=40)
    values = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for share in SHARES:
            trial.progress(f"{share} % outlying subjects")
            errors = []
            for i in range(repeats):
                rng = np.random.default_rng([trial.seed, 3, i])
                X, y, groups, b = panel(rng, subjects=subjects, columns=5, share=share / 100)
                model = TsallisMixedRegressor(_NU[arm], tol=1e-7).fit(X, y, groups=groups)
                errors.append(float(np.sum((model.coef_ - b) ** 2)))
            values[f"error_{share}"] = float(np.mean(errors))
        if arm != "mixed/profile":
            trial.progress("many columns")
            columns = trial.pick(smoke=30, default=200, full=200)
            errors = []
            for i in range(trial.pick(smoke=1, default=2, full=10)):
                rng = np.random.default_rng([trial.seed, 4, i])
                X, y, groups, b = panel(rng, subjects=subjects, columns=columns, share=0.1)
                lam = (2 * len(y) * np.log(columns)) ** 0.5 / subjects
                model = TsallisMixedRegressor(_NU[arm], penalty=SCAD(lam), tol=1e-6)
                errors.append(float(np.sum((model.fit(X, y, groups=groups).coef_ - b) ** 2)))
            values["error_wide"] = float(np.mean(errors))
    return values
