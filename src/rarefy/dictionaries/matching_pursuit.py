r"""MP-SAE: a sparse autoencoder whose encoder is matching pursuit on its own dictionary.

.. math:: j_t = \arg\max_j \langle D_j, r_t \rangle, \quad
    c_t = \max(0, \langle D_{j_t}, r_t \rangle), \quad r_{t+1} = r_t - c_t D_{j_t},
    \qquad \hat x = b + \sum_t c_t D_{j_t}

There are no encoder weights; each residual is orthogonal to the atom just chosen, so atoms that
are chosen together need not resemble each other, however alike the dictionary is as a whole. The
number of steps can be changed after training.

Source: Costa et al. 2025, "From Flat to Hierarchical" (arXiv 2506.03093), section 3. Departures:
rows are held at norm 1, where the step is exact; a row stops once no atom points along its
residual. Gradients are exact, through the whole chain of residuals, with none of them stored
(:mod:`rarefy.kernels.cpu.pursuit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, compiled
from rarefy.operators import (
    Pursuit,
    TopK,
    matching_pursuit,
    orthogonal_matching_pursuit,
)

GRAM_LIMIT = 8192
"""Most atoms for which the Gram matrix (256 MB) is worth its memory."""


class MatchingPursuitSAE(SparseAutoencoder):
    """An autoencoder of one matrix: atoms are chosen by matching pursuit.

    Parameters
    ----------
    d_in, n_latents : int
    k : int
        Steps, hence at most so many active latents.
    tol : float, default 0
        A row stops once its residual's norm is at most this, in units of x.
    signed : bool, default False
        Choose by magnitude and allow negative codes.
    orthogonal : bool, default False
        Fit all chosen coefficients again after every step (OMP); no gradient passes the fit, the
        dictionary learns from the reconstruction.
    decoder_bias : bool, default True
    seed : int, default 0

    Raises
    ------
    ValueError
        If k is below 1, or above ``d_in`` where ``orthogonal``.

    Examples
    --------
    >>> sae = MatchingPursuitSAE(16, 64, k=4)
    >>> int(sae.encode(torch.ones(1, 16)).l0) <= 4
    True
    """

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        k: int,
        tol: float = 0.0,
        signed: bool = False,
        orthogonal: bool = False,
        decoder_bias: bool = True,
        seed: int = 0,
    ) -> None:
        if k < 1 or (orthogonal and k > min(d_in, n_latents)):
            limit = f" to {min(d_in, n_latents)}" if orthogonal else ""
            raise ValueError(f"k must be from 1{limit}, got {k}")
        super().__init__(
            d_in,
            n_latents,
            TopK(min(k, n_latents), by="magnitude" if signed else "positive"),
            encoder_bias=False,
            decoder_bias=decoder_bias,
            seed=seed,
        )
        del self.encoder
        self.k = k
        self.tol = tol
        self.signed = signed
        self.orthogonal = orthogonal

    @property
    def encoder(self) -> Tensor:  # type: ignore[override]
        """The dictionary itself."""
        return self.decoder

    def config(self) -> dict[str, Any]:
        """Return the arguments that an autoencoder of this kind and size is built from."""
        return {
            "d_in": self.d_in,
            "n_latents": self.n_latents,
            "k": self.k,
            "tol": self.tol,
            "signed": self.signed,
            "orthogonal": self.orthogonal,
            "decoder_bias": self.decoder_bias is not None,
        }

    def pursue(self, x: Tensor, k: int | None = None) -> Pursuit[Tensor]:
        """Coefficients and atoms in the order they were chosen, shape (b, k) each."""
        steps = self.k if k is None else k
        centered = self.centered(x)
        if self.orthogonal:
            return orthogonal_matching_pursuit(
                centered, self.decoder, steps, tol=self.tol, signed=self.signed
            )
        if not compiled(centered) or self.n_latents > GRAM_LIMIT:
            return matching_pursuit(centered, self.decoder, steps, tol=self.tol, signed=self.signed)
        return Pursuit(*_Pursue.apply(centered, self.decoder, steps, self.tol, self.signed))

    def encode_all(self, x: Tensor, *context: Any) -> Encoded:
        """Codes after ``context[0]`` steps, or after k; ``u`` is empty, there are no pre-codes."""
        self._check(x)
        steps = int(context[0]) if context else self.k
        coefficients, atoms = self.pursue(x, steps)
        support = Support.from_columns(atoms, self.n_latents)
        codes = SparseCodes(coefficients.reshape(-1), support, repeats=True)
        return Encoded(codes, codes.values, x.new_empty(len(x), 0))

    @torch.no_grad()
    def residual_norms(self, x: Tensor, k: int | None = None) -> Tensor:
        """Norm of the residual before the first and after every step, shape (b, k + 1)."""
        coefficients, atoms = self.pursue(x, k)
        residual = self.centered(x)
        norms = [residual.norm(dim=1)]
        for c, j in zip(coefficients.unbind(1), atoms.unbind(1), strict=True):
            residual = residual - c[:, None] * self.decoder[j]
            norms.append(residual.norm(dim=1))
        return torch.stack(norms, 1)


@dataclass(frozen=True)
class Revive:
    r"""Turn atoms that a batch hardly used towards what the batch leaves over.

    .. math:: -\lambda \frac{1}{b\,|U|} \sum_{j \in U} \sum_i \langle r_i, D_j \rangle

    with U the atoms of which no code in the batch reaches ``below``; nothing unless there are more
    than ``at_least`` of them.

    Parameters
    ----------
    weight : float, default 1e-2
    below : float, default 1e-2
    at_least : int, default 10
        All three as in SAELens's matching-pursuit trainer.
    """

    weight: float = 1e-2
    below: float = 1e-2
    at_least: int = 10

    def __call__(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch."""
        values, support = encoded.codes[:2]
        largest = torch.zeros(sae.n_latents, device=x.device).scatter_reduce_(
            0, support.indices, values.detach().abs().float(), "amax"
        )
        unused = (largest < self.below).nonzero()[:, 0]
        if len(unused) <= self.at_least:
            return x.new_zeros(())
        left = (x - reconstruction).mean(0)
        return -self.weight * (sae.decoder[unused] @ left).mean()


class _Pursue(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, decoder: Tensor, steps: int, tol: float, signed: bool
    ) -> tuple[Tensor, Tensor]:
        from rarefy.kernels.cpu.pursuit import pursue

        threads = torch.get_num_threads()
        arrays = pursue(
            x.detach().numpy(),
            decoder.detach().numpy(),
            steps,
            tol=tol,
            signed=signed,
            threads=threads,
        )
        coefficients, atoms, residual = (torch.from_numpy(array) for array in arrays)
        ctx.save_for_backward(residual, decoder, coefficients, atoms)
        ctx.mark_non_differentiable(atoms)
        return coefficients, atoms

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from rarefy.kernels.cpu.pursuit import pursue_backward

        residual, decoder, coefficients, atoms = (t.detach().numpy() for t in ctx.saved_tensors)
        h = np.ascontiguousarray(gradients[0].numpy())
        dx, dd = pursue_backward(
            residual, decoder, coefficients, atoms, h, threads=torch.get_num_threads()
        )
        return torch.from_numpy(dx), torch.from_numpy(dd), None, None, None
