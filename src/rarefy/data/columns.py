"""Columns of a table that may be far larger than memory, read a block of columns at a time.

`Columns` is a way to read: arrays, sparse matrices and memory maps, ``.npy`` files in either
order, PLINK genotypes (`rarefy.data.plink`), CSV and Parquet (`rarefy.data.table_columns`). Files
are read and not mapped: the pages of a mapping count as memory of the process that touched them,
and a block of columns of a row-major file touches all of its pages.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LONG = 1 << 14
"""Bytes of a row from which it is quicker to read a block's part of each row than whole rows."""

_AT_ONCE = 1 << 22
"""Bytes of whole rows read at once."""


@dataclass(frozen=True)
class Columns:
    """Columns that are read when they are asked for.

    Parameters
    ----------
    n_rows, n_columns : int
    dtype : dtype
        Of what is read.
    read : callable
        ``read(start, stop)`` gives those columns, each as a contiguous row: shape
        (stop - start, n_rows).
    names : sequence of str, optional
        Without names a column goes by its number.
    missing : bool, default False
        Whether a value below 0 stands for a missing one.
    """

    n_rows: int
    n_columns: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]
    names: Sequence[str] | None = None
    missing: bool = False

    def name(self, column: int) -> str:
        """Name of a column; its number where columns have no names."""
        return str(column) if self.names is None else self.names[column]

    def blocks(self, width: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Every column in order, ``width`` at a time: where a block starts, and the block."""
        for start in range(0, self.n_columns, width):
            yield start, self.read(start, min(start + width, self.n_columns))


def array_columns(x: Any) -> Columns:
    """Columns of a two-dimensional array, a scipy sparse matrix, or a memory map.

    A whole memory map is read from its file, so that its pages do not count as memory; a part of
    one is read through the mapping.

    Raises
    ------
    ValueError
        If it is not two-dimensional, or holds what is no number.

    Examples
    --------
    >>> columns = array_columns([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> columns.read(1, 2)
    array([[2., 4., 6.]])
    """
    from scipy.sparse import issparse

    if issparse(x):
        by_column = x.tocsc()
        rows, width = by_column.shape
        return Columns(
            rows, width, by_column.dtype, lambda a, b: by_column[:, a:b].T.toarray(order="C")
        )
    array = np.asanyarray(x)
    if array.ndim != 2:
        raise ValueError(f"X has {array.ndim} dimensions; rows by columns, 2, are wanted")
    rows, width = array.shape
    if (
        isinstance(array, np.memmap)
        and isinstance(array.base, mmap.mmap)
        and array.filename is not None
        and array.mode in ("r", "r+")
    ):
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        path = os.fspath(array.filename)
        return _file_columns(Path(path), array.offset, (rows, width), array.dtype, fortran)
    if array.dtype.kind not in "biuf":
        array = array.astype(np.float64)
    array = np.asarray(array)
    return Columns(rows, width, array.dtype, lambda a, b: np.ascontiguousarray(array[:, a:b].T))


def npy_columns(path: str | os.PathLike[str]) -> Columns:
    """Columns of a ``.npy`` file, in C or Fortran order.

    Raises
    ------
    ValueError
        If it is no ``.npy`` file of a two-dimensional array of numbers, or is cut short.
    """
    path = Path(path)
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {
                1: np.lib.format.read_array_header_1_0,
                2: np.lib.format.read_array_header_2_0,
            }[version[0]]
            shape, fortran, dtype = read(file)
        except (ValueError, KeyError) as error:
            raise ValueError(f"{path} is no readable .npy file: {error}") from error
        offset = file.tell()
    if len(shape) != 2 or dtype.kind not in "biuf":
        raise ValueError(
            f"{path} holds {dtype} of shape {shape}; a two-dimensional array of numbers is wanted"
        )
    wanted = offset + shape[0] * shape[1] * dtype.itemsize
    if path.stat().st_size < wanted:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes, its header promises {wanted:,}: it is cut "
            "short"
        )
    return _file_columns(path, offset, shape, dtype, fortran)


def _file_columns(
    path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any], fortran: bool
) -> Columns:
    read = _read_by_column if fortran else _read_by_row
    return Columns(shape[0], shape[1], dtype, partial(read, path, offset, shape, dtype))


def _read_by_column(
    path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any], start: int, stop: int
) -> NDArray[Any]:
    rows = shape[0]
    with path.open("rb") as file:
        file.seek(offset + start * rows * dtype.itemsize)
        return np.fromfile(file, dtype, (stop - start) * rows).reshape(stop - start, rows)


def _read_by_row(
    path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any], start: int, stop: int
) -> NDArray[Any]:
    rows, columns = shape
    out = np.empty((stop - start, rows), dtype)
    line = columns * dtype.itemsize
    with path.open("rb", buffering=0) as file:
        if line > _LONG:
            part = np.empty(stop - start, dtype)
            for row in range(rows):
                file.seek(offset + row * line + start * dtype.itemsize)
                file.readinto(part.view(np.uint8).data)
                out[:, row] = part
        else:
            file.seek(offset)
            at_once = max(1, _AT_ONCE // max(line, 1))
            for row in range(0, rows, at_once):
                count = min(at_once, rows - row)
                whole = np.fromfile(file, dtype, count * columns).reshape(count, columns)
                out[:, row : row + count] = whole[:, start:stop].T
    return out


def open_columns(path: str | os.PathLike[str], *, without: Sequence[str] = ()) -> Columns:
    """Open a table by its ending: ``.npy``, ``.bed`` (PLINK), ``.csv``, ``.parquet``.

    Parameters
    ----------
    path : path
    without : sequence of str
        Names of columns to leave out, where columns have names.

    Raises
    ------
    ValueError
        If the ending is another one, or the file cannot be read as what it says it is.
    """
    from rarefy.data.plink import plink_columns
    from rarefy.data.table_columns import csv_columns, parquet_columns

    path = Path(path)
    match path.suffix.lower():
        case ".npy":
            columns = npy_columns(path)
        case ".bed":
            columns = plink_columns(path)
        case ".csv":
            return csv_columns(path, without=without)
        case ".parquet" | ".pq":
            return parquet_columns(path, without=without)
        case _:
            raise ValueError(f"{path} does not end in .csv, .parquet, .npy or .bed")
    if without:
        raise ValueError(f"columns of {path} cannot be left out by name; only those of CSV and "
                         "Parquet can")  # fmt: skip
    return columns
