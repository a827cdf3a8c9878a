r"""What a sparse autoencoder is trained on, besides the reconstruction error.

Errors are sums over the width and means over the batch, :math:`\frac1b\sum_i \|x_i - \hat x_i\|^2`;
papers that average over the width have coefficients d times smaller. A loss is called with the
autoencoder, the batch, what the encoder made of it and the reconstruction, and returns a number.

Sources: L1 weighted by decoder norms (Conerly et al. 2024); Gated (arXiv 2404.16014); L0 of
JumpReLU (arXiv 2407.14435); AuxK (Gao et al. 2024, arXiv 2406.04093, appendix A.2); Matryoshka
(Bussmann et al. 2025, arXiv 2503.17547). Departures: AuxK is relative to the variance of the error,
as in the released code, and its error has no decoder bias in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from rarefy.dictionaries.activations import Gated, JumpReLU, top_columns
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, magnitudes, sparse_product
from rarefy.dictionaries.parallel import processes, total


class Loss(Protocol):
    """A term of the training objective."""

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch."""


def squared_error(
    sae: SparseAutoencoder,  # noqa: ARG001
    x: Tensor,
    encoded: Encoded,  # noqa: ARG001
    reconstruction: Tensor,
) -> Tensor:
    """Squared error, summed over the width and averaged over the batch."""
    return (x - reconstruction).square().sum() / len(x)


