r"""Values that jump at a threshold, and what the jump tells the threshold, in one pass each.

.. math:: z_e = (v_e - s)\,1[v_e > \theta_{j(e)}], \qquad
    \frac{\partial}{\partial\theta_j} = -\frac{\theta_j}{\epsilon}
        \sum_{e:\,j(e)=j} K\Bigl(\frac{v_e - \theta_j}{\epsilon}\Bigr)\,g_e

with K the box on (-1/2, 1/2). Entries come with the column j(e) of each or, where every entry of a
matrix is meant, without: entry e is then in column e mod f.

A gate is the same with an affine map of each column's own in place of the shift,

.. math:: z_e = \max(0, a_j v_e + b_j)\,1[v_e > \theta_j]

Sources: Rajamanoharan et al. 2024 (JumpReLU, arXiv 2407.14435; Gated, arXiv 2404.16014).
Departures: none. A ReLU is the case :math:`\theta = s = 0`.

Axis letters: e entries, f columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rarefy.kernels.cpu._threads import side_by_side, thread_count
from rarefy.kernels.cpu.recycled import empty

Floats = NDArray[np.float32]
Places = NDArray[np.int64]

_NONE = np.empty(0, np.int64)


def jump(
    v: Tensor,
    theta: Tensor,
    columns: Tensor | None,
    *,
    shift: float = 0.0,
    threads: int | None = None,
) -> Tensor:
    """Values less the shift where they are above their column's threshold, else 0.

    Parameters
    ----------
    v : Tensor, float32 on the CPU, shape (e,)
    theta : Tensor, float32, shape (f,)
    columns : Tensor of int64, shape (e,), or None
        None where v holds all entries of a matrix of f columns, row after row.
    shift : float, default 0
    threads : int, optional
        Default: torch's number of threads.

    Returns
    -------
    Tensor, shape (e,)
    """
    z = _like(v, columns)
    values, cuts, places = _arrays(v, theta, columns)
    task = partial(_jump, values, cuts, places, np.float32(shift), z.numpy())
    _side_by_side(task, v, theta, columns, threads)
    return z


def jump_reference(
    v: Tensor, theta: Tensor, columns: Tensor | None, *, shift: float = 0.0
) -> Tensor:
    """``jump`` in torch: its plain twin."""
    return torch.where(v > _spread(theta, v, columns), v - shift, 0.0)


def jump_backward(
    v: Tensor,
    theta: Tensor,
    columns: Tensor | None,
    g: Tensor,
    *,
    bandwidth: float,
    threads: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to v, shape (e,), and theta, shape (f,), the latter through the box.

    Parameters
    ----------
    v, theta, columns, threads
        As for :func:`jump`.
    g : Tensor, shape (e,)
        Gradient with respect to its result.
    bandwidth : float
        Epsilon; 0 leaves theta without a gradient.
    """
    dv = _like(v, columns)
    values, cuts, places = _arrays(v, theta, columns)
    task = partial(
        _jump_backward,
        values,
        cuts,
        places,
        g.contiguous().numpy(),
        np.float32(bandwidth),
        dv.numpy(),
    )
    sums = torch.from_numpy(sum(_side_by_side(task, v, theta, columns, threads)))
    return dv, -theta.detach() / bandwidth * sums if bandwidth else torch.zeros_like(theta)


def jump_backward_reference(
    v: Tensor, theta: Tensor, columns: Tensor | None, g: Tensor, *, bandwidth: float
) -> tuple[Tensor, Tensor]:
    """``jump_backward`` in torch: its plain twin."""
    spread = _spread(theta, v, columns)
    dv = torch.where(v > spread, g, 0.0)
    if not bandwidth:
        return dv, torch.zeros_like(theta)
    window = (v - spread).abs() < bandwidth / 2
    return dv, -theta / bandwidth * _sums(window * g, theta, columns)


def in_window(
    v: Tensor,
    theta: Tensor,
    columns: Tensor | None,
    *,
    bandwidth: float,
    threads: int | None = None,
) -> Tensor:
    """How many values of each column are nearer to its threshold than half the bandwidth, (f,)."""
    values, cuts, places = _arrays(v, theta, columns)
    task = partial(_in_window, values, cuts, places, np.float32(bandwidth))
    return torch.from_numpy(sum(_side_by_side(task, v, theta, columns, threads)))


