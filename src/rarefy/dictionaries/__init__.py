"""Sparse dictionaries: learn them, judge them, use them.

An autoencoder
    ``autoencoder``  :class:`SparseAutoencoder`: an encoder, an activation and a decoder;
    ``activations``  operators as activations, JumpReLU, Gated, batch-coupled projections;
    ``jumps``        what jumps at a threshold, and its gradients;
    ``codes``        which latents are active, and the two sparse products;
    ``unrolled``     :func:`proximal_gradient`, and encoders of several such steps;
    ``matching_pursuit``  :class:`MatchingPursuitSAE`, an encoder that pursues;
    ``afa``          :class:`TopAFA`: as many features as the norm of the input asks for.
Training one
    ``losses``       L1, L0, the gate's loss, AuxK, Matryoshka;
    ``stream``       batches as a function of the step;
    ``train``        :func:`train`, with checkpoints (``scale``: inputs at norm sqrt(d));
    ``interventions``  :class:`KAnnealing`, :class:`Resample`: what changes a run on its way;
    ``parallel``     several processes that share the rows;
    ``architectures``  the named ones, with losses, aimed at the same sparsity;
    ``fit``          from a language model to a trained autoencoder, in bounded memory;
    ``formats``      :func:`save`, :func:`load`: rarefy's folders, and others' (``exchange``).
A language model's activations
    ``harvest``      activations of any transformers model at any module, and their gradients;
    ``activation_stream``  a stream of them in bounded memory (``buffer``), from disk (``shards``);
    ``splice``       something else in a site's place: reconstruct, steer, ablate;
    ``sites``        :func:`collect`, :func:`patch`: single heads and positions.
Judging one
    ``metrics``      :func:`evaluate`: L0, FVU, dead latents, densities;
    ``spliced``      what the model loses with a reconstruction in the site's place;
    ``diagnostics``  what norms say of a dictionary: epsilon LBO, ZF plot, coherence;
    ``bidirectional``  latents of two signs: how balanced, and whether the two mean opposites;
    ``probing``      what latents know of labels: sparse probes, absorption, SCR, TPP, unlearning;
    ``steering``     directions added at a site, compared at equal cost;
    ``examples``     each latent's strongest examples; ``features`` the page of them;
    ``attributes``   :func:`attribute_dictionary`: supervised, a vector for each value;
    ``editing``      :func:`greedy_edit`, :func:`guided_edit`, :func:`feature_weights`;
    ``properties``   :func:`feature_f1`, :func:`interpret_features`: what features speak of;
    ``task_evaluation``  :class:`Task`: sufficiency, necessity and control.
Sparse coding
    ``sparse_coding``  :class:`SparseCoder`, :func:`sparse_codes`: any penalty, many inputs at once;
    ``dictionary_learning``  :class:`DictionaryLearner` (``dictionary_updates``: its rules);
    ``tune_penalty``  the strength that gives a sparsity or an error;
    ``code_report``  sparsity and error of codes;
    ``receptive_fields``  what units look for; ``gabor`` fits them.
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
``zipf``         :class:`ZipfLaw`: how often features fire, by rank;
``aux_zipf``     :class:`AuxZipf`, a loss that revives what fires less than that;
``feature_choice``  latents that pick their rows, after Mutual Choice (``BatchTopK``);
``gradient_sae``  :class:`GradientSAE`, which picks latents that matter to a loss;
``formats``      :func:`save` and :func:`load`: rarefy's, SAELens's, sparsify's folders;
``geometry``     coherence, effective rank, and how a dictionary lies to a known truth;
``metrics``      :func:`evaluate`: L0, FVU, dead latents, densities.
"""

