r"""Sparse codes: which latents of each row are active, and with what value.

Codes are kept in compressed rows (values, indices, offsets), never as a dense (rows, width) array.
Two products, each the other's gradient, are all that a sparse autoencoder does with them:

.. math:: v_e = \langle x_{i(e)}, W_{j(e)} \rangle, \qquad y_i = \sum_{e \in i} v_e\, W_{j(e)}

for every kept entry e in row i(e) and column j(e): :func:`sampled_product` and
:func:`sparse_product`. The gradient of the one with respect to v or W is the other, over the same
support or over its transpose, so a training step costs one dense product (all pre-codes) and a few
sparse ones.

Walking through indices costs more per entry than a dense product does. So what would keep more than
an eighth of all entries, as a ReLU does before it has learned, keeps them all with a value of 0
where nothing is active (:class:`Everything`), and its products are dense ones.

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
        return Support.from_counts(mask.nonzero()[:, 1], mask.sum(-1), mask.shape[-1])

    @classmethod
    def from_counts(cls, indices: Tensor, counts: Tensor, width: int) -> Support:
        """Support of columns row after row, shape (e,), so many of them in each row, shape (b,)."""
        offsets = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
        torch.cumsum(counts, 0, out=offsets[1:])
        return Support(indices, offsets, width)

    @classmethod
    def from_columns(cls, columns: Tensor, width: int) -> Support:
        """Support of the same number of columns in every row, shape (b, k)."""
        rows, k = columns.shape
        offsets = k * torch.arange(rows + 1, device=columns.device)
        return Support(columns.reshape(-1), offsets, width)

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

    @property
    def columns(self) -> Tensor | None:
        """Column of every entry, shape (e,), or None where every entry is there."""
        return self.indices

    def column_sums(self, values: Tensor) -> Tensor:
        """Sum of the values of every column, shape (f,)."""
        return values.new_zeros(self.width).index_add_(0, self.indices, values)

    def _magnitudes(self, values: Tensor) -> Tensor:
        return values.abs()

    def _signs(self, values: Tensor, of_columns: Tensor) -> Tensor:
        """Signs of the values times what belongs to their columns, shape (e,)."""
        return values.sign().mul_(of_columns[self.indices])

    def _sum(self, values: Tensor, weight: Tensor) -> Tensor:
        """Row i is the sum of the weight's rows times the values of row i, shape (b, d)."""
        return torch.nn.functional.embedding_bag(
            self.indices,
            weight,
            self.offsets,
            mode="sum",
            per_sample_weights=values.to(weight.dtype),
            include_last_offset=True,
        )

    def _sum_columns(self, values: Tensor, x: Tensor) -> Tensor:
        """Row j is the sum of the rows of x times the values of column j, shape (f, d)."""
        transposed, order = self.transposed
        return transposed._sum(values[order], x)

    def _sample(self, x: Tensor, weight: Tensor) -> Tensor:
        """Inner products of rows of x and of the weight at every entry, shape (e,)."""
        from rarefy.kernels.cpu import compressed_rows as kernels

        ready = compiled(x, weight)
        product = kernels.sampled_product if ready else kernels.sampled_product_reference
        return product(x, weight, self.indices, self.offsets)


