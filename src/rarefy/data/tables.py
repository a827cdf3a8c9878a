<<<<<<< HEAD
"""CSV and Parquet tables: a target by its name, and all other columns as numbers.

Parquet is read a group of columns at a time through pyarrow. CSV is text in rows, so it is read
whole: a table too large for that belongs into Parquet.
=======
"""A CSV or Parquet file as a design matrix, a target and the names of the columns.

A column of numbers (or of true and false) is one column of the design; a column of words is one
for each word, ``name=word``, 1 where the row has it, and a single one where there are two words.
Nothing is guessed about missing values: a table that has some is refused, with the column and the
row.

Departures: none.
>>>>>>> h/linear
"""

from __future__ import annotations

import csv
import os
<<<<<<< HEAD
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rarefy.data.columns import Columns, array_columns

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def csv_columns(path: str | os.PathLike[str], *, without: Sequence[str] = ()) -> Columns:
    """Columns of numbers of a CSV file whose first line names them.

    Parameters
    ----------
    path : path
    without : sequence of str
        Columns to leave out.

    Raises
    ------
    ValueError
        If a name is twice there or not at all, or a value is no number.
    """
    path = Path(path)
    names = _header(path)
    kept = _kept(path, names, without)
    columns = array_columns(_load(path, [names.index(name) for name in kept], float))
    return Columns(columns.n_rows, columns.n_columns, columns.dtype, columns.read, kept)


def parquet_columns(path: str | os.PathLike[str], *, without: Sequence[str] = ()) -> Columns:
    """Columns of numbers of a Parquet file, read when they are asked for.

    The dtype is int8 where every column is of 8-bit integers, else float64.
=======
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

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
>>>>>>> h/linear

    Parameters
    ----------
    path : path
<<<<<<< HEAD
    without : sequence of str
        Columns to leave out.

    Raises
    ------
    ValueError
        If a name is twice there or not at all, or a column holds no numbers.
    ImportError
        Without pyarrow.
    """
    path = Path(path)
    file = _open_parquet(path)
    schema = file.schema_arrow
    kept = _kept(path, schema.names, without)
    types = {field.name: str(field.type) for field in schema}
    numbers = ("int", "uint", "float", "double", "halffloat", "bool")
    for name in kept:
        if not types[name].startswith(numbers):
            raise ValueError(
                f"{path}: column {name!r} holds {types[name]}, numbers are wanted; leave it out"
            )
    small = all(types[name] == "int8" for name in kept)
    dtype = np.dtype(np.int8 if small else np.float64)

    def read(start: int, stop: int) -> NDArray[Any]:
        table = file.read(columns=kept[start:stop], use_threads=False)
        out = np.empty((stop - start, table.num_rows), dtype)
        for row, name in zip(out, kept[start:stop], strict=True):
            column = table.column(name)
            if column.null_count:
                raise ValueError(f"{path}: column {name!r} has {column.null_count:,} empty values")
            row[:] = column.to_numpy()
        return out

    return Columns(file.metadata.num_rows, len(kept), dtype, read, kept)


def read_column(path: str | os.PathLike[str], name: str) -> NDArray[Any]:
    """One column of a CSV or Parquet file: numbers, or strings where it is text.

    Raises
    ------
    ValueError
        If there is no such column, or a value is empty.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        names = _header(path)
        _kept(path, names, [name])
        values = _load(path, [names.index(name)], str)[:, 0]
        if empty := int((values == "").sum()):
            raise ValueError(f"{path}: column {name!r} has {empty:,} empty values")
        try:
            return values.astype(float)
        except ValueError:
            return values
    file = _open_parquet(path)
    _kept(path, file.schema_arrow.names, [name])
    column = file.read(columns=[name]).column(name)
    if column.null_count:
        raise ValueError(f"{path}: column {name!r} has {column.null_count:,} empty values")
    return np.array(column.to_pylist())


def _header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        names = next(csv.reader(file), [])
    if not names:
        raise ValueError(f"{path} is empty; a first line of names is wanted")
    return names


def _kept(path: Path, names: Sequence[str], without: Sequence[str]) -> list[str]:
    """Names but for those left out, all of which must be there."""
    known = set(names)
    if len(known) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{path}: two columns are named {twice!r}")
    for name in without:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, names, n=1)
            hint = f"; there is {near[0]!r}" if near else f", only {', '.join(names[:8])}"
            raise ValueError(f"{path} has no column {name!r}{hint}")
    left_out = set(without)
    return [name for name in names if name not in left_out]


def _load(path: Path, columns: Sequence[int], kind: type) -> NDArray[Any]:
    with path.open(encoding="utf-8-sig") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "loadtxt: input contained no data")
        try:
            values: NDArray[Any] = np.loadtxt(
                file, kind, delimiter=",", skiprows=1, usecols=columns, quotechar='"', ndmin=2,
                comments=None,
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{path}: a column holds what is no number: {error}") from error
    if not len(values):
        raise ValueError(f"{path} has no rows below its names")
    return values


def _open_parquet(path: Path) -> ParquetFile:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'rarefy[regression]'") from error
    try:
        return ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no readable Parquet file: {error}") from error
=======
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
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs pyarrow: pip install pyarrow, or give a .csv file"
        ) from error
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is no readable Parquet file: {error}") from error
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
>>>>>>> h/linear
