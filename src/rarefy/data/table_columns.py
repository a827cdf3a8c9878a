"""CSV and Parquet tables: a target by its name, and all other columns as numbers.

Parquet is read a group of columns at a time through pyarrow. CSV is text in rows, so it is read
whole: a table too large for that belongs into Parquet.
"""

from __future__ import annotations

import csv
import os
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

    Parameters
    ----------
    path : path
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
    file = open_parquet(path)
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
    file = open_parquet(path)
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


def open_parquet(path: Path) -> ParquetFile:
    """Open a Parquet file, or say in a sentence why not."""
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs pyarrow: pip install 'rarefy[regression]', or give a .csv file"
        ) from error
    try:
        return ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is no readable Parquet file: {error}") from error
