"""Screening by mutual information: a column, beside scikit-learn and fastHDMI; a file, in memory.

Ratios over 1 mean ours is better. ``goal`` is the ratio that we hold ourselves to. All on one
thread, as the peers are.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from _timing import interleaved, row
from rarefy.regression import mutual_info_screen

ROWS, COLUMNS = 1000, 200
FILE_GIGABYTES = 5.0


def rows() -> list[dict[str, Any]]:
    """Every comparison of screening."""
    return [*column_rows(), memory_row()]


def column_rows() -> list[dict[str, Any]]:
    """The same table scored by ours and theirs; the time is of all its columns."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, COLUMNS))
    y = x[:, 0] ** 2 + x[:, 1] + rng.standard_normal(ROWS)
    classes = (y > 1).astype(int)
    found = []
    by_neighbours = mutual_info_regression(x, y, random_state=0)
    if np.abs(mutual_info_screen(x, y, estimator="knn") - by_neighbours).max() > 1e-10:
        raise RuntimeError("nearest neighbours and scikit-learn's disagree")
    for name, target, theirs in (
        ("number", y, mutual_info_regression),
        ("class", classes, mutual_info_classif),
    ):
        kde, knn, sklearn = interleaved(
            lambda t=target: mutual_info_screen(x, t),
            lambda t=target: mutual_info_screen(x, t, estimator="knn"),
            lambda t=target, f=theirs: f(x, t, random_state=0),
            repeats=5,
            warmup=1,
        )
        peer = f"scikit-learn {theirs.__name__}"
        found.append(row(f"screening.kde.{name}", peer, kde, sklearn, goal=20.0))
        found.append(row(f"screening.knn.{name}", peer, knn, sklearn, goal=3.0))
    return [*found, *_fasthdmi_rows(x[:, :40], y, classes)]


def _fasthdmi_rows(x: Any, y: Any, classes: Any) -> list[dict[str, Any]]:
    try:
        import fastHDMI
    except ImportError:
        return []
    found = []
    for name, target, theirs, estimator in (
        ("kde.number", y, fastHDMI.continuous_screening_array, "kde"),
        # its release bins columns where the target is a class
        ("binning.class", classes, fastHDMI.binary_screening_array, "binning"),
    ):
        ours, others = interleaved(
            lambda t=target, e=estimator: mutual_info_screen(x, t, estimator=e),
            lambda t=target, f=theirs: f(x, t, verbose=0),
            repeats=5,
            warmup=1,
        )
        found.append(row(f"screening.{name}", "fastHDMI", ours, others, goal=1.0))
    return found


_SCREEN = """
import resource, sys
import numpy as np
from rarefy.data import open_columns
from rarefy.regression import mutual_info_screen
columns = open_columns(sys.argv[1])
y = np.random.default_rng(1).standard_normal(columns.n_rows)
mutual_info_screen(columns, y, n_jobs=-1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


def memory_row(gigabytes: float = FILE_GIGABYTES) -> dict[str, Any]:
    """Peak memory of a process that screens a row-major file, beside the gigabyte it may take."""
    n = 1000
    p = int(gigabytes * 1e9 / 4 / n)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.npy"
        header = {"descr": "<f4", "fortran_order": False, "shape": (n, p)}
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for _ in range(n):
                rng.standard_normal(p, np.float32).tofile(file)
        done = subprocess.run(
            [sys.executable, "-c", _SCREEN, path], capture_output=True, text=True, check=True
        )
    measured = row("screening.memory", "a gigabyte", float(done.stdout), 1.0, goal=1.0)
    return measured | {"unit": "GB"}
