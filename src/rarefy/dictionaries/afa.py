r"""Top-AFA: every row keeps as many features as its norm asks for.

If the rows of a dictionary are nearly orthogonal, the norm of a code is nearly that of what it
encodes. So the norm of a code can be read off the input before the code is there
(:class:`TopAFA` selects by it), and be trained towards it (:class:`NormLoss`):

.. math:: L = \|x - \hat x\|^2 + \lambda\,(\|z\| - \|x\|)^2

Source: Lee, Davies, Canby and Hockenmaier 2025 (arXiv 2503.24277), section 5, and its released
code. Departures: losses are sums over the width, where the paper's error is a mean, so its weight
is multiplied by the width (:meth:`NormLoss.from_paper`); the selection weighs features by the norms
of their decoder rows and, where these are not 1, so does the loss. The paper standardises every row
before it is encoded; here that is left to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, compiled
from rarefy.operators import L1, NormMatched

Target = Literal["centred", "input"]


class TopAFA(SparseAutoencoder):
    """A ReLU autoencoder that keeps, in every row, the features whose norm matches the input's.

    Parameters
    ----------
    d_in, n_latents : int
    target : {"centred", "input"}, default "centred"
        Match the norm of x minus the decoder's bias, or of x.
    k_min, k_max : int, default 1 and no limit
        Least and largest number of features of a row.
    decoder_bias : bool, default True
    seed : int, default 0

    Raises
    ------
    ValueError
        If ``target`` is neither, or the limits are not ``0 <= k_min <= k_max``.

    Examples
    --------
    >>> sae = TopAFA(16, 64)
    >>> sae(torch.randn(2, 16)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        target: Target = "centred",
        k_min: int = 1,
        k_max: int | None = None,
        decoder_bias: bool = True,
        seed: int = 0,
    ) -> None:
        if target not in ("centred", "input"):
            raise ValueError(f"target must be 'centred' or 'input', got {target!r}")
        NormMatched(0.0, k_min=k_min, k_max=k_max)  # refuses limits that are none
        super().__init__(
            d_in,
            n_latents,
            L1(0.0, positive=True),
            encoder_bias=False,
            decoder_bias=decoder_bias,
            seed=seed,
        )
        self.target = target
        self.k_min = k_min
        self.k_max = k_max

    def select(self, u: Tensor, x: Tensor, *context: Tensor) -> Support:  # noqa: ARG002
        """Largest positive pre-codes of every row, until their norm is nearest to the target."""
        goal = (self.centered(x) if self.target == "centred" else x).norm(dim=1)
        scale = self.decoder.norm(dim=1)
        if compiled(u):
            from rarefy.kernels.cpu.norm_matched import norm_matched

            found = norm_matched(u, goal, scale=scale, k_min=self.k_min, k_max=self.k_max)
            return Support(*found, self.n_latents)
        rule = NormMatched(goal, scale=scale, k_min=self.k_min, k_max=self.k_max, by="positive")
        return Support.from_mask(rule.mask(u))


@dataclass(frozen=True)
class NormLoss:
    r"""Pull the norm of codes to that of their inputs: :math:`\lambda\,(\|z\| - \|x\|)^2`.

    The choice of features is not differentiated; their values are.

    Parameters
    ----------
    weight : float, default 24
        Beside an error summed over the width; the paper's 1/32 at width 768.
    """

    weight: float = 24.0

    @classmethod
    def from_paper(cls, weight: float, d_in: int) -> NormLoss:
        """The paper's weight, beside an error averaged over the width, as ours.

        Examples
        --------
        >>> NormLoss.from_paper(1 / 32, 768).weight
        24.0
        """
        return cls(weight * d_in)

    def __call__(
        self,
        sae: SparseAutoencoder,
        x: Tensor,
        encoded: Encoded,
        reconstruction: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """0-d loss of a batch."""
        apart = code_norms(encoded.codes, sae.decoder.detach().norm(dim=1)) - x.norm(dim=1)
        return self.weight * apart.square().mean()


def code_norms(codes: SparseCodes, scale: Tensor) -> Tensor:
    """Norm of every row of codes, each latent's times its scale; shape (b,), differentiable."""
    energy = (codes.values * scale[codes.support.indices]).square()
    sums = energy.new_zeros(codes.support.shape[0]).index_add(0, codes.support.rows, energy)
    # The root's slope at 0 is infinite, and an empty row has no norm to learn.
    return torch.where(sums > 0, sums.clamp(min=1e-30).sqrt(), 0.0)
