"""The folders of other packages, to and from a SparseAutoencoder.

``saelens``              ``cfg.json`` and ``sae_weights.safetensors``: W_enc (d, f), W_dec (f, d);
``sparsify``             ``cfg.json`` and ``sae.safetensors``: encoder.weight and W_dec (f, d);
``dictionary_learning``  ``config.json`` and ``ae.pt``, read with ``weights_only``.

Layouts as written by sae-lens 6.54, eai-sparsify 1.3 and saprmarks/dictionary_learning. Input
normalisation is not read: those packages fold it into the weights before they save for use.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.operators import L0, L1, Penalty, Projection, Threshold, TopK

_SAELENS_VERSION = "6.54.12"
"""A version must be there, or their reader takes the folder for one of before version 6."""


def to_saelens(
    sae: SparseAutoencoder, metadata: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a SAELens folder."""
    _plain(sae, "SAELens")
    activation = sae.activation
    bias = _encoder_bias(sae)
    tensors = {
        "W_enc": sae.encoder.detach().t(),
        "W_dec": sae.decoder.detach(),
        "b_dec": _decoder_bias(sae),
    }
    extra: dict[str, Any] = {}
    if isinstance(activation, TopK) and activation.axis == -1 and activation.by != "value":
        architecture = "topk" if activation.by == "positive" else "abstopk"
        extra = {"k": activation.k, "rescale_acts_by_decoder_norm": False}
        tensors["b_enc"] = bias
    elif isinstance(activation, L1) and activation.positive:
        # a soft threshold of what is positive is a ReLU with the threshold in the bias
        architecture = "standard"
        tensors["b_enc"] = bias - activation.lam
    elif isinstance(activation, Gated):
        architecture = "gated"
        tensors["b_gate"] = activation.gate_bias.detach() + bias
        tensors["b_mag"] = activation.magnitude_bias.detach() + bias * activation.log_scale.exp()
        tensors["r_mag"] = activation.log_scale.detach()
    else:
        architecture = "jumprelu"
        tensors["b_enc"] = bias
        tensors["threshold"] = _threshold(activation, sae)
    config = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtract_decoder_bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **extra,
        "metadata": {"sae_lens_version": _SAELENS_VERSION, **metadata},
    }
    return config, {name: tensor.detach().float().clone() for name, tensor in tensors.items()}


def from_saelens(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], place: Path
) -> SparseAutoencoder:
    """Open a SAELens folder."""
    normalisation = config.get("normalize_activations", "none")
    if normalisation not in (None, "none"):
        raise ValueError(
            f"{place} wants its inputs normalised by {normalisation!r}: an autoencoder with the "
            "normalisation folded into its weights is wanted"
        )
    architecture = config.get("architecture")
    decoder = _tensor(tensors, "W_dec", place)
    width = len(decoder)
    activation: Projection | Penalty | Activation
    if architecture in ("topk", "abstopk"):
        activation = TopK(config["k"], by="positive" if architecture == "topk" else "magnitude")
    elif architecture == "standard":
        activation = L1(0.0, positive=True)
    elif architecture == "jumprelu":
        activation = _jump(_tensor(tensors, "threshold", place))
    elif architecture == "gated":
        activation = Gated(width)
        with torch.no_grad():
            activation.gate_bias.copy_(_tensor(tensors, "b_gate", place))
            activation.magnitude_bias.copy_(_tensor(tensors, "b_mag", place))
            activation.log_scale.copy_(_tensor(tensors, "r_mag", place))
    else:
        raise ValueError(
            f"{place} is of the architecture {architecture!r}, expected standard, topk, abstopk, "
            "jumprelu or gated"
        )
    encoder = _tensor(tensors, "W_enc", place).t()
    if config.get("rescale_acts_by_decoder_norm"):
        # they rank u times the norm of a decoder row and decode through the unit row
        norms = decoder.norm(dim=1).clamp(min=1e-12)
        encoder, decoder = encoder * norms[:, None], decoder / norms[:, None]
        tensors = {**tensors, "b_enc": tensors["b_enc"] * norms}
    return _assemble(
        encoder,
        decoder,
        None if architecture == "gated" else _tensor(tensors, "b_enc", place),
        _tensor(tensors, "b_dec", place),
        activation,
        place,
        subtract=bool(config.get("apply_b_dec_to_input", True)),
    )


