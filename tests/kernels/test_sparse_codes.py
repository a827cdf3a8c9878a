"""Kernels of sparse codes against their plain twins."""

import pytest
import torch

from rarefy.kernels.cpu import compressed_rows as rows
from rarefy.kernels.cpu.topk import top_k, top_k_reference


def _sets(columns, counts):
    return [sorted(part.tolist()) for part in columns.split(counts)]


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("shape, k", [((7, 50), 3), ((5, 4096), 32), ((9, 100), 100), ((4, 33), 0)])
@pytest.mark.parametrize("ties", [False, True])
def test_top_k_is_the_stable_sort(shape, k, magnitude, ties):
    u = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u = (2 * u).round().relu() if ties else u
    counts = [k] * len(u)
    ours = _sets(top_k(u, k, magnitude=magnitude), counts)
    assert ours == _sets(top_k_reference(u, k, magnitude=magnitude), counts)


def test_top_k_takes_a_count_for_every_row_and_ranks_nan_first():
    u = torch.randn(3, 200, generator=torch.Generator().manual_seed(1))
    u[0, 7], u[1], u[2, 5] = torch.nan, torch.nan, torch.inf
    counts = torch.tensor([2, 0, 30])
    ours, expected = top_k(u, counts), top_k_reference(u, counts)
    assert _sets(ours, counts.tolist()) == _sets(expected, counts.tolist())


@pytest.mark.parametrize("magnitude", [False, True])
def test_rows_above_a_threshold(magnitude):
    generator = torch.Generator().manual_seed(0)
    u, tau = torch.randn(9, 333, generator=generator), torch.rand(333, generator=generator)
    for threshold in (tau, torch.tensor(1.5)):
        ours = rows.above(u, threshold, magnitude=magnitude, threads=2)
        expected = rows.above_reference(u, threshold, magnitude=magnitude)
        assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))


def test_gather_product_and_transpose():
    generator = torch.Generator().manual_seed(0)
    u, x = torch.randn(11, 70, generator=generator), torch.randn(11, 19, generator=generator)
    weight = torch.randn(70, 19, generator=generator)
    support = rows.above_reference(u, torch.tensor(0.8))
    assert torch.equal(rows.gather(u, *support), rows.gather_reference(u, *support))
    product = rows.sampled_product(x, weight, *support)
    expected = rows.sampled_product_reference(x.double(), weight.double(), *support)
    torch.testing.assert_close(product.double(), expected, rtol=1e-5, atol=1e-5)
    ours, expected = rows.transpose(*support, 70), rows.transpose_reference(*support, 70)
    assert all(torch.equal(*pair) for pair in zip(ours, expected, strict=True))
