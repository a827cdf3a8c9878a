r"""Geometry of a dictionary: how coherent it is, and how it lies to a known truth.

The Babel function sums an atom's largest cosines; the effective rank counts the directions that
codes use:

.. math:: \mu_1(r) = \max_i \max_{|\Lambda| = r,\, i \notin \Lambda}
        \sum_{j \in \Lambda} |\langle D_i, D_j \rangle|, \qquad
    \mathrm{erank} = \exp\Bigl(-\sum_i p_i \log p_i\Bigr), \quad
    p_i = \frac{\lambda_i(Z^T Z)}{\sum_j \lambda_j}

Where the truth is known, latents are first matched to it one to one (Hungarian algorithm).

Sources: Babel function, Tropp 2004; effective rank, Roy and Vetterli 2007; absorption and modality
scores, Costa et al. 2025 (arXiv 2506.03093), section 4 and appendix B. Departures: none.

Axis letters: n samples, d width, f latents, c true concepts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries.codes import SparseCodes


class Pairs(NamedTuple):
    """Squared error of inner products, by kind of pair."""

    flat: float
    hierarchical: float


def babel(dictionary: Tensor, size: int | None = None) -> Tensor:
    """Babel function of unit rows for all sizes up to one.

    Parameters
    ----------
    dictionary : Tensor, shape (f, d)
        Rows need not have norm 1; cosines are what counts.
    size : int, optional
        Largest set, by default all other atoms.

    Returns
    -------
    Tensor, shape (size,)
        Entry r - 1 belongs to sets of r atoms.

    Raises
    ------
    ValueError
        If the size is not from 1 to f - 1, or a row is 0.

    Examples
    --------
    >>> rows = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> [round(entry, 4) for entry in babel(rows).tolist()]
    [0.8, 1.4]
    """
    others = len(dictionary) - 1
    size = others if size is None else size
    if not 1 <= size <= others:
        raise ValueError(f"size must be from 1 to the {others} other atoms, got {size}")
    cosines = _unit(dictionary, "dictionary")
    cosines = (cosines @ cosines.t()).abs().fill_diagonal_(0)
    return cosines.topk(size, dim=1).values.cumsum(1).amax(0)


def selected_babel(codes: SparseCodes, dictionary: Tensor, *, batch: int = 512) -> float:
    """Babel function of the atoms that a row selects together, averaged over rows.

    For a row's m active atoms it is taken at size m - 1; rows with fewer than two are left out.

    Parameters
    ----------
    codes : SparseCodes of shape (n, f)
    dictionary : Tensor, shape (f, d)
    batch : int, default 512
        Rows at a time.

    Returns
    -------
    float
        NaN if no row has two active atoms.
    """
    unit = _unit(dictionary, "dictionary")
    cosines = (unit @ unit.t()).abs().fill_diagonal_(0)
    active = (codes.dense() != 0).to(cosines.dtype)
    active = active[active.sum(1) > 1]
    sums = [((rows @ cosines) * rows).amax(1) for rows in active.split(batch)]
    return float(torch.cat(sums).mean()) if sums else float("nan")


def effective_rank(z: Tensor) -> float:
    """Exponential of the entropy of the eigenvalues of z's co-activation matrix.

    Parameters
    ----------
    z : Tensor, shape (n, f)
        Codes, not centred.

    Returns
    -------
    float
        From 1 (all rows along one line) to min(n, f).

    Raises
    ------
    ValueError
        If z is all zeros.

    Examples
    --------
    >>> round(effective_rank(torch.eye(5)), 6)
    5.0
    """
    z = z.double()
    gram = z.t() @ z if z.shape[1] <= z.shape[0] else z @ z.t()
    eigenvalues = torch.linalg.eigvalsh(gram).clamp(min=0)
    total = eigenvalues.sum()
    if not total > 0:
        raise ValueError("z is all zeros: no direction is used")
    p = eigenvalues / total
    return float(torch.special.entr(p).sum().exp())


def match_latents(z: Tensor, truth: Tensor) -> Tensor:
    """Match latents to true concepts by what they fire on.

    Both are scaled by their largest value; the matching maximises the sum of inner products.

    Parameters
    ----------
    z : Tensor, shape (n, f)
        Codes, with at least as many latents as concepts.
    truth : Tensor, shape (n, c)
        Amplitudes of the concepts on the same samples.

    Returns
    -------
    int64 Tensor, shape (c,)
        Latent of each concept.

    Raises
    ------
    ValueError
        If the numbers of rows differ or there are fewer latents than concepts.
    """
    if len(z) != len(truth) or z.shape[1] < truth.shape[1]:
        raise ValueError(
            "z must have truth's rows and at least as many columns, got shapes "
            f"{tuple(z.shape)} and {tuple(truth.shape)}"
        )
    return assign(_scaled(truth).t() @ _scaled(z))


def assign(similarity: Tensor) -> Tensor:
    """Column of each row, one to one, with the largest sum: int64 of shape (rows,)."""
    from scipy.optimize import linear_sum_assignment

    # rows come back sorted, and all of them, since there are no fewer columns
    return torch.from_numpy(linear_sum_assignment(similarity.numpy(), maximize=True)[1])


def absorption_score(learned: Tensor, truth: Tensor, parents: Tensor) -> float:
    """Mean cosine of a learned child and its true parent: how much of it the child absorbed.

    Parameters
    ----------
    learned : Tensor, shape (c, d)
        Learned direction of each concept, as :func:`match_latents` orders them.
    truth : Tensor, shape (c, d)
    parents : int64 Tensor, shape (c,)
        Parent of each concept; -1 where there is none.

    Returns
    -------
    float
        0 where parent and child are orthogonal and both are found; about 0.7 where the child's
        latent stands for both.
    """
    child = (parents >= 0).nonzero()[:, 0]
    cosines = _unit(learned[child], "learned") * _unit(truth[parents[child]], "truth")
    return float(cosines.sum(1).mean())


def gram_error(learned: Tensor, truth: Tensor, same_level: Tensor) -> Pairs:
    """Mean squared error of inner products, within levels and across them.

    Parameters
    ----------
    learned, truth : Tensor, shape (c, d)
    same_level : bool Tensor, shape (c, c)
        Pairs of two concepts of one level; False on the diagonal.

    Returns
    -------
    Pairs
    """
    error = (learned @ learned.t() - truth @ truth.t()).square()
    across = ~same_level
    across.fill_diagonal_(False)
    return Pairs(float(error[same_level].mean()), float(error[across].mean()))


def modality_score(first: Tensor, second: Tensor) -> Tensor:
    """Share of each latent's energy that it spends on the first of two modalities.

    Parameters
    ----------
    first, second : Tensor, shapes (n, f) and (m, f)
        Codes of samples of either modality; numbers may differ, energies are means.

    Returns
    -------
    Tensor, shape (f,)
        0.5 for a latent that both use alike, 0 or 1 for one that a single modality uses, NaN for
        one that is dead.
    """
    a, b = first.square().mean(0), second.square().mean(0)
    return a / (a + b)


def _unit(rows: Tensor, name: str) -> Tensor:
    norms = rows.norm(dim=1, keepdim=True)
    if not bool((norms > 0).all()):
        raise ValueError(f"{name} must have no zero row, got {int((norms == 0).sum())}")
    return rows / norms


def _scaled(z: Tensor) -> Tensor:
    largest = z.amax(0)
    return z / torch.where(largest > 0, largest, 1.0)
