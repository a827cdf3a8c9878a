r"""Activations: which pre-codes survive, and with what value.

An activation is an object of :mod:`rarefy.operators`. A projection says which entries survive and
leaves them as they are; a penalty is used through its proximal map, of step 1 from zero, which is
what ReLU, JumpReLU and soft thresholding are (Zhu et al. 2025, arXiv 2510.00404, section 3):

====================================  ==========================================
``L1(lam, positive=True)``            ReLU (the shift lam lies in the bias)
``L0(lam, positive=True)``            JumpReLU of a fixed threshold sqrt(2 lam)
``TopK(k, by="positive")``            TopK
``TopK(k)``                           AbsTopK
``BatchTopK(k, by="positive")``       BatchTopK, Mutual Choice
``FeatureTopK(m, by="positive")``     Feature Choice
====================================  ==========================================

Three need parameters or a memory of their own and are modules: :class:`JumpReLU` (a learned
threshold), :class:`Gated` (a gate beside the magnitude) and :class:`BatchCoupled` (what a
batch-wise projection does to one row at test time).

Sources: Rajamanoharan et al. 2024 (Gated, arXiv 2404.16014; JumpReLU, arXiv 2407.14435); Bussmann
et al. 2024 (BatchTopK, arXiv 2412.06410).
"""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from rarefy.dictionaries.codes import Everything, SparseCodes, Support, compiled
from rarefy.dictionaries.jumps import count, gate, jump
from rarefy.dictionaries.parallel import total
from rarefy.operators import (
    L0,
    L1,
    BatchTopK,
    FeatureTopK,
    Penalty,
    Projection,
    Threshold,
    TopK,
)

_DENSE = 1 / 8
"""Share of kept entries above which dense products are cheaper than sparse ones."""


@runtime_checkable
class Activation(Protocol):
    """What a module offers to be used as an activation."""

    def select(self, u: Tensor) -> Support:
        """Entries of the pre-codes u, shape (b, f), that are kept."""

    def values(self, v: Tensor, support: Support) -> Tensor:
        """Codes from the pre-codes v at the kept entries, shape (e,); differentiable."""


def select(activation: Projection | Penalty | Activation, u: Tensor) -> Support:
    """Entries of the pre-codes that an activation keeps.

    Parameters
    ----------
    activation : Projection, Penalty or Activation
    u : Tensor, shape (b, f)

    Returns
    -------
    Support of shape (b, f)
        With a :class:`~rarefy.operators.TopK` exactly k in every row, whatever their sign; those
        that are not positive get the value 0 where it ranks positive parts.

    Raises
    ------
    ValueError
        If pre-codes that would be kept are not finite.
    """
    support = _select(activation, u)
    # NaN ranks above everything, so it is enough to look at what is kept.
    kept = support.of(u)
    if not bool(torch.isfinite(kept.sum())) and not bool(torch.isfinite(kept).all()):
        bad = len(support.rows[~torch.isfinite(kept)].unique())
        raise ValueError(
            f"the pre-codes hold values that are not finite in {bad} of {len(u)} rows: the "
            "activations or the autoencoder's weights do"
        )
    return support


def _select(activation: Projection | Penalty | Activation, u: Tensor) -> Support:
    if isinstance(activation, Penalty):
        cut = torch.tensor(_largest_of_zero(activation, u.dtype), dtype=u.dtype, device=u.device)
        return candidates(u, cut, magnitude=not activation.positive)
    if isinstance(activation, TopK) and activation.axis == -1 and activation.k < u.shape[-1]:
        columns = top_columns(u, activation.k, magnitude=activation.by == "magnitude")
        return Support.from_columns(columns.view(len(u), -1), u.shape[-1])
    if isinstance(activation, BatchTopK):
        return _flat_top_k(u, round(activation.k * len(u)), by=activation.by)
    if isinstance(activation, FeatureTopK):
        return _column_top_k(u, activation)
    if isinstance(activation, Threshold):
        tau = torch.as_tensor(activation.tau, device=u.device)
        tau = tau.clamp(min=0) if activation.by == "positive" else tau
        return above(u, tau, magnitude=activation.by == "magnitude")
    if isinstance(activation, Projection):
        return Support.from_mask(activation.mask(u))
    return activation.select(u)


