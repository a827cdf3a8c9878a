import doctest
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rarefy.operators import (
    NM,
    BatchTopK,
    Blocks,
    FeatureTopK,
    MutualTopK,
    Threshold,
    TopK,
    projections,
)

torch.set_num_threads(1)


def score(x, by):
    return {"magnitude": np.abs(x), "value": x, "positive": np.maximum(x, 0)}[by]


def supports(size):
    """Every bool vector of a size, in an order that puts lower indices first."""
    return (np.array(bits) for bits in itertools.product([True, False], repeat=size))


def best_support(x, by, allowed):
    """First of the allowed supports with the largest score: the definition, by brute force."""
    best, best_score = None, -np.inf
    for support in supports(x.size):
        keep = support.reshape(x.shape)
        if allowed(keep) and (total := score(x, by)[keep].sum()) > best_score:
            best, best_score = keep, total
    return best & (x > 0) if by == "positive" else best


# integers: sums are exact, and ties are common
SMALL = hnp.arrays(np.float64, (2, 4), elements=st.integers(-3, 3).map(float))
BY = st.sampled_from(["magnitude", "value", "positive"])

FAMILIES = [
    (lambda by: TopK(2, by=by), lambda keep: (keep.sum(1) == 2).all()),
    (lambda by: TopK(1, by=by, axis=0), lambda keep: (keep.sum(0) == 1).all()),
    (lambda by: TopK(3, by=by, axis=None), lambda keep: keep.sum() == 3),
    (lambda by: BatchTopK(2, by=by), lambda keep: keep.sum() == 4),
    (lambda by: MutualTopK(5, by=by), lambda keep: keep.sum() == 5),
    (lambda by: FeatureTopK(1, by=by), lambda keep: (keep.sum(0) == 1).all()),
    (
        lambda by: FeatureTopK([0, 2, 1, 1], by=by),
        lambda keep: (keep.sum(0) == [0, 2, 1, 1]).all(),
    ),
    (lambda by: NM(1, 2, by=by), lambda keep: (keep.reshape(2, 2, 2).sum(2) == 1).all()),
    (lambda by: NM(3, 4, by=by), lambda keep: (keep.sum(1) == 3).all()),
    (lambda by: NM(1, 2, by=by, axis=0), lambda keep: (keep.sum(0) == 1).all()),
    (
        lambda by: Blocks((1, 2), 2, by=by),
        lambda keep: (np.diff(keep.reshape(2, 2, 2)) == 0).all() and keep.sum() == 4,
    ),
    (
        lambda by: Blocks((2, 2), 1, by=by),
        lambda keep: keep.sum() == 4 and all(keep[:, i : i + 2].sum() in (0, 4) for i in (0, 2)),
    ),
]


@pytest.mark.parametrize(("make", "allowed"), FAMILIES, ids=[str(f("value")) for f, _ in FAMILIES])
@given(x=SMALL, by=BY)
@settings(max_examples=12, deadline=None)
def test_beats_every_other_support(make, allowed, x, by):
    projection = make(by)
    expected = best_support(x, by, allowed)
    np.testing.assert_array_equal(projection.mask(x), expected)
    np.testing.assert_array_equal(projection(x), np.where(expected, x, 0))


def slow_mask(rows, k):
    """Stable sort of every row: the k best, ties to the lowest index."""
    order = np.argsort(-rows, axis=-1, kind="stable")[..., :k]
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, order, True, axis=-1)
    return mask


@pytest.mark.parametrize("m", [1, 2, 3, 4, 7, 8, 9, 16, 32, 33, 64])
def test_nm_equals_a_stable_sort_on_every_path(m):
    generator = np.random.default_rng(m)
    for n in {0, 1, m // 2, m - 1, m}:
        x = generator.integers(-4, 5, size=(3, 5 * m)).astype(np.float32)
        expected = slow_mask(np.abs(x).reshape(3, 5, m), n).reshape(x.shape)
        np.testing.assert_array_equal(NM(n, m).mask(x), expected)
        x = np.ascontiguousarray(x.T)
        np.testing.assert_array_equal(NM(n, m, axis=0).mask(x), expected.T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, 63, 64, 100])
