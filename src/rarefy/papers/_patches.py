"""Patches of the two photographs that come with scikit-learn, whitened: natural data of width 64.

Patches lose their mean, are whitened (a hundredth of the mean eigenvalue is added to all) and
scaled so that a row's norm is sqrt(64) on average. Test patches come from the right fifth of each
photograph, training patches from the rest.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SIDE = 8


class Patches(NamedTuple):
    """Rows to train on and rows held out, shapes (n, 64) and (m, 64)."""

    train: Tensor
    test: Tensor


@cache
def patches(*, train: int, test: int, standardise: bool = False) -> Patches:
    """Cut patches at random places, the same for all seeds.

    Parameters
    ----------
    train, test : int
        Numbers of patches.
    standardise : bool
        Also give every row mean 0 and variance 1.
    """
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    # ITU-R BT.601 weights of red, green and blue.
    grey = [image @ np.array([0.299, 0.587, 0.114]) / 255 for image in load_sample_images().images]
    border = [int(0.8 * image.shape[1]) for image in grey]
    training = [image[:, :b] for image, b in zip(grey, border, strict=True)]
    held_out = [image[:, b:] for image, b in zip(grey, border, strict=True)]
    rows, others = _cut(training, train, rng), _cut(held_out, test, rng)
    both = whitened(torch.from_numpy(rows), torch.from_numpy(others))
    if standardise:
        both = (_standardised(both[0]), _standardised(both[1]))
    return Patches(*both)


def whitened(rows: Tensor, others: Tensor, *, floor: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Whiten both by the covariance of the first, whose rows then have norm sqrt(d) on average.

    The floor, a share of the mean eigenvalue, is added to all of them.
    """
    mean = rows.mean(0)
    variances, axes = torch.linalg.eigh((rows - mean).T.cov())
    whiten = (axes / (variances.clamp(min=0) + floor * variances.mean()).sqrt()) @ axes.T
    rows, others = (rows - mean) @ whiten, (others - mean) @ whiten
    scale = rows.shape[1] ** 0.5 / float(rows.norm(dim=1).mean())
    return (scale * rows).float(), (scale * others).float()


def _cut(images: list[np.ndarray], count: int, rng: np.random.Generator) -> np.ndarray:
    parts = []
    for i, image in enumerate(images):
        windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
        n = count // len(images) + (i < count % len(images))
        down = rng.integers(windows.shape[0], size=n)
        across = rng.integers(windows.shape[1], size=n)
        parts.append(windows[down, across].reshape(n, -1))
    rows = np.concatenate(parts)
    return rows - rows.mean(1, keepdims=True)


def _standardised(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-5)
