r"""Photographs in grey, whitened as a retina does, and patches of them.

A photograph's Fourier amplitudes fall as one over the frequency; the filter
:math:`\rho \, e^{-(\rho / f_0)^4}` evens them out and cuts off the corners of the spectrum.

Source: Olshausen and Field (1997), with the constants of "Beyond l1 sparse coding in V1" (arXiv
2301.10002) and its released code. Departures: rho is in cycles per pixel, where the code's is in
rows of the spectrum, which cut wide images off at another frequency across than along; the
edges, where the transform wraps round, are cut away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Collection = Literal["scikit-learn", "scikit-image"]
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)

_SKIMAGE = ("astronaut", "coffee", "chelsea", "rocket", "camera", "grass", "gravel", "brick")
_VAN_HATEREN = (1024, 1536)
# ITU-R BT.601, as most software turns colours to grey.
_LUMA = np.array([0.299, 0.587, 0.114])
_FLAT = 1e-6


def photographs(collection: Collection = "scikit-learn") -> list[Tensor]:
    """Grey photographs (height, width) in [0, 1] that come with an installed library.

    Parameters
    ----------
    collection : {"scikit-learn", "scikit-image"}, default "scikit-learn"
        Two, of a temple and a flower; or eight, with the extra ``vision``.

    Raises
    ------
    ImportError
        If scikit-image is asked for and not installed.
    """
    if collection not in COLLECTIONS:
        raise ValueError(f"collection is {collection!r}, expected one of {', '.join(COLLECTIONS)}")
    if collection == "scikit-learn":
        from sklearn.datasets import load_sample_images

        return [_grey(image) for image in load_sample_images().images]
    try:
        import skimage.data
    except ImportError:
        raise ImportError("scikit-image is not installed: pip install 'rarefy[vision]'") from None
    return [_grey(getattr(skimage.data, name)()) for name in _SKIMAGE]


def read_photographs(folder: Path) -> list[Tensor]:
    """Read a folder of photographs: ``.imc`` (van Hateren's), ``.png`` and ``.jpg``.

    Parameters
    ----------
    folder : Path
        Its files are read in the order of their names.

    Returns
    -------
    list of Tensor
        Grey images (height, width), each stretched to [0, 1].

    Raises
    ------
    ValueError
        If the folder has no such file, or a file is not an image.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one with .imc, .png or .jpg files")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".imc", ".png", ".jpg"))
    if not files:
        raise ValueError(f"{folder} has no .imc, .png or .jpg file")
    return [_read(path) for path in files]


def _read(path: Path) -> Tensor:
    if path.suffix.lower() == ".imc":
        content, wanted = path.read_bytes(), 2 * math.prod(_VAN_HATEREN)
        if len(content) != wanted:
            raise ValueError(
                f"{path} has {len(content)} bytes, expected the {wanted} of a van Hateren image: "
                "1024 x 1536 numbers of 16 bits"
            )
        return _grey(np.frombuffer(content, dtype=">u2").reshape(_VAN_HATEREN))
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return _grey(np.asarray(image.convert("L")))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is not an image that can be read") from None


def _grey(image: np.ndarray) -> Tensor:
    """Luminance, stretched to [0, 1]."""
    grey = image[..., :3] @ _LUMA if image.ndim == 3 else image.astype(np.float64)
    low, high = grey.min(), grey.max()
    return torch.from_numpy((grey - low) / max(high - low, 1e-12)).float()


def whiten_retina(
    images: Sequence[Tensor], *, f0: float = 0.4, variance: float = 0.1, crop: float = 0.05
) -> list[Tensor]:
    """Whiten images (height, width) each by itself, and bring them to one mean variance.

    Parameters
    ----------
    images : sequence of Tensor
    f0 : float, default 0.4
        Where the filter cuts off, in cycles per pixel (the paper's, of the height).
    variance : float, default 0.1
        Mean variance of the images afterwards (the paper's).
    crop : float, default 0.05
        Share of each edge that is cut away.

    Raises
    ------
    ValueError
        If there is no image, or an image is constant.
    """
    if not images:
        raise ValueError("images is empty; at least one is wanted")
    white = []
    for image in images:
        if image.ndim != 2 or float(image.std()) < _FLAT:
            raise ValueError(
                f"an image of shape {tuple(image.shape)} is not (height, width) or is constant; "
                "leave it out"
            )
        standard = (image.double() - image.double().mean()) / image.double().std()
        fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape)
        rho = torch.hypot(fy[:, None], fx)
        spectrum = torch.fft.fft2(standard) * rho * torch.exp(-((rho / f0) ** 4))
        top, left = (round(crop * n) for n in image.shape)
        inner = torch.fft.ifft2(spectrum).real
        white.append(inner[top : image.shape[0] - top, left : image.shape[1] - left])
    scale = (variance / torch.stack([image.var() for image in white]).mean()).sqrt()
    return [(scale * image).float() for image in white]


def sample_patches(
    images: Sequence[Tensor], size: int, count: int, *, generator: torch.Generator
) -> Tensor:
    """Draw square patches at random, each without its mean: (at most count, size * size).

    Larger images give more of them; patches without any contrast are left out.

    Raises
    ------
    ValueError
        If an image is smaller than a patch.
    """
    for image in images:
        if min(image.shape) < size:
            raise ValueError(f"an image is {tuple(image.shape)}, smaller than a patch of {size}")
    places = torch.tensor([(h - size + 1) * (w - size + 1) for h, w in (i.shape for i in images)])
    drawn = torch.randint(int(places.sum()), (count,), generator=generator)
    patches = []
    for image, first, number in zip(images, places.cumsum(0) - places, places, strict=True):
        here = drawn[(drawn >= first) & (drawn < first + number)] - first
        every = image.unfold(0, size, 1).unfold(1, size, 1)
        rows, columns = here // every.shape[1], here % every.shape[1]
        patches.append(every[rows, columns].flatten(1))
    found = torch.cat(patches)
    found = found - found.mean(1, keepdim=True)
    found = found[found.std(1) >= _FLAT]
    return found[torch.randperm(len(found), generator=generator)]