def test_topk_equals_a_stable_sort(dtype, k):
    x = torch.randint(-9, 9, (7, 64), generator=torch.Generator().manual_seed(k)).to(dtype)
    expected = slow_mask(x.abs().double().numpy(), k)
    mask = TopK(k).mask(x)
    np.testing.assert_array_equal(mask.numpy(), expected)
    assert TopK(k)(x).dtype == dtype
    assert (mask.sum(1) == min(k, 64)).all()


ALL = [
    TopK(3),
    TopK(2, axis=0),
    TopK(7, axis=None, by="value"),
    BatchTopK(2),
    FeatureTopK(2),
    MutualTopK(9, by="positive"),
    NM(2, 4),
    Blocks((2, 4), 2),
    Threshold(0.5),
]


@pytest.mark.parametrize("projection", ALL, ids=str)
def test_idempotent_deterministic_and_the_same_for_every_layout(projection):
    x = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    once = projection(x)
    if projection.by != "value":  # a zeroed entry outranks a kept negative one
        torch.testing.assert_close(projection(once), once, rtol=0, atol=0)
    strided = torch.stack([x, -x], dim=-1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(projection(strided), once, rtol=0, atol=0)
    array = x.numpy()[::-1, ::-1].copy()[::-1, ::-1]
    array.flags.writeable = False
    np.testing.assert_array_equal(projection(array), once.numpy())
    assert pickle.loads(pickle.dumps(projection))(x).equal(once)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("projection", ALL, ids=str)
def test_dtype_and_kind_are_kept(projection, dtype):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert projection(x).dtype == dtype
    assert projection.mask(x).dtype == torch.bool
    if dtype != torch.bfloat16:
        out, mask = projection(x.numpy()), projection.mask(x.numpy())
        assert isinstance(out, np.ndarray) and out.dtype == x.numpy().dtype
        assert isinstance(mask, np.ndarray) and mask.dtype == bool


@pytest.mark.parametrize("projection", ALL, ids=str)
def test_gradient_is_masked_or_straight_through(projection):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(2), requires_grad=True)
    up = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    (masked,) = torch.autograd.grad(projection(x), x, up)
    torch.testing.assert_close(masked, up * projection.mask(x))
    fields = {**vars(projection), "straight_through": True}
    straight = type(projection)(**fields)
    torch.testing.assert_close(straight(x), projection(x))
    (through,) = torch.autograd.grad(straight(x), x, up)
    torch.testing.assert_close(through, up)


@pytest.mark.parametrize("projection", [p for p in ALL if not isinstance(p, Blocks)], ids=str)
def test_empty_input(projection):
    for shape in [(0, 8), (8, 0), (0,)]:
        if len(shape) == 1 and isinstance(projection, TopK) and projection.axis == 0:
            continue
        x = torch.zeros(shape)
        assert projection(x).shape == shape
        assert projection.mask(x.numpy()).shape == shape


def test_a_0d_array_is_one_entry():
    x = np.array(-2.0)
    for projection in (TopK(1), TopK(3), BatchTopK(1), FeatureTopK(1), MutualTopK(1), NM(1, 1)):
        assert projection(x) == -2.0
        assert projection(x).shape == ()
        assert projection.mask(torch.tensor(-2.0)).shape == ()
    assert Blocks((4,), 1)(x) == -2.0
    assert Threshold(1.0)(x) == -2.0
    assert TopK(0)(x) == 0
    assert TopK(1, by="positive")(x) == 0


@pytest.mark.parametrize("projection", ALL, ids=str)
def test_nan_is_refused(projection):
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    x[2, 3] = torch.nan
    with pytest.raises(ValueError, match=r"x of shape \(4, 8\) holds NaN"):
        projection(x)
    with pytest.raises(ValueError, match="NaN"):
        projection.mask(x.numpy())


def test_infinities_are_ranked_and_zeroed():
    x = torch.tensor([torch.inf, -torch.inf, 1.0, 0.0])
    assert TopK(1)(x).tolist() == [torch.inf, 0, 0, 0]
    assert TopK(2, by="value")(x).tolist() == [torch.inf, 0, 1, 0]
    huge = torch.full((4,), 3e38)  # the sum overflows without any NaN
    assert TopK(1)(huge).tolist() == [huge[0], 0, 0, 0]


