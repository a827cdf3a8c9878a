r"""How a dictionary learns from a batch and its codes: two rules that a learner calls.

Both take the dictionary D (m, d), inputs X (n, d) and codes R (n, m), and return the next
dictionary, its atoms of unit norm.

`Surrogate` remembers :math:`A_t = \beta_t A_{t-1} + R^\top R`,
:math:`B_t = \beta_t B_{t-1} + R^\top X` with :math:`\beta_t = (1 - 1/t)^{1.5}`, and passes once
over the atoms, :math:`d_j \leftarrow d_j + (B_j - A_j D) / A_{jj}`: the minimiser of all past
batches' squared error in each atom by itself. `Gradient` takes one step
:math:`D \leftarrow D + \eta R^\top (X - R D)`.

Sources: Mairal, Bach, Ponce and Sapiro, "Online Learning for Matrix Factorization and Sparse
Coding" (JMLR 2010), algorithm 2 and section 3.4.1; Olshausen and Field (1996). Departures: atoms
have norm one, not at most one. No atom moves further than 0.1 in a gradient step, because a large
rate with few active units makes atoms jump.
"""

from __future__ import annotations

import torch
from torch import Tensor

_FORGETTING = 1.5
_LARGEST_MOVE = 0.1


class Surrogate:
    """Online minimiser of the past batches' error; starts with no past."""

    def __init__(self, dictionary: Tensor) -> None:
        m = len(dictionary)
        self.steps = 0
        self.a = dictionary.new_zeros(m, m)
        self.b = torch.zeros_like(dictionary)

    def __call__(self, dictionary: Tensor, x: Tensor, codes: Tensor) -> Tensor:
        """Give the next dictionary."""
        self.steps += 1
        keep = (1 - 1 / self.steps) ** _FORGETTING
        self.a.mul_(keep).addmm_(codes.T, codes)
        self.b.mul_(keep).addmm_(codes.T, x)
        moved = dictionary.clone()
        diagonal = self.a.diagonal()
        # A unit that was hardly ever active says nothing about where its atom should be.
        for j in (diagonal > 1e-6 * diagonal.mean()).nonzero().ravel().tolist():
            atom = moved[j] + (self.b[j] - self.a[j] @ moved) / self.a[j, j]
            moved[j] = atom / atom.norm().clamp(min=1e-12)
        return moved

    def forget(self, atoms: Tensor) -> None:
        """Drop what is remembered of atoms (their indices) that were replaced."""
        self.a[atoms] = 0
        self.a[:, atoms] = 0
        self.b[atoms] = 0


class Gradient:
    """One step along the batch's summed gradient; remembers nothing."""

    def __init__(self, lr: float) -> None:
        self.lr = lr

    def __call__(self, dictionary: Tensor, x: Tensor, codes: Tensor) -> Tensor:
        """Give the next dictionary."""
        change = self.lr * codes.T @ (x - codes @ dictionary)
        length = change.norm(dim=1, keepdim=True).clamp(min=1e-12)
        moved = dictionary + change * (_LARGEST_MOVE / length).clamp(max=1)
        return moved / moved.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def forget(self, atoms: Tensor) -> None:
        """Nothing is remembered of any atom."""
