r"""What the norms of codes say about a dictionary: bound, epsilon LBO, ZF plot.

If all pairs of the f unit rows of a dictionary have an inner product of at most :math:`\epsilon`
in magnitude, and x is exactly :math:`z D`,

.. math:: \frac{\|x\|^2}{1 + \epsilon (k - 1)} \le \|z\|^2 \le \frac{\|x\|^2}{1 - \epsilon (k - 1)}

with k the number of active features, or f in its place. Read backwards, a row's norms say how far
from orthogonal the dictionary is at least, the epsilon lower bound:

.. math:: \epsilon_{LBO} = \frac{\bigl|\|x\|^2 - \|z\|^2\bigr|}{(f - 1)\,\|z\|^2}

Its values depend on the width f; (f - 1) times it compares widths. A small one does not prove that
the rows are nearly orthogonal: it is a lower bound.

Source: Lee, Davies, Canby and Hockenmaier 2025 (arXiv 2503.24277), sections 3 and 4. Departures:
the bound with k is ours; the coherence of a large dictionary is estimated from a block of its rows,
where the released code forms all products.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rarefy.dictionaries.afa import code_norms
from rarefy.dictionaries.autoencoder import SparseAutoencoder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BANDS = (0.25, 0.5, 1.0)
"""Values of epsilon (f - 1) whose bands a ZF plot shows."""


class Coherence(NamedTuple):
    """Largest and mean magnitude of the cosine of two different rows."""

    largest: float
    mean: float


class ZFPoints(NamedTuple):
    """Norms of inputs and of their codes, the points of a ZF plot.

    Attributes
    ----------
    norm_x, norm_z : Tensor, shape (n,)
    """

    norm_x: Tensor
    norm_z: Tensor

    @property
    def under(self) -> float:
        """Share of rows whose code has a smaller norm than the input: under-activated."""
        return float((self.norm_z < self.norm_x).float().mean())

    @property
    def ratio(self) -> float:
        """Median of ``norm_z / norm_x``."""
        return float((self.norm_z / self.norm_x.clamp(min=1e-12)).median())


def norm_bounds(norm_x: Tensor, epsilon: float, count: Tensor | int) -> tuple[Tensor, Tensor]:
    """Least and largest norm of a code of x, if inner products are at most epsilon.

    Parameters
    ----------
    norm_x : Tensor, shape (n,)
    epsilon : float
    count : Tensor of shape (n,), or int
        Active features of each row, or all features.

    Returns
    -------
    (Tensor, Tensor)
        The upper one infinite where ``epsilon * (count - 1) >= 1``.
    """
    spread = epsilon * (torch.as_tensor(count, dtype=norm_x.dtype) - 1)
    upper = torch.where(spread < 1, norm_x / (1 - spread).clamp(min=1e-300).sqrt(), math.inf)
    return norm_x / (1 + spread).sqrt(), upper


def epsilon_lbo(norm_x: Tensor, norm_z: Tensor, n_latents: int) -> Tensor:
    """Smallest epsilon at which the bound can hold for each row; infinite where the code is empty.

    Parameters
    ----------
    norm_x, norm_z : Tensor, shape (n,)
        Of the input without the decoder's bias, and of its code.
    n_latents : int

    Examples
    --------
    >>> epsilon_lbo(torch.tensor([2.0]), torch.tensor([1.0]), 4).tolist()
    [1.0]
    """
    energy = norm_z.square()
    return (norm_x.square() - energy).abs() / ((n_latents - 1) * energy)


@torch.no_grad()
def norms(sae: SparseAutoencoder, x: Tensor, *, batch_size: int = 4096) -> tuple[Tensor, Tensor]:
    """Norms of rows without the decoder's bias, and of their codes: what epsilon LBO takes.

    Codes count times the norm of their decoder row.
    """
    scale = sae.decoder.norm(dim=1)
    parts = [code_norms(sae.encode(rows), scale) for rows in x.split(batch_size)]
    centered = x if sae.decoder_bias is None else x - sae.decoder_bias
    return centered.norm(dim=1), torch.cat(parts)


@torch.no_grad()
def zf_points(sae: SparseAutoencoder, x: Tensor) -> ZFPoints:
    """Points of a ZF plot: norms of raw rows, and of their codes with the bias as one more feature.

    Parameters
    ----------
    sae : SparseAutoencoder
    x : Tensor, shape (n, d)
        In the space of the model: rows that were standardised one by one all have one norm.

    Returns
    -------
    ZFPoints
    """
    _, norm_z = norms(sae, x)
    bias = x.new_zeros(()) if sae.decoder_bias is None else sae.decoder_bias.norm()
    return ZFPoints(x.norm(dim=1), (norm_z.square() + bias.square()).sqrt())


def draw_zf(axes: Axes, points: ZFPoints, *, colour: str = "C0", label: str | None = None) -> None:
    """Draw a ZF plot: points, the diagonal, and the bands of the bound.

    Parameters
    ----------
    axes : matplotlib Axes
    points : ZFPoints
    colour, label : str
        Of the points.
    """
    top = 1.05 * float(torch.cat(points).max())
    axes.plot([0, top], [0, top], color="0.3", linewidth=1)
    for e in BANDS:
        upper = top / math.sqrt(1 - e) if e < 1 else math.inf
        if math.isfinite(upper):
            axes.plot([0, top], [0, upper], color="0.3", linewidth=0.6, linestyle=":")
        axes.plot([0, top], [0, top / math.sqrt(1 + e)], color="0.3", linewidth=0.6, linestyle=":")
    x, z = (part.numpy() for part in points)
    axes.plot(x, z, ".", markersize=2, alpha=0.4, color=colour, label=label)
    axes.set(xlim=(0, top), ylim=(0, top), xlabel="norm of the input", ylabel="norm of the code")


@torch.no_grad()
def coherence(decoder: Tensor, *, block: int = 1024, seed: int = 0) -> Coherence:
    """How far the rows of a dictionary are from orthogonal.

    Parameters
    ----------
    decoder : Tensor, shape (f, d)
    block : int, default 1024
        Rows drawn at random that are compared with all rows; all, where there are no more.
    seed : int, default 0

    Returns
    -------
    Coherence
        Exact where all rows are compared, else the largest is a lower bound.

    Examples
    --------
    >>> coherence(torch.eye(3)).largest
    0.0
    """
    rows = torch.nn.functional.normalize(decoder, dim=1)
    f = len(rows)
    chosen = torch.arange(f)
    if f > block:
        chosen = torch.randperm(f, generator=torch.Generator().manual_seed(seed))[:block]
    cosine = (rows[chosen] @ rows.t()).abs()
    cosine[torch.arange(len(chosen)), chosen] = 0
    return Coherence(float(cosine.max()), float(cosine.sum() / (len(chosen) * (f - 1))))


def description_length(l0: float, n_latents: int, *, bits: int = 7) -> float:
    """Bits of a row's code: an index and so many bits of value for every active feature.

    Examples
    --------
    >>> description_length(32, 1024)
    544.0
    """
    return l0 * (bits + math.log2(n_latents))
