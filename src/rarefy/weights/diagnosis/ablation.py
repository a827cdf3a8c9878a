"""Whether a mask matters, or only how many weights each layer keeps.

The same training is run with the mask, with the mask shuffled within each layer (same layer
densities), with the mask on fresh weights, with random masks of the global density spread by
Erdős-Rényi and, where scores are given, with each layer's least. Differences are paired by seed,
with 95 % intervals:

    mask matters         the mask beats the shuffled one
    nothing matters      shuffled and random masks are both at most a tolerance worse
    allocation suffices  only the shuffled one is
    undecided            otherwise

Source: Su et al. 2020, "Sanity-checking pruning methods", and Liu et al. 2022, on random pruning.
Departures: the verdicts are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rarefy.evidence.verdict import Estimate, estimate
from rarefy.weights.diagnosis.fair import MIN_SEEDS
from rarefy.weights.masks import Masks
from rarefy.weights.random_masks import random_masks

VARIANTS = ("original", "shuffled", "reinitialised", "random")


@dataclass(frozen=True)
class Ablation:
    """What each variant reached.

    Attributes
    ----------
    values : dict of str to tuple of float
        Metric of each variant of :data:`VARIANTS`, and of "inverted" if asked; a value a seed.
    losses : dict of str to Estimate
        Original minus variant, paired by seed.
    verdict : str
        One of the four of this module's head.
    """

    values: dict[str, tuple[float, ...]]
    losses: dict[str, Estimate]
    verdict: str


def mask_variant(
    variant: str, masks: Masks, *, seed: int, scores: Mapping[str, Tensor] | None = None
) -> Masks:
    """Make the masks of one of :data:`VARIANTS`, or those that scores speak against.

    Parameters
    ----------
    variant : {"original", "shuffled", "reinitialised", "random", "inverted"}
    masks : Masks
    seed : int
    scores : mapping of str to Tensor, optional
        For "inverted": of each masked tensor, which then keeps as many weights, those of the
        smallest scores.

    Returns
    -------
    Masks

    Raises
    ------
    ValueError
        If there is no such variant, or "inverted" has no scores for a masked tensor.

    Examples
    --------
    >>> masks = Masks({"w": torch.tensor([[True, True, False]])})
    >>> mask_variant("inverted", masks, seed=0, scores={"w": torch.tensor([[3.0, 2, 1]])})["w"]
    tensor([[False,  True,  True]])
    """
    if variant == "inverted":
        return _inverted(masks, scores or {})
    generator = torch.Generator().manual_seed(seed)
    if variant == "shuffled":
        return masks.shuffled(generator=generator)
    if variant == "random":
        return random_masks(masks, density=masks.density(), generator=generator)
    if variant not in VARIANTS:
        known = ", ".join((*VARIANTS, "inverted"))
        raise ValueError(f"variant must be one of {known}, got {variant!r}")
    return masks


def _inverted(masks: Masks, scores: Mapping[str, Tensor]) -> Masks:
    if missing := [name for name in masks if name not in scores]:
        raise ValueError(f"inverted masks need the scores of {', '.join(missing)}")
    inverted = {}
    for name, mask in masks.items():
        least = scores[name].flatten().argsort(stable=True)[: int(mask.count_nonzero())]
        flat = torch.zeros(mask.numel(), dtype=torch.bool, device=mask.device)
        flat[least] = True
        inverted[name] = flat.view_as(mask)
    return Masks(inverted)


def mask_ablation(
    train: Callable[[Masks, int, bool], float],
    masks: Masks | Callable[[int], Masks],
    *,
    scores: Callable[[int], Mapping[str, Tensor]] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    dense: float | None = None,
    chance: float = 0.0,
    tolerance: float = 0.005,
) -> Ablation:
    """Run the ablation.

    Parameters
    ----------
    train : callable ``(masks, seed, fresh) -> metric``, larger is better
        Trains under the masks, on fresh weights if ``fresh``, and evaluates.
    masks : Masks, or callable ``seed -> Masks``
    scores : callable ``seed -> scores``, optional
        What the masks were chosen by, by parameter name. "inverted", the least of them, is then run
        as well; it is reported, and the verdict does without it.
    seeds : sequence of int, default (0, 1, 2)
        At least three.
    dense : float, optional
        Metric of the dense network; refused if it has hardly learned.
    chance : float, default 0
        Metric of a guess.
    tolerance : float, default 0.005
        Loss that counts as none.

    Returns
    -------
    Ablation

    Raises
    ------
    ValueError
        With fewer than three seeds, a metric that is not finite, or a dense metric below 1.5 times
        chance: where nothing was learned no mask matters.
    """
    if len(seeds) < MIN_SEEDS:
        raise ValueError(f"an ablation needs at least {MIN_SEEDS} seeds, got {len(seeds)}")
    if dense is not None and dense < 1.5 * chance:
        raise ValueError(
            f"the dense network reaches {dense:.3g}, hardly above chance ({chance:.3g}): train it "
            "before its masks are compared"
        )
    by_seed = {seed: masks(seed) if callable(masks) else masks for seed in seeds}

    def run(variant: str, seed: int) -> float:
        chosen_by = scores(seed) if scores is not None and variant == "inverted" else None
        varied = mask_variant(variant, by_seed[seed], seed=seed, scores=chosen_by)
        return train(varied, seed, variant == "reinitialised")

    variants = VARIANTS if scores is None else (*VARIANTS, "inverted")
    values = {variant: tuple(run(variant, seed) for seed in seeds) for variant in variants}
    for variant, found in values.items():
        if not all(map(math.isfinite, found)):
            raise ValueError(
                f"train must give finite metrics, got {found} with {variant} masks: where training "
                "diverges nothing can be compared"
            )
    losses = {
        variant: estimate([a - b for a, b in zip(values["original"], found, strict=True)])
        for variant, found in values.items()
        if variant != "original"
    }
    return Ablation(values, losses, _verdict(losses, tolerance))


def _verdict(losses: dict[str, Estimate], tolerance: float) -> str:
    def surely_lost(variant: str) -> bool:
        low = losses[variant].low
        return low is not None and low > 0

    def surely_kept(variant: str) -> bool:
        high = losses[variant].high
        return high is not None and high <= tolerance

    if surely_lost("shuffled") and not surely_kept("shuffled"):
        return "mask matters"
    if not surely_kept("shuffled"):
        return "undecided"
    return "nothing matters" if surely_kept("random") else "allocation suffices"
