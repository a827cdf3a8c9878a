r"""Jumps and gates at the kept entries, with the gradients that training gives them.

.. math:: z_e = (v_e - s)\,1[v_e > \theta_{j(e)}], \qquad N = \sum_e 1[v_e > \theta_{j(e)}], \qquad
    z_e = \max(0, a_{j(e)} v_e + b_{j(e)})\,1[v_e > \theta_{j(e)}]

The first two have a straight-through gradient to the threshold, through a box of width epsilon
around it; the third has none. All are one pass over the entries (:mod:`rarefy.kernels.cpu.jump`).

Sources: Rajamanoharan et al. 2024 (JumpReLU, arXiv 2407.14435; Gated, arXiv 2404.16014).
Departures: none.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rarefy.dictionaries.codes import SparseCodes, Support, compiled


def jump(
    v: Tensor, theta: Tensor, support: Support, *, bandwidth: float = 0.0, shift: float = 0.0
) -> Tensor:
    """Values less the shift where they are above their latent's threshold, else 0; shape (e,).

    Parameters
    ----------
    v : Tensor, shape (e,)
    theta : Tensor, shape (f,)
    support : Support of shape (b, f)
    bandwidth : float, default 0
        Epsilon; 0 gives the threshold no gradient.
    shift : float, default 0
    """
    return _Jump.apply(v, theta, support, bandwidth, shift)


def count(v: Tensor, theta: Tensor, codes: SparseCodes, *, bandwidth: float) -> Tensor:
    """Number of entries above their threshold, 0-d; ``codes`` are what :func:`jump` made of v."""
    return _Count.apply(v, theta, codes, bandwidth)


def gate(v: Tensor, theta: Tensor, scale: Tensor, bias: Tensor, support: Support) -> Tensor:
    """Positive part of each latent's affine map of the values above its threshold; shape (e,)."""
    return _Gate.apply(v, theta, scale, bias, support)


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, v: Tensor, theta: Tensor, support: Support, bandwidth: float, shift: float
    ) -> Tensor:
        from rarefy.kernels.cpu import jump as kernels

        ctx.save_for_backward(v, theta)
        ctx.support, ctx.bandwidth = support, bandwidth
        jump = kernels.jump if compiled(v, theta) else kernels.jump_reference
        return jump(v, theta, support.columns, shift=shift)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from rarefy.kernels.cpu import jump as kernels

        v, theta = ctx.saved_tensors
        (g,) = gradients
        ready = compiled(v, theta, g)
        backward = kernels.jump_backward if ready else kernels.jump_backward_reference
        dv, dtheta = backward(v, theta, ctx.support.columns, g, bandwidth=ctx.bandwidth)
        return dv, dtheta, None, None, None


class _Count(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, theta: Tensor, codes: SparseCodes, bandwidth: float) -> Tensor:
        ctx.save_for_backward(v, theta)
        ctx.support, ctx.bandwidth = codes.support, bandwidth
        return torch.count_nonzero(codes.values).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from rarefy.kernels.cpu import jump as kernels

        v, theta = ctx.saved_tensors
        (g,) = gradients
        ready = compiled(v, theta)
        count = kernels.in_window if ready else kernels.in_window_reference
        near = count(v, theta, ctx.support.columns, bandwidth=ctx.bandwidth)
        return None, near * (-g / ctx.bandwidth), None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, v: Tensor, theta: Tensor, scale: Tensor, bias: Tensor, support: Support
    ) -> Tensor:
        from rarefy.kernels.cpu import jump as kernels

        gated = kernels.gated if compiled(v, theta, scale, bias) else kernels.gated_reference
        z = gated(v, theta, scale, bias, support.columns)
        ctx.save_for_backward(v, theta, scale, z)
        ctx.support = support
        return z

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from rarefy.kernels.cpu import jump as kernels

        v, theta, scale, z = ctx.saved_tensors
        (g,) = gradients
        ready = compiled(v, theta, scale, g)
        backward = kernels.gated_backward if ready else kernels.gated_backward_reference
        dv, dscale, dbias = backward(v, theta, scale, ctx.support.columns, z, g)
        return dv, None, dscale, dbias, None
