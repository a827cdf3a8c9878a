from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu.best_swaps import best_swaps, best_swaps_reference
from rarefy.kernels.cpu.swaps import Quadratic


def layer(seed, rows=4, columns=12, *, exact):
    rng = np.random.default_rng(seed)
    draw = (lambda shape: rng.integers(-3, 4, shape)) if exact else rng.standard_normal
    inputs = draw((columns + 2, columns)).astype(np.float32)
    mask = rng.random((rows, columns)) < rng.random()
    return Quadratic(draw((rows, columns)).astype(np.float32), inputs.T @ inputs), mask


def error_of(error, row, kept):
    lost = np.where(kept, 0, error.weight[row]).astype(np.float64)
    return lost @ error.gram.astype(np.float64) @ lost


@pytest.mark.parametrize("group", [0, 4])
@pytest.mark.parametrize("seed", range(5))
def test_each_swap_is_the_best_of_all_masks_one_swap_away(seed, group):
    error, mask = layer(seed, exact=False)
    for row, kept in enumerate(best_swaps(error, mask, cycles=1, group=group).mask):
        reachable = {error_of(error, row, mask[row]): mask[row]}
        for r, s in product(range(12), repeat=2):
            if not mask[row, r] and mask[row, s] and (not group or r // group == s // group):
                other = mask[row].copy()
                other[r], other[s] = True, False
                reachable[error_of(error, row, other)] = other
        assert np.array_equal(kept, reachable[min(reachable)])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 8), st.sampled_from([0, 2, 4]))
def test_the_fast_path_and_its_plain_twin_agree(seed, cycles, group):
    error, mask = layer(seed, exact=True)
    fast = best_swaps(error, mask, cycles=cycles, group=group)
    plain = best_swaps_reference(error, mask, cycles=cycles, group=group)
    assert np.array_equal(fast.mask, plain.mask)
    assert np.array_equal(fast.swaps, plain.swaps)
    assert np.array_equal(fast.mask.sum(1), mask.sum(1))


def test_threads_do_not_change_anything():
    error, mask = layer(0, rows=7, exact=False)
    one, three = (best_swaps(error, mask, cycles=5, threads=threads) for threads in (1, 3))
    assert one.swaps.sum() > 0
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
