"""Photographs: van Hateren's files as their bytes say, the whitening filter by its formula."""

import math
import sys

import numpy as np
import pytest
import torch

from rarefy.data import photographs, read_photographs, sample_patches, whiten_retina


def _imc(path, pixels):
    pixels.astype(">u2").tofile(path)


def test_imc_is_rows_of_big_endian_numbers(tmp_path):
    pixels = np.zeros((1024, 1536), dtype=np.uint16)
    pixels[3, 5] = 0x0100
    pixels[3, 6] = 0x0001
    pixels[1023, 0] = 0x0200
    _imc(tmp_path / "imk00001.imc", pixels)
    (image,) = read_photographs(tmp_path)
    assert image.shape == (1024, 1536) and image.dtype == torch.float32
    # stretched to [0, 1]: the byte order decides which of 0x0100 and 0x0001 is the larger
    assert image[3, 5] == 0.5
    assert float(image[3, 6]) == pytest.approx(1 / 512)
    assert image[1023, 0] == 1 and int((image > 0).sum()) == 3


def test_a_folder_is_read_in_the_order_of_names_whatever_the_format(tmp_path):
    from PIL import Image

    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (8, 1))
    Image.fromarray(ramp).save(tmp_path / "b.png")
    colours = np.zeros((6, 4, 3), dtype=np.uint8)
    colours[0], colours[1] = (255, 0, 0), (0, 255, 0)
    Image.fromarray(colours).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("not a photograph")
    first, second = read_photographs(tmp_path)
    # green is the brightest, so it is the 1; red is as much darker as ITU-R BT.601 says
    assert float(first[1, 0]) == 1
    assert float(first[0, 0]) == pytest.approx(0.299 / 0.587, abs=0.01)
    torch.testing.assert_close(second, torch.from_numpy(ramp / 190.0).float())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.imc", bytes(2000), "has 2000 bytes, expected the 3145728"),
        ("odd.imc", bytes(2 * 1024 * 1536 + 1), "has 3145729 bytes"),
        ("text.png", b"hello", "is not an image that can be read"),
    ],
)
def test_a_file_that_is_no_photograph_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        read_photographs(tmp_path)


def test_a_folder_without_photographs(tmp_path):
    with pytest.raises(ValueError, match=r"has no \.imc, \.png or \.jpg file"):
        read_photographs(tmp_path)
    with pytest.raises(ValueError, match="is not a folder"):
        read_photographs(tmp_path / "nowhere")


def _grating(height, width, rows, columns):
    """A wave that fits the image a whole number of times down and across."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cos(2 * math.pi * (rows * y / height + columns * x / width))


def test_whitening_multiplies_each_wave_by_the_filter():
    # (cycles down, cycles across) of a wide image
    waves = [(6, 0), (0, 12), (0, 24), (12, 10), (20, 30)]
    height, width, f0 = 64, 128, 0.4
    image = sum(_grating(height, width, *wave) for wave in waves)
    (white,) = whiten_retina([image], f0=f0, crop=0.0)
    gains = [2 * float((white * _grating(height, width, *w)).mean()) for w in waves]
    rhos = [math.hypot(down / height, across / width) for down, across in waves]
    expected = [rho * math.exp(-((rho / f0) ** 4)) for rho in rhos]
    np.testing.assert_allclose(
        np.divide(gains, gains[0]), np.divide(expected, expected[0]), rtol=1e-4
    )
    # as many cycles a pixel down as across: the same gain, although the image is wide
    assert gains[0] == pytest.approx(gains[1], rel=1e-4)


def test_whitening_flattens_a_spectrum_that_falls_with_frequency():
    fy, fx = torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(128)
    rho = torch.hypot(fy, fx)
    dot = torch.zeros(128, 128)
    dot[40, 70] = 1
    # amplitudes of one over the frequency, as of photographs
    natural = torch.fft.ifft2(torch.fft.fft2(dot) / rho.clamp(min=1 / 128)).real
    (white,) = whiten_retina([natural], crop=0.0)
    amplitude = torch.fft.fft2(white).abs()
    passed = amplitude[(rho > 0) & (rho < 0.15)]
    assert float(passed.max() / passed.min()) < 1.03
    assert float(amplitude[rho > 0.6].max()) < 0.02 * float(passed.min())


def test_variance_is_that_of_the_mean_image_and_edges_are_cut():
    g = torch.Generator().manual_seed(0)
    images = [torch.rand(60, 100, generator=g), torch.rand(40, 40, generator=g).square()]
    white = whiten_retina(images, variance=0.3, crop=0.1)
    assert [tuple(image.shape) for image in white] == [(48, 80), (32, 32)]
    assert float(sum(image.var() for image in white) / 2) == pytest.approx(0.3, rel=1e-4)
    # contrast and brightness of a photograph do not matter
    again = whiten_retina([7 * images[0] + 3, images[1]], variance=0.3, crop=0.1)
    torch.testing.assert_close(again[0], white[0], rtol=1e-3, atol=1e-4)


def test_images_that_cannot_be_whitened():
    with pytest.raises(ValueError, match="images is empty"):
        whiten_retina([])
    for bad in (torch.ones(20, 20), torch.rand(3, 20, 20)):
        with pytest.raises(ValueError, match=r"is not \(height, width\) or is constant"):
            whiten_retina([bad])


def test_patches_are_cut_from_the_images_and_lose_their_mean():
    g = torch.Generator().manual_seed(0)
    image = torch.rand(9, 11, generator=g)
    found = sample_patches([image], 3, 40, generator=g)
    every = image.unfold(0, 3, 1).unfold(1, 3, 1).flatten(0, 1).flatten(1)
    every = every - every.mean(1, keepdim=True)
    assert found.shape == (40, 9)
    apart = (found[:, None] - every).abs().amax(2)
    assert float(apart.min(1).values.max()) < 1e-6


def test_larger_images_give_more_patches_and_flat_ones_none():
    large, small = torch.rand(40, 40), torch.rand(12, 12)
    flat = torch.ones(40, 40)
    marked = [large.clone(), small.clone(), flat]
    marked[1][::2] += 100  # only the small image has such contrast
    g = torch.Generator().manual_seed(1)
    found = sample_patches(marked, 8, 4000, generator=g)
    places = torch.tensor([33 * 33, 5 * 5, 33 * 33])
    share = places / places.sum()
    from_small = (found.std(1) > 10).float().mean() * len(found) / 4000
    assert float(from_small) == pytest.approx(float(share[1]), abs=0.006)
    assert len(found) / 4000 == pytest.approx(float(share[:2].sum()), abs=0.03)


def test_a_generator_decides_the_patches():
    image = torch.rand(30, 30)
    one, two, other = (
        sample_patches([image], 5, 20, generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_an_image_smaller_than_a_patch():
    with pytest.raises(ValueError, match=r"an image is \(6, 30\), smaller than a patch of 8"):
        sample_patches([torch.rand(6, 30)], 8, 5, generator=torch.Generator())


def test_photographs_of_an_installed_library(monkeypatch):
    images = photographs()
    assert [tuple(image.shape) for image in images] == [(427, 640), (427, 640)]
    assert all(float(image.min()) == 0 and float(image.max()) == 1 for image in images)
    with pytest.raises(ValueError, match="collection is 'imagenet', expected one of"):
        photographs("imagenet")
    monkeypatch.setitem(sys.modules, "skimage", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"pip install 'rarefy\[vision\]'"):
        photographs("scikit-image")
