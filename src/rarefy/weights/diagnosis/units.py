"""Three words for one number, two averages of it, and what it saves once it is stored.

    density d = nnz / numel,   sparsity 1 - d,   compression 1 / d
    dense      b numel                                  bits, with b bits a value
    bitmask    b nnz + numel                            break-even density  1 - 1/b
    CSR        (b + i) nnz + p (rows + 1)                b / (b + i)  without the row pointers
    N:M        b nnz + ceil(log2 m) nnz                  always n/m (1 + ceil(log2 m) / b)

with indices of i = 16 or 32 bits and row pointers of p = 32. From 90 to 95 % the sparsity moves by
five points, and half of the model goes.

Source: Liu and Wang 2023, lessons 7 and 9. Departures: none; the formats are counted as stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from rarefy.operators import NM

_POINTER = 32


class Amount(NamedTuple):
    """One amount of sparsity in the three units."""

    density: float
    sparsity: float
    compression: float


class Stored(NamedTuple):
    """Bytes of masked tensors in one format, and the density below which it pays."""

    nbytes: int
    share: float
    """Of the dense bytes."""
    break_even: float


def convert(
    *,
    density: float | None = None,
    sparsity: float | None = None,
    compression: float | None = None,
) -> Amount:
    """Convert an amount of sparsity between its units.

    Parameters
    ----------
    density, sparsity : float in [0, 1], optional
    compression : float from 1, optional
        How many times fewer weights. Exactly one of the three.

    Returns
    -------
    Amount
        Of density 0 the compression is infinite.

    Raises
    ------
    TypeError
        If not exactly one is given.
    ValueError
        If it is out of range.

    Examples
    --------
    >>> convert(sparsity=0.75)
    Amount(density=0.25, sparsity=0.75, compression=4.0)
    >>> convert(sparsity=0.95).compression / convert(sparsity=0.9).compression
    2.0
    """
    given = {
        name: value
        for name, value in (
            ("density", density),
            ("sparsity", sparsity),
            ("compression", compression),
        )
        if value is not None
    }
    if len(given) != 1:
        raise TypeError(
            f"give exactly one of density, sparsity and compression, got {sorted(given) or 'none'}"
        )
    ((name, value),) = given.items()
    low, high = (1, math.inf) if name == "compression" else (0, 1)
    if not low <= value <= high:  # also true for NaN
        raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
    if name == "density":
        kept = value
    elif name == "sparsity":
        # 1 - 0.95 has a rounding error that 1 / d would show.
        kept = round(1 - value, 15)
    else:
        kept = 1 / value
    return Amount(kept, round(1 - kept, 15), 1 / kept if kept else math.inf)


def layer_mean_density(masks: Mapping[str, Tensor]) -> float:
    """Average the layers' densities, each layer alike: the macro average.

    :meth:`rarefy.weights.Masks.density` is the micro average, in which large layers count for more;
    the two differ by much where an allocation leaves small layers dense. Papers mean the micro one.

    Parameters
    ----------
    masks : mapping of str to bool Tensor

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If there is no mask with an entry.

    Examples
    --------
    >>> import torch
    >>> from rarefy.weights import Masks
    >>> masks = Masks({"small": torch.ones(1, 10) > 0, "large": torch.zeros(9, 10) > 0})
    >>> masks.density(), layer_mean_density(masks)
    (0.1, 0.5)
    """
    shares = [int(m.count_nonzero()) / m.numel() for m in masks.values() if m.numel()]
    if not shares:
        raise ValueError("masks is empty: at least one masked tensor is wanted")
    return sum(shares) / len(shares)


def storage(
    masks: Mapping[str, Tensor], *, bits: int = 32, pattern: NM | None = None
) -> dict[str, Stored]:
    """Count the bytes of masked tensors in each format.

    Parameters
    ----------
    masks : mapping of str to bool Tensor
        A tensor of more than two axes is stored as (first axis, the rest).
    bits : int, default 32
        Of a value: 32, 16, 8 or 4.
    pattern : NM, optional
        Of the masks; adds its format, with the place in the group for an index.

    Returns
    -------
    dict of str to Stored
        ``"dense"``, ``"bitmask"``, ``"csr16"`` and ``"csr32"``; ``"csr16"`` is left out where a
        row has more than 65,536 entries. A pattern's own name is its key, ``"2:4"``.

    Raises
    ------
    ValueError
        If there is no entry, or ``bits`` is another number.

    Examples
    --------
    >>> import torch
    >>> found = storage({"w": torch.arange(640).view(10, 64) % 10 == 0})
    >>> {name: (stored.nbytes, round(stored.break_even, 3)) for name, stored in found.items()}
    {'dense': (2560, 1.0), 'bitmask': (336, 0.969), 'csr16': (428, 0.655), 'csr32': (556, 0.491)}
    """
    if bits not in (4, 8, 16, 32):
        raise ValueError(f"bits must be 32, 16, 8 or 4, got {bits}")
    kept = sum(int(mask.count_nonzero()) for mask in masks.values())
    numel = sum(mask.numel() for mask in masks.values())
    if not numel:
        raise ValueError("masks is empty: at least one masked tensor is wanted")
    pointers = _POINTER * sum(mask.shape[0] + 1 for mask in masks.values())
    widest = max(mask.numel() // max(mask.shape[0], 1) for mask in masks.values())
    # name: bits whatever is kept, and bits for each kept value
    costs = {"dense": (bits * numel, 0), "bitmask": (numel, bits)}
    if widest <= 2**16:
        costs["csr16"] = (pointers, bits + 16)
    costs["csr32"] = (pointers, bits + 32)
    if pattern is not None:
        place = math.ceil(math.log2(pattern.m))
        costs[f"{pattern.n}:{pattern.m}"] = (0, bits + place)
    found = {}
    for name, (fixed, each) in costs.items():
        even = 1.0 if name == "dense" else min(1.0, max(0.0, (bits * numel - fixed) / each / numel))
        total = fixed + each * kept
        found[name] = Stored(math.ceil(total / 8), total / (bits * numel), even)
    return found
