import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu.swaps import Quadratic, swap_rows, swap_rows_reference


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


def quadratic(rng, rows, columns):
    """A squared error of small integers: exact arithmetic, many ties."""
    inputs = rng.integers(-2, 3, (columns + 2, columns)).astype(np.float32)
    return Quadratic(rng.integers(-3, 4, (rows, columns)).astype(np.float32), (inputs.T @ inputs))


def errors(error, mask):
    lost = np.where(mask, 0, error.weight).astype(np.float64)
    return np.einsum("ri,ij,rj->r", lost, error.gram, lost)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.booleans(), st.booleans())
def test_swaps_that_must_lower_a_squared_error(seed, cycles, same_sign, grouped):
    rng = np.random.default_rng(seed)
    shape = (4, 12)
    c, grow, score = (rng.integers(-3, 4, shape).astype(np.float32) for _ in range(3))
    mask = rng.random(shape) < 0.5
    error = quadratic(rng, *shape)
    options = {"cycles": cycles, "same_sign": same_sign, "group": 4 if grouped else 0}
    args = (c, grow, score, mask, np.full(4, 0.5))
    fast = swap_rows(*args, **options, falling=error)
    plain = swap_rows_reference(*args, **options, falling=error)
    for a, b in zip(fast, plain, strict=True):
        assert np.array_equal(a, b)
    before, after = errors(error, mask), errors(error, fast.mask)
    assert (after[fast.swaps > 0] < before[fast.swaps > 0]).all()
    assert (fast.mask == mask).all(1)[fast.swaps == 0].all()
