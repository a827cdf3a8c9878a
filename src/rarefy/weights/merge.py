r"""Merge a fine-tuned model back into its base: only its largest updates, and those toned down.

.. math:: \theta = \theta_\mathrm{base} + s\, \Delta \odot
    \mathbb 1[\,|\Delta| \text{ among the largest } \lfloor k N \rfloor\,], \qquad
    \Delta = \theta_\mathrm{tuned} - \theta_\mathrm{base}

Training free: what the tuning gained stays for the most part, and what it cost elsewhere goes.

Source: DLER (arXiv 2510.15110), section on update-selective merging; trimming as in TIES (arXiv
2306.01708) without its election of signs. Departures: the paper does not say whether updates are
ranked over the whole model or within each tensor: ``scope`` chooses, the whole model by default.
Ranking is exact: a radix selection over the bits of ``|Delta|`` in float32, whose order as integers
is their order as numbers, in two passes of bounded memory. (``rarefy.kernels``' selection wants the
updates in memory, a third copy of the model or, in bfloat16, a double one.)
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from rarefy.data.files import load_tensors, save_tensors, written_whole

Scope = Literal["global", "tensor"]

CHUNK = 1 << 20
"""Entries at a time: small enough to stay in a cache."""
INFINITY_BITS = 0x7F800000
"""Float32 bits of infinity; those of NaN are larger."""


def selective_update_merge(
    base: Mapping[str, Tensor],
    tuned: Mapping[str, Tensor],
    *,
    keep: float = 0.25,
    scale: float = 0.7,
    scope: Scope = "global",
) -> dict[str, Tensor]:
    """Add the largest updates of a tuned model to its base, scaled.

    Parameters
    ----------
    base, tuned : mapping of str to Tensor
        State dicts of the same names, shapes and types. Names that share memory in both (tied
        embeddings) count once. Tensors that are not of floating point are the base's.
    keep : float in [0, 1], default 0.25
        Share of the entries whose update is kept; of equal ones at the edge those that come first.
    scale : float, default 0.7
        What is kept of a kept update.
    scope : {"global", "tensor"}, default "global"
        Rank over the whole model, or within each tensor.

    Returns
    -------
    dict of str to Tensor
        New tensors of the base's types; with ``keep=1, scale=1`` those of ``tuned`` to the bit.

    Raises
    ------
    ValueError
        If the state dicts do not fit each other, an update is not finite, or an argument is out of
        range.

    Examples
    --------
    >>> base, tuned = {"w": torch.zeros(4)}, {"w": torch.tensor([1.0, -4.0, 2.0, 3.0])}
    >>> selective_update_merge(base, tuned, keep=0.5, scale=0.5)["w"]
    tensor([ 0.0000, -2.0000,  0.0000,  1.5000])
    """
    _check(base, tuned, keep, scale, scope)
    first_of = _first_names(base, tuned)
    ranked = [name for name in base if first_of[name] == name and base[name].is_floating_point()]
    merged: dict[str, Tensor] = {}
    for names in [ranked] if scope == "global" else [[name] for name in ranked]:
        threshold, n_ties = _cut({name: (base[name], tuned[name]) for name in names}, keep)
        for name in names:
            merged[name], n_ties = _merged(base[name], tuned[name], threshold, n_ties, scale)
    return {
        name: merged[first_of[name]] if tensor.is_floating_point() else tensor.clone()
        for name, tensor in base.items()
    }


def merge_folders(
    base: str | os.PathLike[str],
    tuned: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    keep: float = 0.25,
    scale: float = 0.7,
    scope: Scope = "global",
) -> None:
    """Merge two ``save_pretrained`` folders into a third, written whole or not at all.

    Parameters
    ----------
    base, tuned : path
        Folders with safetensors, in one file or in shards.
    out : path
        Must not be there yet, or be empty. Gets one ``model.safetensors``, and the tuned folder's
        other files, such as config and tokenizer.
    keep, scale, scope
        As for :func:`selective_update_merge`.

    Raises
    ------
    FileNotFoundError
        If a folder has no safetensors.
    FileExistsError
        If ``out`` is there and not empty.
    ValueError
        If the models do not fit each other or an argument is out of range.
    """
    with written_whole(out, folder=True) as sibling:
        merged = selective_update_merge(
            _tensors(Path(base)), _tensors(Path(tuned)), keep=keep, scale=scale, scope=scope
        )
        sibling.mkdir()
        facts = {"method": "selective-update-merge", "keep": keep, "scale": scale, "scope": scope}
        save_tensors(
            merged,
            sibling / "model.safetensors",
            metadata={"format": "pt", "rarefy": json.dumps(facts)},
        )
        for file in Path(tuned).iterdir():
            if file.is_file() and not file.name.endswith(
                (".safetensors", ".safetensors.index.json")
            ):
                shutil.copy(file, sibling / file.name)


def _tensors(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no .safetensors file; a folder written by save_pretrained is wanted"
        )
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= load_tensors(file)[0]
    return tensors


def _check(
    base: Mapping[str, Tensor], tuned: Mapping[str, Tensor], keep: float, scale: float, scope: str
) -> None:
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is {keep}; a share from 0 to 1 is wanted")
    if not (math.isfinite(scale) and scale >= 0):
        raise ValueError(f"scale is {scale}; a finite number from 0 on is wanted")
    if scope not in ("global", "tensor"):
        raise ValueError(f'scope must be "global" or "tensor", got {scope!r}')
    for name in [*base, *tuned]:
        if name not in base or name not in tuned:
            missing = "base" if name not in base else "tuned model"
            raise ValueError(f"{name} is not in the {missing}; two states of one model are wanted")
        ours, theirs = base[name], tuned[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            raise ValueError(
                f"{name} is {ours.dtype} of shape {tuple(ours.shape)} in the base, but "
                f"{theirs.dtype} of shape {tuple(theirs.shape)} in the tuned model"
            )


def _first_names(base: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, str]:
    """For each name the first that shares its memory in both models: itself where none does."""
    seen: dict[tuple[object, ...], str] = {}
    first = {}
    for name in base:
        key: tuple[object, ...] = (base[name].shape,)
        for tensor in (base[name], tuned[name]):
            # Without memory of its own (no entries) a tensor shares none.
            key += (tensor.data_ptr() or name, tensor.stride())
        first[name] = seen.setdefault(key, name)
    return first


def _pieces(base: Tensor, tuned: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Chunks of both in float32 at least, and the float32 bits of the size of their difference."""
    wide = torch.promote_types(base.dtype, torch.float32)
    ours, theirs = base.detach().reshape(-1), tuned.detach().reshape(-1)
    for start in range(0, ours.numel(), CHUNK):
        piece = slice(start, min(start + CHUNK, ours.numel()))
        a, b = ours[piece].to(wide), theirs[piece].to(wide)
        yield piece, a, b, (b - a).abs_().float().view(torch.int32)


