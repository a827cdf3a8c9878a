import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.operators import (
    CEL0,
    L0,
    L1,
    MCP,
    SCAD,
    CappedL1,
    ElasticNet,
    LogSum,
    Lq,
    _scalar,
    penalties,
)

torch.set_num_threads(1)

# every penalty with its formula phi(|x|) written again from the paper, on a NumPy grid
CASES = [
    (L1(0.7), lambda m: 0.7 * m),
    (L0(0.7), lambda m: 0.7 * (m > 0)),
    (Lq(0.7, 0.5), lambda m: 0.7 * np.sqrt(m)),
    (Lq(0.7, 2 / 3), lambda m: 0.7 * np.cbrt(m**2)),
    (Lq(0.7, 0.2), lambda m: 0.7 * m**0.2),
    (Lq(0.7, 0.95), lambda m: 0.7 * m**0.95),
    (ElasticNet(0.7, 0.3), lambda m: 0.21 * m + 0.245 * m**2),
    (MCP(0.7, 2.0), lambda m: np.where(m <= 1.4, 0.7 * m - m**2 / 4, 0.49)),
    (
        SCAD(0.7, 3.0),
        lambda m: np.select(
            [m <= 0.7, m <= 2.1], [0.7 * m, (4.2 * m - m**2 - 0.49) / 4], 0.49 * 4 / 2
        ),
    ),
    (
        CEL0(0.7, 1.0),
        lambda m: 0.7 - 0.5 * (m - math.sqrt(1.4)) ** 2 * (m <= math.sqrt(1.4)),
    ),
    (
        CEL0(0.7, 2.0),
        lambda m: 0.7 - 2 * (m - math.sqrt(1.4) / 2) ** 2 * (m <= math.sqrt(1.4) / 2),
    ),
    (CappedL1(0.7, 1.2), lambda m: 0.7 * np.minimum(m, 1.2)),
    (LogSum(0.7, 0.1), lambda m: 0.7 * np.log(1 + m / 0.1)),
    (LogSum(0.7, 3.0), lambda m: 0.7 * np.log(1 + m / 3)),
]
PENALTIES = [penalty for penalty, _ in CASES]
TWINS = {
    "L1": "l1",
    "L0": "l0",
    "Lq": "lq",
    "ElasticNet": "elastic_net",
    "MCP": "mcp",
    "SCAD": "scad",
    "CEL0": "cel0",
    "CappedL1": "capped_l1",
    "LogSum": "log_sum",
}


@pytest.mark.parametrize(("penalty", "formula"), CASES, ids=[str(p) for p in PENALTIES])
def test_value_is_the_formula(penalty, formula):
    x = np.random.default_rng(0).normal(size=(5, 7))
    x[0, :3] = 0
    assert penalty.value(x) == pytest.approx(formula(np.abs(x)).sum(), rel=1e-12)


@pytest.mark.parametrize("step", [0.3, 1.0, 1.7])
@pytest.mark.parametrize(("penalty", "formula"), CASES, ids=[str(p) for p in PENALTIES])
def test_prox_is_the_argmin_on_a_fine_grid(penalty, formula, step):
    grid = np.linspace(0, 5, 50_001)
    cost = step * formula(grid)
    z = np.linspace(-4.97, 4.97, 200)
    best = np.array([grid[np.argmin((grid - abs(v)) ** 2 / 2 + cost)] for v in z]) * np.sign(z)
    got = penalty.prox(z, step)
    # a minimiser, not only near one: no grid point may be better
    objective = (got - z) ** 2 / 2 + step * formula(np.abs(got))
    floor = np.array([np.min((grid - abs(v)) ** 2 / 2 + cost) for v in z])
    assert np.all(objective <= floor + 1e-12)
    np.testing.assert_allclose(got, best, atol=1.1e-4)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_scalar_twins_agree_to_rounding(penalty):
    name = TWINS[type(penalty).__name__]
    extra = [v for k, v in vars(penalty).items() if k not in ("lam", "positive")]
    value, prox = getattr(_scalar, f"{name}_value"), getattr(_scalar, f"{name}_prox")
    z = np.concatenate([[0.0, -0.0], np.random.default_rng(1).normal(scale=2, size=300)])
    for step in (0.3, 1.7):
        ours = penalty.prox(z, step)
        twins = [prox(v, step, penalty.lam, *extra) for v in z]
        np.testing.assert_allclose(twins, ours, rtol=1e-13, atol=1e-14)
    total = math.fsum(value(v, penalty.lam, *extra) for v in z)
    assert penalty.value(z) == pytest.approx(total, rel=1e-13)


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_prox_gradient_matches_differences(penalty):
    z = torch.linspace(-3.97, 4.01, 41, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(penalty.prox(z, 0.9).sum(), z)
    assert torch.isfinite(gradient).all()
    h = 1e-6
    with torch.no_grad():
        jump = penalty.prox(z + h, 0.9) - penalty.prox(z - h, 0.9)
    smooth = jump.abs() < 1e-3  # not across a cut
    torch.testing.assert_close(gradient[smooth], (jump / (2 * h))[smooth], rtol=1e-5, atol=1e-5)


def test_cel0_of_unit_columns_is_mcp():
    z = np.linspace(-3, 3, 101)
    mcp = MCP(math.sqrt(2 * 0.4), 1.0)
    np.testing.assert_allclose(CEL0(0.4).prox(z, 0.8), mcp.prox(z, 0.8), atol=1e-14)
    assert CEL0(0.4).value(z) == pytest.approx(mcp.value(z), rel=1e-13)


def test_cel0_at_a_long_step_is_l0():
    z = np.linspace(-3, 3, 101)
    np.testing.assert_array_equal(CEL0(0.4, a=2.0).prox(z, 0.25), L0(0.4).prox(z, 0.25))


def test_positive_l1_and_l0_are_relu_and_jumprelu():
    u = torch.randn(64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(L1(0.3, positive=True).prox(u), torch.relu(u - 0.3))
    torch.testing.assert_close(L0(0.5, positive=True).prox(u), u * (u > 1.0))
    assert L1(0.3, positive=True).value(u) == math.inf
    assert L1(0.3, positive=True).value(u.abs()) == pytest.approx(0.3 * float(u.abs().sum()))


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=2), st.floats(0.05, 5))
@settings(max_examples=200, deadline=None)
def test_convex_proxes_are_firmly_nonexpansive(pair, step):
    x, y = (np.array(v) for v in pair)
    for penalty in (L1(0.8), ElasticNet(0.8, 0.4), L1(0.8, positive=True)):
        assert penalty.convex
        difference = penalty.prox(x, step) - penalty.prox(y, step)
        assert difference**2 <= difference * (x - y) + 1e-9


