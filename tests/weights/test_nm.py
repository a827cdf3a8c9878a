import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rarefy.operators import NM
from rarefy.weights import is_nm, nm_compress, nm_expand, nm_violation


@given(
    st.integers(0, 999),
    st.sampled_from([(1, 2), (2, 4), (4, 8), (1, 8), (0, 4), (4, 4)]),
    st.sampled_from([0, 1]),
)
def test_compressing_is_lossless(seed, nm, axis):
    pattern = NM(*nm, axis=axis)
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed)).round()
    sparse = pattern(weight)
    packed = nm_compress(sparse, pattern)
    assert packed.values.numel() == weight.numel() * nm[0] // nm[1]
    if nm[0]:
        assert torch.equal(nm_expand(packed), sparse)


def test_violations_are_counted_by_hand():
    weight = torch.tensor([[1.0, 2, 3, 0], [0, 0, 1, 1]])
    assert nm_violation(weight, NM(2, 4)) == 0.5
    assert not is_nm(weight, NM(2, 4))
    assert is_nm(weight, NM(3, 4))
    assert nm_violation(weight, NM(1, 2, axis=0)) == 0.25
    assert is_nm(torch.zeros(0, 4), NM(2, 4))


def test_the_expected_layout():
    packed = nm_compress(torch.tensor([[0.0, 5, 0, 7, 1, 0, 0, 0]]), NM(2, 4))
    assert packed.values.tolist() == [[5, 7, 1, 0]]
    assert packed.places.tolist() == [[1, 3, 0, 1]]


def test_convolutions_group_along_input_channels():
    weight = torch.randn(3, 8, 3, 3)
    pattern = NM(2, 4, axis=1)
    sparse = pattern(weight)
    assert is_nm(sparse, pattern)
    assert torch.equal(nm_expand(nm_compress(sparse, pattern)), sparse)


def test_bad_input():
    with pytest.raises(ValueError, match=r"100\.0% of the groups break 1:2"):
        nm_compress(torch.ones(1, 4), NM(1, 2))
    with pytest.raises(ValueError, match="exactly 1 of every 2"):
        nm_compress(torch.zeros(1, 2), NM(1, 2), mask=torch.ones(1, 2) > 0)
    with pytest.raises(ValueError, match="no multiple of 5"):
        is_nm(torch.ones(1, 4), NM(2, 5))
