"""Write a pruned model: dense files that load anywhere, or packed ones without the zeros.

Dense files hold zeros as zeros, so they are as big as before; what they gain is that everything
opens them. Packed files hold, per masked tensor,

    name.bitmask   one bit an entry          and   name.values  the kept weights in C order, or
    name.index     place within each group   and   name.values  for an N:M pattern,

about ``d + 1/16`` of a bf16 model at density d, 9/16 for 2:4. Every file appears whole or not at
all. Departures: none; the formats are ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import rarefy
from rarefy.data.files import load_tensors, save_tensors, written_whole
from rarefy.operators import NM
from rarefy.weights.attach import strip_state_dict
from rarefy.weights.masks import Masks, pack_bits, unpack_bits
from rarefy.weights.nm import Compressed, nm_compress, nm_expand

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def sparsity_metadata(model: nn.Module, masks: Masks, **facts: Any) -> dict[str, Any]:
    """Describe how sparse a model is, with each denominator spelt out.

    Parameters
    ----------
    model : nn.Module
    masks : Masks
    **facts
        What else belongs on record: method, pattern, seed, calibration.

    Returns
    -------
    dict
        JSON-able: version, ``density`` over the masked tensors, ``density_all`` over all
        parameters, ``density_no_embedding`` without embedding tables, and by layer.
    """
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    named = {
        f"{name}.weight".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    outside = Masks({name: mask for name, mask in masks.items() if name not in named})
    total = sum(p.numel() for p in model.parameters())
    inner = sum(p.numel() for p in model.parameters() if id(p) not in tables)
    return {
        "version": rarefy.__version__,
        "density": masks.density(),
        "density_all": 1 - (masks.numel - masks.nnz) / total,
        "density_no_embedding": 1 - (outside.numel - outside.nnz) / max(inner, 1),
        "layers": {row.name: row.density for row in masks.summary()},
        **facts,
    }


def save_dense(model: nn.Module, path: str | os.PathLike[str], masks: Masks, **facts: Any) -> None:
    """Write a model's state as one plain safetensors file, zeros baked in.

    Parameters
    ----------
    model : nn.Module
        Masks may be attached.
    path : path
    masks : Masks
    **facts
        For the header, with :func:`sparsity_metadata`.

    Raises
    ------
    OSError
        If it cannot be written; nothing is left behind.
    """
    tensors, same = _without_copies(strip_state_dict(model.state_dict()))
    facts = sparsity_metadata(model, masks, **facts)
    for name, mask in masks.items():
        tensors[name] = tensors[name].masked_fill(~mask, 0)
    save_tensors(tensors, path, metadata={"rarefy": json.dumps(facts), "same": json.dumps(same)})


def save_pruned(
    model: PreTrainedModel,
    masks: Masks,
    folder: str | os.PathLike[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **facts: Any,
) -> None:
    """Write a folder that ``from_pretrained`` opens, whole or not at all.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With zeros baked in and no masks attached.
    masks : Masks
        Described, with ``facts``, in the folder's ``rarefy.json``.
    folder : path
        Must not be there yet, or be empty.
    tokenizer : transformers tokenizer, optional
    **facts

    Raises
    ------
    FileExistsError
        If the folder is there and not empty.
    OSError
        If it cannot be written; nothing is left behind.
    """
    from safetensors import SafetensorError

    with written_whole(folder, folder=True) as sibling:
        try:
            model.save_pretrained(sibling)
        except SafetensorError as error:
            raise OSError(f"{os.fspath(folder)} cannot be written: {error}") from error
        if tokenizer is not None:
            tokenizer.save_pretrained(sibling)
        text = json.dumps(sparsity_metadata(model, masks, **facts), indent=2)
        (sibling / "rarefy.json").write_text(text + "\n", encoding="utf-8")


def save_sparse(
    model: nn.Module,
    path: str | os.PathLike[str],
    masks: Masks,
    *,
    pattern: NM | None = None,
    input_axes: Mapping[str, int] | None = None,
    **facts: Any,
) -> None:
    """Write a model's state without the pruned weights.

    Parameters
    ----------
    model : nn.Module
    path : path
    masks : Masks
    pattern : NM, optional
        If every mask keeps exactly n of m: smaller than a bitmask.
    input_axes : mapping of str to int, optional
        Axis over the inputs where it is not 1, for patterns.
    **facts
        For the header, with :func:`sparsity_metadata`.

    Raises
    ------
    ValueError
        If a pruned weight is not zero (it would be lost), or a mask breaks the pattern.
    OSError
        If it cannot be written; nothing is left behind.
    """
    tensors, same = _without_copies(strip_state_dict(model.state_dict()))
    packed: dict[str, Any] = {}
    for name, mask in masks.items():
        if name not in tensors:
            raise ValueError(f"{name} is no tensor of the model, or tied to another name")
        weight = tensors.pop(name)
        if weight[~mask].any():
            raise ValueError(f"{name} has pruned weights that are not zero: apply the masks first")
        if pattern is None:
            tensors[f"{name}.bitmask"] = pack_bits(mask)
            tensors[f"{name}.values"] = weight[mask]
            packed[name] = {"shape": list(mask.shape)}
            continue
        axis = (input_axes or {}).get(name, 1)
        values, index, _ = nm_compress(weight, NM(pattern.n, pattern.m, axis=axis), mask=mask)
        tensors[f"{name}.values"] = values
        tensors[f"{name}.index"] = _pack_places(index, pattern.m)
        packed[name] = {"pattern": [pattern.n, pattern.m, axis]}
    metadata = {
        "rarefy": json.dumps(sparsity_metadata(model, masks, **facts)),
        "same": json.dumps(same),
        "packed": json.dumps(packed),
    }
    save_tensors(tensors, path, metadata=metadata)


def load_sparse(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict back from :func:`save_sparse`, bit for bit.

    Pruned entries come back as +0.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict of str to Tensor
        For ``model.load_state_dict``.

    Raises
    ------
    ValueError
        If the file is corrupt or was written by something else.
    """
    tensors, metadata = load_tensors(path)
    if "packed" not in metadata:
        raise ValueError(f"{os.fspath(path)} is not packed: a file by save_sparse is wanted")
    for name, layout in json.loads(metadata["packed"]).items():
        values = tensors.pop(f"{name}.values")
        if "shape" in layout:
            mask = unpack_bits(tensors.pop(f"{name}.bitmask"), layout["shape"])
            tensors[name] = values.new_zeros(mask.shape).masked_scatter_(mask, values)
            continue
        n, m, axis = layout["pattern"]
        index = _unpack_places(tensors.pop(f"{name}.index"), m, values.shape)
        tensors[name] = nm_expand(Compressed(values, index, NM(n, m, axis=axis)))
    tensors |= {name: tensors[first] for name, first in json.loads(metadata["same"]).items()}
    return tensors