@given(st.floats(-30, 30), st.floats(0.05, 0.9))
@settings(max_examples=200, deadline=None)
def test_prox_is_odd_and_shrinks(z, step):
    for penalty in PENALTIES:
        up, down = penalty.prox(np.array(z), step), penalty.prox(np.array(-z), step)
        assert up == -down
        assert abs(up) <= abs(z) * (1 + 1e-12)
        assert up * z >= 0


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_kind_and_shape_are_kept(penalty, dtype):
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).to(dtype).t()
    assert not x.is_contiguous()
    out = penalty.prox(x, 0.5)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    assert penalty.value(x).dtype == dtype
    # rounded once: the half result is the float32 result, rounded
    wide = penalty.prox(x.double(), 0.5)
    torch.testing.assert_close(out, wide.to(dtype), rtol=4 * torch.finfo(dtype).eps, atol=1e-6)
    if dtype != torch.bfloat16:
        array = penalty.prox(x.numpy(), 0.5)
        assert isinstance(array, np.ndarray)
        np.testing.assert_array_equal(array, out.numpy())
        assert penalty.value(x.numpy()).dtype == x.numpy().dtype


@pytest.mark.parametrize("penalty", PENALTIES, ids=str)
def test_empty_scalar_and_nan_input(penalty):
    assert penalty.prox(np.zeros((0, 3)), 0.5).shape == (0, 3)
    assert penalty.value(torch.zeros(0)) == 0
    assert penalty.prox(torch.tensor(9.0), 0.5).shape == ()
    out = penalty.prox(np.array([math.nan, 0.0, 1.0]), 0.5)
    assert np.isnan(out).tolist() == [True, False, False]
    assert not np.signbit(penalty.prox(np.array([-1e-3 * 0, -0.0]), 0.5)).any()


def test_zero_strength_is_the_identity():
    z = np.linspace(-2, 2, 9)
    for kind in (L1, L0, Lq, ElasticNet, MCP, SCAD, CEL0, CappedL1, LogSum):
        np.testing.assert_array_equal(kind(0.0).prox(z, 0.5), z)
        assert kind(0.0).value(z) == 0


def test_readonly_and_foreign_byte_order_arrays():
    x = np.linspace(-2, 2, 9)
    x.flags.writeable = False
    swapped = x.astype(">f4")
    np.testing.assert_array_equal(L1(0.5).prox(x[::-1]), L1(0.5).prox(x)[::-1])
    out = L1(0.5).prox(swapped)
    assert out.dtype == swapped.dtype
    np.testing.assert_allclose(out, L1(0.5).prox(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L1(-0.1), "lam must be at least 0 and finite, got -0.1"),
        (lambda: L1(math.nan), "lam"),
        (lambda: L1(math.inf), "lam"),
        (lambda: Lq(1.0, 1.0), "q must be above 0 and below 1, got 1.0"),
        (lambda: ElasticNet(1.0, 1.5), "l1_ratio"),
        (lambda: MCP(1.0, 0.0), "gamma"),
        (lambda: SCAD(1.0, 2.0), "a must be above 2"),
        (lambda: CEL0(1.0, a=-1), "a must be"),
        (lambda: CappedL1(1.0, 0.0), "theta"),
        (lambda: LogSum(1.0, 0.0), "epsilon"),
        (lambda: L1(1.0).prox(np.ones(2), 0.0), "step must be above 0"),
        (lambda: L1(1.0).prox(np.ones(2), math.inf), "step"),
        (lambda: MCP(1.0, 3.0).prox(np.ones(2), 3.0), "step must be above 0 and below 3.0"),
        (lambda: SCAD(1.0).prox(np.ones(2), 2.8), "step must be above 0 and below 2.7"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("x", [np.arange(3), torch.arange(3), [1.0], 1.0, np.ones(2, complex)])
def test_other_kinds_of_input_are_refused(x):
    with pytest.raises(TypeError, match="floating torch tensor or NumPy array"):
        L1(1.0).prox(x)


def test_doctests():
    failed, attempted = doctest.testmod(penalties)
    assert attempted and not failed
