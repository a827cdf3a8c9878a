"""Beyond accuracy: calibration, doubt about strange pictures, and robustness, of a classifier.

ECE    sum_b n_b / n |accuracy_b - confidence_b| over 15 bins of equal width
Brier  mean ||p - onehot(y)||^2
AUC    of the largest probability, telling test pictures from the same with shuffled pixels
FGSM   accuracy at x + eps sign(dL/dx)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from rarefy.data.images import Images

_BINS = 15
_EPSILON = 0.3  # in units of the pixels' standard deviation


def beyond_accuracy(
    network: nn.Module, images: Images, *, generator: torch.Generator, device: str
) -> dict[str, float]:
    """Measure ``ece``, ``nll``, ``brier``, ``fgsm`` and ``ood_auc`` on the test images.

    Parameters
    ----------
    network : nn.Module
        Trained, in evaluation mode; left as it is.
    images : Images
        Standardised.
    generator : torch.Generator
        Shuffles the pixels.
    device : str
    """
    from sklearn.metrics import roc_auc_score

    x, y = images.test_x.to(device), images.test_y.to(device)
    with torch.no_grad():
        logits = network(x)
        strange = network(shuffled_pixels(images.test_x, generator).to(device))
    probabilities = logits.softmax(1)
    confidence = probabilities.max(1).values
    known = torch.cat([torch.ones(len(x)), torch.zeros(len(x))])
    scores = torch.cat([confidence, strange.softmax(1).max(1).values]).cpu()
    attacked = fast_gradient_sign(network, x, y, _EPSILON)
    with torch.no_grad():
        survived = network(attacked).argmax(1) == y
    return {
        "ece": calibration_error(confidence, probabilities.argmax(1) == y),
        "nll": float(cross_entropy(logits, y)),
        "brier": float((probabilities - one_hot(y, logits.shape[1])).square().sum(1).mean()),
        "fgsm": float(survived.float().mean()),
        "ood_auc": float(roc_auc_score(known.numpy(), scores.numpy())),
    }


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Compute the expected calibration error.

    Parameters
    ----------
    confidence : Tensor, shape (n,)
        In [0, 1].
    right : bool Tensor, shape (n,)
    """
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    surplus = right.to(confidence.dtype) - confidence
    total = torch.zeros(_BINS, dtype=confidence.dtype, device=confidence.device)
    return float(total.index_add(0, bins, surplus).abs().sum() / len(confidence))


def fast_gradient_sign(network: nn.Module, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """Move each image by ``epsilon`` in every pixel, the way its loss grows."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(cross_entropy(network(x), y), x)
    return (x + epsilon * gradient.sign()).detach()


def shuffled_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Permute the pixels of every image, each in its own way, channels together."""
    n, c, h, w = x.shape
    order = torch.rand(n, 1, h * w, generator=generator).argsort(2).expand(n, c, h * w)
    return x.flatten(2).gather(2, order).view(n, c, h, w)
