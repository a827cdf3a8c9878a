r"""g-SAE: keep the latents that are strong and that the loss of the model is sensitive to.

.. math:: s_j = \mathrm{ReLU}(u_j)\,(1 + \beta\,|\langle D_j, g \rangle|), \qquad
    g = \nabla_x L \,/\, \mathrm{E}\|\nabla_x L\|

The k latents of largest score are kept, with their activation as value. To first order, leaving
latent j out changes the loss by :math:`u_j \langle D_j, g\rangle`. No gradient passes the score.

Source: Olmo et al. 2024 (arXiv 2411.10397), section 3. Departures: beta has no unit here, because
gradients are divided by their running mean norm; the paper's beta is not comparable. Pre-codes
that are not positive are never kept in place of positive ones.

NOTE: the gradient of a loss on the true next token knows that token, and at a position all later
ones. Choosing by it is a measurement, not something to do while generating; so gradients are
handed in or there is an error, and ``"activation"`` and ``"threshold"`` do without.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rarefy.dictionaries.activations import select as select_by
from rarefy.dictionaries.activations import smallest_of_columns
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.dictionaries.codes import Support
from rarefy.operators import Threshold, TopK

Selection = Literal["gradient", "activation", "threshold"]


class GradientSAE(SparseAutoencoder):
    """A TopK autoencoder that chooses by activation and attribution.

    In training gradients are always needed: batches are pairs (x, g), as
    :func:`~rarefy.dictionaries.harvest` gives them.

    Parameters
    ----------
    d_in, n_latents : int
    k : int
    beta : float, default 1.0
        Weight of the gradient: 0 is TopK, infinity attribution alone.
    selection : {"activation", "gradient", "threshold"}, default "activation"
        How latents are chosen in evaluation: by activation, with gradients as in training, or
        above a threshold of their own, the running mean of the smallest value that training kept.
        An attribute that may be changed.
    decay : float, default 0.99
        Of the running thresholds and of the gradients' mean norm.
    encoder_bias, decoder_bias : bool, default True
    seed : int, default 0

    Raises
    ------
    ValueError
        If k is not from 1 to ``n_latents``, beta negative, or the selection unknown.

    Examples
    --------
    >>> sae = GradientSAE(16, 64, k=4, selection="gradient").eval()
    >>> x, g = torch.ones(1, 16), torch.eye(16)[:1]
    >>> int(sae.encode(x, g).l0) <= 4
    True
    """

    threshold: Tensor
    gradient_norm: Tensor
    batches: Tensor

    def __init__(
        self,
        d_in: int,
        n_latents: int,
        *,
        k: int,
        beta: float = 1.0,
        selection: Selection = "activation",
        decay: float = 0.99,
        encoder_bias: bool = True,
        decoder_bias: bool = True,
        seed: int = 0,
    ) -> None:
        if not beta >= 0:
            raise ValueError(f"beta must be at least 0, got {beta}")
        if selection not in get_args(Selection):
            raise ValueError(f"selection must be one of {get_args(Selection)}, got {selection!r}")
        super().__init__(
            d_in,
            n_latents,
            TopK(k, by="positive"),
            encoder_bias=encoder_bias,
            decoder_bias=decoder_bias,
            seed=seed,
        )
        self.k = k
        self.beta = beta
        self.selection = selection
        self.decay = decay
        self.register_buffer("threshold", torch.full((n_latents,), torch.inf))
        self.register_buffer("gradient_norm", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    @classmethod
    def from_topk(cls, sae: SparseAutoencoder, *, beta: float = 1.0) -> GradientSAE:
        """Choose by gradients in a TopK autoencoder that was trained without them.

        Parameters
        ----------
        sae : SparseAutoencoder
            With a ``TopK(k, by="positive")``; copied.
        beta : float, default 1.0

        Raises
        ------
        ValueError
            If its activation is another one, or its encoder sees x with the decoder's bias in it.
        """
        if sae.activation != TopK(getattr(sae.activation, "k", 1), by="positive"):
            raise ValueError(f"activation must be TopK(k, by='positive'), got {sae.activation}")
        if not sae.subtract_decoder_bias:
            raise ValueError("sae must subtract its decoder bias before it encodes")
        made = cls(
            sae.d_in,
            sae.n_latents,
            k=sae.activation.k,
            beta=beta,
            selection="gradient",
            encoder_bias=sae.encoder_bias is not None,
            decoder_bias=sae.decoder_bias is not None,
        ).to(sae.decoder)
        made.load_state_dict(sae.state_dict(), strict=False)
        return made.train(sae.training)

    def config(self) -> dict[str, Any]:
        """Return the arguments that an autoencoder of this kind and size is built from."""
        return {
            "d_in": self.d_in,
            "n_latents": self.n_latents,
            "k": self.k,
            "beta": self.beta,
            "selection": self.selection,
            "decay": self.decay,
            "encoder_bias": self.encoder_bias is not None,
            "decoder_bias": self.decoder_bias is not None,
        }

    def select(self, u: Tensor, x: Tensor, *context: Tensor) -> Support:
        """Entries that are kept; ``context`` holds the gradients, where they are needed.

        Raises
        ------
        ValueError
            If gradients are needed and missing, or not of x's shape.
        """
        if not self.training and self.selection == "activation":
            return select_by(self.activation, u)
        if not self.training and self.selection == "threshold":
            return select_by(Threshold(self.threshold, by="value"), u)
        if not context:
            where = "training" if self.training else 'selection="gradient"'
            raise ValueError(f"{where} chooses by gradients: pass them after x, one for each row")
        gradients = context[0]
        if gradients.shape != x.shape:
            raise ValueError(
                f"gradients must be {tuple(x.shape)} as x, got {tuple(gradients.shape)}"
            )
        if self.training:
            self._follow_norm(gradients)
        support = select_by(self.activation, self.score(u, gradients))
        if self.training:
            self._follow_threshold(u, support)
        return support

    def score(self, u: Tensor, gradients: Tensor) -> Tensor:
        """What latents are ranked by, shape (b, f), from pre-codes u and gradients (b, d)."""
        if self.beta == 0:
            return u
        # not yet trained with gradients: the mean norm of these is as good as any
        norm = self.gradient_norm if self.gradient_norm > 0 else gradients.norm(dim=1).mean()
        effect = (gradients @ self.decoder.detach().t()).abs_()
        effect /= norm.clamp(min=1e-12)
        if self.beta == float("inf"):
            return effect.mul_(u.relu())
        return effect.mul_(self.beta).add_(1).mul_(u.relu())

    def attribution(self, x: Tensor, gradients: Tensor) -> Tensor:
        """First-order effect ``z_j <D_j, g>`` on the loss of every kept latent, dense, (b, f)."""
        z = self.encode(x, gradients).dense()
        return z * (gradients @ self.decoder.t())

    @torch.no_grad()
    def calibrate(self, x: Tensor, *, l0: float) -> None:
        """Multiply all thresholds alike, so that rows of x keep ``l0`` latents on average.

        A running mean of smallest kept values is a guess at the level only: how many latents pass
        depends on the rows. Comparisons at equal sparsity need this first.

        Parameters
        ----------
        x : Tensor, shape (b, d)
            Rows as in training; no gradients are needed.
        l0 : float
            Latents a row, on average.

        Raises
        ------
        ValueError
            If ``l0`` is not above 0, or fewer latents than that have a threshold and are positive.
        """
        levels = (self.pre_codes(x) / self.threshold).flatten()
        passing = round(l0 * len(x))
        if not 0 < passing <= int((levels > 0).sum()):
            raise ValueError(
                f"l0 must be above 0 and at most the {float((levels > 0).sum()) / len(x):.4g} "
                f"positive latents with a threshold a row, got {l0}"
            )
        # thresholds are passed strictly, so the level is just under the last that shall pass
        last = levels.kthvalue(len(levels) - passing + 1).values
        self.threshold *= last * (1 - 1e-5)

    @torch.no_grad()
    def _follow_norm(self, gradients: Tensor) -> None:
        self.batches += 1
        self.gradient_norm.lerp_(gradients.norm(dim=1).mean(), self._rate)

    @torch.no_grad()
    def _follow_threshold(self, u: Tensor, support: Support) -> None:
        kept = support.of(u).float()
        keep = kept > 0
        smallest = smallest_of_columns(kept[keep], support.indices[keep], support.width)
        seen = smallest.isfinite()
        # infinite until a latent is first kept, so that one that never was stays silent
        before = torch.where(self.threshold.isinf(), smallest, self.threshold)[seen]
        self.threshold[seen] = before + self._rate * (smallest[seen] - before)

    @property
    def _rate(self) -> float:
        return max(1 - self.decay, 1 / int(self.batches))
