r"""What the units of a dictionary of image patches look for: orientation, and kinds of fields.

The orientation selectivity index is :math:`|\sum_\theta R_\theta e^{2i\theta}| / \sum_\theta
R_\theta`, with :math:`R_\theta` the largest response to a grating of that orientation over
frequencies and phases: 0 when all orientations are alike, near 1 when one alone counts.

Kinds, the first that fits:

- *oriented*: a Gabor function with R2 of at least 0.8, and selectivity above 0.3;
- *unoriented*: selectivity of at most 0.15, and a difference of two round Gaussians fits better
  than a Gabor function;
- *unlocalised*: the energy, smoothed, is spread over more than 60 % of the patch (participation
  ratio);
- *complex*: all others: localised, and neither; corners, curves, crossings.

Source: "Beyond l1 sparse coding in V1" (Rentzeperis et al., 2023), which looks for oriented fields
and for others beside them. Departures: the paper's own criteria were not at hand; the kinds and
their bounds are ours. Fields are the atoms, not responses to noise.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rarefy.dictionaries.gabor import (
    GaborFit,
    energy_centre,
    fit_gabor,
    on_grid,
    race,
    total_variation,
)

Kind = Literal["oriented", "unoriented", "unlocalised", "complex"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_ORIENTATIONS = 36
_FREQUENCIES = 10
# Shares of the patch: widths of the inner and the outer Gaussian that are tried.
_DOG_WIDTHS = ((0.08, 0.16), (0.15, 0.3))


class ReceptiveFields(NamedTuple):
    """What `receptive_field_report` found, for each unit (m,)."""

    gabor: GaborFit
    osi: Tensor
    """Orientation selectivity index."""
    spread: Tensor
    """Share of the patch over which the energy is spread."""
    kind: tuple[Kind, ...]

    @property
    def selective(self) -> float:
        """Share of units that are Gabor-like and selective for orientation."""
        return self.kind.count("oriented") / len(self.kind)

    @property
    def shares(self) -> dict[Kind, float]:
        """Share of each kind."""
        return {kind: self.kind.count(kind) / len(self.kind) for kind in KINDS}


def receptive_field_report(fields: Tensor) -> ReceptiveFields:
    """Fit, measure and name each field.

    Parameters
    ----------
    fields : Tensor (m, p, p)
        As `fit_gabor` wants them.

    Examples
    --------
    >>> noise = torch.randn(8, 12, 12, generator=torch.Generator().manual_seed(0))
    >>> receptive_field_report(noise).shares["oriented"]
    0.0
    """
    gabor, osi, spread = fit_gabor(fields), orientation_selectivity(fields), _spread(fields)
    round_better = _dog_r2(fields) > gabor.r2
    oriented = gabor.gabor_like & (osi > 0.3)
    unoriented = (osi <= 0.15) & round_better
    kinds: tuple[Kind, ...] = tuple(
        "oriented" if o else "unoriented" if u else "unlocalised" if s > 0.6 else "complex"
        for o, u, s in zip(oriented.tolist(), unoriented.tolist(), spread.tolist(), strict=True)
    )
    return ReceptiveFields(gabor, osi, spread, kinds)


def class_entropy(fields: ReceptiveFields) -> float:
    """Entropy of the kinds, in bits: 0 when all units are of one kind, 2 when all are as many."""
    return -sum(share * math.log2(share) for share in fields.shares.values() if share) + 0.0


def orientation_selectivity(fields: Tensor) -> Tensor:
    """Orientation selectivity index of each field (m, p, p), by 36 orientations of gratings.

    Examples
    --------
    >>> stripes = torch.cos(torch.arange(12.0) * 1.2).expand(1, 12, 12)
    >>> bool(orientation_selectivity(stripes) > 0.5)
    True
    """
    fields, xy = on_grid(fields)
    size = fields.shape[-1]
    theta = torch.arange(_ORIENTATIONS, dtype=torch.float64) * math.pi / _ORIENTATIONS
    # From one cycle on the patch to the finest wave its pixels hold.
    frequency = torch.logspace(
        math.log10(1 / size), math.log10(0.5), _FREQUENCIES, dtype=torch.float64
    )
    direction = torch.stack([theta.cos(), theta.sin()], 1)
    wave = 2 * math.pi * frequency[:, None, None] * (direction @ xy.T)
    # The best phase of a wave answers with the length of its quadrature pair.
    pair = [
        torch.einsum("fop,mp->fom", part, fields.flatten(1)) for part in (wave.cos(), wave.sin())
    ]
    response = torch.hypot(*pair).amax(0)
    turned = torch.polar(torch.ones_like(theta), 2 * theta)
    return (turned @ response.to(turned)).abs() / response.sum(0).clamp(min=1e-30)


def _spread(fields: Tensor) -> Tensor:
    """Participation ratio of the smoothed energy: 1 when it is even, small when it is in a spot."""
    fields, xy = on_grid(fields)
    distance = torch.cdist(xy, xy)
    blur = torch.exp(-((distance / (fields.shape[-1] / 8)) ** 2) / 2)
    energy = fields.flatten(1).square() @ (blur / blur.sum(0))
    return energy.sum(1) ** 2 / (len(xy) * energy.square().sum(1).clamp(min=1e-30))


def _dog_r2(fields: Tensor) -> Tensor:
    """R2 of the best difference of two round Gaussians about one centre."""
    fields, xy = on_grid(fields)
    flat, size = fields.flatten(1), fields.shape[-1]

    # The centre is sought at the strongest pixel, since a ring's centroid may be off it.
    x0, y0 = energy_centre(flat, xy)
    peak = flat.abs().argmax(1)
    height = flat.gather(1, peak[:, None]).squeeze(1)
    starts = []
    for cx, cy in ((x0, y0), tuple(xy[peak].T)):
        for inner, outer in _DOG_WIDTHS:
            widths = [torch.full_like(x0, math.log(share * size)) for share in (inner, outer)]
            starts.append(torch.stack([height, height / 2, cx, cy, *widths], 1))
    _, error = race(partial(_two_gaussians, xy), starts, flat)
    return 1 - error / total_variation(flat)


def _two_gaussians(xy: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Differences of round Gaussians: two heights, x0, y0, two log widths; a `Model`."""
    high, low, x0, y0, log_inner, log_outer = (part[:, None] for part in p.T)
    x, y = xy[:, 0] - x0, xy[:, 1] - y0
    inner_far, outer_far = ((x**2 + y**2) / (2 * log).exp() for log in (log_inner, log_outer))
    inner, outer = torch.exp(-inner_far / 2), torch.exp(-outer_far / 2)
    pull = high * inner / (2 * log_inner).exp() - low * outer / (2 * log_outer).exp()
    jacobian = (
        inner,
        -outer,
        x * pull,
        y * pull,
        high * inner * inner_far,
        -low * outer * outer_far,
    )
    return high * inner - low * outer, torch.stack(jacobian, 2)