def above(u: Tensor, threshold: Tensor, *, magnitude: bool = False) -> Support:
    """Entries strictly above a threshold, which is a number or one for each latent; NaN is above.

    Parameters
    ----------
    u : Tensor, shape (b, f)
    threshold : Tensor, shape (f,) or ()
    magnitude : bool, default False
        Compare ``|u|``.

    Returns
    -------
    Support of shape (b, f)
    """
    from rarefy.kernels.cpu import compressed_rows as kernels

    find = kernels.above if compiled(u) else kernels.above_reference
    return Support(*find(u, threshold, magnitude=magnitude), u.shape[-1])


def candidates(u: Tensor, threshold: Tensor, *, magnitude: bool = False) -> Support:
    """Entries that may be active: those above a threshold or, once they are many, all.

    For activations whose value is 0 at every entry that is not above it.

    Parameters
    ----------
    u, threshold, magnitude
        As for :func:`above`.

    Returns
    -------
    Support of shape (b, f)
        :class:`~rarefy.dictionaries.codes.Everything` where more than an eighth is above.
    """
    from rarefy.kernels.cpu import compressed_rows as kernels

    ready = compiled(u)
    number = kernels.count_above if ready else kernels.count_above_reference
    offsets = number(u, threshold, magnitude=magnitude)
    if int(offsets[-1]) > _DENSE * u.numel():
        return Everything(len(u), u.shape[-1], u.device)
    find = kernels.above if ready else kernels.above_reference
    return Support(*find(u, threshold, magnitude=magnitude, offsets=offsets), u.shape[-1])


@cache
def _largest_of_zero(penalty: Penalty, dtype: torch.dtype) -> float:
    """Largest magnitude that a penalty's proximal map takes to 0, by bisection.

    Proximal maps rise, so there is one; positive floats have the order of their bits as integers.
    """
    bits = torch.int64 if dtype == torch.float64 else torch.int32
    wide = dtype if dtype == torch.float64 else torch.float32
    low, high = 0, int(torch.tensor(torch.finfo(wide).max, dtype=wide).view(bits))
    while high - low > 1:
        middle = (low + high) // 2
        kept = penalty.prox(torch.tensor([middle], dtype=bits).view(wide)).item() != 0
        low, high = (low, middle) if kept else (middle, high)
    return torch.tensor([low], dtype=bits).view(wide).item()


def top_columns(u: Tensor, k: int | Tensor, *, magnitude: bool = False) -> Tensor:
    """Columns of the k best entries of every row, row after row; of equal entries the first.

    Parameters
    ----------
    u : Tensor, shape (b, f)
    k : int or int64 Tensor, shape (b,)
        From 0 to f.
    magnitude : bool, default False
        Rank ``|u|``.

    Returns
    -------
    int64 Tensor, shape (b * k,) or (sum of k,)
    """
    from rarefy.kernels.cpu import topk as kernels

    return (kernels.top_k if compiled(u) else kernels.top_k_reference)(u, k, magnitude=magnitude)


def _flat_top_k(u: Tensor, count: int, *, by: str) -> Support:
    """The best entries of the whole batch; of equal ones the first, row by row.

    One row in 16 tells where the cut must lie; the entries above that guess are few, and where
    they are at least as many as are wanted the best of them are the best of all.
    """
    magnitude = by == "magnitude"
    sample = (u[::16].abs() if magnitude else u[::16]).reshape(-1)
    wanted = int(1.3 * count * len(sample) / u.numel()) + 16 if u.numel() else 0
    floor = torch.tensor(0.0 if by == "positive" else -torch.inf, device=u.device)
    guess = floor
    if wanted < len(sample):
        guess = torch.maximum(sample.topk(wanted, sorted=False).values.min().float(), floor)
    support = above(u, guess, magnitude=magnitude)
    if len(support.indices) < count and guess > floor:
        support = above(u, floor, magnitude=magnitude)
    if len(support.indices) <= count:
        return support
    found = support.of(u)
    best = torch.zeros(len(found), dtype=torch.bool, device=u.device)
    best[top_columns(found[None], count, magnitude=magnitude)] = True
    return support.where(best)


