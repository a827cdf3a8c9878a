"""A set of keep-masks over a model's parameters: True is kept.

    density = nnz / numel,    sparsity = 1 - density

counted over the masked tensors only (the denominator that papers mean); :meth:`Masks.summary`
and :func:`rarefy.weights.export.metadata` state the whole-model figures beside it.

In memory one byte an entry; on disk one bit, packed in C order, lowest bit first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rarefy.data.files import load_tensors, save_tensors
from rarefy.weights.select import select


class LayerDensity(NamedTuple):
    """One line of :meth:`Masks.summary`."""

    name: str
    shape: tuple[int, ...]
    nnz: int
    density: float


class Masks(Mapping[str, Tensor]):
    """Keep-masks by parameter name; immutable as a mapping.

    Parameters
    ----------
    masks : mapping of str to bool Tensor
        True where the weight is kept. Not copied.

    Raises
    ------
    ValueError
        If a mask is not boolean.

    Examples
    --------
    >>> import torch
    >>> masks = Masks({"weight": torch.tensor([[True, False], [False, False]])})
    >>> masks.nnz, masks.density()
    (1, 0.25)
    """

    def __init__(self, masks: Mapping[str, Tensor]) -> None:
        wrong = [name for name, mask in masks.items() if mask.dtype != torch.bool]
        if wrong:
            raise ValueError(f"masks must be boolean tensors, got another dtype for {wrong}")
        self._masks = dict(masks)

    @classmethod
    def ones(cls, tensors: Mapping[str, Tensor]) -> Masks:
        """Keep everything."""
        return cls({name: torch.ones_like(t, dtype=torch.bool) for name, t in tensors.items()})

    @classmethod
    def from_zeros(cls, model: nn.Module | Mapping[str, Tensor]) -> Masks:
        """Read the masks off the zeros of a model that is already pruned.

        A weight that is zero by chance counts as pruned.
        """
        tensors = select(model) if isinstance(model, nn.Module) else model
        return cls({name: tensor.detach() != 0 for name, tensor in tensors.items()})

    def __getitem__(self, name: str) -> Tensor:
        return self._masks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def __repr__(self) -> str:
        return f"Masks({len(self)} tensors, {self.nnz} of {self.numel} kept)"

    @property
    def nnz(self) -> int:
        """Number of weights kept."""
        return sum(int(mask.count_nonzero()) for mask in self.values())

    @property
    def numel(self) -> int:
        """Number of weights the masks cover."""
        return sum(mask.numel() for mask in self.values())

    def density(self, name: str | None = None) -> float:
        """Fraction kept: of one tensor, or of all together (1.0 where there is nothing)."""
        masks = self if name is None else Masks({name: self[name]})
        return masks.nnz / masks.numel if masks.numel else 1.0

    def summary(self) -> list[LayerDensity]:
        """List name, shape, kept weights and density of every tensor."""
        return [
            LayerDensity(name, tuple(mask.shape), int(mask.count_nonzero()), self.density(name))
            for name, mask in self.items()
        ]

    def __and__(self, other: Masks) -> Masks:
        return self._combined(other, torch.logical_and)

    def __or__(self, other: Masks) -> Masks:
        return self._combined(other, torch.logical_or)

    def __invert__(self) -> Masks:
        return Masks({name: ~mask for name, mask in self.items()})

    def difference(self, other: Masks) -> dict[str, int]:
        """Count the positions that differ, by tensor: the sum of absolute differences."""
        flipped = self._combined(other, torch.logical_xor)
        return {name: int(mask.count_nonzero()) for name, mask in flipped.items()}

    def shuffled(self, *, generator: torch.Generator) -> Masks:
        """Permute each mask within its tensor: same layer densities, other positions."""
        return Masks(
            {
                name: mask.flatten()[
                    torch.randperm(mask.numel(), generator=generator).to(mask.device)
                ].view(mask.shape)
                for name, mask in self.items()
            }
        )

    def to(self, device: str | torch.device) -> Masks:
        """Move every mask to a device."""
        return Masks({name: mask.to(device) for name, mask in self.items()})

    def validate(self, model: nn.Module) -> None:
        """Check names, shapes and devices against a model.

        Raises
        ------
        ValueError
            Listing everything that does not fit, at once.
        """
        _fitting(self, dict(model.named_parameters(remove_duplicate=False)))

    @torch.no_grad()
    def apply_(self, model: nn.Module, *, optimizer: Optimizer | None = None) -> None:
        """Zero the pruned weights of a model in place, and their optimizer state.

        Parameters
        ----------
        model : nn.Module
        optimizer : torch optimizer, optional
            Every state tensor of the parameter's shape (momentum, second moment, ...) is zeroed
            at the pruned positions too, so that a pruned weight leaves no trace.

        Raises
        ------
        ValueError
            If a mask does not fit the model.
        """
        parameters = _fitting(self, dict(model.named_parameters(remove_duplicate=False)))
        for name, mask in self.items():
            zero_(parameters[name], ~mask, optimizer)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the masks to one safetensors file, a bit an entry; whole or not at all."""
        save_tensors(
            {f"{name}.bitmask": pack_bits(mask) for name, mask in self.items()},
            path,
            metadata={"masks": json.dumps({name: list(m.shape) for name, m in self.items()})},
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Masks:
        """Read what :meth:`save` wrote.

        Raises
        ------
        ValueError
            If the file is corrupt or holds no masks.
        """
        tensors, metadata = load_tensors(path)
        if "masks" not in metadata:
            raise ValueError(f"{os.fspath(path)} holds no masks: a file by Masks.save is wanted")
        shapes = json.loads(metadata["masks"])
        return cls({name: unpack_bits(tensors[f"{name}.bitmask"], s) for name, s in shapes.items()})

    def _combined(self, other: Masks, operation: Callable[[Tensor, Tensor], Tensor]) -> Masks:
        _fitting(self, other)
        if missing := [name for name in other if name not in self]:
            raise ValueError(f"masks do not match: {', '.join(missing)} is in one of them only")
        return Masks({name: operation(mask, other[name]) for name, mask in self.items()})


@dataclass(frozen=True)
class Similarity:
    """How alike two masks are.

    Attributes
    ----------
    cosine : float
        ``|a & b| / sqrt(|a| |b|)``.
    jaccard : float
        ``|a & b| / |a | b|``.
    chance : float
        The cosine expected of independent masks with these densities, ``sqrt(d_a d_b)``.
    corrected : float
        ``(cosine - chance) / (1 - chance)``: 0 is chance, 1 is identity. NaN where both keep all.
    """

    cosine: float
    jaccard: float
    chance: float
    corrected: float


def mask_similarity(first: Masks, second: Masks) -> Similarity:
    """Compare two sets of masks over the same tensors, all positions together.

    Parameters
    ----------
    first, second : Masks

    Returns
    -------
    Similarity

    Raises
    ------
    ValueError
        If names or shapes differ, or one of them keeps nothing.

    Examples
    --------
    >>> import torch
    >>> keep = lambda *bits: Masks({"w": torch.tensor(bits) > 0})
    >>> mask_similarity(keep(1, 1, 0, 0), keep(1, 0, 1, 0)).corrected
    0.0
    """
    if not (first.nnz and second.nnz):
        raise ValueError("mask similarity is not defined where a mask keeps nothing")
    both = (first & second).nnz
    cosine = both / math.sqrt(first.nnz * second.nnz)
    chance = math.sqrt(first.density() * second.density())
    return Similarity(
        cosine=cosine,
        jaccard=both / (first | second).nnz,
        chance=chance,
        corrected=(cosine - chance) / (1 - chance) if chance < 1 else math.nan,
    )


def zero_(parameter: Tensor, pruned: Tensor, optimizer: Optimizer | None = None) -> None:
    """Zero a parameter, and its slots in an optimizer, where ``pruned``; without gradient."""
    with torch.no_grad():
        parameter.masked_fill_(pruned, 0)
        slots = optimizer.state.get(parameter, {}) if optimizer is not None else {}
        for slot in slots.values():
            if isinstance(slot, Tensor) and slot.shape == parameter.shape:
                slot.masked_fill_(pruned, 0)


def pack_bits(mask: Tensor) -> Tensor:
    """Pack a boolean tensor into bytes: C order, lowest bit first, shape (ceil(numel / 8),)."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy(), bitorder="little"))


def unpack_bits(packed: Tensor, shape: tuple[int, ...] | list[int]) -> Tensor:
    """Undo :func:`pack_bits`."""
    bits = np.unpackbits(packed.numpy(), count=math.prod(shape), bitorder="little")
    return torch.from_numpy(bits.view(bool).reshape(shape))


def _fitting(masks: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Pick the tensors that the masks name, after every mask has been checked."""
    wrong = []
    for name, mask in masks.items():
        tensor = tensors.get(name)
        if tensor is None:
            wrong.append(f"{name} is missing")
        elif tensor.shape != mask.shape:
            wrong.append(f"{name} has shape {tuple(tensor.shape)}, its mask {tuple(mask.shape)}")
        elif tensor.device != mask.device:
            wrong.append(f"{name} is on {tensor.device}, its mask on {mask.device}")
    if wrong:
        raise ValueError(f"masks do not match: {'; '.join(wrong)}")
    return {name: tensors[name] for name in masks}
