r"""Encoders as unrolled proximal gradient steps: where the activations come from.

Codes of x under a dictionary D with a penalty :math:`\Phi` solve

.. math:: \min_z\; \tfrac12 \|x - b_d - z D\|^2 + \Phi(z), \qquad
    z \leftarrow \operatorname{prox}_{s\Phi}\bigl(z + s\,(x - b_d - z D)\,D^T\bigr)

and one step of size 1 from zero, with an encoder E and a bias of its own in place of D, is
:math:`z = \operatorname{prox}_\Phi((x - b_d) E^T + b_e)`: a sparse autoencoder whose activation is
the prox. ReLU, JumpReLU and TopK are the maps of an l1 norm, an l0 norm and a constraint
:math:`\|z\|_0 \le k`, each with :math:`z \ge 0` beside it; without that term the last is AbsTopK,
``TopK(k)`` of :mod:`rarefy.operators`, which keeps signs and so both poles of an axis in a latent.

Source: Zhu, Khalili and Zhu 2025 (arXiv 2510.00404), section 3. Steps with learned weights are
those of Gregor and LeCun 2010 (LISTA), in the form that keeps the residual explicit. Departures:
more than one step is the paper's future work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rarefy.dictionaries.activations import Activation, values
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, selected
from rarefy.operators import Penalty, Projection


def proximal_gradient(
    x: Tensor,
    decoder: Tensor,
    operator: Penalty | Projection,
    *,
    steps: int = 1,
    step_size: float | None = None,
    start: Tensor | None = None,
) -> Tensor:
    """Codes of x after some proximal gradient steps.

    With ``L1`` this is ISTA, with ``TopK`` iterative hard thresholding.

    Parameters
    ----------
    x : Tensor, shape (n, d)
        Minus the bias, where there is one.
    decoder : Tensor, shape (f, d)
    operator : Penalty or Projection
    steps : int, default 1
    step_size : float, optional
        Default one over the squared spectral norm of the decoder, at which the objective cannot
        rise.
    start : Tensor, shape (n, f), optional
        Default zero.

    Returns
    -------
    Tensor, shape (n, f)

    Raises
    ------
    ValueError
        If ``steps`` is below 1 or ``step_size`` is not positive.

    Examples
    --------
    >>> from rarefy.operators import L1
    >>> proximal_gradient(torch.tensor([[3.0, -0.5]]), torch.eye(2), L1(1.0)).tolist()
    [[2.0, 0.0]]
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if step_size is None:
        step_size = 1 / float(torch.linalg.matrix_norm(decoder, 2)) ** 2
    if not step_size > 0:
        raise ValueError(f"step_size must be positive, got {step_size}")
    z = x.new_zeros(len(x), len(decoder)) if start is None else start
    for _ in range(steps):
        u = z + step_size * (x - z @ decoder) @ decoder.t()
        z = operator.prox(u, step_size) if isinstance(operator, Penalty) else operator(u)
    return z


class UnrolledAutoencoder(SparseAutoencoder):
    """A sparse autoencoder whose encoder takes several proximal steps from zero.

    One step is :class:`SparseAutoencoder`. Later steps look at what the codes so far leave over,
    and may change both the values and the support.

    Parameters
    ----------
    d_in, n_latents : int
    activation : Projection, Penalty or Activation
    steps : int, default 2
    shared : bool, default True
        One encoder for all steps, or one for each.
    encoder_bias, decoder_bias, subtract_decoder_bias, seed
        As for :class:`SparseAutoencoder`. The decoder's bias is always taken off after step one.

    Raises
    ------
    ValueError
        If ``steps`` is below 1.

    Examples
    --------
    >>> from rarefy.operators import TopK
    >>> sae = UnrolledAutoencoder(16, 64, TopK(4), steps=3)
    >>> sae(torch.zeros(2, 16)).shape
    torch.Size([2, 16])
    """

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        activation: Projection | Penalty | Activation,
        *,
        steps: int = 2,
        shared: bool = True,
        encoder_bias: bool = True,
        decoder_bias: bool = True,
        subtract_decoder_bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__(
            d_in,
            n_latents,
            activation,
            encoder_bias=encoder_bias,
            decoder_bias=decoder_bias,
            subtract_decoder_bias=subtract_decoder_bias,
            seed=seed,
        )
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.steps = steps
        count = 0 if shared else steps - 1
        self.later_encoders = nn.ParameterList(self.encoder.detach().clone() for _ in range(count))

    def encode_all(self, x: Tensor, *context: Tensor) -> Encoded:
        """Codes after the last step, and that step's pre-codes."""
        encoded = super().encode_all(x, *context)
        for step in range(1, self.steps):
            encoder = self.later_encoders[step - 1] if len(self.later_encoders) else self.encoder
            encoded = self._refined(x, encoded.codes, encoder, *context)
        return encoded

    def _refined(self, x: Tensor, codes: SparseCodes, encoder: Tensor, *context: Tensor) -> Encoded:
        residual = x - self.decode(codes)
        z = codes.dense()
        with torch.no_grad():
            u = residual @ encoder.t()
            if self.encoder_bias is not None:
                u += self.encoder_bias
            support = self.select(u + z, x, *context)
        v = selected(u, residual, encoder, self.encoder_bias, support)
        v = v + z[support.rows, support.indices]
        return Encoded(SparseCodes(values(self.activation, v, support), support), v, u + z)
