r"""Sparse codes: which latents of each row are active, and with what value.

Codes are kept in compressed rows (values, indices, offsets), never as a dense (rows, width) array.
Two products, each the other's gradient, are all that a sparse autoencoder does with them:

.. math:: v_e = \langle x_{i(e)}, W_{j(e)} \rangle, \qquad y_i = \sum_{e \in i} v_e\, W_{j(e)}

for every kept entry e in row i(e) and column j(e): :func:`sampled_product` and
:func:`sparse_product`. The gradient of the one with respect to v or W is the other, over the same
support or over its transpose, so a training step costs one dense product (all pre-codes) and a few
sparse ones.

Source: Gao et al. 2024 (arXiv 2406.04093), appendix on sparse kernels, for decoding from indices.
Departures: encoder and decoder gradients both run over the transposed support, as sums of rows.

Axis letters: b rows, d width of x, f latents, e kept entries.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Support:
    """Which entries of a (rows, width) array are kept, in compressed rows.

    Parameters
    ----------
    indices : Tensor of int64, shape (e,)
        Column of every kept entry, row after row.
    offsets : Tensor of int64, shape (b + 1,)
        Where each row starts in ``indices``; the last is e.
    width : int
        Number of columns.
    """

    def __init__(self, indices: Tensor, offsets: Tensor, width: int) -> None:
        self.indices = indices
        self.offsets = offsets
        self.width = width

    @classmethod
    def from_mask(cls, mask: Tensor) -> Support:
        """Support of a bool mask of shape (b, f)."""
        return cls.from_counts(mask.nonzero()[:, 1], mask.sum(-1), mask.shape[-1])

    @classmethod
    def from_counts(cls, indices: Tensor, counts: Tensor, width: int) -> Support:
        """Support of columns row after row, shape (e,), so many of them in each row, shape (b,)."""
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        return cls(indices, offsets, width)

    @classmethod
    def from_columns(cls, columns: Tensor, width: int) -> Support:
        """Support of the same number of columns in every row, shape (b, k)."""
        rows, k = columns.shape
        offsets = k * torch.arange(rows + 1, device=columns.device)
        return cls(columns.reshape(-1), offsets, width)

    def where(self, keep: Tensor) -> Support:
        """Support of those kept entries that a bool tensor of shape (e,) names."""
        counts = torch.bincount(self.rows[keep], minlength=self.shape[0])
        return Support.from_counts(self.indices[keep], counts, self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, width)``."""
        return len(self.offsets) - 1, self.width

    @cached_property
    def rows(self) -> Tensor:
        """Row of every kept entry, shape (e,)."""
        counts = self.offsets.diff()
        return torch.repeat_interleave(
            torch.arange(len(counts), device=counts.device), counts, output_size=len(self.indices)
        )

    def of(self, u: Tensor) -> Tensor:
        """Values of a (rows, width) array at the kept entries, shape (e,), outside the graph."""
        from rarefy.kernels.cpu import compressed_rows as kernels

        gather = kernels.gather if compiled(u) else kernels.gather_reference
        return gather(u.detach(), self.indices, self.offsets)

    @cached_property
    def transposed(self) -> tuple[Support, Tensor]:
        """Support of the transpose, and the order that takes this one's entries to its entries."""
        if self.indices.is_cpu:
            from rarefy.kernels.cpu.compressed_rows import transpose
        else:
            from rarefy.kernels.cpu.compressed_rows import transpose_reference as transpose

        rows, width = self.shape
        indices, offsets, order = transpose(self.indices, self.offsets, width)
        return Support(indices, offsets, rows), order

    def column_sums(self, values: Tensor) -> Tensor:
        """Sum of the values of every column, shape (f,)."""
        return values.new_zeros(self.width).index_add_(0, self.indices, values)


