"""A CSV or Parquet file as a design matrix, a target and the names of the columns.

A column of numbers (or of true and false) is one column of the design; a column of words is one
for each word, ``name=word``, 1 where the row has it, and a single one where there are two words.
Nothing is guessed about missing values: a table that has some is refused, with the column and the
row.

Departures: none.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rarefy.data.table_columns import open_parquet

MOST_WORDS = 100
"""Different words in a column beyond which it is more likely an identifier than a category."""
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none"))
_TRUTH = {"true": 1.0, "false": 0.0}


class Table(NamedTuple):
    """A design matrix and its target.

    Attributes
    ----------
    X : float64 array, shape (n, p), Fortran-ordered
    y : float64 or str array, shape (n,)
    names : list of str
        Of X's columns.
    """

    X: np.ndarray
    y: np.ndarray
    names: list[str]


def read_table(path: str | os.PathLike[str], target: str) -> Table:
    r"""Read a table and part it in design and target.

    Parameters
    ----------
    path : path
        A ``.csv`` (UTF-8, with a line of names) or ``.parquet`` file.
    target : str
        Name of the column to predict.

    Returns
    -------
    Table

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If a Parquet file is given and pyarrow is not installed.
    ValueError
        If the file is of another kind, ragged or empty, a value is missing or infinite, the target
        is no column or the only one, or a column of words holds more than 100 different ones.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("age,town,income\n30,rye,2.5\n40,hay,3.5\n")
    ...     file.flush()
    ...     table = read_table(file.name, "income")
    >>> table.names, table.X.tolist(), table.y.tolist()
    (['age', 'town=rye'], [[30.0, 1.0], [40.0, 0.0]], [2.5, 3.5])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such table: {path}")
    readers = {".csv": _csv_columns, ".parquet": _parquet_columns}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path} must be a .csv or a .parquet file, got {path.suffix or 'no end'}")
    columns = dict(reader(path))
    if target not in columns:
        known = ", ".join(list(columns)[:10]) + (", ..." if len(columns) > 10 else "")
        raise ValueError(f"target must be a column of {path}, got {target!r}; there are {known}")
    y = columns.pop(target)
    if not len(y):
        raise ValueError(f"{path} holds no rows")
    if not columns:
        raise ValueError(f"{path} holds no column besides the target {target!r}")
    design: list[np.ndarray] = []
    names: list[str] = []
    for name, column in columns.items():
        if column.dtype.kind == "f":
            design.append(column)
            names.append(name)
            continue
        words = np.unique(column)
        if len(words) > MOST_WORDS:
            raise ValueError(
                f"column {name!r} holds {len(words)} different words, at most {MOST_WORDS} make "
                "categories: drop it or turn it into numbers"
            )
        words = words[1:] if len(words) == 2 else words
        design += [(column == word).astype(np.float64) for word in words]
        names += [f"{name}={word}" for word in words]
    return Table(np.stack(design, axis=1, out=np.empty((len(y), len(design)), order="F")), y, names)


def _csv_columns(path: Path) -> Iterable[tuple[str, np.ndarray]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        _check_names(path, names)
        rows = [line for line in lines if line]
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            raise ValueError(
                f"row {number} of {path} has {len(row)} values, the line of names has {len(names)}"
            )
    for place, name in enumerate(names):
        texts = [row[place].strip() for row in rows]
        _check_missing(name, np.array([text.lower() in _MISSING for text in texts], bool))
        yield name, _column(name, texts)


def _column(name: str, texts: list[str]) -> np.ndarray:
    """Numbers where all are numbers, or true and false; else words."""
    try:
        numbers = np.array(texts, np.float64)
    except ValueError:
        if all(text.lower() in _TRUTH for text in texts):
            return np.array([_TRUTH[text.lower()] for text in texts])
        return np.array(texts)
    return _finite(name, numbers)


def _parquet_columns(path: Path) -> Iterable[tuple[str, np.ndarray]]:
    table = open_parquet(path).read()
    import pyarrow as pa

    _check_names(path, table.column_names)
    for name, column in zip(table.column_names, table.columns, strict=True):
        _check_missing(name, np.asarray(column.is_null(nan_is_null=True)))
        kind = column.type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            yield name, np.array(column.to_pylist(), str)
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            yield name, _finite(name, np.asarray(column).astype(np.float64))
        else:
            raise ValueError(f"column {name!r} of {path} must hold numbers or words, got {kind}")


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if not names:
        raise ValueError(f"{path} is empty: a line of names and rows are wanted")
    if twice:
        raise ValueError(f"{path} names the column {twice[0]!r} twice")


def _check_missing(name: str, missing: np.ndarray) -> None:
    if missing.any():
        raise ValueError(
            f"column {name!r} misses {missing.sum()} of {len(missing)} values, the first in row "
            f"{missing.argmax() + 1}: fill them or drop these rows"
        )


def _finite(name: str, numbers: np.ndarray) -> np.ndarray:
    if not np.isfinite(numbers).all():
        row = int((~np.isfinite(numbers)).argmax()) + 1
        raise ValueError(f"column {name!r} must be finite, row {row} is {numbers[row - 1]}")
    return numbers
