r"""Activations brought to norm :math:`\sqrt d` for training, and an autoencoder taken back.

Rates, penalties and thresholds have the same meaning for every model and layer when rows have the
norm :math:`\sqrt d` on average: :math:`x' = s x` with :math:`s = \sqrt d / E\|x\|`. With
pre-codes homogeneous in x, biases and thresholds divided by s make the autoencoder one of x itself,
whose codes are s times smaller and whose decoder is the same.

Source: the input normalisation that public trainers share. Departures: they fold s into the weights
and lose the decoder's unit norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rarefy.dictionaries.activations import BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.stream import Stream
from rarefy.operators import L1, Penalty, Threshold


def norm_scale(x: Tensor) -> float:
    """Factor that brings rows, shape (n, d), to norm sqrt(d) on average.

    Raises
    ------
    ValueError
        If all rows are zero.
    """
    norm = float(x.norm(dim=1).mean())
    if norm == 0:
        raise ValueError("the activations are all zero: there is nothing to learn")
    return math.sqrt(x.shape[1]) / norm


class ScaledStream:
    """A stream's rows times a factor; what goes with them stays as it is."""

    def __init__(self, stream: Stream, scale: float) -> None:
        self.stream = stream
        self.scale = scale

    def batch(self, step: int) -> Any:
        """Rows of one step."""
        batch = self.stream.batch(step)
        if isinstance(batch, tuple):
            return (batch[0] * self.scale, *batch[1:])
        return batch * self.scale


@torch.no_grad()
def unscale(sae: SparseAutoencoder, scale: float) -> None:
    """Make an autoencoder that was trained on ``scale * x`` one of x, in place.

    Parameters
    ----------
    sae : SparseAutoencoder
    scale : float

    Raises
    ------
    ValueError
        If its activation is not homogeneous: a penalty or threshold of a fixed size.
    """
    activation = sae.activation
    if isinstance(activation, Threshold) or (
        isinstance(activation, Penalty) and not (isinstance(activation, L1) and activation.lam == 0)
    ):
        raise ValueError(f"{activation} has a size of its own, which does not scale with x")
    in_units_of_x: list[Tensor | None] = [sae.encoder_bias, sae.decoder_bias]
    if isinstance(activation, JumpReLU | BatchCoupled):
        in_units_of_x.append(activation.threshold)
    if isinstance(activation, JumpReLU):
        activation.bandwidth /= scale
    if isinstance(activation, Gated):
        in_units_of_x += [activation.gate_bias, activation.magnitude_bias]
    for tensor in in_units_of_x:
        if tensor is not None:
            tensor.div_(scale)