class SparseCodes(NamedTuple):
    """Codes of a batch: one value for every entry of a support.

    A kept value may be 0. A row may name a latent more than once only where ``repeats`` says so
    (a pursuit may come back to an atom); its code is then the sum.
    """

    values: Tensor
    support: Support
    repeats: bool = False

    @property
    def l0(self) -> Tensor:
        """Number of latents in each row that have a nonzero value, shape (b,)."""
        rows, width = self.support.shape
        flat = (self.support.rows * width + self.support.indices)[self.values != 0]
        if self.repeats:
            flat = flat.unique()
        return torch.bincount(flat // width, minlength=rows)

    @property
    def active(self) -> Tensor:
        """How often each latent is nonzero, shape (f,)."""
        return self.support.column_sums((self.values != 0).long())

    def dense(self) -> Tensor:
        """All codes as a (b, f) tensor; differentiable in the values."""
        rows, width = self.support.shape
        flat = self.support.rows * width + self.support.indices
        return self.values.new_zeros(rows * width).index_add(0, flat, self.values).view(rows, width)

    @classmethod
    def from_dense(cls, z: Tensor) -> SparseCodes:
        """Codes of the nonzero entries of a (b, f) tensor; differentiable in it."""
        support = Support.from_mask(z.detach() != 0)
        return cls(z[support.rows, support.indices], support)


def sampled_product(x: Tensor, weight: Tensor, support: Support) -> Tensor:
    """Inner product of a row of x and a row of the weight at every kept entry.

    Parameters
    ----------
    x : Tensor, shape (b, d)
    weight : Tensor, shape (f, d)
    support : Support of shape (b, f)

    Returns
    -------
    Tensor, shape (e,)
        Differentiable in both.
    """
    return _Selected.apply(None, x, weight, None, support)


def sparse_product(codes: SparseCodes, weight: Tensor) -> Tensor:
    """Sum, for every row, of the weight's rows times the row's values: the product codes @ weight.

    Parameters
    ----------
    codes : SparseCodes of shape (b, f)
    weight : Tensor, shape (f, d)

    Returns
    -------
    Tensor, shape (b, d)
        Differentiable in values and weight.
    """
    return _Sparse.apply(codes.values, weight, codes.support)


def selected(u: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, support: Support) -> Tensor:
    """Pre-codes ``x @ weight.T + bias`` at the kept entries, taken from ``u`` where they lie ready.

    Parameters
    ----------
    u : Tensor, shape (b, f)
        The pre-codes; no gradient flows through it.
    x, weight, bias : Tensor, shapes (b, d), (f, d), (f,)
        What ``u`` was computed from, and where the gradient goes.
    support : Support of shape (b, f)

    Returns
    -------
    Tensor, shape (e,)
    """
    return _Selected.apply(u, x, weight, bias, support)


def compiled(*tensors: Tensor) -> bool:
    """Whether the kernels of this processor take these tensors; else their plain twins do."""
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)


def _sampled(x: Tensor, weight: Tensor, support: Support) -> Tensor:
    from rarefy.kernels.cpu import compressed_rows as kernels

    product = kernels.sampled_product if compiled(x, weight) else kernels.sampled_product_reference
    return product(x, weight, support.indices, support.offsets)


def _sparse(values: Tensor, support: Support, weight: Tensor) -> Tensor:
    return torch.nn.functional.embedding_bag(
        support.indices,
        weight,
        support.offsets,
        mode="sum",
        per_sample_weights=values.to(weight.dtype),
        include_last_offset=True,
    )


def _transposed_product(values: Tensor, support: Support, x: Tensor) -> Tensor:
    """Gradient of a weight: for every column, the sum of x's rows times the column's values."""
    transposed, order = support.transposed
    return _sparse(values[order], transposed, x)


class _Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.support = support
        return _sparse(values, support, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        g = gradients[0].contiguous()
        dv = _sampled(g, weight, ctx.support) if ctx.needs_input_grad[0] else None
        dw = _transposed_product(values, ctx.support, g) if ctx.needs_input_grad[1] else None
        return dv, dw, None


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor | None, x: Tensor, weight: Tensor, _bias: Any, support: Support
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.support = support
        return _sampled(x, weight, support) if u is None else support.of(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (g,) = gradients
        dx = _sparse(g, ctx.support, weight) if ctx.needs_input_grad[1] else None
        dw = _transposed_product(g, ctx.support, x) if ctx.needs_input_grad[2] else None
        db = ctx.support.column_sums(g) if ctx.needs_input_grad[3] else None
        return None, dx, dw, db, None
