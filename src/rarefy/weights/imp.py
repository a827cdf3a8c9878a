"""Iterative magnitude pruning with rewinding: the lottery-ticket baseline.

Round r of R: train the rewound sparse model, keep the ``d^(r / R)`` largest of the weights that
are left (all tensors together), rewind what is left to where it began.

Source: Frankle and Carbin 2019, and Renda et al. 2020 for geometric steps. Removing 20 % a round,
the first paper's step, is ``R = ceil(log d / log 0.8)``. Departures: none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from rarefy.budget import Exponential
from rarefy.weights.from_scores import check_density, mask_from_scores
from rarefy.weights.masks import Masks
from rarefy.weights.scores import magnitude
from rarefy.weights.select import select


def iterative_magnitude(
    model: nn.Module,
    train: Callable[[nn.Module, Masks], object],
    *,
    density: float | None = None,
    sparsity: float | None = None,
    rounds: int = 5,
    weights: Mapping[str, Tensor] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Masks:
    """Find a mask by training, pruning and rewinding in turns.

    Parameters
    ----------
    model : nn.Module
        Left rewound to its own state with the masks applied: the ticket, to be trained once more.
    train : callable ``(model, masks) -> None``
        Trains in place with the masks held (:func:`rarefy.weights.finetune`).
    density, sparsity : float in [0, 1)
        Exactly one of the two.
    rounds : int, default 5
    weights : mapping of str to Parameter, optional
        What is pruned; :func:`rarefy.weights.select` by default.
    progress : callable ``(what, fraction)``, optional

    Returns
    -------
    Masks
        With exactly ``round(density * numel)`` weights, nested from round to round.

    Raises
    ------
    ValueError
        If ``rounds`` is below 1, or the density is 0 or outside [0, 1].
    """
    density = check_density(density=density, sparsity=sparsity)
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    chosen = dict(select(model) if weights is None else weights)
    start = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    if density == 0:
        raise ValueError("density must be above 0: pruning in rounds never reaches 0")
    schedule = Exponential(final=density)
    masks = Masks.ones(chosen)
    for r in range(1, rounds + 1):
        train(model, masks)
        masks = mask_from_scores(magnitude(chosen, within=masks), density=schedule(r / rounds))
        model.load_state_dict(start)
        masks.apply_(model)
        if progress is not None:
            progress(f"round {r} of {rounds}", r / rounds)
    return masks
