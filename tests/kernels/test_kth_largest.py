"""Exact selection over several arrays against a full sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarefy.kernels.cpu import select as module
from rarefy.kernels.cpu.select import (
    Selection,
    kth_largest,
    kth_largest_reference,
    mask_at_least,
    mask_at_least_reference,
)

# Few distinct values, so that ties, zeros of both signs, subnormals and infinities meet.
AWKWARD = [0.0, -0.0, 1e-42, -1e-42, 1e-40, 1.0, -1.0, 2.5, -3.0, np.inf, -np.inf, 3e38]
ENTRIES = st.one_of(
    st.sampled_from(AWKWARD), st.floats(allow_nan=False, width=32, allow_subnormal=True)
)
ARRAYS = st.lists(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0), elements=ENTRIES),
    min_size=1,
    max_size=4,
)


def check(arrays, k, magnitude, threads=1):
    selection = kth_largest(arrays, k, magnitude=magnitude, threads=threads)
    assert selection == kth_largest_reference(arrays, k, magnitude=magnitude)
    masks = mask_at_least(arrays, selection, threads=threads)
    assert sum(int(mask.sum()) for mask in masks) == k
    expected = mask_at_least_reference(arrays, selection)
    for mask, array, reference in zip(masks, arrays, expected, strict=True):
        assert type(mask) is type(array)
        assert tuple(mask.shape) == tuple(array.shape)
        np.testing.assert_array_equal(np.asarray(mask), reference)


@settings(max_examples=150, deadline=None)
@given(arrays=ARRAYS, magnitude=st.booleans(), data=st.data())
def test_equals_a_full_sort(arrays, magnitude, data):
    total = sum(array.size for array in arrays)
    check(arrays, data.draw(st.integers(0, total)), magnitude)


@pytest.mark.parametrize("magnitude", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_torch_dtypes_and_kinds_mix(dtype, magnitude):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 30, generator=generator).to(dtype)
    half = np.random.default_rng(0).standard_normal((9, 8)).astype(np.float16)
    frozen = np.linspace(-2, 2, 50, dtype=np.float32)
    frozen.flags.writeable = False
    parameter = torch.nn.Parameter(torch.randn(7, generator=generator))
    arrays = [weight, half, frozen, weight.T[::2]]
    for k in (0, 1, 500, 1921, 1922):
        check(arrays, k, magnitude)
    assert kth_largest([parameter], 1).threshold == parameter.abs().max().item()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("magnitude", [True, False])
def test_chunks_and_threads_change_nothing(monkeypatch, threads, magnitude):
    # Chunks of 64 entries, so that ties run over the borders of chunks, arrays and threads.
    monkeypatch.setattr(module, "_CHUNK", 64)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, size).astype(np.float32) for size in (1000, 1, 0, 64, 333)]
    for k in (1, 63, 64, 65, 700, 1398):
        check(arrays, k, magnitude, threads)


def test_every_entry_tied():
    arrays = [np.zeros((2, 3), np.float32), -np.zeros(4, np.float32)]
    selection = kth_largest(arrays, 7, magnitude=False)
    assert selection == Selection(0.0, 0, 7, magnitude=False)
    first, second = mask_at_least(arrays, selection)
    assert first.all()
    assert second.tolist() == [True, False, False, False]


def test_no_entries():
    assert kth_largest([], 0).ties == 0
    assert mask_at_least([], kth_largest([], 0)) == []


@pytest.mark.parametrize("nan", [np.nan, -np.nan, np.uint32(0x7F800001).view(np.float32)])
@pytest.mark.parametrize("magnitude", [True, False])
def test_nan_is_refused(nan, magnitude):
    # The last of these differs from infinity in its lowest bit only.
    with pytest.raises(ValueError, match="must not contain NaN"):
        kth_largest([np.ones(3, np.float32), np.float32([1, nan])], 2, magnitude=magnitude)


@pytest.mark.parametrize(
    ("arrays", "k", "error", "message"),
    [
        ([np.ones(3, np.float32)], 4, ValueError, r"from 0 to the number of entries \(3\), got 4"),
        ([np.ones(3, np.float32)], -1, ValueError, "got -1"),
        ([np.ones(3, np.float32)], 1.0, TypeError, "integer"),
        ([np.ones(3, np.float32), np.ones(3)], 1, TypeError, r"arrays\[1\] .* got float64"),
        ([torch.ones(3, device="meta")], 1, TypeError, "on the CPU, got torch.float32 on meta"),
        ([[1.0]], 1, TypeError, "got list"),
    ],
)
def test_errors_say_what_is_wrong(arrays, k, error, message):
    with pytest.raises(error, match=message):
        kth_largest(arrays, k)
