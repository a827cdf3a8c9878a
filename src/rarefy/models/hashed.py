"""Hashed embeddings: a large table out of two small ones, the rival of sparse tables.

    e_i = Q[i // m] * R[i % m],    (ceil(n / m) + m) d parameters in place of n d

Quotient and remainder say which i it is, so that no two rows are the same, as they would be with
R alone (the hashing trick).

Source: Shi et al. 2020, "Compositional embeddings using complementary partitions" (KDD, arXiv
1909.02107). Departures: none; the two tables are drawn so that rows have the variance asked for.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

Combine = Literal["multiply", "add", "hash"]


class QREmbedding(nn.Module):
    """An embedding table made of a table of quotients and one of remainders.

    Parameters
    ----------
    rows, dim : int
    buckets : int
        m, rows of the table of remainders.
    combine : {"multiply", "add", "hash"}, default "multiply"
        ``"hash"`` has no quotients: rows that share a remainder share an embedding.
    std : float, default 1.0
        Of the entries of the whole table to begin with.
    generator : torch.Generator

    Raises
    ------
    ValueError
        If a size is not positive, there are more buckets than rows, or ``combine`` is unknown.

    Examples
    --------
    >>> table = QREmbedding(1000, 8, buckets=32, generator=torch.Generator().manual_seed(0))
    >>> table(torch.tensor([0, 999])).shape, sum(p.numel() for p in table.parameters())
    (torch.Size([2, 8]), 512)
    """

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        buckets: int,
        combine: Combine = "multiply",
        std: float = 1.0,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        if not (dim >= 1 and 1 <= buckets <= rows):
            raise ValueError(
                f"dim must be positive and buckets from 1 to the {rows} rows, got {dim} and "
                f"{buckets}"
            )
        if combine not in ("multiply", "add", "hash"):
            raise ValueError(f"combine must be multiply, add or hash, got {combine!r}")
        self.num_embeddings, self.embedding_dim = rows, dim
        self.buckets, self.combine = buckets, combine
        # A product of two entries has the product of their deviations, a sum the root of 2.
        each = {"multiply": math.sqrt(std), "add": std / math.sqrt(2), "hash": std}[combine]
        self.remainder = nn.Parameter(each * torch.randn(buckets, dim, generator=generator))
        if combine != "hash":
            quotients = -(-rows // buckets)
            self.quotient = nn.Parameter(each * torch.randn(quotients, dim, generator=generator))

    def forward(self, ids: Tensor) -> Tensor:
        """Look rows up: ``(...)`` ids to ``(..., dim)``."""
        low = embedding(ids % self.buckets, self.remainder)
        if self.combine == "hash":
            return low
        high = embedding(ids // self.buckets, self.quotient)
        return low * high if self.combine == "multiply" else low + high

    @property
    def weight(self) -> Tensor:
        """The whole table, (rows, dim), computed; gradients pass."""
        return self(torch.arange(self.num_embeddings, device=self.remainder.device))


def hash_tables_(
    model: nn.Module,
    *,
    density: float,
    combine: Combine = "multiply",
    generator: torch.Generator,
) -> None:
    """Put hashed tables of a share of the parameters in place of a recommender's, for comparison.

    Parameters
    ----------
    model : Recommender
        :class:`rarefy.models.MF`, :class:`rarefy.models.LightGCN` or
        :class:`rarefy.models.NeuMF`, before training. Changed in place; the optimizer is built
        behind this.
    density : float in (0, 1]
        Most parameters of each new table, as a share of the old one's.
    combine : {"multiply", "add", "hash"}, default "multiply"
    generator : torch.Generator

    Raises
    ------
    ValueError
        If the model has no embedding table, or the density is out of range or too low: two tables
        of about ``sqrt(rows)`` rows are the least.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from rarefy.models import MF
    >>> g = torch.Generator().manual_seed(0)
    >>> mf = MF(csr_array((400, 100)), dim=8, generator=g)
    >>> hash_tables_(mf, density=0.25, generator=g)
    >>> sum(p.numel() for p in mf.parameters())
    1000
    """
    if not 0 < density <= 1:  # also true for NaN
        raise ValueError(f"density must be in (0, 1], got {density}")
    names = [name.removesuffix(".weight") for name in model.embeddings]  # type: ignore[union-attr]
    tables = {n: m for n in names if isinstance(m := model.get_submodule(n), nn.Embedding)}
    if not tables:
        raise ValueError(f"{type(model).__name__} has no embedding table to hash")
    for name, table in tables.items():
        buckets = _buckets(table.num_embeddings, density, combine)
        hashed = QREmbedding(
            table.num_embeddings,
            table.embedding_dim,
            buckets=buckets,
            combine=combine,
            std=float(table.weight.detach().std()),
            generator=generator,
        )
        model.set_submodule(name, hashed.to(table.weight.device))


def _buckets(rows: int, density: float, combine: Combine) -> int:
    """Most buckets whose tables have no more rows in all than the share allows."""
    allowed = math.floor(density * rows + 1e-9)
    fits = [
        m for m in range(1, rows + 1) if m + (0 if combine == "hash" else -(-rows // m)) <= allowed
    ]
    if not fits:
        least = min(m + -(-rows // m) for m in range(1, rows + 1)) if combine != "hash" else 1
        raise ValueError(
            f"density {density:g} allows {allowed} rows for a table of {rows}; hashed tables need "
            f"{least}"
        )
    return max(fits)