def _column_top_k(u: Tensor, activation: FeatureTopK) -> Support:
    """The best entries of every column, found as rows of the transpose."""
    rows, width = u.shape
    counts = torch.as_tensor(activation.k).expand(width).clamp(max=rows)
    columns = u.t().contiguous()
    indices = top_columns(columns, counts, magnitude=activation.by == "magnitude")
    support = Support.from_counts(indices, counts.to(u.device), rows).transposed[0]
    if activation.by != "positive":
        return support
    # not at most 0, rather than above it: a NaN must stay
    return support.where(~(support.of(u) <= 0))


def values(activation: Projection | Penalty | Activation, v: Tensor, support: Support) -> Tensor:
    """Codes from the pre-codes at the kept entries.

    Parameters
    ----------
    activation : Projection, Penalty or Activation
    v : Tensor, shape (e,)
    support : Support

    Returns
    -------
    Tensor, shape (e,)
    """
    if isinstance(activation, L0 | L1) and activation.positive:
        cut = v.new_full((support.width,), _largest_of_zero(activation, v.dtype))
        shift = activation.lam if isinstance(activation, L1) else 0.0
        return jump(v, cut, support, shift=shift)
    if isinstance(activation, Penalty):
        return activation.prox(v)
    if isinstance(activation, Projection):
        return v.relu() if activation.by == "positive" else v
    return activation.values(v, support)


def smallest_of_columns(kept: Tensor, indices: Tensor, width: int) -> Tensor:
    """Smallest kept value of every latent, shape (f,); infinity for one that none names."""
    return kept.new_full((width,), torch.inf).scatter_reduce_(0, indices, kept, "amin")


class JumpReLU(nn.Module):
    r"""Keep what is above a learned threshold: :math:`z = u\,1[u > \theta]`.

    The threshold learns through a window K of width epsilon around it, the box on (-1/2, 1/2):

    .. math:: \frac{\partial z}{\partial \theta} = -\frac{\theta}{\epsilon}
        K\Bigl(\frac{u - \theta}{\epsilon}\Bigr), \qquad
        \frac{\partial H}{\partial \theta} = -\frac1\epsilon K\Bigl(\frac{u-\theta}{\epsilon}\Bigr)

    so in training the entries of the window below the threshold are kept, with the value 0.

    Parameters
    ----------
    n_latents : int
    threshold : float, default 0.01
        At the start.
    bandwidth : float, default 0.05
        Epsilon. Both are in units of the pre-codes, for inputs of norm about sqrt(d).
    """

    def __init__(self, n_latents: int, *, threshold: float = 0.01, bandwidth: float = 0.05) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.full((n_latents,), threshold))
        self.bandwidth = bandwidth

    def select(self, u: Tensor) -> Support:
        """Entries above the threshold; in training the window below it too."""
        theta = self.threshold.detach().clamp(min=0)
        return candidates(u, theta - self.bandwidth / 2 if self.training else theta)

    def values(self, v: Tensor, support: Support) -> Tensor:
        """Codes, with the straight-through gradient of the threshold."""
        return jump(v, self.threshold.clamp(min=0), support, bandwidth=self.bandwidth)

    def count(self, v: Tensor, codes: SparseCodes) -> Tensor:
        """Number of active entries, 0-d, with the straight-through gradient."""
        return count(v, self.threshold.clamp(min=0), codes, bandwidth=self.bandwidth)


