import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu.swaps import swap_rows, swap_rows_reference


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 12),
    st.integers(1, 6),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_fast_path_and_its_plain_twin_agree_to_the_bit(
    seed, groups, cycles, same_sign, signed, grouped
):
    rng = np.random.default_rng(seed)
    shape = (4, 4 * groups)
    # Small integers: many ties, zero contributions, exact arithmetic.
    c, grow, score = (rng.integers(-3, 4, shape).astype(np.float32) for _ in range(3))
    mask = rng.random(shape) < rng.random()
    options = {
        "cycles": cycles,
        "same_sign": same_sign,
        "signed": signed,
        "group": 4 if grouped else 0,
    }
    args = (c, grow, score, mask, np.full(4, 0.5))
    fast, plain = swap_rows(*args, **options), swap_rows_reference(*args, **options)
    for a, b in zip(fast, plain, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(fast.mask.sum(1), mask.sum(1))


def test_threads_do_not_change_anything():
    rng = np.random.default_rng(0)
    c, score = (rng.standard_normal((7, 32)).astype(np.float32) for _ in range(2))
    args = (c, c, score, rng.random((7, 32)) < 0.4, np.zeros(7))
    one, three = (
        swap_rows(*args, cycles=5, same_sign=False, threads=threads) for threads in (1, 3)
    )
    assert one.swaps.sum() > 0
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))
