"""Selections: the kernels of single precision keep what plain torch keeps in double."""

import pytest
import torch

from rarefy.dictionaries import SparseCodes
from rarefy.dictionaries.activations import select
from rarefy.operators import L0, L1, BatchTopK, FeatureTopK, Threshold, TopK

ACTIVATIONS = {
    "TopK": TopK(4, by="positive"),
    "AbsTopK": TopK(4),
    "BatchTopK": BatchTopK(4, by="positive"),
    "BatchAbsTopK": BatchTopK(4),
    "FeatureTopK": FeatureTopK(3, by="positive"),
    "ReLU": L1(0.0, positive=True),
    "soft": L1(0.5),
    "hard": L0(0.125),
    "threshold": Threshold(0.4, by="value"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_single_precision_takes_the_kernels_to_the_same_support(name):
    activation = ACTIVATIONS[name]
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(_mask(select(activation, v)) for v in (u, u.double())))


def _mask(support):
    return SparseCodes(torch.ones(len(support.indices)), support).dense()


def test_batch_top_k_is_exact_where_the_guess_fails():
    u = torch.randn(64, 96, generator=torch.Generator().manual_seed(0))
    u[::16] *= 100  # the sampled rows claim the whole budget
    expected = BatchTopK(4, by="positive").mask(u)
    assert torch.equal(_mask(select(BatchTopK(4, by="positive"), u)).bool(), expected)
