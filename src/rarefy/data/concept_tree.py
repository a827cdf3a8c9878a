r"""Concepts on two levels: directions of parents and children, and sparse mixtures of them.

A sample has exactly one parent, and of some parents at most one child:

.. math:: x = a_p D_p + a_c D_c, \qquad
    D_i \propto e_i + \tau \sum_{j \in S(i)} e_j

with S(i) the siblings of i (all other parents; the other children of its parent) and tau such that
two siblings have the cosine asked for, for n siblings in all

.. math:: \tau = \frac{\rho}{1 + \sqrt{1 + \rho\,(n - 2 - \rho (n - 1))}}

Across levels directions are orthogonal.

Source: Costa et al. 2025 (arXiv 2506.03093), section 4 and appendix B. Departures: mixing is given
by the cosine it leads to; amplitudes spread by a sixth of their mean at either level and are never
negative, so that weak children stay children.

Axis letters: n samples, f concepts, d width.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

_WIDTH = 20
_PARENTS = (0, 4, 8, *range(12, 20))
_CHILDREN = 3
_WITH_CHILDREN = 3
_PARENT_PROBABILITIES = (0.2,) * _WITH_CHILDREN + (0.05,) * 8
_CHILD_PROBABILITIES = (0.2,) * _CHILDREN + (0.4,)
_SPREAD = 1 / 6


@dataclass(frozen=True)
class ConceptTree:
    """Twenty concepts in twenty dimensions: three parents of three children, eight without.

    Attributes
    ----------
    directions : Tensor, shape (f, d)
        Of norm 1; a parent's children stand behind it.
    parents : int64 Tensor, shape (f,)
        Parent of each concept; -1 for parents.
    parent_mean, child_mean : float
        Mean amplitudes.
    """

    directions: Tensor
    parents: Tensor
    parent_mean: float
    child_mean: float

    @property
    def children(self) -> Tensor:
        """Concepts that have a parent, int64."""
        return (self.parents >= 0).nonzero()[:, 0]

    @property
    def same_level(self) -> Tensor:
        """Which pairs of two concepts are both parents or both children, bool (f, f)."""
        child = self.parents >= 0
        return (child[:, None] == child).fill_diagonal_(False)

    @property
    def siblings(self) -> Tensor:
        """Which pairs of two concepts have the same parent, or both none, bool (f, f)."""
        return (self.parents[:, None] == self.parents).fill_diagonal_(False)

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw samples and the amplitudes they are made of.

        Parameters
        ----------
        n : int
        generator : torch.Generator

        Returns
        -------
        x : Tensor, shape (n, d)
        amplitudes : Tensor, shape (n, f)
            Nonzero in one or two places of each row.
        """
        which = torch.multinomial(torch.tensor(_PARENT_PROBABILITIES), n, True, generator=generator)
        child = torch.multinomial(torch.tensor(_CHILD_PROBABILITIES), n, True, generator=generator)
        noise = (1 + _SPREAD * torch.randn(n, 2, generator=generator)).clamp(min=0)
        rows = torch.arange(n)
        amplitudes = torch.zeros(n, len(self.parents))
        parent = torch.tensor(_PARENTS)[which]
        amplitudes[rows, parent] = self.parent_mean * noise[:, 0]
        has = (which < _WITH_CHILDREN) & (child < _CHILDREN)
        amplitudes[rows[has], (parent + 1 + child)[has]] = self.child_mean * noise[has, 1]
        return amplitudes @ self.directions, amplitudes


def make_concept_tree(
    *, correlation: float = 0.0, parent_mean: float = 1.5, child_mean: float = 1.5
) -> ConceptTree:
    """Make the tree.

    Parameters
    ----------
    correlation : float, default 0
        Cosine between siblings.
    parent_mean, child_mean : float, default 1.5
        Mean amplitudes of active concepts.

    Returns
    -------
    ConceptTree

    Raises
    ------
    ValueError
        If the correlation is not in [0, 1) or a mean is not positive.

    Examples
    --------
    >>> tree = make_concept_tree(correlation=0.3)
    >>> x, amplitudes = tree.sample(1000, torch.Generator().manual_seed(0))
    >>> x.shape, 1 < float((amplitudes > 0).sum(1).double().mean()) < 2
    (torch.Size([1000, 20]), True)
    """
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation must be at least 0 and below 1, got {correlation}")
    for name, mean in (("parent_mean", parent_mean), ("child_mean", child_mean)):
        if not mean > 0:
            raise ValueError(f"{name} must be positive, got {mean}")
    parents = torch.full((_WIDTH,), -1)
    for parent in _PARENTS[:_WITH_CHILDREN]:
        parents[parent + 1 : parent + 1 + _CHILDREN] = parent
    tree = ConceptTree(torch.eye(_WIDTH), parents, parent_mean, child_mean)
    siblings = tree.siblings
    mixing = torch.tensor(
        [_mixing(correlation, int(count) + 1) for count in siblings.sum(1)], dtype=torch.float64
    )
    directions = torch.eye(_WIDTH, dtype=torch.float64) + mixing[:, None] * siblings
    directions /= directions.norm(dim=1, keepdim=True)
    return ConceptTree(directions.float(), parents, parent_mean, child_mean)


def _mixing(correlation: float, siblings: int) -> float:
    """Weight of each other sibling at which two of them have this cosine."""
    a = siblings - 2 - correlation * (siblings - 1)
    return correlation / (1 + sqrt(1 + correlation * a))
