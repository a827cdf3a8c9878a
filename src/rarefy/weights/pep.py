"""PEP: thresholds that are learned with the embeddings they prune.

    e^ = sign(e) relu(|e| - sigmoid(s)),   s learned, from far below zero

Weight decay pulls s towards zero, so the threshold rises until the loss holds it; when few enough
entries are left, they are the mask of a second training from the first one's initial values.

Source: Liu et al. 2021, "Learnable embedding sizes for recommender systems" (PEP), section 3; from
general knowledge, no code was read. Departures: one threshold for each table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from rarefy.weights.attach import refuse_tied
from rarefy.weights.masks import Masks


class SoftThreshold(nn.Module):
    """Parametrization ``w -> sign(w) relu(|w| - sigmoid(s))``.

    Parameters
    ----------
    start : float, default -15.0
        Initial ``s``.

    Examples
    --------
    >>> SoftThreshold(0.0)(torch.tensor([-2.0, 0.25, 1.0])).tolist()
    [-1.5, 0.0, 0.5]
    """

    def __init__(self, start: float = -15.0) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor(float(start)))

    def forward(self, weight: Tensor) -> Tensor:
        """Shrink every entry by the threshold."""
        return weight.sign() * (weight.abs() - self.s.sigmoid()).relu()

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Store a weight as it is given."""
        return weight


class LearnedThresholds:
    """Soft thresholds on some parameters of a model; build the optimizer after it.

    Parameters
    ----------
    model : nn.Module
    names : sequence of str
        Parameters to put a threshold on.
    start : float, default -15.0
        Initial ``s``: the paper goes from -15 to -5, later for shorter training.

    Attributes
    ----------
    thresholds : list of nn.Parameter
        Give them a group of their own in the optimizer, with weight decay.

    Raises
    ------
    ValueError
        If a name is no parameter of the model, or is tied.

    Examples
    --------
    >>> table = nn.Embedding(2, 2, _weight=torch.tensor([[0.9, -0.1], [0.2, -0.8]]))
    >>> learned = LearnedThresholds(table, ["weight"], start=0.0)
    >>> learned.masks()["weight"].tolist()
    [[True, False], [False, True]]
    """

    def __init__(self, model: nn.Module, names: Sequence[str], *, start: float = -15.0) -> None:
        parameters = dict(model.named_parameters())
        if missing := [name for name in names if name not in parameters]:
            raise ValueError(f"the model has no parameter {', '.join(missing)}")
        refuse_tied(model, names)
        self._owners = {}
        self.thresholds: list[nn.Parameter] = []
        for name in names:
            prefix, _, attribute = name.rpartition(".")
            module = model.get_submodule(prefix)
            threshold = SoftThreshold(start).to(parameters[name].device)
            parametrize.register_parametrization(module, attribute, threshold)
            self._owners[name] = module, attribute
            self.thresholds.append(threshold.s)

    def nnz(self) -> int:
        """Count the entries above their threshold."""
        return self.masks().nnz

    def masks(self) -> Masks:
        """Keep the entries above their threshold."""
        return Masks({name: weight != 0 for name, weight in self.shrunk().items()})

    @torch.no_grad()
    def shrunk(self) -> dict[str, Tensor]:
        """Compute the weights as the model sees them, behind their thresholds."""
        return {
            name: getattr(module, attribute) for name, (module, attribute) in self._owners.items()
        }

    def detach(self) -> None:
        """Take the thresholds off, leaving the shrunk weights in an ordinary model."""
        for module, attribute in self._owners.values():
            parametrize.remove_parametrizations(module, attribute)