class Gated(nn.Module):
    r"""Decide with a gate, measure with a magnitude: two affine maps of one product.

    .. math:: z = 1[u + b_g > 0]\;\mathrm{ReLU}(e^{r} u + b_m), \qquad u = (x - b_d) E^T

    for an autoencoder without an encoder bias of its own. No gradient passes the gate; its
    auxiliary loss is :class:`rarefy.dictionaries.losses.GateLoss`.

    Parameters
    ----------
    n_latents : int
    """

    def __init__(self, n_latents: int) -> None:
        super().__init__()
        self.gate_bias = nn.Parameter(torch.zeros(n_latents))
        self.magnitude_bias = nn.Parameter(torch.zeros(n_latents))
        self.log_scale = nn.Parameter(torch.zeros(n_latents))

    def select(self, u: Tensor) -> Support:
        """Entries whose gate is open."""
        return candidates(u, -self.gate_bias.detach())

    def values(self, v: Tensor, support: Support) -> Tensor:
        """Magnitudes of the open entries, and 0 at the others."""
        return self._above_gate(v, self.log_scale.exp(), self.magnitude_bias, support)

    def gate(self, v: Tensor, support: Support) -> Tensor:
        """Pre-codes of the gate at the open entries, and 0 at the others."""
        return self._above_gate(v, torch.ones_like(self.gate_bias), self.gate_bias, support)

    def _above_gate(self, v: Tensor, scale: Tensor, bias: Tensor, support: Support) -> Tensor:
        return gate(v, -self.gate_bias.detach(), scale, bias, support)


class BatchCoupled(nn.Module):
    """A projection that ranks a whole batch in training, and a threshold at test time.

    Rows must not depend on each other once a dictionary is in use: in evaluation mode a row keeps
    what is above a running mean of the smallest value that the projection kept. Where several
    processes train, each ranks its own rows and the smallest values are averaged.

    Parameters
    ----------
    projection : Projection
        :class:`~rarefy.operators.BatchTopK`, :class:`~rarefy.operators.FeatureTopK`, ...
    n_latents : int
    decay : float, default 0.999
        Of the running mean; its first batches weigh as in a plain mean.

    Notes
    -----
    :class:`~rarefy.operators.FeatureTopK` gets a threshold for each latent, others one for all.
    """

    threshold: Tensor
    batches: Tensor

    def __init__(self, projection: Projection, n_latents: int, *, decay: float = 0.999) -> None:
        super().__init__()
        self.projection = projection
        self.decay = decay
        per_latent = isinstance(projection, FeatureTopK)
        self.register_buffer("threshold", torch.zeros(n_latents if per_latent else 1))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def select(self, u: Tensor) -> Support:
        """Entries that the projection keeps; in evaluation those above the threshold."""
        if not self.training:
            return _select(Threshold(self.threshold.squeeze(), by=self._by), u)
        support = _select(self.projection, u)
        self._follow(u, support)
        return support

    def values(self, v: Tensor, support: Support) -> Tensor:
        """Kept entries as they are, without those that are not positive where these rank."""
        return values(self.projection, v, support)

    @property
    def _by(self) -> Any:
        # above a threshold that is never negative a value is its own positive part
        return "magnitude" if self.projection.by == "magnitude" else "value"

    @torch.no_grad()
    def _follow(self, u: Tensor, support: Support) -> None:
        kept = support.of(u).to(self.threshold.dtype)
        kept = kept.abs() if self.projection.by == "magnitude" else kept
        keep = kept > 0
        if len(self.threshold) == 1:
            smallest = torch.cat([kept[keep], kept.new_full((1,), torch.inf)]).amin(0, keepdim=True)
        else:
            smallest = smallest_of_columns(kept[keep], support.indices[keep], support.width)
        seen = smallest.isfinite()
        count = total(seen.to(kept.dtype))
        smallest = total(torch.where(seen, smallest, 0.0)) / count.clamp(min=1)
        seen = count > 0
        if not bool(seen.any()):
            return
        self.batches += 1
        rate = max(1 - self.decay, 1 / int(self.batches))
        self.threshold[seen] += rate * (smallest[seen] - self.threshold[seen])
