"""A sparse embedding table as it is stored and served: compressed rows with one-byte columns.

    bytes = nnz (value + column) + 4 (rows + 1),   column = 1 byte up to 256 columns, else 2

At float32 that is less than the dense ``4 rows columns`` below a density of about 0.8, at float16
below 0.66. Scores of all rows against dense queries are a sparse-dense product.

Source: the storage format is this library's; the product is :func:`rarefy.kernels.cpu.spmm.spmm`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rarefy.data.files import load_tensors, save_tensors

if TYPE_CHECKING:
    from rarefy.kernels.cpu.spmm import PackedSparse


@dataclass(frozen=True, eq=False)
class SparseEmbedding:
    """A table (rows, columns) of which only kept entries are stored; made by :meth:`from_masked`.

    Attributes
    ----------
    values : array of float32 or float16, shape (nnz,)
    columns : array of uint8 or uint16, shape (nnz,)
    starts : array of int32, shape (rows + 1,)
        First entry of each row.
    shape : (int, int)

    Examples
    --------
    >>> weight = torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]])
    >>> table = SparseEmbedding.from_masked(weight, weight != 0)
    >>> table.nnz, table.nbytes, table.rows(torch.tensor([1])).tolist()
    (3, 27, [[1.0, 0.0, 3.0]])
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def from_masked(
        cls, weight: Tensor, mask: Tensor, *, dtype: torch.dtype = torch.float32
    ) -> SparseEmbedding:
        """Store what a mask keeps, zeros among it too.

        Parameters
        ----------
        weight : Tensor, shape (rows, columns)
        mask : bool Tensor of the same shape
        dtype : torch dtype, default float32
            Of the stored values: float32 or float16.

        Raises
        ------
        ValueError
            If the shapes do not fit, the dtype is neither, or the table is too large: more than
            65,536 columns or 2**31 - 1 kept entries.
        """
        if weight.ndim != 2 or mask.shape != weight.shape or mask.dtype != torch.bool:
            raise ValueError(
                "weight must be a matrix and mask a boolean one of its shape, got "
                f"{tuple(weight.shape)} and {mask.dtype} {tuple(mask.shape)}"
            )
        if dtype not in (torch.float32, torch.float16):
            raise ValueError(f"dtype must be torch.float32 or torch.float16, got {dtype}")
        rows, columns = weight.shape
        kept = mask.cpu()
        counts = kept.sum(1)
        if columns > 2**16 or int(counts.sum()) >= 2**31:
            raise ValueError(
                f"a table of {columns} columns and {int(counts.sum())} kept entries is too large: "
                "at most 65,536 and 2,147,483,647 are stored"
            )
        starts = np.zeros(rows + 1, np.int32)
        starts[1:] = counts.cumsum(0).numpy()
        return cls(
            weight.detach().cpu()[kept].to(dtype).numpy(),
            kept.nonzero()[:, 1].numpy().astype(np.uint8 if columns <= 256 else np.uint16),
            starts,
            (rows, columns),
        )

    @property
    def nnz(self) -> int:
        """Entries stored."""
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays."""
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes

    def rows(self, ids: Tensor) -> Tensor:
        """Look rows up, as ``nn.Embedding`` would.

        Parameters
        ----------
        ids : Tensor of int64, shape (n,)

        Returns
        -------
        Tensor of float32, shape (n, columns)

        Raises
        ------
        ValueError
            If an id is out of range.
        """
        wanted = ids.cpu().numpy()
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.shape[0]):
            raise ValueError(
                f"ids must be from 0 to {self.shape[0] - 1}, got {wanted.min()} to {wanted.max()}"
            )
        counts = np.diff(self.starts)[wanted]
        ends = np.cumsum(counts)
        at = np.arange(counts.sum()) + np.repeat(self.starts[wanted] - (ends - counts), counts)
        found = np.zeros((len(wanted), self.shape[1]), np.float32)
        found[np.repeat(np.arange(len(wanted)), counts), self.columns[at]] = self.values[at]
        return torch.from_numpy(found)

    def dense(self) -> Tensor:
        """The whole table, float32."""
        return self.rows(torch.arange(self.shape[0]))

    def score(self, queries: Tensor, *, threads: int | None = None) -> Tensor:
        """Inner products of queries with every row.

        The first call unpacks the columns for the product, to 8 bytes an entry.

        Parameters
        ----------
        queries : Tensor of float32, shape (n, columns), on the CPU
        threads : int, optional
            Torch's by default.

        Returns
        -------
        Tensor of float32, shape (n, rows)
            A transposed view: a row's scores of all queries lie together.
        """
        from rarefy.kernels.cpu.spmm import spmm

        with torch.no_grad():
            return spmm(self._packed, queries.detach().T, threads=threads).T

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one safetensors file; whole or not at all."""
        arrays = {"values": self.values, "columns": self.columns, "starts": self.starts}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        save_tensors(tensors, path, metadata={"columns": str(self.shape[1])})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseEmbedding:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is corrupt or holds something else.
        """
        tensors, metadata = load_tensors(path)
        if set(tensors) != {"values", "columns", "starts"} or "columns" not in metadata:
            raise ValueError(
                f"{os.fspath(path)} holds no sparse embedding: a file by SparseEmbedding.save is "
                "wanted"
            )
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(**arrays, shape=(len(arrays["starts"]) - 1, int(metadata["columns"])))

    @cached_property
    def _packed(self) -> PackedSparse:
        from rarefy.kernels.cpu.spmm import PackedSparse

        return PackedSparse(
            ptr=self.starts.astype(np.int64),
            col=self.columns.astype(np.int32),
            val=self.values.astype(np.float32),
            bias=np.zeros(self.shape[0], np.float32),
            shape=self.shape,
            block=1,
        )
