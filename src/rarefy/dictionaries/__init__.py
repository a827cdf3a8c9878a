"""Sparse dictionaries: learn them, judge them, use them.

``codes``        which latents are active, and the two sparse products;
``activations``  operators as activations, JumpReLU, Gated, batch-coupled projections;
``autoencoder``  :class:`SparseAutoencoder`: an encoder, an activation and a decoder;
``losses``       L1, L0, the gate's loss, AuxK, Matryoshka;
``stream``       batches as a function of the step;
``train``        :func:`train`, with checkpoints;
``formats``      :func:`save` and :func:`load`: rarefy's, SAELens's, sparsify's folders;
``metrics``      :func:`evaluate`: L0, FVU, dead latents, densities;
``attributes``       :func:`attribute_dictionary`: supervised, a vector for each attribute's value;
``sites``            :func:`collect`, :func:`patch`: activations of single heads and positions;
``editing``          :func:`greedy_edit`, :func:`guided_edit`, :func:`feature_weights`;
``properties``       :func:`feature_f1`, :func:`interpret_features`: what features speak of;
``task_evaluation``  :class:`Task`: sufficiency, necessity and control.
"""

from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.attributes import AttributeDictionary, attribute_dictionary
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.codes import SparseCodes, Support, sampled_product, sparse_product
from rarefy.dictionaries.editing import (
    Edit,
    feature_weights,
    greedy_edit,
    guided_edit,
    subtract_features,
)
from rarefy.dictionaries.formats import load, save
from rarefy.dictionaries.losses import (
    AuxK,
    GateLoss,
    L0Loss,
    L1Loss,
    MatryoshkaError,
    squared_error,
)
from rarefy.dictionaries.metrics import Evaluation, evaluate
from rarefy.dictionaries.properties import (
    F1,
    Interpretation,
    coverage,
    feature_f1,
    interpret_features,
    union_f1,
)
from rarefy.dictionaries.sites import Site, collect, patch
from rarefy.dictionaries.stream import ArrayStream, Stream
from rarefy.dictionaries.task_evaluation import Approximation, Control, Task
from rarefy.dictionaries.train import train

__all__ = [
    "F1",
    "Activation",
    "Approximation",
    "ArrayStream",
    "AttributeDictionary",
    "AuxK",
    "BatchCoupled",
    "Control",
    "Edit",
    "Encoded",
    "Evaluation",
    "GateLoss",
    "Gated",
    "Interpretation",
    "JumpReLU",
    "L0Loss",
    "L1Loss",
    "MatryoshkaError",
    "Site",
    "SparseAutoencoder",
    "SparseCodes",
    "Stream",
    "Support",
    "Task",
    "attribute_dictionary",
    "collect",
    "coverage",
    "evaluate",
    "feature_f1",
    "feature_weights",
    "greedy_edit",
    "guided_edit",
    "interpret_features",
    "load",
    "patch",
    "sampled_product",
    "save",
    "sparse_product",
    "squared_error",
    "subtract_features",
    "train",
    "union_f1",
]
