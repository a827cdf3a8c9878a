"""From importance scores to masks with an exact number of kept weights.

    keep the k best, k = round(density * numel),

compared over all tensors together ("global"), within each tensor ("layer"), within each output
unit ("row"), or n of every m consecutive inputs (an N:M pattern). Ties go to the lowest index.

Source: the common convention; rows keep ``in - floor(in * sparsity)`` as Wanda's code does.
Departures: none.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from rarefy.budget import Uniform
from rarefy.operators import NM, TopK
from rarefy.weights.masks import Masks

Scope = Literal["global", "layer", "row"]


def mask_from_scores(
    scores: Mapping[str, Tensor],
    *,
    density: float | None = None,
    sparsity: float | None = None,
    scope: Scope = "global",
    pattern: NM | None = None,
    input_axes: Mapping[str, int] | None = None,
    min_density: float = 0.0,
) -> Masks:
    """Keep the weights with the largest scores.

    Parameters
    ----------
    scores : mapping of str to Tensor
        Larger is kept sooner; may be negative.
    density, sparsity : float in [0, 1]
        Exactly one of the two, unless a pattern says how many.
    scope : {"global", "layer", "row"}, default "global"
        What competes: all weights, one tensor's, or those of one output unit.
    pattern : NM, optional
        Keep ``n`` of every ``m`` consecutive inputs instead; its ``axis`` and ``by`` are set here.
    input_axes : mapping of str to int, optional
        Axis over the inputs where it is not 1 (:func:`rarefy.weights.input_axes`); matters to
        ``"row"`` and to patterns.
    min_density : float in [0, 1], default 0
        Least density of each tensor, where all compete (``"global"``): at high sparsity one
        threshold can empty a layer.

    Returns
    -------
    Masks

    Raises
    ------
    TypeError
        If not exactly one of ``density``, ``sparsity`` and ``pattern`` is given.
    ValueError
        If it lies outside [0, 1], a score is NaN, a pattern does not divide a layer's inputs, or
        the least densities need more than the density allows.

    Examples
    --------
    >>> mask_from_scores({"w": torch.tensor([[3.0, 1.0, 2.0, 0.0]])}, sparsity=0.5)["w"]
    tensor([[ True, False,  True, False]])
    """
    if pattern is not None and (density, sparsity) != (None, None):
        raise TypeError("give either pattern or one of density and sparsity: a pattern is both")
    if not scores:
        raise ValueError("scores is empty: at least one tensor of scores is wanted")
    _refuse_nan(scores)
    if min_density and (pattern is not None or scope != "global"):
        raise ValueError(
            f"min_density={min_density} is for scope 'global': any other, and a pattern, gives "
            "every tensor its share already"
        )
    axes = {name: (input_axes or {}).get(name, 1) for name in scores}
    if pattern is not None:
        return Masks({n: pattern_mask(s, pattern, axis=axes[n], name=n) for n, s in scores.items()})
    density = check_density(density=density, sparsity=sparsity)
    if scope == "row":
        return Masks({n: row_mask(s, density=density, axis=axes[n]) for n, s in scores.items()})
    if scope == "layer":
        kept = Uniform(min_per_group=0)(
            {name: tuple(score.shape) for name, score in scores.items()}, density=density
        )
        return Masks({n: TopK(kept[n], by="value", axis=None).mask(s) for n, s in scores.items()})
    if scope != "global":
        raise ValueError(f"scope must be 'global', 'layer' or 'row', got {scope!r}")
    k = round(density * sum(score.numel() for score in scores.values()))
    return largest(scores, k, min_density=min_density)


def global_magnitude_mask(
    weights: Mapping[str, Tensor],
    *,
    density: float | None = None,
    sparsity: float | None = None,
    min_density: float = 0.0,
) -> Masks:
    """Keep the weights largest in magnitude over all tensors together.

    What ``mask_from_scores(magnitude(weights), ...)`` gives, without a copy of the weights: beside
    the masks no memory of the model's size is taken, and nothing is sorted.

    Parameters
    ----------
    weights : mapping of str to Tensor
    density, sparsity : float in [0, 1]
        Exactly one of the two.
    min_density : float in [0, 1], default 0
        Least density of each tensor. Above 0, magnitudes are copied.

    Returns
    -------
    Masks
        With exactly ``round(density * numel)`` weights, ties to the first tensor and lowest index.

    Raises
    ------
    TypeError, ValueError
        As :func:`mask_from_scores`.
    """
    density = check_density(density=density, sparsity=sparsity)
    for name, weight in weights.items():
        if bool(weight.isnan().any()):
            raise ValueError(f"the weights of {name} hold NaN: no order, so no mask")
    k = round(density * sum(weight.numel() for weight in weights.values()))
    return largest(weights, k, magnitude=True, min_density=min_density)


def row_mask(score: Tensor, *, density: float, axis: int = 1) -> Tensor:
    """Keep the best of each output unit: ``in - floor(in * (1 - density))`` of its inputs."""
    inputs = score.shape[axis]
    # The guard keeps 10 * (1 - 0.7) from flooring to 2 because 0.3 is 0.30000000000000004 short.
    dropped = math.floor(inputs * (1 - density) + 1e-9)
    return TopK(inputs - dropped, by="value", axis=axis).mask(score)


def pattern_mask(score: Tensor, pattern: NM, *, axis: int = 1, name: str = "the layer") -> Tensor:
    """Keep the best ``n`` of every ``m`` consecutive inputs.

    Raises
    ------
    ValueError
        If ``m`` does not divide the number of inputs.
    """
    check_pattern(pattern, score.shape[axis], name)
    return NM(pattern.n, pattern.m, axis=axis, by="value").mask(score)


def check_pattern(pattern: NM, inputs: int, name: str) -> None:
    """Refuse a pattern that does not divide a layer's inputs, with the numbers."""
    if inputs % pattern.m:
        raise ValueError(
            f"pattern {pattern.n}:{pattern.m} does not fit {name}: "
            f"its {inputs} inputs are no multiple of {pattern.m}"
        )


