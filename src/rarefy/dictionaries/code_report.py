r"""How sparse codes are and how well they reconstruct.

The relative error is :math:`\|X - R D\|_F^2 / \|X\|_F^2`. *Debiased* codes keep their support and
take the least-squares coefficients on it, which tells how much of an error is shrinkage and how
much is a poor choice of units. Sparseness is Treves and Rolls's
:math:`1 - \langle |r| \rangle^2 / \langle r^2 \rangle`, over the units for one input (population)
or over the inputs for one unit (lifetime): 0 when all are alike, 1 - 1/n when one of n is active.

Sources: "Beyond l1 sparse coding in V1" (arXiv 2301.10002); Rolls and Tovee (1995). Departures:
none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_CHUNK = 256
# Decides between atoms on a support that depend on each other; far below any error reported.
_RIDGE = 1e-8


class CodeReport(NamedTuple):
    """What `code_report` measured."""

    l0: float
    """Mean number of active units for an input."""
    error: float
    """Squared error as a share of the inputs' squares."""
    debiased_error: float
    """The same with least-squares coefficients on each support."""
    population_sparseness: float
    """Mean over the inputs that have an active unit."""
    lifetime_sparseness: float
    """Mean over the units that are ever active."""
    frequency: Tensor
    """Share of the inputs for which each unit is active (m,)."""


def code_report(x: Tensor, dictionary: Tensor, codes: Tensor) -> CodeReport:
    """Judge codes (n, m) of inputs (n, d) in a dictionary (m, d).

    Examples
    --------
    Soft thresholding keeps the right unit but shrinks it from 2 to 1.5:

    >>> x, codes = torch.tensor([[2.0, 0.0]]), torch.tensor([[1.5, 0.0]])
    >>> report = code_report(x, torch.eye(2), codes)
    >>> report.l0, report.error, round(report.debiased_error, 6)
    (1.0, 0.0625, 0.0)
    """
    if codes.shape != (len(x), len(dictionary)) or dictionary.shape[1] != x.shape[1]:
        raise ValueError(
            f"x {tuple(x.shape)}, dictionary {tuple(dictionary.shape)} and codes "
            f"{tuple(codes.shape)} do not fit together: expected (n, d), (m, d) and (n, m)"
        )
    active = codes != 0
    return CodeReport(
        l0=float(active.sum(1).double().mean()),
        error=_relative(x - codes @ dictionary, x),
        debiased_error=_relative(x - debias(x, dictionary, codes) @ dictionary, x),
        population_sparseness=_treves_rolls(codes[active.any(1)], 1),
        lifetime_sparseness=_treves_rolls(codes[:, active.any(0)], 0),
        frequency=active.float().mean(0),
    )


def debias(x: Tensor, dictionary: Tensor, codes: Tensor) -> Tensor:
    """Least-squares coefficients on the support of each code: (n, m), zero elsewhere."""
    out = torch.zeros_like(codes)
    sizes = (codes != 0).sum(1)
    # Supports of like size together: each chunk is padded to its largest.
    for rows in sizes.argsort().split(_CHUNK):
        widest = int(sizes[rows].max())
        if widest == 0:
            continue
        on, units = (codes[rows] != 0).to(torch.int8).topk(widest, dim=1)
        used = on.double()
        atoms = dictionary.double()[units] * used[:, :, None]
        gram = atoms @ atoms.mT + torch.diag_embed(1 - used + _RIDGE)
        found = torch.linalg.solve(gram, atoms @ x[rows].double()[:, :, None]).squeeze(2)
        out[rows] = out[rows].scatter(1, units, (found * used).to(out.dtype))
    return out


def _relative(residual: Tensor, x: Tensor) -> float:
    return float(residual.double().square().sum() / x.double().square().sum())


def _treves_rolls(codes: Tensor, axis: int) -> float:
    if codes.numel() == 0:
        return float("nan")
    r = codes.double().abs()
    return float((1 - r.mean(axis) ** 2 / r.square().mean(axis)).mean())
