"""Save and load autoencoders: rarefy's folder, and those of the public trainers.

A rarefy folder holds ``config.json`` (the class, its operators, and what the caller wants to keep
beside them) and ``model.safetensors``. :func:`load` knows a folder by its files, so one written by
SAELens, sparsify or dictionary_learning opens in the same way; :mod:`rarefy.dictionaries.exchange`
holds their layouts. Nothing in a folder is executed.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

import rarefy.operators
from rarefy.data.files import load_tensors, save_tensors, written_whole
from rarefy.dictionaries import exchange
from rarefy.dictionaries.activations import Activation, BatchCoupled, Gated, JumpReLU
from rarefy.dictionaries.autoencoder import SparseAutoencoder
from rarefy.operators import Penalty, Projection

Format = Literal["rarefy", "saelens", "sparsify"]


def save(
    sae: SparseAutoencoder,
    folder: str | os.PathLike[str],
    *,
    format: Format = "rarefy",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write an autoencoder as a folder, whole or not at all.

    Parameters
    ----------
    sae : SparseAutoencoder
    folder : path
        New or empty.
    format : {"rarefy", "saelens", "sparsify"}, default "rarefy"
        The others are what those packages read; a batch-coupled activation becomes the JumpReLU
        that it is at test time.
    metadata : mapping, optional
        What else to keep: model, site, context length. Must be JSON.

    Raises
    ------
    FileExistsError
        If there is something in the folder already.
    ValueError
        If the other package has no form for this architecture.
    """
    if format not in ("rarefy", "saelens", "sparsify"):
        raise ValueError(f"format must be 'rarefy', 'saelens' or 'sparsify', got {format!r}")
    facts = dict(metadata or {})
    if format == "rarefy":
        config: dict[str, Any] = {
            "rarefy_autoencoder": type(sae).__name__,
            **sae.config(),
            "activation": describe(sae.activation),
            "metadata": facts,
        }
        tensors = dict(sae.state_dict())
        names = ("config.json", "model.safetensors")
    elif format == "saelens":
        config, tensors = exchange.to_saelens(sae, facts)
        names = ("cfg.json", "sae_weights.safetensors")
    else:
        config, tensors = exchange.to_sparsify(sae)
        names = ("cfg.json", "sae.safetensors")
    with written_whole(folder, folder=True) as place:
        place.mkdir()
        (place / names[0]).write_text(json.dumps(config, indent=2) + "\n")
        save_tensors(tensors, place / names[1], metadata={"format": "pt"})


def load(folder: str | os.PathLike[str]) -> SparseAutoencoder:
    """Open an autoencoder's folder, in evaluation mode, whichever of the packages wrote it.

    Parameters
    ----------
    folder : path
        Of rarefy, SAELens, sparsify or dictionary_learning.

    Returns
    -------
    SparseAutoencoder
        Of the class that was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it is no autoencoder's folder, is damaged, or of an architecture rarefy does not have.
    """
    place = Path(folder)
    if not place.is_dir():
        raise FileNotFoundError(f"no such folder: {place}")
    if (place / "sae_weights.safetensors").is_file():
        sae = exchange.from_saelens(_config(place / "cfg.json"), *_weights(place, "sae_weights"))
    elif (place / "sae.safetensors").is_file():
        sae = exchange.from_sparsify(_config(place / "cfg.json"), *_weights(place, "sae"))
    elif (place / "ae.pt").is_file():
        sae = exchange.from_dictionary_learning(place)
    elif (place / "model.safetensors").is_file():
        sae = _from_rarefy(place)
    else:
        raise ValueError(
            f"{place} is no autoencoder's folder: model.safetensors (rarefy), "
            "sae_weights.safetensors (SAELens), sae.safetensors (sparsify) or ae.pt "
            "(dictionary_learning) is wanted"
        )
    return sae.eval()


def read_metadata(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what was kept beside the weights: the ``metadata`` of :func:`save`, or of SAELens."""
    place = Path(folder)
    name = "config.json" if (place / "config.json").is_file() else "cfg.json"
    return dict(_config(place / name).get("metadata") or {}) if (place / name).is_file() else {}


def describe(activation: Projection | Penalty | Activation) -> dict[str, Any]:
    """Write an activation as JSON: its class and the arguments it is built from."""
    name = type(activation).__name__
    if isinstance(activation, Projection | Penalty):
        fields = {f.name: getattr(activation, f.name) for f in dataclasses.fields(activation)}
        plain = {key: v.tolist() if hasattr(v, "tolist") else v for key, v in fields.items()}
        return {"operator": name, **plain}
    if isinstance(activation, BatchCoupled):
        return {
            "module": name,
            "projection": describe(activation.projection),
            "decay": activation.decay,
        }
    if isinstance(activation, JumpReLU):
        return {"module": name, "bandwidth": activation.bandwidth}
    if isinstance(activation, Gated):
        return {"module": name}
    raise ValueError(f"{name} is not an activation that can be saved")


def build(description: Mapping[str, Any], n_latents: int) -> Projection | Penalty | Activation:
    """Make the activation that :func:`describe` wrote."""
    arguments = dict(description)
    operator, module = arguments.pop("operator", None), arguments.pop("module", None)
    if operator in rarefy.operators.__all__ and operator not in ("Penalty", "Projection"):
        return getattr(rarefy.operators, operator)(**arguments)
    if module == "BatchCoupled":
        projection = build(arguments["projection"], n_latents)
        assert isinstance(projection, Projection)
        return BatchCoupled(projection, n_latents, decay=arguments["decay"])
    if module == "JumpReLU":
        return JumpReLU(n_latents, bandwidth=arguments["bandwidth"])
    if module == "Gated":
        return Gated(n_latents)
    raise ValueError(f"unknown activation {operator or module!r}")


def _from_rarefy(place: Path) -> SparseAutoencoder:
    config = _config(place / "config.json")
    kinds = {kind.__name__: kind for kind in _kinds(SparseAutoencoder)}
    kind = config.pop("rarefy_autoencoder", None)
    if kind not in kinds:
        raise ValueError(f"{place} is no autoencoder's folder: its config names {kind!r}")
    config.pop("metadata", None)
    tensors, _ = _weights(place, "model")
    try:
        config["activation"] = build(config["activation"], config["n_latents"])
        sae = kinds[kind](**config)
        sae.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"{place} holds a damaged autoencoder: {first}") from error
    return sae


def _kinds(kind: type[SparseAutoencoder]) -> list[type[SparseAutoencoder]]:
    return [kind, *(k for child in kind.__subclasses__() for k in _kinds(child))]


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path.parent} is no autoencoder's folder: no {path.name}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold an object, got {type(config).__name__}")
    return config


def _weights(place: Path, name: str) -> tuple[dict[str, Tensor], Path]:
    return load_tensors(place / f"{name}.safetensors")[0], place
