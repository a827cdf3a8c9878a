"""Small images with labels: scikit-learn's digits, and a user's ``.npz`` file.

Axis letters: n images, c channels, h height, w width.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_HELD_OUT = 500


class Images(NamedTuple):
    """Training and test images (n, c, h, w) in [0, 1] with their labels (n,)."""

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return int(self.y.max()) + 1


def digits(generator: torch.Generator) -> Images:
    """Split scikit-learn's 8 x 8 digits at random: 1,297 to train on, 500 to test on."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = torch.randperm(len(data.images), generator=generator)
    x = torch.tensor(data.images, dtype=torch.float32)[order, None] / 16
    y = torch.tensor(data.target)[order]
    return Images(x[_HELD_OUT:], y[_HELD_OUT:], x[:_HELD_OUT], y[:_HELD_OUT])


def read_images(path: Path) -> Images:
    """Read ``x``, ``y``, ``test_x`` and ``test_y`` from an ``.npz`` file.

    Raises
    ------
    ValueError
        If one of them is missing, or the images are not (n, channels, height, width).
    """
    import numpy as np

    with np.load(path) as file:
        if missing := [name for name in Images._fields if name not in file]:
            raise ValueError(f"{path} lacks the arrays {', '.join(missing)}")
        arrays = {name: file[name] for name in Images._fields}
    for name in ("x", "test_x"):
        if arrays[name].ndim != 4:
            raise ValueError(
                f"{name} of {path} must have axes (n, channels, height, width), got shape "
                f"{arrays[name].shape}"
            )
        scale = 255.0 if arrays[name].dtype == np.uint8 else 1.0
        arrays[name] = arrays[name].astype(np.float32) / scale
    return Images(
        torch.from_numpy(arrays["x"]),
        torch.from_numpy(arrays["y"]).long(),
        torch.from_numpy(arrays["test_x"]),
        torch.from_numpy(arrays["test_y"]).long(),
    )