def check_density(*, density: float | None = None, sparsity: float | None = None) -> float:
    """Read exactly one of the two and return the density.

    Raises
    ------
    TypeError
        If both or neither are given.
    ValueError
        If the value is NaN or outside [0, 1].
    """
    if density is not None and sparsity is None:
        name, value = "density", density
    elif sparsity is not None and density is None:
        name, value = "sparsity", sparsity
    else:
        raise TypeError("give exactly one of density and sparsity")
    if not 0 <= value <= 1:  # also false for NaN
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")
    return value if name == "density" else 1 - value


def largest(
    scores: Mapping[str, Tensor], k: int, *, magnitude: bool = False, min_density: float = 0.0
) -> Masks:
    """Keep the ``k`` largest of all tensors together, by value or by magnitude."""
    if min_density:
        scores = _with_floor(scores, k, magnitude=magnitude, min_density=min_density)
    # Numba takes a good part of a second to import, and only this scope needs it.
    from rarefy.kernels.cpu.select import kth_largest, mask_at_least

    arrays = [score.detach() for score in scores.values()]
    sizes = [array.numel() for array in arrays]
    # float64 scores (SynFlow) keep their order and their distinctness only as float64.
    if all(array.dtype != torch.float64 and array.device.type == "cpu" for array in arrays):
        kept = mask_at_least(arrays, kth_largest(arrays, k, magnitude=magnitude))
    else:
        by: Literal["magnitude", "value"] = "magnitude" if magnitude else "value"
        flat = TopK(k, by=by, axis=None).mask(torch.cat([array.flatten() for array in arrays]))
        kept = [part.view(a.shape) for part, a in zip(flat.split(sizes), arrays, strict=True)]
    return Masks(dict(zip(scores, kept, strict=True)))


def _with_floor(
    scores: Mapping[str, Tensor], k: int, *, magnitude: bool, min_density: float
) -> dict[str, Tensor]:
    """Raise the best of each tensor above all others, so that any choice of ``k`` keeps them.

    Of all sets with so many of each tensor, these and the best of the rest have the largest sum.
    """
    if not 0 <= min_density <= 1:  # also false for NaN
        raise ValueError(f"min_density must lie between 0 and 1, got {min_density}")
    # The guard keeps 30 * 0.1 from needing 4 because 0.1 is 0.1000000000000000056.
    floor = {name: math.ceil(min_density * s.numel() - 1e-9) for name, s in scores.items()}
    if sum(floor.values()) > k:
        raise ValueError(
            f"min_density {min_density} asks for {sum(floor.values())} weights in all, but the "
            f"density leaves {k}"
        )
    ranked = {name: s.detach().abs() if magnitude else s.detach() for name, s in scores.items()}
    return {
        name: s.masked_fill(TopK(floor[name], by="value", axis=None).mask(s), math.inf)
        for name, s in ranked.items()
    }


def _refuse_nan(scores: Mapping[str, Tensor]) -> None:
    same = True
    first = None
    for name, score in scores.items():
        if score.numel() == 0:
            continue
        low, high = score.aminmax()
        if torch.isnan(low):
            raise ValueError(f"the scores of {name} hold NaN: no order, so no mask")
        first = low if first is None else first
        same = same and bool(low == high) and bool(low == first)
    if same and first is not None and sum(s.numel() for s in scores.values()) > 1:
        warnings.warn("all scores are equal: the mask keeps the first indices", stacklevel=3)
