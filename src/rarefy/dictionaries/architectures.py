r"""The named architectures, with the losses they are trained on, all aimed at the same sparsity.

==============  =========================================  ==================================
name            activation                                 losses beside the squared error
==============  =========================================  ==================================
relu            ReLU                                       L1, aimed
gated           :class:`Gated`                             :class:`GateLoss`, aimed
jumprelu        :class:`JumpReLU`                          L0 with a target
topk            k largest positive parts                   AuxK
batchtopk       k a row on average, in training            AuxK
abstopk         k largest magnitudes, with their sign      AuxK
matryoshka      batchtopk                                  AuxK; errors of nested prefixes
mutual-choice   batchtopk                                  :class:`AuxZipf`
feature-choice  :class:`FeatureChoice`, k a row on         none: no latent can die
                average, by a Zipf law of ranks
mp              k steps of matching pursuit                :class:`Revive`
afa             as many as match the input's norm, not k   :class:`NormLoss`
==============  =========================================  ==================================

The first two have a penalty, not a count. *Aimed* means that the penalty's weight follows the
number of active latents to k: with :math:`e_t = \log(L_0 / k)` of the batch, cut to (-1, 1),

.. math:: \text{weight} = \lambda_t e^{e_t}, \qquad \log\lambda_{t+1} = \log\lambda_t + \eta e_t

the integral of the error on a logarithmic scale, and the error itself against overshooting;
:math:`\eta` is such that a whole run could move :math:`\log\lambda` by 8.

The first three also begin at that sparsity: with inputs of norm :math:`\sqrt d` and unit rows of D
the pre-codes are about standard normal, so k of f are above :math:`\theta_0 = \Phi^{-1}(1 - k/f)`,
which is where the threshold starts; JumpReLU's at that of 4 k, because a threshold learns slowly
and latents become sparser by themselves while they align. From zero, half of all latents would be
active for the first hundreds of steps.

Mutual and Feature Choice are those of Ayonrinde 2024 (arXiv 2411.02124), the latter from the first
step; :func:`~rarefy.dictionaries.progressive_choice` starts with the former, and learns better.

Sources: those of :mod:`~rarefy.dictionaries.activations` and :mod:`~rarefy.dictionaries.losses`.
Departures: the aim and the start at it are ours; papers give a weight, and start at or near zero.
"""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from rarefy.dictionaries.activations import BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.afa import NormLoss, TopAFA
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.aux_zipf import AuxZipf
from rarefy.dictionaries.feature_choice import FeatureChoice
from rarefy.dictionaries.losses import (
    AuxK,
    GateLoss,
    L0Loss,
    L1Loss,
    Loss,
    MatryoshkaError,
    squared_error,
)
from rarefy.dictionaries.matching_pursuit import MatchingPursuitSAE, Revive
from rarefy.dictionaries.parallel import processes, total
from rarefy.dictionaries.zipf import ZipfLaw
from rarefy.operators import L1, BatchTopK, TopK

Name = Literal[
    "relu",
    "gated",
    "jumprelu",
    "topk",
    "batchtopk",
    "abstopk",
    "matryoshka",
    "mutual-choice",
    "feature-choice",
    "mp",
    "afa",
]

_TRAVEL = 8.0
"""How far the logarithm of a penalty's weight can go in a run."""

_BANDWIDTH = 0.2
"""Of JumpReLU, for thresholds of about 2."""

_NORM_WEIGHT = 2.0
"""Of top-AFA's norm loss, as a sum over the width: the card's default."""

_THRESHOLD_DECAY = 0.99
"""Of the batch-coupled threshold: the last hundred batches, since a short run's threshold moves."""


class Architecture(NamedTuple):
    """What :func:`~rarefy.dictionaries.train` takes: an autoencoder, its losses, its error."""

    sae: SparseAutoencoder
    losses: tuple[Loss, ...]
    error: Loss


