"""Edit activations through a dictionary's features: change few of them, and say how much that was.

    D_j = (beta_j - alpha_j) d_j        what feature j would change from source to target
    repeat k times: take the j whose D_j brings a_s + (edits so far) nearest to a_t

:func:`greedy_edit` is agnostic to what features mean; :func:`guided_edit` takes those that a human
would, by their F1 score for the value to remove and the value to add.

Source: "Towards Principled Evaluations of Sparse Autoencoders" (2405.08366), sections 4 and 5, and
its released code. Departures: none; the distance of every feature comes from one product, as
``|r - D_j|^2 = |r|^2 - 2 c_j d_j.r + c_j^2 |d_j|^2`` with c = beta - alpha and r what is left.

Axis letters: n prompts, m features, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Edit(NamedTuple):
    """Edited activations (n, d), and which features (n, m) were changed."""

    activations: Tensor
    changed: Tensor


def greedy_edit(
    source: Tensor,
    target: Tensor,
    source_codes: Tensor,
    target_codes: Tensor,
    decoder: Tensor,
    *,
    k: int,
) -> Edit:
    """Change the k features that bring the source nearest to the target, one after the other.

    Parameters
    ----------
    source, target : Tensor, shape (n, d)
        Activations; the edit starts from the source itself, not from its reconstruction.
    source_codes, target_codes : Tensor, shape (n, m)
        Their codes. Changing a feature gives it the target's value.
    decoder : Tensor, shape (m, d)
    k : int
        Features to change; fewer are where no other differs between the two.

    Returns
    -------
    Edit

    Raises
    ------
    ValueError
        If shapes do not fit, or ``k`` is not from 1 to m.

    Examples
    --------
    >>> source, target = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    >>> greedy_edit(source, target, source, target, torch.eye(2), k=1)
    Edit(activations=tensor([[1., 3.]]), changed=tensor([[False,  True]]))
    """
    _check(source, source_codes, decoder)
    _check(target, target_codes, decoder)
    if not 1 <= k <= len(decoder):
        raise ValueError(f"k is {k}, expected from 1 to the {len(decoder)} features")
    change = target_codes - source_codes
    cost = change.square() * decoder.square().sum(1)
    left, differed = target - source, change != 0
    for _ in range(k):
        best = torch.addcmul(cost, change, left @ decoder.T, value=-2).argmin(1, keepdim=True)
        left = left - change.gather(1, best) * decoder[best[:, 0]]
        # A feature changes once: what does not differ any more costs, and gains, nothing.
        change = change.scatter(1, best, 0)
        cost.scatter_(1, best, 0)
    return Edit(target - left, differed & (change == 0))


def guided_edit(
    source: Tensor,
    source_codes: Tensor,
    target_codes: Tensor,
    decoder: Tensor,
    *,
    remove: Tensor,
    add: Tensor,
    k: int,
) -> Tensor:
    """Take out the k active features that speak of the old value, put in those of the new one.

    Parameters
    ----------
    source : Tensor, shape (n, d)
    source_codes, target_codes : Tensor, shape (n, m)
    decoder : Tensor, shape (m, d)
    remove, add : Tensor, shape (n, m)
        How well each feature speaks of the old value and of the new one, such as F1 scores. The k
        best are taken among those that are active in the source, and in the target.
    k : int

    Returns
    -------
    Tensor, shape (n, d)

    Raises
    ------
    ValueError
        As :func:`greedy_edit`.
    """
    _check(source, source_codes, decoder)
    _check(source, target_codes, decoder)
    if not 1 <= k <= len(decoder):
        raise ValueError(f"k is {k}, expected from 1 to the {len(decoder)} features")
    out = _best(source_codes, remove, k)
    into = _best(target_codes, add, k)
    return source + (into - out) @ decoder


def subtract_features(activations: Tensor, codes: Tensor, decoder: Tensor, which: Tensor) -> Tensor:
    """Take the contributions of some features out of activations.

    Parameters
    ----------
    activations : Tensor, shape (n, d)
    codes : Tensor, shape (n, m)
    decoder : Tensor, shape (m, d)
    which : Tensor of bool, shape (m,)

    Returns
    -------
    Tensor, shape (n, d)
    """
    _check(activations, codes, decoder)
    return activations - (codes * which) @ decoder


def feature_weights(codes: Tensor, decoder: Tensor) -> Tensor:
    """How much of a reconstruction each feature is: ``f_j d_j.(a^ - b) / |a^ - b|^2``.

    Parameters
    ----------
    codes : Tensor, shape (n, m)
    decoder : Tensor, shape (m, d)

    Returns
    -------
    Tensor, shape (n, m)
        A prompt's weights sum to 1 (some may be negative), or are 0 where nothing is active.
    """
    reconstruction = codes @ decoder
    size = reconstruction.square().sum(1, keepdim=True)
    weights = codes * (reconstruction @ decoder.T)
    return torch.where(size > 0, weights / size.clamp_min(torch.finfo(size.dtype).tiny), 0.0)


def _best(codes: Tensor, scores: Tensor, k: int) -> Tensor:
    """Codes of the k active features of highest score, zeros elsewhere."""
    best = scores.masked_fill(codes == 0, -torch.inf).topk(k, dim=1).indices
    return torch.zeros_like(codes).scatter(1, best, codes.gather(1, best))


def _check(activations: Tensor, codes: Tensor, decoder: Tensor) -> None:
    wanted = (len(activations), len(decoder))
    if activations.ndim != 2 or activations.shape[1] != decoder.shape[1] or codes.shape != wanted:
        raise ValueError(
            f"activations {tuple(activations.shape)}, codes {tuple(codes.shape)} and decoder "
            f"{tuple(decoder.shape)} do not fit: (n, d), (n, m) and (m, d) are wanted"
        )
