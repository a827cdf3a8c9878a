"""Beyond accuracy: what else of a classifier pruning may have changed.

    NLL    - mean log p_y                     Brier  mean ||p - onehot(y)||^2
    ECE    sum_b n_b / n |accuracy_b - confidence_b| over 15 bins of equal width
    worst  smallest recall of a class         churn  share of answers unlike the dense net's
    FGSM   accuracy at x + eps sign(dL/dx)    AUC    of the largest p, telling x from strange inputs
    noise, blur, contrast   accuracy on corrupted images, mean over severities 1 to 5

Source: the measurements of Liu et al. 2022 (arXiv 2202.02643), section 5, and Liu and Wang 2023,
lesson 10; corruptions after Hendrycks and Dietterich 2019. Departures: three corruptions, whose
strengths are ours, in units of the images' own standard deviation.

Axis letters: n examples, c channels, h height, w width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

_BINS = 15
_NOISE = (0.2, 0.4, 0.6, 0.8, 1.0)
_BLUR = (0.4, 0.6, 0.8, 1.0, 1.2)
_CONTRAST = (0.8, 0.6, 0.45, 0.3, 0.2)


def evaluate_suite(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    dense: nn.Module | None = None,
    strange: Tensor | None = None,
    epsilon: float = 0.1,
    generator: torch.Generator,
) -> dict[str, float]:
    """Measure a classifier from many sides, all on held-out data.

    Parameters
    ----------
    model : nn.Module
        Inputs to logits; run in evaluation mode and left as it is.
    x : Tensor, shape (n, ...)
        On the model's device.
    y : integer Tensor, shape (n,)
    dense : nn.Module, optional
        The network it was pruned from, or is compared with.
    strange : Tensor, shape (m, ...), optional
        Inputs of another kind, which the model should be unsure about.
    epsilon : float, default 0.1
        Of the attack, in units of ``x``.
    generator : torch.Generator
        Of the noise.

    Returns
    -------
    dict of str to float
        ``accuracy``, ``nll``, ``ece``, ``brier``, ``worst_recall`` and ``fgsm``; for images
        ``noise``, ``blur`` and ``contrast``; with ``strange`` ``ood_auc``; with ``dense`` ``churn``
        and ``recall_drop``, the largest of a class.

    Raises
    ------
    ValueError
        If there are no examples, not as many labels, a label the model has no logit for, or the
        model gives NaN.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> x, y = torch.randn(6, 4, generator=g), torch.arange(6) % 2
    >>> sorted(evaluate_suite(nn.Linear(4, 2), x, y, generator=g))
    ['accuracy', 'brier', 'ece', 'fgsm', 'nll', 'worst_recall']
    """
    if not len(x) or y.shape != (len(x),):
        raise ValueError(
            f"x and y must hold as many examples, one or more, got {len(x)} and {tuple(y.shape)}"
        )
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return _measured(model, x, y, dense, strange, epsilon, generator)
    finally:
        for module in training:
            module.training = True


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """Compute the expected calibration error over 15 bins of equal width.

    Parameters
    ----------
    confidence : Tensor, shape (n,)
        In [0, 1].
    right : bool Tensor, shape (n,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no example, or a confidence is no probability.
    """
    # Also where one is NaN.
    if not len(confidence) or not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError(
            "confidence must hold probabilities, one or more, got "
            + (
                f"{float(confidence.min())} to {float(confidence.max())}"
                if len(confidence)
                else "none"
            )
        )
    bins = (confidence * _BINS).long().clamp(max=_BINS - 1)
    surplus = right.to(confidence.dtype) - confidence
    total = torch.zeros(_BINS, dtype=confidence.dtype, device=confidence.device)
    return float(total.index_add(0, bins, surplus).abs().sum() / len(confidence))


def fast_gradient_sign(model: nn.Module, x: Tensor, y: Tensor, *, epsilon: float) -> Tensor:
    """Move each input by ``epsilon`` in every entry, the way its loss grows.

    Parameters
    ----------
    model : nn.Module
    x : Tensor, shape (n, ...)
    y : integer Tensor, shape (n,)
    epsilon : float

    Returns
    -------
    Tensor like ``x``

    Raises
    ------
    ValueError
        If ``epsilon`` is negative or not finite.
    """
    if not 0 <= epsilon < float("inf"):  # also true for NaN
        raise ValueError(f"epsilon must be finite and not negative, got {epsilon}")
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
    return (x + epsilon * gradient.sign()).detach()


def _measured(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    dense: nn.Module | None,
    strange: Tensor | None,
    epsilon: float,
    generator: torch.Generator,
) -> dict[str, float]:
    logits = _logits(model, x)
    if not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
        raise ValueError(
            f"labels must be from 0 to {logits.shape[1] - 1}, as the model has {logits.shape[1]} "
            f"logits, got {int(y.min())} to {int(y.max())}"
        )
    if bool(logits.isnan().any()):
        raise ValueError("the model gives NaN on x: its weights or x hold NaN, or are too large")
    probabilities = logits.softmax(1)
    confidence, answers = probabilities.max(1)
    recalls = _recalls(answers, y)

    def accuracy(inputs: Tensor) -> float:
        return float((_logits(model, inputs).argmax(1) == y).float().mean())

    found = {
        "accuracy": float((answers == y).float().mean()),
        "nll": float(F.cross_entropy(logits, y)),
        "ece": calibration_error(confidence, answers == y),
        "brier": float((probabilities - F.one_hot(y, logits.shape[1])).square().sum(1).mean()),
        "worst_recall": float(recalls.min()),
        "fgsm": accuracy(fast_gradient_sign(model, x, y, epsilon=epsilon)),
    }
    if x.ndim == 4:
        drawn = torch.randn(x.shape, generator=generator).to(x.device, x.dtype)
        spread, mean = x.std(), x.mean((1, 2, 3), keepdim=True)
        corruptions: dict[str, tuple[tuple[float, ...], Callable[[float], Tensor]]] = {
            "noise": (_NOISE, lambda s: x + s * spread * drawn),
            "blur": (_BLUR, lambda s: blurred(x, s)),
            "contrast": (_CONTRAST, lambda s: mean + s * (x - mean)),
        }
        for name, (strengths, corrupt) in corruptions.items():
            found[name] = sum(accuracy(corrupt(s)) for s in strengths) / len(strengths)
    if strange is not None:
        found["ood_auc"] = _auc(confidence, _logits(model, strange).softmax(1).max(1).values)
    if dense is not None:
        before = _logits(dense, x).argmax(1)
        found["churn"] = float((before != answers).float().mean())
        found["recall_drop"] = float((_recalls(before, y) - recalls).max())
    return found


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Convolve images (n, c, h, w) with a Gaussian of ``sigma`` pixels, edges repeated."""
    reach = max(1, round(4 * sigma))
    places = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    weights = (-0.5 * (places / sigma) ** 2).softmax(0)
    padded = F.pad(x, (reach,) * 4, mode="replicate").flatten(0, 1)[:, None]
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1)).view(x.shape)


@torch.no_grad()
def _logits(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)


def _recalls(answers: Tensor, y: Tensor) -> Tensor:
    """Recall of each class that there is."""
    return torch.stack([(answers[y == c] == c).float().mean() for c in y.unique()])


def _auc(known: Tensor, strange: Tensor) -> float:
    """Chance that a known input has more confidence than a strange one, ties half."""
    from sklearn.metrics import roc_auc_score

    truth = torch.cat([torch.ones(len(known)), torch.zeros(len(strange))])
    return float(roc_auc_score(truth.numpy(), torch.cat([known, strange]).cpu().numpy()))
