"""Beyond accuracy, for paper 24: the library's measurements at this recipe's settings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rarefy.data.images import Images
from rarefy.weights import evaluate_suite

_EPSILON = 0.3  # in units of the pixels' standard deviation
_METRICS = ("ece", "nll", "brier", "fgsm", "ood_auc")


def beyond_accuracy(
    network: nn.Module, images: Images, *, generator: torch.Generator, device: str
) -> dict[str, float]:
    """Measure ``ece``, ``nll``, ``brier``, ``fgsm`` and ``ood_auc`` on the test images.

    Parameters
    ----------
    network : nn.Module
        Trained; left as it is.
    images : Images
        Standardised.
    generator : torch.Generator
        Shuffles the pixels of the strange pictures.
    device : str
    """
    strange = shuffled_pixels(images.test_x, generator).to(device)
    found = evaluate_suite(
        network,
        images.test_x.to(device),
        images.test_y.to(device),
        strange=strange,
        epsilon=_EPSILON,
        generator=generator,
    )
    return {name: found[name] for name in _METRICS}


def shuffled_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the pixels of every image, each in its own way, channels together."""
    n, c, h, w = x.shape
    order = torch.rand(n, 1, h * w, generator=generator).argsort(2).expand(n, c, h * w)
    return x.flatten(2).gather(2, order).view(n, c, h, w)