def to_sparsify(sae: SparseAutoencoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a sparsify folder, which holds TopK autoencoders only."""
    _plain(sae, "sparsify")
    activation = sae.activation
    if not isinstance(activation, TopK) or activation.by != "positive" or activation.axis != -1:
        raise ValueError(
            f"sparsify holds TopK autoencoders only, got {type(activation).__name__}: save as "
            "'saelens' or 'rarefy'"
        )
    if not sae.subtract_decoder_bias:
        raise ValueError("sparsify subtracts the decoder's bias from its inputs, this one does not")
    config = {
        "activation": "topk",
        "expansion_factor": sae.n_latents // sae.d_in,
        "normalize_decoder": True,
        "num_latents": sae.n_latents,
        "k": activation.k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": sae.d_in,
    }
    tensors = {
        "encoder.weight": sae.encoder,
        "encoder.bias": _encoder_bias(sae),
        "W_dec": sae.decoder,
        "b_dec": _decoder_bias(sae),
    }
    return config, {name: tensor.detach().float().clone() for name, tensor in tensors.items()}


def from_sparsify(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], place: Path
) -> SparseAutoencoder:
    """Open a sparsify folder."""
    if config.get("activation", "topk") != "topk" or config.get("skip_connection"):
        raise ValueError(
            f"{place} has the activation {config.get('activation')!r} and skip_connection "
            f"{bool(config.get('skip_connection'))}: a plain topk autoencoder is wanted"
        )
    return _assemble(
        _tensor(tensors, "encoder.weight", place),
        _tensor(tensors, "W_dec", place),
        _tensor(tensors, "encoder.bias", place),
        _tensor(tensors, "b_dec", place),
        TopK(config["k"], by="positive"),
        place,
        subtract=not config.get("transcode", False),
    )


def from_dictionary_learning(place: Path) -> SparseAutoencoder:
    """Open a folder of saprmarks/dictionary_learning; its pickle is read with ``weights_only``."""
    try:
        tensors = torch.load(place / "ae.pt", map_location="cpu", weights_only=True)
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))["trainer"]
    except (pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{place} cannot be read safely: {first}") from error
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{place}/config.json does not name its trainer") from error
    kind = config.get("dict_class")
    if kind == "AutoEncoderTopK":
        parts = ("encoder.weight", "decoder.weight", "encoder.bias", "b_dec")
        encoder, decoder, bias, center = (_tensor(tensors, name, place) for name in parts)
        top = TopK(int(tensors["k"]), by="positive")
        return _assemble(encoder, decoder.t(), bias, center, top, place, subtract=True)
    if kind in ("BatchTopKSAE", "JumpReluAutoEncoder"):
        if kind == "BatchTopKSAE":
            parts = ("encoder.weight", "decoder.weight", "encoder.bias", "b_dec")
            encoder, decoder, bias, center = (_tensor(tensors, name, place) for name in parts)
            decoder, threshold = decoder.t(), tensors["threshold"].expand(len(bias))
        else:
            parts = ("W_enc", "W_dec", "b_enc", "b_dec")
            encoder, decoder, bias, center = (_tensor(tensors, name, place) for name in parts)
            encoder, threshold = encoder.t(), _tensor(tensors, "threshold", place)
        jump = _jump(threshold)
        subtract = kind == "BatchTopKSAE"
        return _assemble(encoder, decoder, bias, center, jump, place, subtract=subtract)
    raise ValueError(
        f"{place} is a {kind!r}, expected AutoEncoderTopK, BatchTopKSAE or JumpReluAutoEncoder"
    )


def _assemble(
    encoder: Tensor,
    decoder: Tensor,
    encoder_bias: Tensor | None,
    decoder_bias: Tensor,
    activation: Projection | Penalty | Activation,
    place: Path,
    *,
    subtract: bool,
) -> SparseAutoencoder:
    width, d = decoder.shape
    sae = SparseAutoencoder(
        d,
        width,
        activation,
        encoder_bias=encoder_bias is not None,
        subtract_decoder_bias=subtract,
    )
    pairs = [(sae.encoder, encoder), (sae.decoder, decoder), (sae.decoder_bias, decoder_bias)]
    if encoder_bias is not None:
        pairs.append((sae.encoder_bias, encoder_bias))
    with torch.no_grad():
        for parameter, tensor in pairs:
            assert parameter is not None
            if parameter.shape != tensor.shape:
                raise ValueError(
                    f"{place} holds a tensor of shape {tuple(tensor.shape)} where "
                    f"{tuple(parameter.shape)} is wanted"
                )
            parameter.copy_(tensor)
    return sae


def _plain(sae: SparseAutoencoder, package: str) -> None:
    """Refuse an architecture whose codes depend on more than its pre-codes."""
    if type(sae).select is not SparseAutoencoder.select or (
        type(sae).encode_all is not SparseAutoencoder.encode_all
    ):
        raise ValueError(f"{package} has no form for {type(sae).__name__}: save it as 'rarefy'")


def _threshold(activation: Projection | Penalty | Activation, sae: SparseAutoencoder) -> Tensor:
    if isinstance(activation, JumpReLU):
        return activation.threshold.detach().clamp(min=0)
    if isinstance(activation, BatchCoupled) and activation.projection.by == "positive":
        return activation.threshold.expand(sae.n_latents)
    if isinstance(activation, L0) and activation.positive:
        return torch.full((sae.n_latents,), math.sqrt(2 * activation.lam))
    if isinstance(activation, Threshold) and activation.by != "magnitude":
        return torch.as_tensor(activation.tau, dtype=torch.float32).expand(sae.n_latents)
    raise ValueError(
        f"SAELens has no form for an autoencoder with {activation}: save it as 'rarefy'"
    )


def _jump(threshold: Tensor) -> JumpReLU:
    jump = JumpReLU(len(threshold))
    with torch.no_grad():
        jump.threshold.copy_(threshold)
    return jump


def _encoder_bias(sae: SparseAutoencoder) -> Tensor:
    bias = sae.encoder_bias
    return sae.encoder.new_zeros(sae.n_latents) if bias is None else bias.detach()


def _decoder_bias(sae: SparseAutoencoder) -> Tensor:
    bias = sae.decoder_bias
    return sae.decoder.new_zeros(sae.d_in) if bias is None else bias.detach()


def _tensor(tensors: Mapping[str, Tensor], name: str, place: Path) -> Tensor:
    if name not in tensors:
        raise ValueError(f"{place} has no tensor {name!r}: an incomplete checkpoint")
    return tensors[name].float()