def _cut(tensors: Mapping[str, tuple[Tensor, Tensor]], keep: float) -> tuple[int, int]:
    """Bits of the smallest kept update, and how many updates of exactly that size are kept."""
    total = sum(base.numel() for base, _ in tensors.values())
    n_kept = math.floor(round(keep * total, 6))
    high = torch.zeros(1 << 16, dtype=torch.long)
    for name, pair in tensors.items():
        before = int(high[INFINITY_BITS >> 16 :].sum())
        for *_, bits in _pieces(*pair):
            high += _counts(bits >> 16)
        if int(high[INFINITY_BITS >> 16 :].sum()) > before:
            raise ValueError(f"the update of {name} is not finite everywhere; nothing was merged")
    if n_kept == 0:
        return INFINITY_BITS, 0
    bucket, left = _bucket(high, n_kept)
    low = torch.zeros(1 << 16, dtype=torch.long)
    for pair in tensors.values():
        for *_, bits in _pieces(*pair):
            low += _counts(bits[bits >> 16 == bucket] & 0xFFFF)
    rest, left = _bucket(low, left)
    return (bucket << 16) + rest, left


def _counts(values: Tensor) -> Tensor:
    return torch.bincount(values, minlength=1 << 16).cpu()


def _bucket(counts: Tensor, n: int) -> tuple[int, int]:
    """Where the n-th largest lies, and how many of that bucket are among the n largest."""
    above = counts.flip(0).cumsum(0)
    place = int((above < n).sum())
    bucket = len(counts) - 1 - place
    return bucket, n - int(above[place] - counts[bucket])


def _merged(
    base: Tensor, tuned: Tensor, threshold: int, n_ties: int, scale: float
) -> tuple[Tensor, int]:
    out = torch.empty_like(base, memory_format=torch.contiguous_format)
    flat = out.view(-1)
    for piece, a, b, bits in _pieces(base, tuned):
        kept = bits > threshold
        if n_ties:
            ties = (bits == threshold).nonzero()[:n_ties, 0]
            kept[ties] = True
            n_ties -= len(ties)
        # lerp gives its ends to the bit, which a + scale * (b - a) does not.
        flat[piece] = torch.where(kept, torch.lerp(a, b, scale), a).to(base.dtype)
    return out, n_ties
