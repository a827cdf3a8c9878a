r"""Uplink of a user to a base station by way of an intelligent reflecting surface (IRS).

.. math:: Y_k = H_2\, \mathrm{diag}(\theta_k)\, H_1 S + N, \qquad k = 1, \dots, K

The user's channel to the surface :math:`H_1` and the surface's to the station :math:`H_2` have few
directions each, on a grid of steering vectors :math:`a(u) = e^{j \pi u (0, \dots, n-1)} / \sqrt n`.
Stacked over reflection patterns :math:`\theta_k` the measurements are
:math:`y = (\Theta A_{IRS} \otimes S^T \bar A_{MS} \otimes A_{BS})\, x + n`, where x is sparse
with a Kronecker support: the directions at the surface (a difference of arrival and departure), at
the user, and at the station.

Source: He and Joseph, IEEE TSP 2024 (arXiv 2307.14719), section VII, with the constants of the
authors' released code. Departures: none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rarefy.regression.kronecker import multiply_modes

_QPSK = np.exp(0.5j * np.pi * np.arange(4))


@dataclass(frozen=True)
class IrsMimo:
    """One channel and its noisy measurements.

    Attributes
    ----------
    factors : tuple of three complex arrays, shapes (patterns, grid), (pilots, grid), (bs, grid)
    y : complex array, shape (patterns, pilots, bs)
    x_true : complex array, shape (grid, grid, grid)
        Surface, user, station.
    noise_var : float
        E|n|^2, the mean energy of a clean measurement over the signal-to-noise ratio.
    channels : complex array, shape (patterns, bs, ms)
        What is to be known: the cascade ``H_2 diag(theta) H_1`` of each pattern.
    dictionaries : tuple of three complex arrays
        Takes a coefficient tensor to the cascades: shapes (patterns, grid), (ms, grid), (bs, grid).
    """

    factors: tuple[NDArray, NDArray, NDArray]
    y: NDArray
    x_true: NDArray
    noise_var: float
    channels: NDArray
    dictionaries: tuple[NDArray, NDArray, NDArray]

    def cascades(self, x: NDArray) -> NDArray:
        """The cascaded channels that the coefficients x, shape (grid, grid, grid), stand for."""
        return multiply_modes(x, self.dictionaries).transpose(0, 2, 1)

    def nmse(self, x: NDArray) -> float:
        """Error of the cascades relative to each one's energy, averaged over patterns."""
        error = np.sum(abs(self.cascades(x) - self.channels) ** 2, axis=(1, 2))
        return float(np.mean(error / np.sum(abs(self.channels) ** 2, axis=(1, 2))))


def irs_mimo_problem(
    rng: np.random.Generator,
    *,
    snr_db: float,
    grid: int = 18,
    ms: int = 6,
    irs: int = 256,
    bs: int = 16,
    pilots: int = 3,
    patterns: int = 6,
    spread: int = 3,
) -> IrsMimo:
    """Draw a channel and measure it.

    Parameters
    ----------
    rng : numpy.random.Generator
    snr_db : float
        Signal-to-noise ratio of a measurement.
    grid : int, default 18
        Directions per dictionary, evenly spaced on [-1, 1).
    ms, irs, bs : int, defaults 6, 256, 16
        Antennas of the user, elements of the surface, antennas of the station.
    pilots, patterns : int, defaults 3, 6
        Pilot symbols (QPSK) and reflection patterns (random signs).
    spread : int, default 3
        Adjacent directions at the surface's arrival and at the station; departures have one.

    Returns
    -------
    IrsMimo

    Raises
    ------
    ValueError
        If the spread exceeds the grid.
    """
    if not 1 <= spread <= grid:
        raise ValueError(f"spread must be from 1 to the grid's {grid} directions, got {spread}")
    angles = -1.0 + 2.0 * np.arange(grid) / grid
    at_ms, at_irs, at_bs = (
        np.exp(1j * np.pi * np.outer(np.arange(n), angles)) / np.sqrt(n) for n in (ms, irs, bs)
    )
    symbols = _QPSK[rng.integers(4, size=(ms, pilots))] * np.exp(0.25j * np.pi) / np.sqrt(ms)

    arrival = rng.integers(grid - spread + 1) + np.arange(spread)
    station = rng.integers(grid - spread + 1) + np.arange(spread)
    user, departure = rng.integers(grid, size=2)
    gains = rng.normal(size=(2, spread, 2)) @ [1, 1j] / np.sqrt(2)
    to_surface = np.sqrt(ms * irs / spread) * np.outer(
        at_irs[:, arrival] @ gains[0], at_ms[:, user].conj()
    )
    to_station = np.sqrt(bs * irs / spread) * np.outer(
        at_bs[:, station] @ gains[1], at_irs[:, departure].conj()
    )
    x = np.zeros((grid, grid, grid), complex)
    # a surface only shows the difference of its arrival and departure
    x[np.ix_((departure - arrival) % grid, [user], station)] = (
        np.sqrt(bs * irs / spread)
        * np.sqrt(ms * irs / spread)
        * (gains[0][:, None] * gains[1])[:, None, :]
    )

    # A pattern that reflects next to nothing to the station has no channel to be known.
    reflections = np.zeros((patterns, irs))
    channels = np.zeros((patterns, bs, ms), complex)
    for k in range(patterns):
        while np.linalg.norm(channels[k]) < 1e-5:
            reflections[k] = rng.choice([-1.0, 1.0], irs) / np.sqrt(irs)
            channels[k] = to_station @ (reflections[k][:, None] * to_surface)
    surface = reflections @ (at_irs[:, :1] * at_irs.conj())
    factors = (surface, symbols.T @ at_ms.conj(), at_bs)
    clean = multiply_modes(x, factors)
    noise_var = float(np.mean(abs(clean) ** 2)) / 10.0 ** (snr_db / 10.0)
    noise = rng.normal(size=(*clean.shape, 2)) @ [1, 1j] * np.sqrt(noise_var / 2)
    return IrsMimo(factors, clean + noise, x, noise_var, channels, (surface, at_ms.conj(), at_bs))


def symbol_error_rate(
    estimates: NDArray,
    channels: NDArray,
    rng: np.random.Generator,
    *,
    snr_db: float,
    n_symbols: int = 10_000,
) -> float:
    """Share of QPSK symbols read wrongly when the estimated channels steer both ends.

    Both ends use the estimate's first singular vectors, and the receiver scales by its estimate.

    Parameters
    ----------
    estimates, channels : complex arrays, shape (patterns, bs, ms)
    rng : numpy.random.Generator
    snr_db : float
        Signal-to-noise ratio at the receiver's output.
    n_symbols : int, default 10000
        Per pattern; the authors' study sends 100,000.
    """
    sent = rng.integers(4, size=n_symbols)
    errors = []
    for estimate, channel in zip(estimates, channels, strict=True):
        left, _, right = np.linalg.svd(estimate)
        decoder, precoder = left[:, 0].conj(), right[0].conj()
        clean = (decoder @ channel @ precoder) * _QPSK[sent]
        power = np.mean(abs(clean) ** 2) / 10.0 ** (snr_db / 10.0)
        received = clean + rng.normal(size=(n_symbols, 2)) @ [1, 1j] * np.sqrt(power / 2)
        expected = (decoder @ estimate @ precoder) * _QPSK
        errors.append(np.mean(np.argmin(abs(received[:, None] - expected), axis=1) != sent))
    return float(np.mean(errors))
