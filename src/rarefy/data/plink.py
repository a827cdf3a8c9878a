"""PLINK genotypes: a ``.bed`` file of two bits a genotype, its ``.bim`` and its ``.fam``.

A genotype is the number of copies of allele A1 (column 5 of the ``.bim`` file): 0, 1, 2, and -1
where it is missing. Source: the format's specification (PLINK 1.9, variant-major files).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rarefy.data.columns import Columns

_MAGIC = b"\x6c\x1b\x01"

# By the two bits: 00 two copies of A1, 01 missing, 10 one copy, 11 none.
_COPIES = np.array([2, -1, 1, 0], np.int8)
_OF_BYTE = _COPIES[(np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3]


def plink_columns(path: str | os.PathLike[str]) -> Columns:
    """Genotypes of a ``.bed`` file, variants as columns; its ``.bim`` and ``.fam`` lie beside it.

    Raises
    ------
    ValueError
        If it is no variant-major ``.bed`` file, or its size is not what its companions say.
    """
    path = Path(path)
    names = [fields[1] for fields in _lines(path.with_suffix(".bim"), 6)]
    samples = len(_lines(path.with_suffix(".fam"), 6))
    with path.open("rb") as file:
        magic = file.read(3)
    if magic != _MAGIC:
        raise ValueError(f"{path} does not begin as a variant-major PLINK .bed file does")
    stride = -(-samples // 4)
    expected = len(_MAGIC) + stride * len(names)
    if path.stat().st_size != expected:
        raise ValueError(
            f"{path} has {path.stat().st_size:,} bytes; {samples:,} samples in its .fam and "
            f"{len(names):,} variants in its .bim make {expected:,}"
        )

    def read(start: int, stop: int) -> NDArray[Any]:
        with path.open("rb") as file:
            file.seek(len(_MAGIC) + start * stride)
            packed = np.fromfile(file, np.uint8, (stop - start) * stride)
        unpacked = _OF_BYTE[packed.reshape(stop - start, stride)]
        return np.ascontiguousarray(unpacked.reshape(stop - start, -1)[:, :samples])

    return Columns(samples, len(names), np.dtype(np.int8), read, names, missing=True)


def plink_phenotype(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Phenotype of every sample: column 6 of the ``.fam`` file beside a ``.bed`` file.

    Raises
    ------
    ValueError
        If one is missing, -9 or 0 beside 1 and 2, or is no number.
    """
    path = Path(path).with_suffix(".fam")
    lines = _lines(path, 6)
    try:
        values = np.array([float(fields[5]) for fields in lines])
    except ValueError as error:
        raise ValueError(f"{path}: a phenotype is no number: {error}") from error
    case_control = set(values.tolist()) <= {-9.0, 0.0, 1.0, 2.0}
    absent = (values == -9) | (case_control & (values == 0)) | ~np.isfinite(values)
    if absent.any():
        first = int(np.argmax(absent))
        raise ValueError(
            f"{path}: {int(absent.sum()):,} of {len(values):,} samples have no phenotype, first "
            f"{lines[first][1]}; leave them out with plink --prune, or give the target in a file"
        )
    return values


def _lines(path: Path, fields: int) -> list[list[str]]:
    lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if len(line) < fields:
            raise ValueError(f"{path}, line {number}: {len(line)} fields, {fields} are wanted")
    return lines
