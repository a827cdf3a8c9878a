r"""Pursuits: build a sparse code atom by atom, each the best for what is left over.

.. math:: j_t = \arg\max_j \langle D_j, r_t \rangle, \quad c_t = \langle D_{j_t}, r_t \rangle, \quad
    r_{t+1} = r_t - c_t D_{j_t}, \qquad r_0 = x

Matching pursuit keeps a coefficient as it was found; orthogonal matching pursuit fits all of them
again after every step. Written for clarity, one product with the dictionary a step;
``rarefy.kernels.cpu.pursuit`` is the fast twin that autoencoders run on.

Sources: Mallat and Zhang 1993; Pati, Rezaiifar and Krishnaprasad 1993; the one-sided rule (no
negative coefficient) is Costa et al. 2025 (arXiv 2506.03093, section 3). Departures: none.

Axis letters: b rows, d width, f atoms, t steps.
"""

from __future__ import annotations

from typing import Generic, NamedTuple

import torch
from torch import Tensor

from rarefy.operators._arrays import Array, like, to_tensor


class Pursuit(NamedTuple, Generic[Array]):
    """What a pursuit chose, step by step.

    Attributes
    ----------
    coefficients : array, shape (b, t)
        0 from the step at which a row stopped.
    atoms : int64 array, shape (b, t)
        Row of the dictionary of each coefficient; 0 where a row had stopped.
    """

    coefficients: Array
    atoms: Array


def matching_pursuit(
    x: Array, dictionary: Array, steps: int, *, tol: float = 0.0, signed: bool = False
) -> Pursuit[Array]:
    """Matching pursuit of every row of x.

    Parameters
    ----------
    x : Tensor or ndarray of floats, shape (b, d)
    dictionary : same kind, shape (f, d)
        Atoms as rows, of norm 1: the step is exact only for those.
    steps : int
        At most so many; an atom may be chosen again.
    tol : float, default 0
        A row stops once its residual's norm is at most this, in units of x.
    signed : bool, default False
        Choose by magnitude and allow negative coefficients; otherwise a row stops when no atom
        points along its residual.

    Returns
    -------
    Pursuit
        Torch results are differentiable: through every coefficient, not through the choices.

    Raises
    ------
    ValueError
        If the shapes do not fit, ``steps`` is below 1, or an atom's norm is not 1 (to 1 %).
    """
    z, atoms = to_tensor(x), to_tensor(dictionary)
    check_pursuit(z, atoms, steps)
    residual, coefficients, chosen = z, [], []
    running = torch.ones(len(z), dtype=torch.bool, device=z.device)
    for _ in range(steps):
        running = running & (residual.detach().norm(dim=1) > tol)
        products = residual @ atoms.t()
        j = (products.abs() if signed else products).detach().argmax(1)
        c = products.gather(1, j[:, None])[:, 0]
        running = running & ((c != 0) if signed else (c > 0))
        c = torch.where(running, c, 0.0)
        residual = residual - c[:, None] * atoms[j]
        coefficients.append(c)
        chosen.append(torch.where(running, j, 0))
    return Pursuit(like(torch.stack(coefficients, 1), x), _indices(torch.stack(chosen, 1), x))


def orthogonal_matching_pursuit(
    x: Array, dictionary: Array, steps: int, *, tol: float = 0.0, signed: bool = True
) -> Pursuit[Array]:
    """Orthogonal matching pursuit: after every step all coefficients are fitted again.

    Parameters
    ----------
    x, dictionary, tol
        As in :func:`matching_pursuit`.
    steps : int
        At most d; no atom is chosen twice.
    signed : bool, default True
        Otherwise atoms must point along the residual when they are chosen; a coefficient may still
        turn negative in a later fit, and is then set to 0 in the result.

    Returns
    -------
    Pursuit
        No gradient flows through the fits.

    Raises
    ------
    ValueError
        As :func:`matching_pursuit`, and if ``steps`` is above d or the number of atoms.
    """
    z, atoms = to_tensor(x).detach(), to_tensor(dictionary).detach()
    check_pursuit(z, atoms, steps)
    if steps > min(atoms.shape):
        raise ValueError(f"steps must be at most {min(atoms.shape)}, got {steps}")
    rows = len(z)
    chosen = torch.zeros(rows, steps, dtype=torch.int64, device=z.device)
    coefficients = z.new_zeros(rows, steps)
    running = torch.ones(rows, dtype=torch.bool, device=z.device)
    residual = z
    for step in range(steps):
        running = running & (residual.norm(dim=1) > tol)
        products = residual @ atoms.t()
        scores = products.abs() if signed else products
        scores = scores.scatter(1, chosen[:, :step], -torch.inf)
        best = scores.max(1)
        running = running & (best.values > 0)
        if not bool(running.any()):
            break
        chosen[running, step] = best.indices[running]
        picked = atoms[chosen[running, : step + 1]]
        gram = picked @ picked.mT
        fit = torch.linalg.solve(gram, picked @ z[running, :, None])
        coefficients[running, : step + 1] = fit[:, :, 0]
        residual = residual.clone()
        residual[running] = z[running] - (fit.mT @ picked)[:, 0]
    if not signed:
        coefficients = coefficients.clamp(min=0)
    return Pursuit(like(coefficients, x), _indices(chosen, x))


def check_pursuit(x: Tensor, atoms: Tensor, steps: int) -> None:
    """Refuse rows, atoms and steps that no pursuit can work with."""
    if x.ndim != 2 or atoms.ndim != 2 or x.shape[1] != atoms.shape[1]:
        raise ValueError(
            "x must be (rows, d) and dictionary (atoms, d), got shapes "
            f"{tuple(x.shape)} and {tuple(atoms.shape)}"
        )
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    norms = atoms.detach().norm(dim=1)
    off = (norms - 1).abs() > 1e-2
    if bool(off.any()):
        place = int(off.nonzero()[0])
        raise ValueError(f"dictionary rows must have norm 1, row {place} has {norms[place]:.4g}")


def _indices(chosen: Tensor, x: Array) -> Array:
    return chosen if isinstance(x, Tensor) else chosen.numpy()
