r"""How well a sparse vector was recovered.

.. math:: \mathrm{NMSE} = \frac{\|\hat x - x\|^2}{\|x\|^2}, \qquad
    \mathrm{SRR} = \frac{|\hat S \cap S|}{|\hat S \cup S|}

Source: He and Joseph 2024 (arXiv 2307.14719), section VI. Departures: none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def nmse(estimate: NDArray, truth: NDArray) -> float:
    """Squared error relative to the truth's squared norm; real or complex, of one shape.

    Raises
    ------
    ValueError
        If the shapes differ or the truth is zero.

    Examples
    --------
    >>> nmse(np.array([1.0, 0.0]), np.array([1.0, 2.0]))
    0.8
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate has shape {estimate.shape} and truth {truth.shape}")
    size = float(np.sum(abs(truth) ** 2))
    if size == 0:
        raise ValueError("truth is zero everywhere: there is nothing to be relative to")
    return float(np.sum(abs(estimate - truth) ** 2)) / size


def support_recovery_rate(estimate: NDArray, truth: NDArray, *, rel_tol: float = 1e-3) -> float:
    """Common entries of both supports over all entries of either.

    Parameters
    ----------
    estimate, truth : ndarray of one shape
    rel_tol : float, default 1e-3
        An entry of the estimate counts when it is above this share of the largest.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> support_recovery_rate(np.array([1.0, 1e-9, 2.0]), np.array([1.0, 1.0, 0.0]))
    0.3333333333333333
    """
    if estimate.shape != truth.shape:
        raise ValueError(f"estimate has shape {estimate.shape} and truth {truth.shape}")
    size = abs(estimate)
    found, there = size > rel_tol * size.max(initial=0.0), truth != 0
    either = int(np.sum(found | there))
    return float(np.sum(found & there)) / either if either else 1.0
