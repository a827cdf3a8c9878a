"""Depthwise convolutions and the global mean against torch, and their errors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rarefy.kernels.cpu.depthwise import (
    depthwise,
    depthwise_reference,
    global_mean,
    global_mean_reference,
    pack_depthwise,
)

INF = float("inf")


def packed(channels, size, stride, seed=0):
    g = torch.Generator().manual_seed(seed)
    return pack_depthwise(
        torch.randn(channels, 1, size, size, generator=g),
        bias=torch.randn(channels, generator=g),
        stride=stride,
    )


def image(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 40),
    width=st.integers(1, 70),
    size=st.sampled_from([3, 5]),
    stride=st.sampled_from([1, 2]),
    threads=st.sampled_from([1, 3]),
)
def test_equals_torch(channels, height, width, size, stride, threads):
    window, x = packed(channels, size, stride), image(channels, height, width)
    y = depthwise(window, x, clamp=(-0.5, 6.0), threads=threads)
    torch.testing.assert_close(y, depthwise_reference(window, x, clamp=(-0.5, 6.0)))
    torch.testing.assert_close(
        depthwise(window, x, threads=threads), depthwise_reference(window, x)
    )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(112, 112), (300, 16), (7, 7), (9, 300), (3, 5000), (6, 3)])
def test_the_images_of_real_networks_and_awkward_ones(shape, size, stride):
    window, x = packed(3, size, stride), image(3, *shape)
    torch.testing.assert_close(depthwise(window, x), depthwise_reference(window, x))


def test_nothing_outside_an_image_is_read_or_written():
    """NaN in the neighbouring channels, and before and behind the image, stays there."""
    for side in (3, 7, 14, 16, 28):
        memory = torch.full((5, side, side), float("nan"))
        x = memory[2:3]
        x[:] = image(1, side, side)
        for stride in (1, 2):
            window = packed(1, 3, stride)
            y = depthwise(window, x)
            torch.testing.assert_close(y, depthwise_reference(window, x.clone()))
        assert global_mean(x).isfinite().all()


def test_nan_spreads_to_its_neighbours_and_through_the_clamp():
    x = image(1, 20, 20)
    x[0, 10, 10] = float("nan")
    y = depthwise(packed(1, 3, 1), x, clamp=(0.0, 6.0))
    assert y.isnan().sum() == 9 and y[0, 9:12, 9:12].isnan().all()


def test_an_image_that_is_not_contiguous():
    window, x = packed(3, 3, 2), image(20, 30, 3).permute(2, 0, 1)
    torch.testing.assert_close(depthwise(window, x), depthwise_reference(window, x))


@pytest.mark.parametrize("pixels", [1, 2, 15, 16, 17, 31, 49, 196, 12544])
def test_global_mean(pixels):
    x = image(5, 1, pixels)
    torch.testing.assert_close(global_mean(x), global_mean_reference(x))


def test_empty_images():
    assert depthwise(packed(2, 3, 1), torch.ones(2, 0, 4)).shape == (2, 0, 4)
    with pytest.raises(ValueError, match="no pixels"):
        global_mean(torch.ones(2, 0, 4))


WINDOW, X = packed(2, 3, 1), image(2, 5, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: pack_depthwise(torch.ones(2, 1, 4, 4)), ValueError, "weight must have shape"),
        (lambda: pack_depthwise(torch.ones(2, 2, 3, 3)), ValueError, "weight must have shape"),
        (lambda: pack_depthwise(torch.ones(2, 1, 3, 3).double()), TypeError, "weight must be flo"),
        (
            lambda: pack_depthwise(torch.ones(2, 1, 3, 3), bias=torch.ones(2).half()),
            TypeError,
            "bias must be float32",
        ),
        (lambda: pack_depthwise(torch.ones(2, 1, 3, 3), stride=3), ValueError, "stride must be 1"),
        (
            lambda: pack_depthwise(torch.ones(2, 1, 3, 3), bias=torch.ones(3)),
            ValueError,
            r"bias must have shape \(2,\)",
        ),
        (lambda: depthwise(WINDOW, X.double()), TypeError, "x must be float32"),
        (lambda: depthwise(WINDOW, X.numpy()), TypeError, "x must be a torch tensor"),
        (lambda: depthwise(WINDOW, X[:1]), ValueError, "x must have C = 2"),
        (lambda: depthwise(WINDOW, X[0]), ValueError, r"x must have shape \(C, H, W\)"),
        (lambda: depthwise(WINDOW, X, clamp=(1, 0)), ValueError, "lo <= hi"),
        (lambda: depthwise(WINDOW, X, threads=0), ValueError, "threads must be a positive"),
        (lambda: depthwise(WINDOW, X.clone().requires_grad_()), ValueError, "x requires grad"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call()