def test_zeros_of_either_sign_tie():
    assert TopK(2).mask(np.array([-0.0, 0.0, -0.0])).tolist() == [True, True, False]
    assert NM(1, 2).mask(np.array([-0.0, 0.0])).tolist() == [True, False]


def test_magnitude_topk_of_u_is_topk_of_both_signs():
    # AbsTopK(F) equals TopK(2F) on [u, -u], folded
    u = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    both = TopK(4, by="positive")(torch.cat([u, -u], dim=1))
    torch.testing.assert_close(TopK(4)(u), both[:, :12] - both[:, 12:])


def test_batch_and_mutual_coincide_and_one_row_is_topk():
    x = np.random.default_rng(0).normal(size=(2, 3, 5))
    np.testing.assert_array_equal(BatchTopK(2)(x), MutualTopK(12)(x))
    np.testing.assert_array_equal(BatchTopK(2)(x[0, :1]), TopK(2)(x[0, :1]))


def test_ragged_blocks_sum_and_mean():
    x = np.array([[2.0, 2.0, 2.0, 3.0]])
    assert Blocks((1, 3), 1).mask(x).tolist() == [[True, True, True, False]]
    assert Blocks((1, 3), 1, reduce="mean").mask(x).tolist() == [[False, False, False, True]]
    assert Blocks((2, 2), 1).mask(np.ones((3, 5))).sum() == 4
    assert Blocks((2, 2), 9).mask(np.ones((3, 5))).all()


def test_blocks_treat_leading_axes_apart():
    x = np.random.default_rng(0).normal(size=(3, 4, 6))
    whole = Blocks((2, 3), 2).mask(x)
    for part, mask in zip(x, whole, strict=True):
        np.testing.assert_array_equal(Blocks((2, 3), 2).mask(part), mask)


def test_threshold_per_feature_is_strict():
    x = torch.tensor([[1.0, 2.0, -3.0], [1.5, -2.5, 2.0]])
    assert Threshold(2.0).mask(x).tolist() == [[False, False, True], [False, True, False]]
    tau = torch.tensor([1.0, 2.0, 1.0])
    assert Threshold(tau, by="value")(x).tolist() == [[0, 0, 0], [1.5, 0, 2]]
    assert Threshold(tau.numpy(), by="value")(x).tolist() == [[0, 0, 0], [1.5, 0, 2]]
    assert Threshold(-5.0, by="positive")(x).tolist() == [[1, 2, 0], [1.5, 0, 2]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TopK(-1), "k must be a whole number of at least 0, got -1"),
        (lambda: TopK(1.5), "k must be"),
        (lambda: TopK(True), "k must be"),
        (lambda: TopK(1, by="size"), "by must be 'magnitude'"),
        (lambda: TopK(1, axis=2)(np.ones((2, 2))), "axis 2 is out of range for shape"),
        (lambda: FeatureTopK([1, -1]), r"k\[1\] must be"),
        (lambda: FeatureTopK([1, 1])(np.ones((2, 3))), "k holds 2 counts but x has 3 columns"),
        (lambda: NM(3, 2), "N:M needs 0 <= n <= m and m >= 1, got 3:2"),
        (lambda: NM(0, 0), "N:M needs"),
        (lambda: NM(2, 4)(np.ones((2, 6))), "2:4 needs axis -1 to be a multiple of 4, got 6"),
        (lambda: Blocks((0, 2), 1), "shape must hold"),
        (lambda: Blocks((), 1), "shape must hold"),
        (lambda: Blocks((2, 2), 1)(np.ones(4)), "need 2 axes, got 1"),
        (lambda: Blocks((2,), 1, reduce="max"), "reduce must be"),
        (lambda: Threshold(float("nan")), "tau must be"),
        (lambda: Threshold(np.ones((2, 2))), "tau must be"),
        (lambda: Threshold(np.ones(2))(np.ones(3)), "tau is per 2 features but x has 3"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating"):
        TopK(1)(torch.arange(3))


def test_doctests():
    failed, attempted = doctest.testmod(projections)
    assert attempted and not failed
