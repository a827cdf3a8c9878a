r"""Gabor functions fitted to receptive fields, all fields at once.

.. math:: g(x, y) = e^{-x'^2 / 2\sigma_x^2 - y'^2 / 2\sigma_y^2}
          \bigl(a \cos 2\pi f x' + b \sin 2\pi f x'\bigr)

with x', y' the coordinates about the centre (x0, y0), turned by theta. A field is compared with it
by :math:`R^2 = 1 - \|\varphi - g\|^2 / \|\varphi - \bar\varphi\|^2`.

Source: Jones and Palmer (1987); Ringach (2002) for the plane of sigma_x f and sigma_y f, in which
macaque V1 lies. Levenberg (1944), Marquardt (1963). Departures: amplitude and phase are written as
the two linear coefficients a and b, whose best start is a 2 x 2 solve, in place of several starts
for the phase.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

# Envelopes tried: (across, along the stripes) as shares of the patch.
_WIDTHS = ((0.12, 0.12), (0.2, 0.2), (0.12, 0.25), (0.3, 0.2))
_RACE, _FINISH = 8, 40


class GaborFit(NamedTuple):
    """Fitted parameters of each field, all of shape (m,); pixels and radians."""

    r2: Tensor
    amplitude: Tensor
    phase: Tensor
    x0: Tensor
    y0: Tensor
    sigma_x: Tensor
    sigma_y: Tensor
    frequency: Tensor
    theta: Tensor
    inside: Tensor
    """Whether the centre lies on the patch."""

    @property
    def gabor_like(self) -> Tensor:
        """Fields that a Gabor function on the patch explains: R2 of 0.8 or more (m,)."""
        return (self.r2 >= 0.8) & self.inside


def fit_gabor(fields: Tensor) -> GaborFit:
    """Fit a Gabor function to each field.

    Parameters
    ----------
    fields : Tensor (m, p, p)
        Square fields of at least 8 x 8 pixels; on less than 12 x 12 fits say little. Columns are x.

    Returns
    -------
    GaborFit

    Raises
    ------
    ValueError
        If the fields are not square or too small.

    Examples
    --------
    >>> axis = torch.arange(12.0) - 5.5
    >>> y, x = torch.meshgrid(axis, axis, indexing="ij")
    >>> field = torch.exp(-(x**2 + y**2) / 8) * torch.cos(2 * math.pi * 0.2 * x)
    >>> fit = fit_gabor(field[None])
    >>> round(fit.frequency.item(), 3), round(fit.sigma_x.item(), 3), bool(fit.gabor_like)
    (0.2, 2.0, True)
    """
    fields, xy = on_grid(fields)
    flat = fields.flatten(1)
    size = fields.shape[-1]

    x0, y0 = energy_centre(flat, xy)
    frequency, theta = _fft_peak(fields)
    starts = [
        torch.stack(
            [
                x0,
                y0,
                torch.full_like(x0, math.log(across * size)),
                torch.full_like(x0, math.log(along * size)),
                frequency,
                theta,
            ],
            1,
        )
        for across, along in _WIDTHS
    ]
    p, error = race(partial(_gabor, xy), [_with_best_phase(flat, s, xy) for s in starts], flat)
    a, b, x0, y0, log_x, log_y, frequency, theta = p.T
    # A negative frequency is the positive one seen from behind.
    half = (size - 1) / 2
    return GaborFit(
        r2=1 - error / total_variation(flat),
        amplitude=torch.hypot(a, b),
        phase=torch.atan2(-b * frequency.sign(), a),
        x0=x0,
        y0=y0,
        sigma_x=log_x.exp(),
        sigma_y=log_y.exp(),
        frequency=frequency.abs(),
        theta=theta % math.pi,
        inside=(x0.abs() <= half + 0.5) & (y0.abs() <= half + 0.5),
    )


def on_grid(fields: Tensor) -> tuple[Tensor, Tensor]:
    """Check fields; give them in float64 with the pixels' coordinates about the middle (p * p, 2).

    Raises
    ------
    ValueError
        If they are not (m, p, p) with p at least 8.
    """
    if fields.ndim != 3 or fields.shape[1] != fields.shape[2] or fields.shape[1] < 8:
        raise ValueError(
            f"fields has shape {tuple(fields.shape)}, expected (m, p, p) with p at least 8"
        )
    axis = torch.arange(fields.shape[1], dtype=torch.float64) - (fields.shape[1] - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return fields.double(), torch.stack([x.ravel(), y.ravel()], 1)


def energy_centre(flat: Tensor, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Centroid of the squared field: where an envelope is looked for."""
    energy = flat.square()
    x0, y0 = (energy @ xy / energy.sum(1, keepdim=True).clamp(min=1e-30)).T
    return x0, y0


def total_variation(flat: Tensor) -> Tensor:
    """Squared distance of each field from its mean: what R2 measures errors against."""
    return (flat - flat.mean(1, keepdim=True)).square().sum(1).clamp(min=1e-30)