def load_sparse_masks(path: str | os.PathLike[str]) -> Masks:
    """Read the masks out of a file by :func:`save_sparse`; errors as there."""
    tensors, metadata = load_tensors(path)
    if "packed" not in metadata:
        raise ValueError(f"{os.fspath(path)} is not packed: a file by save_sparse is wanted")
    masks = {}
    for name, layout in json.loads(metadata["packed"]).items():
        if "shape" in layout:
            masks[name] = unpack_bits(tensors[f"{name}.bitmask"], layout["shape"])
            continue
        n, m, axis = layout["pattern"]
        shape = tensors[f"{name}.values"].shape
        index = _unpack_places(tensors[f"{name}.index"], m, shape)
        ones = torch.ones(shape, dtype=torch.bool)
        masks[name] = nm_expand(Compressed(ones, index, NM(n, m, axis=axis)))
    return Masks(masks)


def _without_copies(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Drop names that are the same memory as an earlier one; tell which."""
    first: dict[tuple[Any, ...], str] = {}
    kept, same = {}, {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            same[name] = first[place]
        else:
            first[place] = name
            kept[name] = tensor
    return kept, same


def _pack_places(index: Tensor, m: int) -> Tensor:
    """Four places a byte where two bits hold them."""
    flat = index.flatten().cpu()
    if m > 4:
        return flat
    padded = torch.cat([flat, flat.new_zeros(-len(flat) % 4)]).view(-1, 4)
    return padded[:, 0] | padded[:, 1] << 2 | padded[:, 2] << 4 | padded[:, 3] << 6


def _unpack_places(packed: Tensor, m: int, shape: torch.Size) -> Tensor:
    if m <= 4:
        shifts = torch.tensor([0, 2, 4, 6], dtype=torch.uint8)
        packed = (packed[:, None] >> shifts & 3).flatten()[: shape.numel()]
    return packed.view(shape)