@dataclass(frozen=True)
class L1Loss:
    r"""Decoder-norm-weighted L1: :math:`\lambda \frac1b \sum z_{ij} \|D_j\|`."""

    weight: float | Tensor

    def __call__(
        self,
        sae: SparseAutoencoder,
        x: Tensor,
        encoded: Encoded,
        reconstruction: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """0-d loss of a batch."""
        return self.weight * (magnitudes(encoded.codes) @ sae.decoder.norm(dim=1)) / len(x)


@dataclass(frozen=True)
class L0Loss:
    r"""Number of active latents of a :class:`JumpReLU`: :math:`\lambda \frac1b \sum H(u - \theta)`.

    With a ``target`` L0*, :math:`\lambda (L_0 / L_0^* - 1)^2` instead.
    """

    weight: float
    target: float | None = None

    def __call__(
        self,
        sae: SparseAutoencoder,
        x: Tensor,
        encoded: Encoded,
        reconstruction: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """0-d loss of a batch."""
        if not isinstance(sae.activation, JumpReLU):
            raise TypeError(f"L0Loss needs a JumpReLU, got {type(sae.activation).__name__}")
        l0 = sae.activation.count(encoded.v, encoded.codes) / len(x)
        return self.weight * (l0 if self.target is None else (l0 / self.target - 1).square())


@dataclass(frozen=True)
class GateLoss:
    r"""Auxiliary loss of :class:`Gated`: the gate's own L1 and the error of its own codes.

    .. math:: \lambda \sum_j \mathrm{ReLU}(\pi_j) \|D_j\| + \|x - (\mathrm{ReLU}(\pi) D + b_d)\|^2

    with no gradient to D and b_d in the second term.
    """

    weight: float | Tensor

    def __call__(
        self,
        sae: SparseAutoencoder,
        x: Tensor,
        encoded: Encoded,
        reconstruction: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """0-d loss of a batch."""
        if not isinstance(sae.activation, Gated):
            raise TypeError(f"GateLoss needs a Gated, got {type(sae.activation).__name__}")
        support = encoded.codes.support
        gate = sae.activation.gate(encoded.v, support)
        l1 = magnitudes(SparseCodes(gate, support)) @ sae.decoder.norm(dim=1)
        frozen = sparse_product(SparseCodes(gate, support), sae.decoder.detach())
        if sae.decoder_bias is not None:
            frozen = frozen + sae.decoder_bias.detach()
        return (self.weight * l1 + (x - frozen).square().sum()) / len(x)


class AuxK(nn.Module):
    r"""Let the dead latents explain what is left over, so that they come alive.

    .. math:: \alpha \min(1, n_\mathrm{dead} / k_\mathrm{aux})\,
        \|e - z_\mathrm{aux} D\|^2 / \|e - \bar e\|^2, \qquad e = x - \hat x

    with :math:`z_\mathrm{aux}` the :math:`k_\mathrm{aux}` best pre-codes among the latents that
    have not fired for ``dead_after`` rows, by magnitude where codes are signed.

    Parameters
    ----------
    n_latents : int
    dead_after : int
        Rows; public trainers take 10 million, short runs some 5 % of theirs.
    k : int, optional
        Default half the width of x.
    weight : float, default 1/32
    signed : bool, default False
        Whether codes may be negative.
    """

    rows_since_fired: Tensor

    def __init__(
        self,
        n_latents: int,
        *,
        dead_after: int,
        k: int | None = None,
        weight: float = 1 / 32,
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("rows_since_fired", torch.zeros(n_latents, dtype=torch.int64))
        self.dead_after = dead_after
        self.k = k
        self.weight = weight
        self.signed = signed

    @property
    def dead(self) -> Tensor:
        """Which latents have not fired for ``dead_after`` rows, shape (f,)."""
        return self.rows_since_fired > self.dead_after

    def forward(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch, which is counted first."""
        self.rows_since_fired += len(x) * processes()[1]
        self.rows_since_fired[total(encoded.codes.active) > 0] = 0
        dead = self.dead.nonzero()[:, 0]
        if not len(dead):
            return x.new_zeros(())
        return self.weight * error_left(
            *(sae, x, encoded, reconstruction),
            latents=dead,
            k=self.k or max(1, sae.d_in // 2),
            signed=self.signed,
        )


def error_left(
    sae: SparseAutoencoder,
    x: Tensor,
    encoded: Encoded,
    reconstruction: Tensor,
    *,
    latents: Tensor,
    k: int,
    signed: bool = False,
    scale: Tensor | None = None,
) -> Tensor:
    """Share of the error's variance that is left when some latents explain it.

    Parameters
    ----------
    sae, x, encoded, reconstruction
        As for a loss.
    latents : int64 Tensor, shape (l,)
        At least one; only their encoder and decoder rows get a gradient.
    k : int
        How many of them a row uses; with fewer the result is l/k of what it would be.
    signed : bool, default False
        Choose by magnitude and allow negative codes.
    scale : Tensor, shape (l,), optional
        What the codes of each latent are multiplied by.
    """
    used = min(k, len(latents))
    scores = encoded.u.index_select(1, latents)
    best = top_columns(scores, used, magnitude=signed).view(len(x), used)
    support = Support.from_columns(latents[best], sae.n_latents)
    v = sae.selected(encoded.u, x, support)
    values = v if signed else v.relu()
    if scale is not None:
        values = values * scale[best.reshape(-1)]
    error = (x - reconstruction).detach()
    left = (error - sparse_product(SparseCodes(values, support), sae.decoder)).square().sum()
    spread = (error - error.mean(0)).square().sum()
    return used / k * left / spread.clamp(1e-12)


@dataclass(frozen=True)
class MatryoshkaError:
    """Mean squared error of nested prefixes of the dictionary, in place of the error of all of it.

    Parameters
    ----------
    prefixes : sequence of int
        Sizes, ascending; the last is the number of latents. The usual groups are 1/16, 1/8, 1/4,
        1/2 and all of the width.
    """

    prefixes: Sequence[int]

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch."""
        total = squared_error(sae, x, encoded, reconstruction)
        values, support = encoded.codes[:2]
        for size in self.prefixes[:-1]:
            inside = values * (support.indices < size)
            part = sae.decode(SparseCodes(inside, support))
            total = total + squared_error(sae, x, encoded, part)
        return total / len(self.prefixes)
