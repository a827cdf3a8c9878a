"""The sparse product against a dense one written here, and its errors."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu import spmm as module
from rarefy.kernels.cpu._microkernel import tile_vectors
from rarefy.kernels.cpu.spmm import pack, spmm, spmm_reference

INF = float("inf")


def sparse(rows, channels, density, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, channels)).astype(np.float32)
    return weight * (rng.random((rows, channels)) < density)


def dense(channels, pixels, seed=1):
    return np.random.default_rng(seed).standard_normal((channels, pixels)).astype(np.float32)


def assert_product(y, weight, x, bias=0.0, residual=0.0, clamp=(-INF, INF)):
    exact = np.clip(weight.astype(np.float64) @ x + np.asarray(bias) + residual, *clamp)
    assert np.abs(np.asarray(y) - exact).max(initial=0) <= 1e-4 * np.abs(exact).max(initial=1e-30)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 23),
    channels=st.integers(1, 40),
    pixels=st.integers(1, 420),
    density=st.sampled_from([0.0, 0.05, 0.3, 1.0]),
    block=st.sampled_from([1, 2, 4, "auto"]),
    threads=st.sampled_from([1, 2]),
)
def test_equals_the_dense_product(rows, channels, pixels, density, block, threads):
    if block != "auto" and block > rows:
        block = 1
    weight, x = sparse(rows, channels, density), dense(channels, pixels)
    bias, residual = dense(rows, 1, seed=2)[:, 0], dense(rows, pixels, seed=3)
    packed = pack(weight, block=block, bias=bias)
    y = spmm(packed, x, residual=residual, clamp=(-0.5, 0.7), threads=threads)
    assert_product(y, weight, x, bias[:, None], residual, (-0.5, 0.7))
    assert_product(spmm(pack(weight, block=block), x, threads=threads), weight, x)
    twin = spmm_reference(packed, x, residual=residual, clamp=(-0.5, 0.7))
    np.testing.assert_allclose(y, twin, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("pixels", [1, 15, 16, 17, 21, 24, 25, 49, 95, 96, 97, 196, 400])
@pytest.mark.parametrize("rows", [60, 61])
def test_panels_equal_the_dense_product(pixels, rows, threads):
    # Dense enough that each activation is used 20 times and is copied to a panel first.
    weight, x = sparse(rows, 33, 0.6), dense(33, pixels)
    for block in (1, 2, 4):
        packed = pack(weight, block=block)
        assert len(packed.col) >= module._WORTH_A_PANEL * 33 or block > 1
        assert_product(spmm(packed, x, threads=threads), weight, x)


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_threads_change_no_bit(threads):
    for rows, pixels in ((70, 49), (5, 3000), (1, 17)):
        packed = pack(sparse(rows, 50, 0.4), block=1)
        x = dense(50, pixels)
        y = spmm(packed, x, threads=threads)
        np.testing.assert_array_equal(y, spmm(packed, x, threads=1))


@pytest.mark.parametrize("block", [2, 4])
def test_the_width_of_a_tile_changes_no_bit(block, monkeypatch):
    packed = pack(sparse(60, 33, 0.9), block=block)
    x = dense(33, 49)
    y = spmm(packed, x, threads=1)
    for vectors in (1, 2, 3):
        monkeypatch.setattr(module, "tile_vectors", lambda *_, v=vectors: v)
        np.testing.assert_array_equal(y, spmm(packed, x, threads=1))


def test_wide_inputs_get_tiles_that_blocks_of_rows_share():
    # Panels of 64 KiB would hold one vector of 1,024 channels; accumulators are the upper bound.
    widths = [tile_vectors(block, 1024, True) for block in (1, 2, 4)]
    assert widths in ([2, 3, 4], [2, 2, 1])  # AVX-512, or half as many registers and less


def test_more_threads_than_work_is_shared_by_weights():
    packed = pack(np.diag(np.float32([1, 2])), block=1)
    assert_product(spmm(packed, dense(2, 20), threads=8), packed.dense(), dense(2, 20))


def test_empty_rows_hold_the_bias():
    weight = np.zeros((6, 5), np.float32)
    weight[2, 3] = 2.0
    bias = np.arange(6, dtype=np.float32)
    y = spmm(pack(weight, bias=bias), np.ones((5, 18), np.float32))
    np.testing.assert_array_equal(y, np.tile(bias + [[0, 0, 2, 0, 0, 0]], (18, 1)).T)


def test_no_pixels_no_rows_and_no_channels():
    x = np.ones((3, 0), np.float32)
    assert spmm(pack(np.ones((2, 3), np.float32)), x).shape == (2, 0)
    assert spmm(pack(np.ones((0, 3), np.float32)), np.ones((3, 4), np.float32)).shape == (0, 4)
    empty = np.ones((2, 0), np.float32)
    assert (spmm(pack(empty), np.ones((0, 20), np.float32)) == 0).all()


def test_tokens_are_pixels():
    """A sparse linear layer: the transposed tokens are not row-major and are copied."""
    weight, tokens = torch.from_numpy(sparse(12, 30, 0.2)), torch.from_numpy(dense(70, 30))
    y = spmm(pack(weight), tokens.T).T
    torch.testing.assert_close(y, torch.nn.functional.linear(tokens, weight))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_kind_is_kept_and_out_is_written(kind):
    weight, x = sparse(9, 20, 0.3), dense(20, 33)
    out = kind(np.full((9, 33), np.nan, np.float32))
    assert type(spmm(pack(weight), kind(x))) is type(out)
    assert spmm(pack(weight), kind(x), out=out) is out
    assert_product(out, weight, x)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("pixels", [5, 40])
def test_inputs_that_are_not_row_major_or_not_writable(kind, pixels):
    weight, x = sparse(9, 20, 0.3), dense(20, 2 * pixels)
    assert_product(spmm(pack(kind(weight)), kind(x)[:, ::2]), weight, x[:, ::2])
    x.flags.writeable = False
    assert_product(spmm(pack(np.asfortranarray(weight)), x), weight, x)


def test_nan_and_infinity_pass_only_through_kept_weights():
    weight = np.float32([[1, 0], [0, 1]])
    x = np.ones((2, 20), np.float32)
    x[0, 3], x[0, 4] = np.nan, np.inf
    y = spmm(pack(weight, block=1), x, clamp=(0, 6))
    assert np.isnan(y[0, 3])
    assert y[0, 4] == 6
    assert (y[1] == 1).all()


def test_packing_round_trips_and_drops_zeros_of_either_sign():
    weight = sparse(11, 13, 0.3)
    weight[weight == 0] = -0.0
    for block in (1, 2, 4):
        packed = pack(weight, block=block)
        np.testing.assert_array_equal(packed.dense(), weight)
        assert packed.col.dtype == np.int32
    assert len(pack(weight, block=1).val) == np.count_nonzero(weight)


def test_auto_takes_the_largest_block_that_is_nine_tenths_full():
    rng = np.random.default_rng(0)
    fours = np.repeat(rng.random((8, 50)) < 0.2, 4, axis=0).astype(np.float32)
    twos = np.repeat(rng.random((16, 50)) < 0.2, 2, axis=0).astype(np.float32)
    assert pack(fours).block == 4
    assert pack(twos).block == 2
    assert pack(sparse(32, 50, 0.2)).block == 1
    assert pack(np.zeros((32, 50), np.float32)).block == 1
    # 10 blocks of 4, of which exactly 36 or 35 of 40 weights are there
    edge = np.ones((4, 10), np.float32)
    edge[0, :4] = 0
    assert pack(edge).block == 4
    edge[0, 4] = 0
    assert pack(edge).block != 4


WEIGHT, X = sparse(6, 8, 0.5), dense(8, 20)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pack(WEIGHT, block=3), ValueError, "block must be 1, 2, 4"),
        (lambda: pack(WEIGHT[:2], block=4), ValueError, "only 2 output rows"),
        (lambda: pack(WEIGHT.astype(np.float64)), TypeError, "weight must be float32"),
        (lambda: pack(WEIGHT[0]), ValueError, "weight must have 2 dimensions"),
        (lambda: pack([[1.0]]), TypeError, "weight must be a torch tensor or NumPy array"),
        (lambda: pack(WEIGHT, bias=X[:, 0]), ValueError, "one entry per row"),
        (lambda: spmm(pack(WEIGHT), X.astype(np.float16)), TypeError, "x must be float32"),
        (lambda: spmm(pack(WEIGHT), torch.ones(8, 20).half()), TypeError, "x must be float32"),
        (lambda: spmm(pack(WEIGHT), torch.ones(8, 20, device="meta")), TypeError, "on the CPU"),
        (lambda: spmm(pack(WEIGHT), X[:7]), ValueError, "C_in = 8"),
        (lambda: spmm(pack(WEIGHT), X[0]), ValueError, "x must have 2 dimensions"),
        (lambda: spmm(pack(WEIGHT), X, threads=0), ValueError, "threads must be a positive"),
        (lambda: spmm(pack(WEIGHT), X, threads=-2), ValueError, "threads must be a positive"),
        (lambda: spmm(pack(WEIGHT), X, clamp=(1, 0)), ValueError, "lo <= hi"),
        (lambda: spmm(pack(WEIGHT), X, residual=X), ValueError, r"residual must have shape"),
        (lambda: spmm(pack(WEIGHT), X, out=X), ValueError, "out must have shape"),
        (lambda: spmm(pack(WEIGHT), X, out=torch.ones(6, 20)), TypeError, "as x is"),
        (lambda: spmm(pack(WEIGHT), X, out=np.ones((20, 6), "f4").T), ValueError, "row-major"),
        (lambda: spmm(pack(np.eye(8, dtype="f4")), X, out=X), ValueError, "overlap x"),
        (
            lambda: spmm(pack(WEIGHT), torch.ones(8, 20, requires_grad=True)),
            ValueError,
            "x requires grad",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_out_may_not_be_the_residual():
    y = np.ones((6, 20), np.float32)
    with pytest.raises(ValueError, match="overlap residual"):
        spmm(pack(WEIGHT), X, out=y, residual=y)


def test_without_grad_mode_a_tensor_that_requires_grad_is_data():
    x = torch.from_numpy(X).requires_grad_()
    with torch.no_grad():
        y = spmm(pack(torch.nn.Parameter(torch.from_numpy(WEIGHT))), x)
    assert_product(y, WEIGHT, X)
    assert not y.requires_grad


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_starts_its_own_threads():
    code = """
import os
from rarefy.kernels.cpu._threads import side_by_side
tasks = [lambda: 1, lambda: 2, lambda: 3]
side_by_side(tasks)
child = os.fork()
if child == 0:
    os._exit(0 if side_by_side(tasks) == [1, 2, 3] else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    # A child that waited for its parent's threads would hang.
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


def test_a_panel_is_not_freed_while_it_is_read():
    code = """
import numpy as np
from rarefy.kernels.cpu.spmm import pack, spmm
x = np.ones((512, 960), np.float32)
assert (spmm(pack(np.ones((64, 512), np.float32), block=1), x, threads=1) == 512).all()
"""
    # With glibc, freed memory beyond this size is unmapped at once: reading it ends the process.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "4096"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60)
    assert done.returncode == 0
