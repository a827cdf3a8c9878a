r"""Whether latents speak of both poles of an axis.

A latent j fires positively on :math:`n_j^+` rows and negatively on :math:`n_j^-`:

.. math:: \beta_j = \frac{\min(n_j^+, n_j^-)}{n_j^+ + n_j^-}

is its balance, and the same ratio of sums of squares its balance of energy, which spurious small
codes just above a cut cannot raise. A latent is two-sided where both sides are frequent and
balanced; its two sides have opposite meanings where a label tells them apart. A dictionary without
signs represents an axis by two latents that point away from each other (:func:`opposite_pairs`).

Source: Zhu, Khalili and Zhu 2025 (arXiv 2510.00404), section 4. Departures: the paper has a
language model judge the explanations of both sides; here counts, energies and labels do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes


class Bidirectionality(NamedTuple):
    """How each latent divides its activity between its two signs.

    Attributes
    ----------
    positive, negative : Tensor of int64, shape (f,)
        Rows on which the latent fires with that sign.
    balance, energy_balance : Tensor, shape (f,)
        From 0 (one sign) to 1/2, by counts and by sums of squares; 0 for a latent that never fires.
    """

    positive: Tensor
    negative: Tensor
    balance: Tensor
    energy_balance: Tensor

    def two_sided(self, *, n_min: int = 20, least: float = 0.1) -> Tensor:
        """Which latents fire at least ``n_min`` times on each side, both balances at least so."""
        frequent = torch.minimum(self.positive, self.negative) >= n_min
        return frequent & (self.balance >= least) & (self.energy_balance >= least)

    @property
    def alive(self) -> Tensor:
        """Which latents fire at all, shape (f,)."""
        return self.positive + self.negative > 0


def bidirectionality(codes: SparseCodes) -> Bidirectionality:
    """Counts and energies of both signs of every latent.

    Parameters
    ----------
    codes : SparseCodes of shape (n, f)

    Returns
    -------
    Bidirectionality

    Examples
    --------
    >>> z = torch.tensor([[1.0, 2.0], [-1.0, 3.0], [-1.0, 0.0]])
    >>> bidirectionality(SparseCodes.from_dense(z)).balance.tolist()
    [0.3333333432674408, 0.0]
    """
    values, support = codes.values.detach(), codes.support
    positive = support.column_sums((values > 0).long())
    negative = support.column_sums((values < 0).long())
    plus = support.column_sums(values.clamp(min=0).double().square())
    minus = support.column_sums(values.clamp(max=0).double().square())
    return Bidirectionality(
        positive, negative, _share(positive.float(), negative.float()), _share(plus, minus).float()
    )


def opposite_meaning(
    codes: SparseCodes, labels: Tensor, *, least_auroc: float = 0.9, n_min: int = 5
) -> Tensor:
    """Which latents mean one value of an attribute by one sign and the other by the other.

    Parameters
    ----------
    codes : SparseCodes of shape (n, f)
        Of rows that have one of the two values.
    labels : Tensor of bool, shape (n,)
    least_auroc : float, default 0.9
        Of the code as a score for the label, in either direction, on the rows where it fires.
    n_min : int, default 5
        How often each sign must occur on the value that it stands for.

    Returns
    -------
    Tensor of bool, shape (f,)
    """
    transposed, order = codes.support.transposed
    values = codes.values.detach()[order].numpy()
    y = labels.bool()[transposed.indices].numpy()
    found = torch.zeros(codes.support.width, dtype=torch.bool)
    for j, (start, end) in enumerate(zip(*_bounds(transposed.offsets), strict=True)):
        z, label = values[start:end], y[start:end]
        agree = min(int(((z > 0) & label).sum()), int(((z < 0) & ~label).sum()))
        differ = min(int(((z < 0) & label).sum()), int(((z > 0) & ~label).sum()))
        if max(agree, differ) >= n_min:
            score = auroc(z, label)
            found[j] = (score if agree >= differ else 1 - score) >= least_auroc
    return found


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of (positive, negative) pairs that a score orders rightly, ties as one half.

    Examples
    --------
    >>> auroc(np.array([0.1, 0.4, 0.4]), np.array([False, True, False]))
    0.75
    """
    p = int(positive.sum())
    n = len(positive) - p
    if not p or not n:
        raise ValueError(f"both values must occur, got {p} positive and {n} negative rows")
    return float((rankdata(score)[positive].sum() - p * (p + 1) / 2) / (p * n))


def opposite_pairs(decoder: Tensor, *, cosine: float = -0.8) -> Tensor:
    """Pairs of latents that point away from each other: one axis, split in two.

    Parameters
    ----------
    decoder : Tensor, shape (f, d)
    cosine : float, default -0.8
        At most; each latent is in at most one pair, that with the latent most opposite to it.

    Returns
    -------
    Tensor of int64, shape (pairs, 2)
    """
    rows = torch.nn.functional.normalize(decoder.detach(), dim=1)
    lowest, partner = (rows @ rows.t()).min(1)
    j = torch.arange(len(rows), device=rows.device)
    mutual = (partner[partner] == j) & (j < partner) & (lowest <= cosine)
    return torch.stack([j[mutual], partner[mutual]], 1)


@torch.no_grad()
def fix_signs(sae: SparseAutoencoder, x: Tensor) -> Tensor:
    """Turn latents so that the mean of every code on x is at least 0; reconstructions stay.

    A latent of a signed dictionary and its negative are the same, so a convention is needed before
    two dictionaries are compared or a latent is named.

    Parameters
    ----------
    sae : SparseAutoencoder
        Changed in place; its activation must treat both signs alike.
    x : Tensor, shape (n, d)

    Returns
    -------
    Tensor of bool, shape (f,)
        Which latents were turned.

    Raises
    ------
    ValueError
        If the activation tells the signs apart.
    """
    by = getattr(sae.activation, "by", "magnitude")
    if by != "magnitude" or getattr(sae.activation, "positive", False):
        raise ValueError(
            f"the signs of {sae.activation!r} are not free: an activation by magnitude is wanted"
        )
    codes = sae.encode(x)
    turned = codes.support.column_sums(codes.values) < 0
    for parameter in (sae.encoder, sae.decoder, sae.encoder_bias):
        if parameter is not None:
            parameter[turned] *= -1
    return turned


def _bounds(offsets: Tensor) -> tuple[list[int], list[int]]:
    return offsets[:-1].tolist(), offsets[1:].tolist()


def _share(a: Tensor, b: Tensor) -> Tensor:
    total = a + b
    return torch.where(total > 0, torch.minimum(a, b) / total.clamp(min=1e-30), 0.0)