class Everything(Support):
    """The support that keeps every entry: what more than an eighth is kept of counts as dense.

    Parameters
    ----------
    rows, width : int
    device : str or torch.device, default "cpu"
    """

    def __init__(self, rows: int, width: int, device: str | torch.device = "cpu") -> None:
        self.width = width
        self._rows = rows
        self._device = device

    @cached_property
    def indices(self) -> Tensor:  # type: ignore[override]
        """Column of every entry, row after row, shape (e,)."""
        return torch.arange(self.width, device=self._device).repeat(self._rows)

    @cached_property
    def offsets(self) -> Tensor:  # type: ignore[override]
        """Where each row starts, shape (b + 1,)."""
        return self.width * torch.arange(self._rows + 1, device=self._device)

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, width)``."""
        return self._rows, self.width

    @property
    def columns(self) -> None:
        """None: every entry is there."""
        return

    def of(self, u: Tensor) -> Tensor:
        """All values of a (rows, width) array, shape (e,), outside the graph."""
        return u.detach().reshape(-1)

    def column_sums(self, values: Tensor) -> Tensor:
        """Sum of the values of every column, shape (f,)."""
        return values.view(self.shape).sum(0)

    def _magnitudes(self, values: Tensor) -> Tensor:
        return torch.abs(values, out=_large(len(values), like=values))

    def _signs(self, values: Tensor, of_columns: Tensor) -> Tensor:
        signs = torch.sign(values, out=_large(*self.shape, like=values).view(-1))
        return signs.view(self.shape).mul_(of_columns).view(-1)

    def _sum(self, values: Tensor, weight: Tensor) -> Tensor:
        return values.view(self.shape).to(weight.dtype) @ weight

    def _sum_columns(self, values: Tensor, x: Tensor) -> Tensor:
        return values.view(self.shape).t().to(x.dtype) @ x

    def _sample(self, x: Tensor, weight: Tensor) -> Tensor:
        product = _large(*self.shape, like=x)
        return torch.mm(x.detach(), weight.detach().t(), out=product).view(-1)


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
    return _Selected.apply(None, x, None, weight, None, support)


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


def selected(
    u: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    support: Support,
    *,
    center: Tensor | None = None,
) -> Tensor:
    """Pre-codes ``(x - center) @ weight.T + bias`` at the kept entries, taken from ``u``.

    Parameters
    ----------
    u : Tensor, shape (b, f)
        The pre-codes; no gradient flows through it.
    x, weight, bias : Tensor, shapes (b, d), (f, d), (f,)
        What ``u`` was computed from, and where the gradient goes.
    support : Support of shape (b, f)
    center : Tensor, shape (d,), optional
        Its gradient is a sum over rows, which costs nothing like one for every row.

    Returns
    -------
    Tensor, shape (e,)
    """
    return _Selected.apply(u, x, center, weight, bias, support)


def magnitudes(codes: SparseCodes) -> Tensor:
    """Sum of every latent's magnitudes, shape (f,); differentiable in the values."""
    return _Magnitudes.apply(codes.values, codes.support)


def compiled(*tensors: Tensor) -> bool:
    """Whether the kernels of this processor take these tensors; else their plain twins do."""
    return all(tensor.is_cpu and tensor.dtype == torch.float32 for tensor in tensors)


def _large(*shape: int, like: Tensor) -> Tensor:
    """Uninitialised tensor of the other's kind, in memory that was used before where there is."""
    from rarefy.kernels.cpu.recycled import empty

    return empty(*shape) if compiled(like) else like.new_empty(shape)


class _Sparse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.support = support
        return support._sum(values, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, weight = ctx.saved_tensors
        g = gradients[0].contiguous()
        dv = ctx.support._sample(g, weight) if ctx.needs_input_grad[0] else None
        dw = ctx.support._sum_columns(values, g) if ctx.needs_input_grad[1] else None
        return dv, dw, None


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor | None,
        x: Tensor,
        center: Tensor | None,
        weight: Tensor,
        _bias: Any,
        support: Support,
    ) -> Tensor:
        ctx.save_for_backward(x, center, weight)
        ctx.support = support
        return support._sample(x, weight) if u is None else support.of(u)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, center, weight = ctx.saved_tensors
        support: Support = ctx.support
        (g,) = gradients
        _, wants_x, wants_center, wants_weight, wants_bias, _ = ctx.needs_input_grad
        db = support.column_sums(g) if wants_bias or wants_center else None
        dx = support._sum(g, weight) if wants_x else None
        dc = -(db @ weight) if wants_center and db is not None else None
        centered = x if center is None else x - center
        dw = support._sum_columns(g, centered) if wants_weight else None
        return None, dx, dc, dw, db if wants_bias else None, None


class _Magnitudes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, support: Support) -> Tensor:
        ctx.save_for_backward(values)
        ctx.support = support
        return support.column_sums(support._magnitudes(values))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        return ctx.support._signs(values, gradients[0]), None
