r"""Sparse autoencoders: an encoder, an activation and a decoder, nothing more.

.. math:: u = (x - b_d) E^T + b_e, \qquad z = \mathrm{act}(u), \qquad \hat x = z D + b_d

The activation is an object of :mod:`rarefy.operators` (or a module of
:mod:`rarefy.dictionaries.activations`), so every penalty and every projection is an architecture.
All pre-codes are computed by one dense product without a graph; from the kept entries on, forward
and backward, everything is sparse (:mod:`rarefy.dictionaries.codes`).

Sources: Bricken et al. 2023; Gao et al. 2024 (arXiv 2406.04093); the unrolled view is Zhu et al.
2025 (arXiv 2510.00404). Departures: none.

Axis letters: b rows, d width of x, f latents, e kept entries.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rarefy.dictionaries.activations import Activation, select, values
from rarefy.dictionaries.codes import SparseCodes, Support, compiled, selected, sparse_product
from rarefy.operators import Penalty, Projection


class Encoded(NamedTuple):
    """What the encoder made of a batch.

    Attributes
    ----------
    codes : SparseCodes
    v : Tensor, shape (e,)
        Pre-codes at the kept entries, differentiable.
    u : Tensor, shape (b, f)
        All pre-codes, outside the graph.
    """

    codes: SparseCodes
    v: Tensor
    u: Tensor


_STREAM = 0x5AE_1417


class SparseAutoencoder(nn.Module):
    """A dictionary with an encoder of its own.

    Parameters
    ----------
    d_in : int
        Width of the inputs.
    n_latents : int
        Number of features.
    activation : Projection, Penalty or Activation
        ``TopK(32, by="positive")``, ``JumpReLU(n_latents)``, ``L1(0, positive=True)``, ...
    encoder_bias, decoder_bias : bool, default True
    subtract_decoder_bias : bool, default True
        Whether the encoder sees x minus the decoder's bias.
    seed : int, default 0
        Of the initial decoder: random rows of norm 1, and the encoder starts equal to it.

    Attributes
    ----------
    encoder, decoder : Parameter, shape (f, d)
        Row j belongs to latent j.
    encoder_bias : Parameter, shape (f,), or None
    decoder_bias : Parameter, shape (d,), or None

    Raises
    ------
    ValueError
        If a width is below 1, or the activation keeps more latents than there are.

    Examples
    --------
    >>> from rarefy.operators import TopK
    >>> sae = SparseAutoencoder(16, 64, TopK(4, by="positive"))
    >>> sae(torch.zeros(2, 16)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        activation: Projection | Penalty | Activation,
        *,
        encoder_bias: bool = True,
        decoder_bias: bool = True,
        subtract_decoder_bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (("d_in", d_in), ("n_latents", n_latents)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        k = getattr(activation, "k", None)
        if isinstance(activation, Projection) and isinstance(k, int) and not 0 < k <= n_latents:
            raise ValueError(f"k must be from 1 to the {n_latents} latents, got {k}")
        self.activation = activation
        self.subtract_decoder_bias = subtract_decoder_bias
        # Another stream than torch.manual_seed(seed)'s: data planted with the same seed would
        # otherwise be the first atoms.
        generator = torch.Generator().manual_seed((seed + _STREAM) % 2**63)
        rows = torch.randn(n_latents, d_in, generator=generator)
        rows /= rows.norm(dim=1, keepdim=True)
        self.encoder = nn.Parameter(rows.clone())
        self.decoder = nn.Parameter(rows)
        self.encoder_bias = nn.Parameter(torch.zeros(n_latents)) if encoder_bias else None
        self.decoder_bias = nn.Parameter(torch.zeros(d_in)) if decoder_bias else None

    @property
    def d_in(self) -> int:
        """Width of the inputs."""
        return self.decoder.shape[1]

    @property
    def n_latents(self) -> int:
        """Number of features."""
        return self.decoder.shape[0]

    def config(self) -> dict[str, Any]:
        """Return the arguments that an autoencoder of this kind and size is built from."""
        return {
            "d_in": self.d_in,
            "n_latents": self.n_latents,
            "activation": self.activation,
            "encoder_bias": self.encoder_bias is not None,
            "decoder_bias": self.decoder_bias is not None,
            "subtract_decoder_bias": self.subtract_decoder_bias,
        }

    def centered(self, x: Tensor) -> Tensor:
        """What the encoder sees of x, shape (b, d)."""
        if self.decoder_bias is None or not self.subtract_decoder_bias:
            return x
        return x - self.decoder_bias

    @torch.no_grad()
    def pre_codes(self, x: Tensor) -> Tensor:
        """All pre-codes u, shape (b, f), outside the graph."""
        centered, encoder = self.centered(x), self.encoder.t()
        if not compiled(centered, encoder):
            u = centered @ encoder
        else:
            from rarefy.kernels.cpu.recycled import empty

            u = torch.mm(centered, encoder, out=empty(len(x), self.n_latents))
        return u if self.encoder_bias is None else u.add_(self.encoder_bias)

    def select(self, u: Tensor, x: Tensor, *context: Tensor) -> Support:  # noqa: ARG002
        """Entries of the pre-codes that are kept; what an architecture overrides to choose else."""
        return select(self.activation, u)

    def selected(self, u: Tensor, x: Tensor, support: Support) -> Tensor:
        """Pre-codes of x at the kept entries, shape (e,); differentiable."""
        center = self.decoder_bias if self.subtract_decoder_bias else None
        return selected(u, x, self.encoder, self.encoder_bias, support, center=center)

    def encode_all(self, x: Tensor, *context: Tensor) -> Encoded:
        """Codes, and the pre-codes they come from; ``context`` goes to :meth:`select`."""
        self._check(x)
        u = self.pre_codes(x)
        with torch.no_grad():
            support = self.select(u, x, *context)
        v = self.selected(u, x, support)
        return Encoded(SparseCodes(values(self.activation, v, support), support), v, u)

    def encode(self, x: Tensor, *context: Tensor) -> SparseCodes:
        """Codes of x, shape (b, d).

        Raises
        ------
        ValueError
            If x is not (rows, d_in) or not finite.
        """
        return self.encode_all(x, *context).codes

    def decode(self, codes: SparseCodes) -> Tensor:
        """Reconstruction ``codes @ decoder + decoder_bias``, shape (b, d)."""
        product = sparse_product(codes, self.decoder)
        return product if self.decoder_bias is None else product + self.decoder_bias

    def forward(self, x: Tensor, *context: Tensor) -> Tensor:
        """Reconstruction of x, of x's shape (..., d) and dtype."""
        rows = x.reshape(-1, x.shape[-1]).to(self.decoder.dtype)
        return self.decode(self.encode(rows, *context)).view(x.shape).to(x.dtype)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.d_in:
            raise ValueError(f"x must be (rows, {self.d_in}), got shape {tuple(x.shape)}")
        if not bool(torch.isfinite(x.sum())) and not bool(torch.isfinite(x).all()):
            bad = int((~torch.isfinite(x)).any(1).sum())
            raise ValueError(f"x holds values that are not finite in {bad} of {len(x)} rows")
