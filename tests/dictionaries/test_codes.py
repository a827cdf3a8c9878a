"""Codes in compressed rows against dense torch code."""

import pytest
import torch

from rarefy.dictionaries import (
    Everything,
    SparseCodes,
    Support,
    sampled_product,
    sparse_product,
)
from rarefy.dictionaries.codes import magnitudes, selected


def _case(seed=0, rows=7, width=11, d=5, share=0.3):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, width, generator=g) < share
    mask[2] = False  # an empty row
    mask[:, 4] = False  # a latent that no row has
    x = torch.randn(rows, d, generator=g, dtype=torch.float64)
    weight = torch.randn(width, d, generator=g, dtype=torch.float64)
    return mask, x, weight


def test_a_support_and_its_transpose_name_the_same_entries():
    mask, _, _ = _case()
    support = Support.from_mask(mask)
    assert support.shape == tuple(mask.shape)
    back = torch.zeros_like(mask)
    back[support.rows, support.indices] = True
    assert torch.equal(back, mask)
    transposed, order = support.transposed
    assert torch.equal(support.indices[order], transposed.rows)
    assert torch.equal(support.rows[order], transposed.indices)
    sums = support.column_sums(torch.ones(len(support.indices)))
    assert torch.equal(sums, mask.sum(0).float())


def test_the_two_products_and_each_others_gradients():
    mask, x, weight = _case()
    support = Support.from_mask(mask)

    def sampled(x, weight):
        return sampled_product(x, weight, support)

    def sparse(values, weight):
        return sparse_product(SparseCodes(values, support), weight)

    dense = (x @ weight.t())[mask]
    torch.testing.assert_close(sampled(x, weight), dense)
    values = torch.randn(int(mask.sum()), dtype=torch.float64)
    z = torch.zeros(mask.shape, dtype=torch.float64)
    z[mask] = values
    torch.testing.assert_close(sparse(values, weight), z @ weight)
    for function, first in ((sampled, x), (sparse, values)):
        assert torch.autograd.gradcheck(
            function, (first.clone().requires_grad_(), weight.clone().requires_grad_())
        )


def test_dense_and_back_and_what_counts_as_active():
    z = torch.tensor([[0.0, 2.0, -1.0], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    codes = SparseCodes.from_dense(z)
    assert torch.equal(codes.dense(), z)
    assert codes.l0.tolist() == [2, 0, 1]
    assert codes.active.tolist() == [1, 1, 1]
    # a kept entry of value 0 is not active
    kept = SparseCodes(torch.tensor([0.0, 1.0]), Support.from_columns(torch.tensor([[0], [0]]), 3))
    assert kept.l0.tolist() == [0, 1]
    assert kept.active.tolist() == [1, 0, 0]


@pytest.mark.parametrize("k", [0, 3])
def test_supports_of_equal_rows(k):
    columns = torch.arange(k).repeat(4, 1)
    support = Support.from_columns(columns, 9)
    assert support.offsets.tolist() == [0, k, 2 * k, 3 * k, 4 * k]
    assert support.shape == (4, 9)


def test_the_support_of_everything_does_what_the_same_entries_in_compressed_rows_do():
    _, x, weight = _case()
    rows, width = len(x), len(weight)
    every, listed = Everything(rows, width), Support.from_mask(torch.ones(rows, width).bool())
    assert torch.equal(every.indices, listed.indices)
    assert torch.equal(every.offsets, listed.offsets)
    assert torch.equal(every.rows, listed.rows)
    assert every.shape == listed.shape
    values = torch.randn(rows * width, dtype=torch.float64)
    bias, center = torch.randn(width).double(), torch.randn(x.shape[1]).double()
    u = (x - center) @ weight.t() + bias
    for dtype in (torch.float64, torch.float32):
        found = []
        for support in (every, listed):
            leaves = [t.to(dtype).requires_grad_() for t in (values, x, weight, bias, center)]
            z, x_, w, b, c = leaves
            v = selected(u.to(dtype), x_, w, b, support, center=c)
            codes = SparseCodes(z * v, support)
            made = sparse_product(codes, w)
            sums = magnitudes(codes)
            sampled = sampled_product(x_, w, support)
            weighted = (made**2).sum() + (sums * b).sum() + (sampled * z).sum()
            gradients = torch.autograd.grad(weighted, leaves)
            found.append((v, made, sums, sampled, *gradients))
            torch.testing.assert_close(sums, codes.dense().abs().sum(0))
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


def test_a_center_gets_the_gradient_of_dense_code():
    mask, x, weight = _case()
    support = Support.from_mask(mask)
    center = torch.randn(x.shape[1], dtype=torch.float64)

    def picked(x, center, weight):
        u = (x - center).detach() @ weight.detach().t()
        return selected(u, x, weight, None, support, center=center)

    assert torch.autograd.gradcheck(picked, [t.requires_grad_() for t in (x, center, weight)])
