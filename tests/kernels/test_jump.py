"""Jumps and gates in one pass, against their torch twins; and memory that is used again."""

import pytest
import torch

from rarefy.kernels.cpu import jump as kernels
from rarefy.kernels.cpu.recycled import empty, recycling

ROWS, WIDTH = 37, 24


@pytest.fixture(params=["all entries", "some entries"])
def case(request):
    """Values, columns (or none), thresholds some values are equal to, a map and a slope."""
    g = torch.Generator().manual_seed(0)
    v = torch.randn(ROWS * WIDTH, generator=g)
    columns = None
    if request.param == "some entries":
        columns = torch.randint(0, WIDTH - 1, (len(v),), generator=g)
    theta = torch.rand(WIDTH, generator=g) / 2
    theta[0] = v[0]
    if columns is not None:
        columns[0] = 0
    scale, bias = torch.randn(2, WIDTH, generator=g)
    return v, columns, theta, scale, bias, torch.randn(len(v), generator=g)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_jump_and_its_gradients(case, threads):
    v, columns, theta, _, _, slope = case
    z = kernels.jump(v, theta, columns, shift=0.2, threads=threads)
    assert torch.equal(z, kernels.jump_reference(v, theta, columns, shift=0.2))
    assert z[0] == 0  # equal is not above
    for bandwidth in (0.0, 0.3):
        got = kernels.jump_backward(
            *(v, theta, columns, slope), bandwidth=bandwidth, threads=threads
        )
        wanted = kernels.jump_backward_reference(v, theta, columns, slope, bandwidth=bandwidth)
        assert torch.equal(got[0], wanted[0])
        torch.testing.assert_close(got[1], wanted[1], rtol=1e-4, atol=1e-5)
    near = kernels.in_window(v, theta, columns, bandwidth=0.3, threads=threads)
    assert near.sum() > 20
    assert torch.equal(near, kernels.in_window_reference(v, theta, columns, bandwidth=0.3))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_gate_and_its_gradients(case, threads):
    v, columns, theta, scale, bias, slope = case
    wanted = kernels.gated_reference(v, theta, scale, bias, columns)
    z = kernels.gated(v, theta, scale, bias, columns, threads=threads)
    torch.testing.assert_close(z, wanted)
    assert 20 < int((z > 0).sum()) < int((v > 0).sum())
    got = kernels.gated_backward(v, theta, scale, columns, z, slope, threads=threads)
    leaves = [t.double().requires_grad_() for t in (v, scale, bias)]
    spread = [t.repeat(ROWS) if columns is None else t[columns] for t in (theta, *leaves[1:])]
    codes = torch.where(v > spread[0], (leaves[0] * spread[1] + spread[2]).relu(), 0.0)
    for ours, theirs in zip(got, torch.autograd.grad(codes, leaves, slope.double()), strict=True):
        torch.testing.assert_close(ours, theirs.float(), rtol=1e-4, atol=1e-4)
    twin = kernels.gated_backward_reference(v, theta, scale, columns, z, slope)
    for ours, theirs in zip(got, twin, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_memory_is_used_again_once_nobody_holds_it_and_never_before():
    with recycling():
        first, second = empty(6, 4), empty(6, 4)
        assert first.data_ptr() != second.data_ptr()
        place, view = first.data_ptr(), first.view(-1)[3:]
        del first
        assert empty(24).data_ptr() != place
        del view
        assert empty(24).data_ptr() == place
        second.fill_(7.0)
        for size in range(1, 40):
            empty(size).fill_(0.0)
        assert (second == 7).all()
    outside = empty(24)
    assert outside.shape == (24,) and outside.data_ptr() != empty(24).data_ptr()
