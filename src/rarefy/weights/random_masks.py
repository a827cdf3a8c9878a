"""Random masks: a budget says how many weights each tensor keeps, chance says which.

    |M_l| = k_l exactly,   positions uniform without replacement
    or, with ``exact=False``, each entry on its own with probability k_l / N_l

Source: Liu et al. 2022, "The unreasonable effectiveness of random pruning", and RigL's sampler.
Departures: counts are exact by default, where the public code draws Bernoulli variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from rarefy.budget import ErdosRenyiKernel
from rarefy.weights.from_scores import check_density
from rarefy.weights.masks import Masks
from rarefy.weights.select import select


def random_mask(
    shape: tuple[int, ...], k: int, *, generator: torch.Generator, avoid_dead: bool = False
) -> Tensor:
    """Draw a mask with exactly ``k`` entries kept.

    Parameters
    ----------
    shape : tuple of int
    k : int
    generator : torch.Generator
        Of the CPU, so that a seed gives the same mask whatever the model runs on.
    avoid_dead : bool, default False
        Let every output unit and every input keep at least one weight, where ``k`` is enough
        for that. The draw is then uniform only apart from these.

    Returns
    -------
    bool Tensor of shape ``shape``

    Raises
    ------
    ValueError
        If ``k`` is negative or more than there are entries.

    Examples
    --------
    >>> random_mask((2, 3), 4, generator=torch.Generator().manual_seed(0)).sum()
    tensor(4)
    """
    numel = math.prod(shape)
    if not 0 <= k <= numel:
        raise ValueError(f"k must lie between 0 and the {numel} entries of {shape}, got {k}")
    order = torch.randperm(numel, generator=generator)
    if avoid_dead and len(shape) >= 2 and k >= max(shape[0], shape[1]):
        order = _living_first(order, shape, generator)
    mask = torch.zeros(numel, dtype=torch.bool)
    mask[order[:k]] = True
    return mask.view(shape)


def random_masks(
    weights: nn.Module | Mapping[str, Tensor],
    *,
    density: float | None = None,
    sparsity: float | None = None,
    rule: Callable[..., dict[str, int]] = ErdosRenyiKernel(),  # noqa: B008 - a frozen constant
    generator: torch.Generator,
    avoid_dead: bool = False,
    exact: bool = True,
) -> Masks:
    """Draw random masks for a whole model.

    Parameters
    ----------
    weights : nn.Module or mapping of str to Tensor
    density, sparsity : float
        Exactly one of the two, over all tensors together.
    rule : allocation rule, default ``ErdosRenyiKernel()``
        From :mod:`rarefy.budget`: how the budget is spread over the tensors.
    generator : torch.Generator
    avoid_dead : bool, default False
        As for :func:`random_mask`.
    exact : bool, default True
        ``False`` keeps each weight on its own with the probability that its tensor's count makes,
        as the paper's code does: the counts are then right in expectation only, and a small layer
        can come out empty.

    Returns
    -------
    Masks
        With exactly ``round(density * numel)`` weights, if exact.

    Raises
    ------
    ValueError
        If the density is out of range, or ``avoid_dead`` is asked for without ``exact``.
    """
    if avoid_dead and not exact:
        raise ValueError("avoid_dead wants counts that hold: it goes with exact=True only")
    density = check_density(density=density, sparsity=sparsity)
    tensors = select(weights) if isinstance(weights, nn.Module) else weights
    counts = rule({name: tuple(t.shape) for name, t in tensors.items()}, density=density)
    masks = {}
    for name, tensor in tensors.items():
        shape, k = tuple(tensor.shape), counts[name]
        if exact:
            mask = random_mask(shape, k, generator=generator, avoid_dead=avoid_dead)
        else:
            mask = torch.rand(shape, generator=generator) < k / max(tensor.numel(), 1)
        masks[name] = mask.to(tensor.device)
    return Masks(masks)


def _living_first(order: Tensor, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Put max(out, in) entries that touch every output and every input at the head of ``order``."""
    outputs, inputs = shape[0], shape[1]
    longer = max(outputs, inputs)
    kernel = math.prod(shape[2:])
    row = torch.randperm(outputs, generator=generator).repeat(-(-longer // outputs))[:longer]
    column = torch.randperm(inputs, generator=generator).repeat(-(-longer // inputs))[:longer]
    tap = torch.randint(kernel, (longer,), generator=generator)
    head = (row * inputs + column) * kernel + tap
    rest = order[~torch.isin(order, head)]
    return torch.cat([head, rest])