def in_window_reference(
    v: Tensor, theta: Tensor, columns: Tensor | None, *, bandwidth: float
) -> Tensor:
    """``in_window`` in torch: its plain twin."""
    window = (v - _spread(theta, v, columns)).abs() < bandwidth / 2
    return _sums(window.to(v.dtype), theta, columns)


def gated(
    v: Tensor,
    theta: Tensor,
    scale: Tensor,
    bias: Tensor,
    columns: Tensor | None,
    *,
    threads: int | None = None,
) -> Tensor:
    """Positive part of each column's affine map of the values above its threshold, else 0.

    Parameters
    ----------
    v, theta, columns, threads
        As for :func:`jump`.
    scale, bias : Tensor, float32, shape (f,)

    Returns
    -------
    Tensor, shape (e,)
    """
    z = _like(v, columns)
    values, cuts, places = _arrays(v, theta, columns)
    slopes, levels = scale.detach().contiguous().numpy(), bias.detach().contiguous().numpy()
    task = partial(_gated, values, cuts, places, slopes, levels, z.numpy())
    _side_by_side(task, v, theta, columns, threads)
    return z


def gated_reference(
    v: Tensor, theta: Tensor, scale: Tensor, bias: Tensor, columns: Tensor | None
) -> Tensor:
    """``gated`` in torch: its plain twin."""
    a, b = (_spread(each, v, columns) for each in (scale, bias))
    return torch.where(v > _spread(theta, v, columns), (a * v + b).relu(), 0.0)


