"""Sparse dictionaries: learn them, judge them, use them.

``codes``        which latents are active, and the two sparse products;
``activations``  operators as activations, JumpReLU, Gated, batch-coupled projections;
``autoencoder``  :class:`SparseAutoencoder`: an encoder, an activation and a decoder;
``losses``       L1, L0, the gate's loss, AuxK, Matryoshka;
``stream``       batches as a function of the step;
``harvest``      activations of any transformers model at any module, and their gradients;
``activation_stream``  a stream of them in bounded memory (``buffer``), from disk (``shards``);
``splice``       something else in a site's place: reconstruct, steer, ablate;
``train``        :func:`train`, with checkpoints;
``matching_pursuit``  :class:`MatchingPursuitSAE`, an encoder that pursues;
``formats``      :func:`save` and :func:`load`: rarefy's, SAELens's, sparsify's folders;
``geometry``     coherence, effective rank, and how a dictionary lies to a known truth;
``metrics``      :func:`evaluate`: L0, FVU, dead latents, densities.
"""

from rarefy.dictionaries.activation_stream import ActivationStream
from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, sampled_product, sparse_product
from rarefy.dictionaries.formats import load, save
from rarefy.dictionaries.geometry import (
    Pairs,
    absorption_score,
    babel,
    effective_rank,
    gram_error,
    match_latents,
    modality_score,
    selected_babel,
)
from rarefy.dictionaries.harvest import content_mask, harvest, resolve_site
from rarefy.dictionaries.losses import (
    AuxK,
    GateLoss,
    L0Loss,
    L1Loss,
    MatryoshkaError,
    squared_error,
)
from rarefy.dictionaries.matching_pursuit import MatchingPursuitSAE, Revive
from rarefy.dictionaries.metrics import Evaluation, evaluate
from rarefy.dictionaries.shards import ShardStream
from rarefy.dictionaries.splice import splice
from rarefy.dictionaries.stream import ArrayStream, Stream
from rarefy.dictionaries.train import train

__all__ = [
    "Activation",
    "ActivationStream",
    "ArrayStream",
    "AuxK",
    "BatchCoupled",
    "Encoded",
    "Evaluation",
    "GateLoss",
    "Gated",
    "JumpReLU",
    "L0Loss",
    "L1Loss",
    "MatchingPursuitSAE",
    "MatryoshkaError",
    "Pairs",
    "Revive",
    "ShardStream",
    "SparseAutoencoder",
    "SparseCodes",
    "Stream",
    "Support",
    "absorption_score",
    "babel",
    "content_mask",
    "effective_rank",
    "evaluate",
    "gram_error",
    "harvest",
    "load",
    "match_latents",
    "modality_score",
    "resolve_site",
    "sampled_product",
    "save",
    "selected_babel",
    "sparse_product",
    "splice",
    "squared_error",
    "train",
]
