"""Masks of whole blocks: neighbouring output (or input) channels kept or pruned together.

    score of a block = mean of its entries' scores,    keep the best blocks, round(density * number)

A block of B output channels shares one input channel, so that the sparse product loads each
activation once for B outputs.

Source: Elsen et al. 2020, "Fast Sparse ConvNets", sections 3 and 4.3. Departures: none.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rarefy.weights.from_scores import Scope, mask_from_scores
from rarefy.weights.masks import Masks


def block_mask(
    scores: Mapping[str, Tensor],
    *,
    block: int | Mapping[str, int],
    axis: int = 0,
    density: float | None = None,
    sparsity: float | None = None,
    scope: Scope = "layer",
) -> Masks:
    """Keep the blocks with the largest mean score.

    Parameters
    ----------
    scores : mapping of str to Tensor
        Such as :func:`rarefy.weights.magnitude`'s.
    block : int, or mapping of str to int
        Channels in a block; by tensor, 1 where it is not named.
    axis : int, default 0
        Along which a block lies: 0 for output channels, 1 for input channels.
    density, sparsity : float in [0, 1]
        Exactly one of the two.
    scope : {"layer", "global", "row"}, default "layer"
        What competes, as for :func:`rarefy.weights.mask_from_scores`.

    Returns
    -------
    Masks

    Raises
    ------
    TypeError
        If not exactly one of ``density`` and ``sparsity`` is given.
    ValueError
        If a block does not divide a tensor's channels, blocks of several sizes compete, or a
        number is out of range.

    Examples
    --------
    >>> import torch
    >>> block_mask({"w": torch.tensor([[3.0, 1.0], [0.0, 1.0]])}, block=2, density=0.5)["w"]
    tensor([[ True, False],
            [ True, False]])
    """
    sizes = {name: block if isinstance(block, int) else block.get(name, 1) for name in scores}
    if scope == "global" and len(set(sizes.values())) > 1:
        raise ValueError(
            f"blocks of {sorted(set(sizes.values()))} channels cannot compete with each other: "
            'use scope="layer"'
        )
    pooled = {name: _pooled(name, score, sizes[name], axis) for name, score in scores.items()}
    masks = mask_from_scores(pooled, density=density, sparsity=sparsity, scope=scope)
    return Masks(
        {name: mask.repeat_interleave(sizes[name], dim=axis) for name, mask in masks.items()}
    )


def _pooled(name: str, score: Tensor, size: int, axis: int) -> Tensor:
    if size < 1:
        raise ValueError(f"block must be at least 1, got {size}")
    channels = score.shape[axis]
    if channels % size:
        raise ValueError(f"blocks of {size} do not divide the {channels} channels of {name}")
    if size == 1:
        return score
    return score.unflatten(axis, (channels // size, size)).mean(axis + 1)
