"""Part A of paper 43: how well each estimator of mutual information ranks the true columns.

Planted: correlated normal columns of which a few act on the target, linearly or by their squares,
on a number or on the odds of a class. Real: the digits' pixels under the same effects, and how
accurate a logistic regression is on the best few columns of two tables with real labels.
"""

from __future__ import annotations

from statistics import fmean
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from rarefy.papers._recipe import Trial

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ESTIMATORS: dict[str, dict[str, Any]] = {
    "screen/kde": {},
    "screen/kde-silverman": {"bandwidth": "silverman"},
    "screen/kde-isj": {"bandwidth": "isj"},
    "screen/knn": {"estimator": "knn"},
    "screen/binning": {"estimator": "binning"},
    "screen/pearson": {"estimator": "pearson"},
}
PEER = "screen/sklearn"

SNR = 3.0

# Name of the metric, whether effects are squares, whether the target is a class.
TASKS = (
    ("linear", False, False),
    ("nonlinear", True, False),
    ("binary_linear", False, True),
    ("binary_nonlinear", True, True),
)
_REAL_REPEATS = 6


class Planted(NamedTuple):
    """A table, its target, and which columns act on it."""

    x: NDArray[np.float64]
    y: NDArray[Any]
    true: NDArray[np.bool_]


def correlated_columns(n: int, p: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Normal columns whose correlation is 0.3 to the power of their distance."""
    import numpy as np
    from scipy.signal import lfilter

    noise = rng.standard_normal((n, p))
    noise[:, 0] /= np.sqrt(1 - 0.09)
    return lfilter([np.sqrt(1 - 0.09)], [1, -0.3], noise, axis=1)


def plant(
    x: NDArray[np.float64], count: int, squares: bool, binary: bool, rng: np.random.Generator
) -> Planted:
    """Let a few columns act on a target with a signal of three times the noise's variance.

    Coefficients are normal with mean 6, alike for columns near each other (0.6 to the power of
    the distance). A class follows the odds: there the noise is the logistic one, of variance
    pi squared over 3.
    """
    import numpy as np
    from scipy.linalg import toeplitz

    n, p = x.shape
    true = np.zeros(p, bool)
    true[rng.choice(p, count, replace=False)] = True
    beta = rng.multivariate_normal(np.full(count, 6.0), toeplitz(0.6 ** np.arange(count)))
    effects = _standardised(x[:, true])
    signal = (_standardised(effects**2) if squares else effects) @ beta
    signal = _standardised(signal) * np.sqrt(SNR)
    if binary:
        odds = signal * np.pi / np.sqrt(3)
        return Planted(x, (rng.uniform(size=n) < 1 / (1 + np.exp(-odds))).astype(int), true)
    return Planted(x, signal + rng.standard_normal(n), true)


def _standardised(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x - x.mean(axis=0)) / x.std(axis=0)


def measure_screening(arm: str, trial: Trial) -> dict[str, float]:
    """Measure one of the arms named ``screen/...``."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    from rarefy.regression import mutual_info_screen

    rng = np.random.default_rng(trial.seed)
    n, p, count = trial.pick(smoke=(150, 60, 5), default=(600, 300, 20), full=(1000, 3000, 40))
    tasks = {
        name: plant(correlated_columns(n, p, rng), count, squares, binary, rng)
        for name, squares, binary in TASKS
    }
    if arm == PEER:
        return {"clock_column": _seconds_of_sklearn(tasks["linear"])}
    options = ESTIMATORS[arm]
    values: dict[str, float] = {}
    for name, task in tasks.items():
        trial.progress(f"screening, {name.replace('_', ' ')} effects", 0.1)
        # the published code looks for a bandwidth of each class; with numbers it stays at 1
        if arm != "screen/kde-isj" or name.startswith("binary"):
            scores = mutual_info_screen(task.x, task.y, **options)
            values[f"auroc_{name}"] = float(roc_auc_score(task.true, scores))
    if arm == "screen/kde-isj":
        return values
    linear = tasks["linear"]
    start = perf_counter()
    mutual_info_screen(linear.x, linear.y, **options)
    values["clock_column"] = (perf_counter() - start) / p
    trial.progress("screening real tables", 0.6)
    return values | _measure_real(options, trial)


def _seconds_of_sklearn(task: Planted) -> float:
    from sklearn.feature_selection import mutual_info_regression

    start = perf_counter()
    mutual_info_regression(task.x, task.y, random_state=0)
    return (perf_counter() - start) / task.x.shape[1]


def _measure_real(options: dict[str, Any], trial: Trial) -> dict[str, float]:
    import numpy as np
    from sklearn.datasets import load_breast_cancer, load_digits
    from sklearn.metrics import roc_auc_score

    from rarefy.regression import mutual_info_screen

    rng = np.random.default_rng([trial.seed, 1])
    digits = load_digits()
    pixels = digits.data[:, digits.data.std(axis=0) > 1]
    repeats = trial.pick(smoke=1, default=_REAL_REPEATS, full=20)
    values: dict[str, float] = {}
    for name, squares in (("linear", False), ("nonlinear", True)):
        areas = []
        for _ in range(repeats):
            rows = rng.choice(len(pixels), 600, replace=False)
            task = plant(pixels[rows], 10, squares, False, rng)
            areas.append(roc_auc_score(task.true, mutual_info_screen(task.x, task.y, **options)))
        values[f"auroc_pixels_{name}"] = fmean(areas)
    for name, (x, y), k in (
        ("cancer", load_breast_cancer(return_X_y=True), 3),
        ("digits", (digits.data, digits.target), 10),
    ):
        values[f"accuracy_{name}"] = _accuracy(x, y, k, options, trial.seed)
    return values


def _accuracy(x: Any, y: Any, k: int, options: dict[str, Any], seed: int) -> float:
    """Of a logistic regression on the best k columns, on the half that chose neither."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from rarefy.regression import MutualInfoScreener

    x, held_x, y, held_y = train_test_split(x, y, test_size=0.5, random_state=seed, stratify=y)
    model = make_pipeline(StandardScaler(), MutualInfoScreener(k, **options), LogisticRegression())
    return float(model.fit(x, y).score(held_x, held_y))