def architecture(
    name: Name, d_in: int, n_latents: int, *, k: int = 32, rows: int, seed: int = 0
) -> Architecture:
    """Build an architecture by name.

    Parameters
    ----------
    name : str
        Of the table above; "feature-choice" is turned into an ordinary activation after training by
        its :meth:`~FeatureChoice.finish`.
    d_in, n_latents : int
    k : int, default 32
        Active latents a row: exactly, or what training aims at; "afa" finds its own number.
    rows : int
        Rows it will be trained on; a latent that does not fire for 5 % of them is revived.
    seed : int, default 0

    Returns
    -------
    Architecture
        For inputs of norm about sqrt(d).

    Raises
    ------
    ValueError
        If the name is unknown or k is not from 1 to the number of latents.

    Examples
    --------
    >>> sae, losses, error = architecture("topk", 16, 64, k=4, rows=10_000)
    >>> sae.activation.k
    4
    """
    if not 0 < k <= n_latents:
        raise ValueError(f"k must be from 1 to the {n_latents} latents, got {k}")
    aux = AuxK(n_latents, dead_after=rows // 20, signed=name == "abstopk")
    coupled = BatchCoupled(BatchTopK(k, by="positive"), n_latents, decay=_THRESHOLD_DECAY)
    if name == "topk":
        return _build(d_in, n_latents, TopK(k, by="positive"), aux, seed=seed)
    if name == "abstopk":
        return _build(d_in, n_latents, TopK(k), aux, seed=seed)
    if name == "batchtopk":
        return _build(d_in, n_latents, coupled, aux, seed=seed)
    if name == "matryoshka":
        groups = {n_latents // 2**i for i in range(5)} - {0}
        error = MatryoshkaError(tuple(sorted(groups)))
        return _build(d_in, n_latents, coupled, aux, seed=seed)._replace(error=error)
    if name == "mutual-choice":
        return _build(d_in, n_latents, coupled, AuxZipf(n_latents), seed=seed)
    if name == "feature-choice":
        law = ZipfLaw()
        ranks = torch.arange(1, n_latents + 1)
        choice = FeatureChoice(law.expected(ranks), k=k, law=law, decay=_THRESHOLD_DECAY)
        return _build(d_in, n_latents, choice, seed=seed)
    if name == "mp":
        pursuit = MatchingPursuitSAE(d_in, n_latents, k=k, seed=seed)
        return Architecture(pursuit, (Revive(),), squared_error)
    if name == "afa":
        afa = TopAFA(d_in, n_latents, seed=seed)
        return Architecture(afa, (aux, NormLoss(_NORM_WEIGHT)), squared_error)
    start = _threshold(k / n_latents)
    if name == "relu":
        relu = L1(0.0, positive=True)
        built = _build(d_in, n_latents, relu, Aimed(L1Loss(1.0), k, rows=rows), seed=seed)
        if built.sae.encoder_bias is not None:
            built.sae.encoder_bias.data.fill_(-start)
        return built
    if name == "gated":
        gate = Gated(n_latents)
        gate.gate_bias.data.fill_(-start)
        return _build(d_in, n_latents, gate, Aimed(GateLoss(1.0), k, rows=rows), seed=seed)
    if name == "jumprelu":
        jump = JumpReLU(
            n_latents, threshold=max(0.01, _threshold(4 * k / n_latents)), bandwidth=_BANDWIDTH
        )
        return _build(d_in, n_latents, jump, L0Loss(d_in, target=k), seed=seed)
    raise ValueError(f"no architecture is called {name!r}: {', '.join(get_args(Name))} are there")


class Aimed(nn.Module):
    """A penalty whose weight follows the number of active latents to a target.

    Parameters
    ----------
    loss : L1Loss or GateLoss
        Its own weight is where the search begins.
    target : float
        Active latents a row.
    rows : int
        Of the whole run.
    """

    log_weight: Tensor

    def __init__(self, loss: L1Loss | GateLoss, target: float, *, rows: int) -> None:
        super().__init__()
        self.loss = loss
        self.target = target
        self.rate = _TRAVEL / rows
        self.register_buffer(
            "log_weight", torch.tensor(math.log(float(loss.weight)), dtype=torch.float64)
        )

    def forward(
        self, sae: SparseAutoencoder, x: Tensor, encoded: Encoded, reconstruction: Tensor
    ) -> Tensor:
        """0-d loss of a batch, after which the weight is moved."""
        rows = len(x) * processes()[1]
        l0 = total(torch.count_nonzero(encoded.codes.values)).double() / rows
        off = (l0.clamp(min=1e-9) / self.target).log().clamp(-1, 1)
        loss = replace(self.loss, weight=(self.log_weight + off).exp().to(x.dtype))
        self.log_weight += self.rate * rows * off
        return loss(sae, x, encoded, reconstruction)


def _build(d_in: int, n_latents: int, activation: object, *losses: Loss, seed: int) -> Architecture:
    # A gate has biases of its own, in the encoder's place.
    own = isinstance(activation, Gated)
    sae = SparseAutoencoder(d_in, n_latents, activation, encoder_bias=not own, seed=seed)  # type: ignore[arg-type]
    return Architecture(sae, losses, squared_error)


def _threshold(share: float) -> float:
    """What so large a share of a standard normal is above, at least 0."""
    return NormalDist().inv_cdf(1 - share) if share < 0.5 else 0.0