def gated_backward(
    v: Tensor,
    theta: Tensor,
    scale: Tensor,
    columns: Tensor | None,
    z: Tensor,
    g: Tensor,
    *,
    threads: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients with respect to v, shape (e,), scale and bias, shape (f,).

    Parameters
    ----------
    v, theta, scale, columns, threads
        As for :func:`gated`.
    z, g : Tensor, shape (e,)
        Its result, and the gradient with respect to that.
    """
    dv = _like(v, columns)
    values, slopes, places = _arrays(v, scale, columns)
    task = partial(
        _gated_backward,
        values,
        slopes,
        places,
        z.detach().numpy(),
        g.contiguous().numpy(),
        dv.numpy(),
    )
    parts = _side_by_side(task, v, theta, columns, threads)
    dscale, dbias = (torch.from_numpy(sum(sums)) for sums in zip(*parts, strict=True))
    return dv, dscale, dbias


def gated_backward_reference(
    v: Tensor, theta: Tensor, scale: Tensor, columns: Tensor | None, z: Tensor, g: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """``gated_backward`` in torch: its plain twin."""
    g = torch.where(z > 0, g, 0.0)
    dv = g * _spread(scale, v, columns)
    return dv, _sums(g * v, theta, columns), _sums(g, theta, columns)


def _arrays(v: Tensor, theta: Tensor, columns: Tensor | None) -> tuple[Floats, Floats, Places]:
    places = _NONE if columns is None else columns.numpy()
    return v.detach().numpy(), theta.detach().contiguous().numpy(), places


def _like(v: Tensor, columns: Tensor | None) -> Tensor:
    # Kept entries differ in number from step to step: only whole matrices can be recycled.
    return empty(len(v)) if columns is None else torch.empty(len(v))


def _spread(theta: Tensor, v: Tensor, columns: Tensor | None) -> Tensor:
    return theta.repeat(len(v) // len(theta)) if columns is None else theta[columns]


def _sums(values: Tensor, theta: Tensor, columns: Tensor | None) -> Tensor:
    if columns is None:
        return values.view(-1, len(theta)).sum(0)
    return torch.zeros_like(theta).index_add_(0, columns, values)


def _side_by_side(
    task: Callable[[int, int], Any],
    v: Tensor,
    theta: Tensor,
    columns: Tensor | None,
    threads: int | None,
) -> list[Any]:
    parts = thread_count(threads, torch.get_num_threads())
    # Without columns a part begins where a row does.
    unit = len(theta) if columns is None else 1
    cuts = [len(v) // unit * i // parts * unit for i in range(parts + 1)]
    return side_by_side([partial(task, *cut) for cut in pairwise(cuts)])


@numba.njit(nogil=True, cache=True)
def _jump(
    v: Floats, theta: Floats, columns: Places, shift: np.float32, z: Floats, first: int, stop: int
) -> None:
    if columns.size:
        for e in range(first, stop):
            z[e] = v[e] - shift if v[e] > theta[columns[e]] else np.float32(0.0)
        return
    width = theta.size
    for start in range(first, stop, width):
        row, out = v[start : start + width], z[start : start + width]
        for j in range(width):
            out[j] = row[j] - shift if row[j] > theta[j] else np.float32(0.0)


@numba.njit(nogil=True, cache=True)
def _jump_backward(
    v: Floats,
    theta: Floats,
    columns: Places,
    g: Floats,
    bandwidth: np.float32,
    dv: Floats,
    first: int,
    stop: int,
) -> Floats:
    half = np.float32(0.5) * bandwidth
    width = theta.size
    sums = np.zeros(width, np.float32)
    zero = np.float32(0.0)
    if columns.size:
        for e in range(first, stop):
            j = columns[e]
            dv[e] = g[e] if v[e] > theta[j] else zero
            if abs(v[e] - theta[j]) < half:
                sums[j] += g[e]
        return sums
    for start in range(first, stop, width):
        row, slope = v[start : start + width], g[start : start + width]
        out = dv[start : start + width]
        for j in range(width):
            out[j] = slope[j] if row[j] > theta[j] else zero
            sums[j] += slope[j] if abs(row[j] - theta[j]) < half else zero
    return sums


@numba.njit(nogil=True, cache=True)
def _in_window(
    v: Floats, theta: Floats, columns: Places, bandwidth: np.float32, first: int, stop: int
) -> Floats:
    half = np.float32(0.5) * bandwidth
    width = theta.size
    counts = np.zeros(width, np.float32)
    one, zero = np.float32(1.0), np.float32(0.0)
    if columns.size:
        for e in range(first, stop):
            j = columns[e]
            counts[j] += one if abs(v[e] - theta[j]) < half else zero
        return counts
    for start in range(first, stop, width):
        row = v[start : start + width]
        for j in range(width):
            counts[j] += one if abs(row[j] - theta[j]) < half else zero
    return counts


@numba.njit(nogil=True, cache=True)
def _gated(
    v: Floats,
    theta: Floats,
    columns: Places,
    scale: Floats,
    bias: Floats,
    z: Floats,
    first: int,
    stop: int,
) -> None:
    zero = np.float32(0.0)
    if columns.size:
        for e in range(first, stop):
            j = columns[e]
            z[e] = max(zero, scale[j] * v[e] + bias[j]) if v[e] > theta[j] else zero
        return
    width = theta.size
    for start in range(first, stop, width):
        row, out = v[start : start + width], z[start : start + width]
        for j in range(width):
            value = scale[j] * row[j] + bias[j]
            out[j] = value if (row[j] > theta[j]) & (value > zero) else zero


@numba.njit(nogil=True, cache=True)
def _gated_backward(
    v: Floats,
    scale: Floats,
    columns: Places,
    z: Floats,
    g: Floats,
    dv: Floats,
    first: int,
    stop: int,
) -> tuple[Floats, Floats]:
    width = scale.size
    dscale, dbias = np.zeros(width, np.float32), np.zeros(width, np.float32)
    zero = np.float32(0.0)
    if columns.size:
        for e in range(first, stop):
            j = columns[e]
            slope = g[e] if z[e] > zero else zero
            dv[e] = slope * scale[j]
            dscale[j] += slope * v[e]
            dbias[j] += slope
        return dscale, dbias
    for start in range(first, stop, width):
        row, out = v[start : start + width], dv[start : start + width]
        code, slopes = z[start : start + width], g[start : start + width]
        for j in range(width):
            slope = slopes[j] if code[j] > zero else zero
            out[j] = slope * scale[j]
            dscale[j] += slope * row[j]
            dbias[j] += slope
    return dscale, dbias
