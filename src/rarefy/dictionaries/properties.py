"""What features speak of: F1 scores of "feature j is active" as a test for "the prompt has p".

    F1 = 2 |active and p| / (|active| + |p|)

Source: "Towards Principled Evaluations of Sparse Autoencoders" (2405.08366), section 5. Departures:
a dead feature has F1 = 0. All counts of a family of properties come from one matrix product.

Axis letters: n prompts, m features, v properties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class F1(NamedTuple):
    """Scores of features for properties, each of shape (m, v), or (m,) for a union's."""

    f1: Tensor
    precision: Tensor
    recall: Tensor


class Interpretation(NamedTuple):
    """The best description of each feature.

    Parameters
    ----------
    scores : F1
        Of shape (m,).
    family : list of str
        Which family of properties describes a feature best.
    values : Tensor of bool, shape (m, v)
        Which of the family's values; v is that of the largest family.
    """

    scores: F1
    family: list[str]
    values: Tensor


def feature_f1(active: Tensor, labels: Tensor) -> F1:
    """Score every feature for every property of a family.

    Parameters
    ----------
    active : Tensor of bool, shape (n, m)
        ``codes != 0``.
    labels : Tensor, shape (n,) of int64 or (n, v) of bool
        One value for each prompt, or which properties it has.

    Returns
    -------
    F1
        Each of shape (m, v).

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> active = torch.tensor([[1, 0], [1, 1], [0, 1]]).bool()
    >>> feature_f1(active, torch.tensor([0, 0, 1])).f1
    tensor([[1.0000, 0.0000],
            [0.5000, 0.6667]])
    """
    both, fired, having = _counts(active, labels)
    return _scores(both, fired[:, None], having[None])


def union_f1(active: Tensor, labels: Tensor, *, unions: int = 10) -> tuple[F1, Tensor]:
    """Score every feature for the best union of a family's values.

    The values are sorted by F1, for each feature by itself, and the first 1, 2, ... are joined.

    Parameters
    ----------
    active : Tensor of bool, shape (n, m)
    labels : Tensor of int64, shape (n,)
    unions : int, default 10
        Most values to join.

    Returns
    -------
    scores : F1
        Each of shape (m,).
    values : Tensor of bool, shape (m, v)
        The values of the best union.

    Raises
    ------
    ValueError
        If the shapes do not fit, labels are not one value for each prompt, or unions is below 1.
    """
    if unions < 1:
        raise ValueError(f"unions is {unions}, expected at least 1")
    if labels.ndim != 1:
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}, expected one value for each prompt: "
            "properties that overlap have no unions by sums"
        )
    both, fired, having = _counts(active, labels)
    order = _scores(both, fired[:, None], having[None]).f1.argsort(1, descending=True)
    order = order[:, :unions]
    # Values of a family exclude each other, so the counts of a union are sums.
    joined = _scores(both.gather(1, order).cumsum(1), fired[:, None], having[order].cumsum(1))
    size = joined.f1.argmax(1, keepdim=True)
    values = torch.zeros(both.shape, dtype=torch.bool)
    values.scatter_(1, order, torch.arange(order.shape[1]) <= size)
    return F1(*(each.gather(1, size)[:, 0] for each in joined)), values


def interpret_features(
    active: Tensor, properties: Mapping[str, Tensor], *, unions: int = 10
) -> Interpretation:
    """Describe each feature by the property, or union of values of one family, of highest F1.

    Parameters
    ----------
    active : Tensor of bool, shape (n, m)
    properties : mapping of str to Tensor
        Families: (n,) of int64, whose values may be joined, or (n, v) of bool.
    unions : int, default 10

    Returns
    -------
    Interpretation

    Raises
    ------
    ValueError
        If there is no family, or as :func:`union_f1`.
    """
    if not properties:
        raise ValueError("properties is empty, expected at least one family")
    scores, values = [], []
    for labels in properties.values():
        if labels.ndim == 1:
            found, chosen = union_f1(active, labels, unions=unions)
        else:
            table = feature_f1(active, labels)
            best = table.f1.argmax(1, keepdim=True)
            found = F1(*(each.gather(1, best)[:, 0] for each in table))
            chosen = torch.zeros_like(table.f1, dtype=torch.bool).scatter_(1, best, True)
        scores.append(found)
        values.append(chosen)
    which = torch.stack([found.f1 for found in scores]).argmax(0, keepdim=True)
    widest = max(chosen.shape[1] for chosen in values)
    padded = torch.stack(
        [torch.nn.functional.pad(chosen, (0, widest - chosen.shape[1])) for chosen in values]
    )
    names = list(properties)
    return Interpretation(
        F1(*(torch.stack(each).gather(0, which)[0] for each in zip(*scores, strict=True))),
        [names[i] for i in which[0].tolist()],
        padded[which[0], torch.arange(active.shape[1])],
    )


def coverage(active: Tensor, labels: Tensor, *, threshold: float) -> float:
    """Share of a family's values for which some feature's F1 reaches the threshold.

    Parameters
    ----------
    active : Tensor of bool, shape (n, m)
    labels : Tensor, shape (n,) or (n, v)
    threshold : float

    Returns
    -------
    float
    """
    return float((feature_f1(active, labels).f1.amax(0) >= threshold).float().mean())


def _counts(active: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts that both fire and have (m, v), that fire (m,), that have (v,)."""
    if active.ndim != 2 or labels.ndim not in (1, 2) or len(labels) != len(active):
        raise ValueError(
            f"active has shape {tuple(active.shape)} and labels {tuple(labels.shape)}: (n, m), "
            "and (n,) or (n, v), are wanted"
        )
    has = torch.nn.functional.one_hot(labels) if labels.ndim == 1 else labels
    # Exact in float32 up to 2^24 prompts.
    fires, has = active.float(), has.float()
    return fires.T @ has, fires.sum(0), has.sum(0)


def _scores(both: Tensor, fired: Tensor, having: Tensor) -> F1:
    """F1, precision and recall from counts; 0 where there is nothing to count."""
    return F1(
        2 * both / (fired + having).clamp_min(1),
        both / fired.clamp_min(1),
        both / having.clamp_min(1),
    )