Model = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters (m, k) to pixels (m, d) and their derivatives (m, d, k)."""


def race(model: Model, starts: list[Tensor], target: Tensor) -> tuple[Tensor, Tensor]:
    """Fit from each start for a few steps, then from the best of them to the end.

    Each start is (m, k). Returns the parameters (m, k) and the squared errors (m,).
    """
    runs = [levenberg_marquardt(model, start, target, _RACE) for start in starts]
    best = torch.stack([error for _, error in runs]).argmin(0)
    ahead = torch.stack([p for p, _ in runs])[best, torch.arange(len(target))]
    return levenberg_marquardt(model, ahead, target, _FINISH)


def levenberg_marquardt(
    model: Model, start: Tensor, target: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Least squares for many small problems side by side: parameters, and squared errors (m,)."""
    p = start
    values, jacobian = model(p)
    residual = target - values
    error = residual.square().sum(1)
    damping = torch.full_like(error, 1e-2)
    for _ in range(steps):
        gram = jacobian.mT @ jacobian
        scale = gram.diagonal(dim1=1, dim2=2).clamp(min=1e-12)
        damped = gram + torch.diag_embed(damping[:, None] * scale + 1e-14)
        tried = p + torch.linalg.solve(damped, jacobian.mT @ residual[:, :, None]).squeeze(2)
        values, derivative = model(tried)
        new = target - values
        better = new.square().sum(1) < error
        p = torch.where(better[:, None], tried, p)
        residual = torch.where(better[:, None], new, residual)
        jacobian = torch.where(better[:, None, None], derivative, jacobian)
        error = residual.square().sum(1)
        damping = torch.where(better, damping / 5, damping * 4).clamp(1e-9, 1e9)
    return p, error


def _gabor(xy: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Gabor functions of a, b, x0, y0, log sigma_x, log sigma_y, f and theta: a `Model`."""
    a, b, _, _, log_x, log_y, frequency, theta = (part[:, None] for part in p.T)
    across, along, envelope = _envelope(p[:, 2:], xy)
    angle = 2 * math.pi * frequency * across
    cos, sin = torch.cos(angle), torch.sin(angle)
    height, slope = envelope * (a * cos + b * sin), envelope * (b * cos - a * sin)
    # x'^2 / sigma_x^2, y'^2 / sigma_y^2, and the derivatives along x' and y'
    far_x, far_y = (across / log_x.exp()) ** 2, (along / log_y.exp()) ** 2
    by_across = 2 * math.pi * frequency * slope - across / (2 * log_x).exp() * height
    by_along = -along / (2 * log_y).exp() * height
    jacobian = (
        envelope * cos,
        envelope * sin,
        by_along * torch.sin(theta) - by_across * torch.cos(theta),
        -by_across * torch.sin(theta) - by_along * torch.cos(theta),
        height * far_x,
        height * far_y,
        2 * math.pi * across * slope,
        by_across * along - by_along * across,
    )
    return height, torch.stack(jacobian, 2)


def _envelope(p: Tensor, xy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels' coordinates x' and y', and the height of the envelope: each (m, d)."""
    x0, y0, log_x, log_y, _, theta = (part[:, None] for part in p.T)
    x, y = xy[:, 0] - x0, xy[:, 1] - y0
    across = x * torch.cos(theta) + y * torch.sin(theta)
    along = y * torch.cos(theta) - x * torch.sin(theta)
    envelope = torch.exp(-((across / log_x.exp()) ** 2 + (along / log_y.exp()) ** 2) / 2)
    return across, along, envelope


def _with_best_phase(flat: Tensor, start: Tensor, xy: Tensor) -> Tensor:
    """Put the least-squares coefficients of cosine and sine before the other parameters."""
    across, _, envelope = _envelope(start, xy)
    carrier = 2 * math.pi * start[:, 4:5] * across
    basis = torch.stack([envelope * torch.cos(carrier), envelope * torch.sin(carrier)], 1)
    gram = basis @ basis.mT + 1e-9 * torch.eye(2, dtype=basis.dtype)
    ab = torch.linalg.solve(gram, basis @ flat[:, :, None]).squeeze(2)
    return torch.cat([ab, start], 1)


def _fft_peak(fields: Tensor) -> tuple[Tensor, Tensor]:
    """Frequency (cycles per pixel) and direction of the strongest wave in each field."""
    n = 4 * fields.shape[-1]
    power = torch.fft.fft2(fields, s=(n, n)).abs()
    power[:, 0, 0] = 0
    # Half of the plane: the other half mirrors it.
    power = power[:, :, : n // 2]
    peak = power.flatten(1).argmax(1)
    fy = torch.fft.fftfreq(n, dtype=torch.float64)[peak // (n // 2)]
    fx = (peak % (n // 2)).double() / n
    return torch.hypot(fx, fy), torch.atan2(fy, fx)
