"""A stored table against the dense one: its bytes, its rows, its scores."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.weights import SparseEmbedding


def table(rows, columns, share, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, columns, generator=g) < share
    return torch.randn(rows, columns, generator=g) * mask, mask


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 30), st.sampled_from([1, 7, 256, 257]), st.floats(0, 1), st.integers(0, 1000))
def test_against_the_dense_table(rows, columns, share, seed):
    weight, mask = table(rows, columns, share, seed)
    sparse = SparseEmbedding.from_masked(weight, mask)
    nnz = int(mask.sum())
    assert sparse.nnz == nnz
    assert sparse.nbytes == nnz * (5 if columns <= 256 else 6) + 4 * (rows + 1)
    assert sparse.dense().equal(weight)
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(rows, (9,), generator=g)
    assert sparse.rows(ids).equal(weight[ids])
    queries = torch.randn(5, columns, generator=g)
    torch.testing.assert_close(sparse.score(queries), queries @ weight.T, rtol=1e-4, atol=1e-4)


def test_halves_and_kept_zeros():
    weight, mask = torch.zeros(4, 8), torch.eye(4, 8, dtype=torch.bool)
    sparse = SparseEmbedding.from_masked(weight, mask, dtype=torch.float16)
    assert sparse.nnz == 4 and sparse.nbytes == 4 * 3 + 4 * 5
    weight, mask = table(20, 10, 0.5)
    sparse = SparseEmbedding.from_masked(weight, mask, dtype=torch.float16)
    assert sparse.rows(torch.arange(20)).equal(weight.half().float())
    assert sparse.score(torch.eye(10)).equal(weight.half().float().T)


def test_saved_and_loaded(tmp_path):
    for columns in (10, 300):
        sparse = SparseEmbedding.from_masked(*table(20, columns, 0.3))
        sparse.save(tmp_path / "table.safetensors")
        again = SparseEmbedding.load(tmp_path / "table.safetensors")
        assert again.shape == sparse.shape and again.nbytes == sparse.nbytes
        np.testing.assert_array_equal(again.dense(), sparse.dense())
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no sparse embedding"):
        SparseEmbedding.load(tmp_path / "other.safetensors")


def test_a_parameter_that_trains_can_be_stored_and_queried():
    weight, mask = table(6, 4, 0.5)
    sparse = SparseEmbedding.from_masked(torch.nn.Parameter(weight), mask)
    assert not sparse.score(torch.ones(2, 4, requires_grad=True)).requires_grad


def test_bad_requests():
    weight, mask = table(3, 4, 0.5)
    with pytest.raises(ValueError, match="mask a boolean one of its shape"):
        SparseEmbedding.from_masked(weight, mask[:2])
    with pytest.raises(ValueError, match="float32 or torch.float16"):
        SparseEmbedding.from_masked(weight, mask, dtype=torch.float64)
    with pytest.raises(ValueError, match="ids must be from 0 to 2, got 1 to 3"):
        SparseEmbedding.from_masked(weight, mask).rows(torch.tensor([1, 3]))
    with pytest.raises(ValueError, match="too large"):
        SparseEmbedding.from_masked(
            torch.zeros(1, 2**16 + 1), torch.zeros(1, 2**16 + 1, dtype=torch.bool)
        )
