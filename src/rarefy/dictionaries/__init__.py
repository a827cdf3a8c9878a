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
``architectures``  the named ones, with losses, aimed at the same sparsity;
``fit``          from a language model to a trained autoencoder (``scale``);
``examples``     each latent's strongest examples; ``features`` the page of them;
``spliced``      what the model loses with a reconstruction in the site's place;
``metrics``      :func:`evaluate`: L0, FVU, dead latents, densities.
"""

from rarefy.dictionaries.activation_stream import ActivationStream
from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.architectures import Aimed, Architecture, architecture
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, sampled_product, sparse_product
from rarefy.dictionaries.examples import TopExamples, logit_effects, top_examples
from rarefy.dictionaries.features import describe_features, features_page
from rarefy.dictionaries.fit import fit
from rarefy.dictionaries.formats import load, save
from rarefy.dictionaries.harvest import content_mask, harvest, resolve_site, site_width
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
from rarefy.dictionaries.spliced import Spliced, evaluate_spliced
from rarefy.dictionaries.stream import ArrayStream, Stream
from rarefy.dictionaries.train import train

__all__ = [
    "Activation",
    "ActivationStream",
    "Aimed",
    "Architecture",
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
    "Revive",
    "ShardStream",
    "SparseAutoencoder",
    "SparseCodes",
    "Spliced",
    "Stream",
    "Support",
    "TopExamples",
    "architecture",
    "content_mask",
    "describe_features",
    "evaluate",
    "evaluate_spliced",
    "features_page",
    "fit",
    "harvest",
    "load",
    "logit_effects",
    "resolve_site",
    "sampled_product",
    "save",
    "site_width",
    "sparse_product",
    "splice",
    "squared_error",
    "top_examples",
    "train",
]
