"""N:M patterns, at most n non-zeros in every m consecutive inputs: checks and compact storage.

    w[..., m i + places[..., n i + k]] = values[..., n i + k],    values, places of shape (..., g n)

for i of the g groups of m along the input axis and k < n. The
projection itself is :class:`rarefy.operators.NM`.

Source: the layout of Mishra et al. 2021, "Accelerating sparse deep neural networks", without its
hardware order. Departures: none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.operators import NM
from rarefy.weights.from_scores import check_pattern


class Compressed(NamedTuple):
    """A tensor that obeys an N:M pattern, without its zeros.

    Attributes
    ----------
    values : Tensor, shape (..., g n)
        With the input axis last.
    places : uint8 Tensor, shape (..., g n)
        Place of each value in its group of m, rising within a group.
    pattern : NM
        Its ``axis`` is where the inputs belong.
    """

    values: Tensor
    places: Tensor
    pattern: NM


def nm_violation(weight: Tensor, pattern: NM) -> float:
    """Compute the fraction of groups with more than ``n`` non-zeros.

    Parameters
    ----------
    weight : Tensor
        Weights, or a boolean mask.
    pattern : NM
        Its ``axis`` runs over the inputs.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If ``m`` does not divide the inputs.

    Examples
    --------
    >>> nm_violation(torch.tensor([[1.0, 1, 0, 0, 1, 1, 1, 0]]), NM(2, 4))
    0.5
    """
    groups = _groups(weight, pattern)
    over = (groups != 0).sum(-1) > pattern.n
    return float(over.float().mean()) if over.numel() else 0.0


def is_nm(weight: Tensor, pattern: NM) -> bool:
    """Tell whether no group of ``m`` has more than ``n`` non-zeros; arguments as above."""
    return nm_violation(weight, pattern) == 0


def nm_compress(weight: Tensor, pattern: NM, *, mask: Tensor | None = None) -> Compressed:
    """Store a tensor that obeys an N:M pattern as its values and their places.

    Parameters
    ----------
    weight : Tensor
    pattern : NM
    mask : bool Tensor, optional
        Which entries count as kept, exactly ``n`` a group; by default the ``n`` largest, which
        are all non-zeros there are.

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError
        If the weight breaks the pattern, or the mask does not keep exactly ``n`` of each group.
    """
    if broken := nm_violation(weight, pattern):
        raise ValueError(
            f"{broken:.1%} of the groups break {pattern.n}:{pattern.m}: project the weight first"
        )
    groups = _groups(weight.detach(), pattern)
    if mask is None:
        keep = NM(pattern.n, pattern.m).mask(groups)
    else:
        keep = _groups(mask, pattern)
        if not bool((keep.sum(-1) == pattern.n).all()):
            raise ValueError(f"the mask does not keep exactly {pattern.n} of every {pattern.m}")
    lead = groups.shape[:-2]
    places = torch.arange(pattern.m, dtype=torch.uint8, device=weight.device).expand_as(groups)
    return Compressed(groups[keep].reshape(*lead, -1), places[keep].reshape(*lead, -1), pattern)


def nm_expand(compressed: Compressed) -> Tensor:
    """Undo :func:`nm_compress`, bit for bit.

    Parameters
    ----------
    compressed : Compressed

    Returns
    -------
    Tensor
        The dense tensor.
    """
    values, places, pattern = compressed
    groups = values.shape[-1] // pattern.n if pattern.n else 0
    lead = values.shape[:-1]
    dense = values.new_zeros(*lead, groups, pattern.m)
    dense.scatter_(
        -1,
        places.long().reshape(*lead, groups, pattern.n),
        values.reshape(*lead, groups, pattern.n),
    )
    return dense.reshape(*lead, -1).movedim(-1, pattern.axis).contiguous()


def _groups(weight: Tensor, pattern: NM) -> Tensor:
    last = weight.movedim(pattern.axis, -1)
    check_pattern(pattern, last.shape[-1], "the weight")
    return last.reshape(*last.shape[:-1], last.shape[-1] // pattern.m, pattern.m)