from rarefy.dictionaries.activation_stream import ActivationStream
from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.afa import NormLoss, TopAFA, code_norms
from rarefy.dictionaries.architectures import Aimed, Architecture, architecture
from rarefy.dictionaries.attributes import AttributeDictionary, attribute_dictionary
from rarefy.dictionaries.autoencoder import Encoded, SparseAutoencoder
from rarefy.dictionaries.aux_zipf import AuxZipf
from rarefy.dictionaries.bidirectional import (
    Bidirectionality,
    auroc,
    bidirectionality,
    fix_signs,
    opposite_meaning,
    opposite_pairs,
)
from rarefy.dictionaries.code_report import CodeReport, code_report, debias
from rarefy.dictionaries.codes import (
    Everything,
    SparseCodes,
    Support,
    sampled_product,
    sparse_product,
)
from rarefy.dictionaries.diagnostics import (
    Coherence,
    ZFPoints,
    coherence,
    description_length,
    draw_zf,
    epsilon_lbo,
    norm_bounds,
    norms,
    zf_points,
)
from rarefy.dictionaries.dictionary_learning import DictionaryLearner
from rarefy.dictionaries.editing import (
    Edit,
    feature_weights,
    greedy_edit,
    guided_edit,
    subtract_features,
)
from rarefy.dictionaries.examples import TopExamples, logit_effects, top_examples
from rarefy.dictionaries.feature_choice import FeatureChoice, progressive_choice
from rarefy.dictionaries.features import describe_features, features_page
from rarefy.dictionaries.fit import fit, memory_bound
from rarefy.dictionaries.formats import load, save
from rarefy.dictionaries.gabor import GaborFit, fit_gabor
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
from rarefy.dictionaries.gradient_sae import GradientSAE
from rarefy.dictionaries.harvest import content_mask, harvest, resolve_site, site_width
from rarefy.dictionaries.interventions import Intervention, KAnnealing, Resample, Run
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
from rarefy.dictionaries.probing import (
    Crossed,
    Detection,
    Labelled,
    SparseProbe,
    SpuriousRemoval,
    TargetedRemoval,
    ablate,
    absorption,
    detect,
    label_latents,
    mean_difference,
    sparse_probe,
    spurious_removal,
    targeted_removal,
    unlearning_latents,
)
from rarefy.dictionaries.properties import (
    F1,
    Interpretation,
    coverage,
    feature_f1,
    interpret_features,
    union_f1,
)
from rarefy.dictionaries.receptive_fields import (
    ReceptiveFields,
    class_entropy,
    orientation_selectivity,
    receptive_field_report,
)
from rarefy.dictionaries.shards import ShardStream
from rarefy.dictionaries.sites import Site, collect, patch
from rarefy.dictionaries.sparse_coding import Codes, SparseCoder, sparse_codes
from rarefy.dictionaries.splice import splice
from rarefy.dictionaries.spliced import Spliced, evaluate_spliced
from rarefy.dictionaries.steering import (
    Effect,
    LatentDirection,
    Steered,
    at_equal_kl,
    difference_in_means,
    latent_direction,
    steered_predictions,
    steering_effect,
)
from rarefy.dictionaries.stream import ArrayStream, Stream
from rarefy.dictionaries.task_evaluation import Approximation, Control, Task
from rarefy.dictionaries.train import train
from rarefy.dictionaries.tune_penalty import Tuned, tune_penalty
from rarefy.dictionaries.unrolled import UnrolledAutoencoder, proximal_gradient
from rarefy.dictionaries.zipf import ZipfLaw

__all__ = [
    "Activation",
    "ActivationStream",
    "Aimed",
    "Approximation",
    "Architecture",
    "ArrayStream",
    "AttributeDictionary",
    "AuxK",
    "AuxZipf",
    "BatchCoupled",
    "Bidirectionality",
    "CodeReport",
    "Codes",
    "Coherence",
    "Control",
    "Crossed",
    "Detection",
    "DictionaryLearner",
    "Edit",
    "Effect",
    "Encoded",
    "Evaluation",
    "Everything",
    "F1",
    "FeatureChoice",
    "GaborFit",
    "GateLoss",
    "Gated",
    "GradientSAE",
    "Interpretation",
    "Intervention",
    "JumpReLU",
    "KAnnealing",
    "L0Loss",
    "L1Loss",
    "Labelled",
    "LatentDirection",
    "MatchingPursuitSAE",
    "MatryoshkaError",
    "NormLoss",
    "Pairs",
    "ReceptiveFields",
    "Resample",
    "Revive",
    "Run",
    "ShardStream",
    "Site",
    "SparseAutoencoder",
    "SparseCoder",
    "SparseCodes",
    "SparseProbe",
    "Spliced",
    "SpuriousRemoval",
    "Steered",
    "Stream",
    "Support",
    "TargetedRemoval",
    "Task",
    "TopAFA",
    "TopExamples",
    "Tuned",
    "UnrolledAutoencoder",
    "ZFPoints",
    "ZipfLaw",
    "ablate",
    "absorption",
    "absorption_score",
    "architecture",
    "at_equal_kl",
    "attribute_dictionary",
    "auroc",
    "babel",
    "bidirectionality",
    "class_entropy",
    "code_norms",
    "code_report",
    "coherence",
    "collect",
    "content_mask",
    "coverage",
    "debias",
    "describe_features",
    "description_length",
    "detect",
    "difference_in_means",
    "draw_zf",
    "effective_rank",
    "epsilon_lbo",
    "evaluate",
    "evaluate_spliced",
    "feature_f1",
    "feature_weights",
    "features_page",
    "fit",
    "fit_gabor",
    "fix_signs",
    "gram_error",
    "greedy_edit",
    "guided_edit",
    "harvest",
    "interpret_features",
    "label_latents",
    "latent_direction",
    "load",
    "logit_effects",
    "match_latents",
    "mean_difference",
    "memory_bound",
    "modality_score",
    "norm_bounds",
    "norms",
    "opposite_meaning",
    "opposite_pairs",
    "orientation_selectivity",
    "patch",
    "progressive_choice",
    "proximal_gradient",
    "receptive_field_report",
    "resolve_site",
    "sampled_product",
    "save",
    "selected_babel",
    "site_width",
    "sparse_codes",
    "sparse_probe",
    "sparse_product",
    "splice",
    "spurious_removal",
    "squared_error",
    "steered_predictions",
    "steering_effect",
    "subtract_features",
    "targeted_removal",
    "top_examples",
    "train",
    "tune_penalty",
    "union_f1",
    "unlearning_latents",
    "zf_points",
]
