"""Exact k-th largest over several arrays together, without sorting or concatenating them.

A float32 orders like its bits once negative numbers are mirrored, so each entry has an integer key
of 32 bits. One pass counts the upper halves of the keys, which fixes the upper half of the k-th
largest; a second counts the lower halves of the keys that share it. The counters are all the memory
this needs, so global magnitude pruning can rank the weights of a whole model.

Source: most-significant-digit radix selection (Knuth, The Art of Computer Programming 3, 5.2.5) on
two digits of 16 bits. Departures: none.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from numba import njit

from rarefy.kernels.cpu._threads import side_by_side, thread_count

Result = TypeVar("Result")

# Entries handled at a time: half-precision arrays are widened one such chunk at a time.
_CHUNK = 1 << 20
_SIGN = 0x80000000
_NAN = 1 << 16  # the bin after those of the 16-bit digits
_TORCH_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_NUMPY_DTYPES = (np.float32, np.float16)


@dataclass(frozen=True)
class Selection:
    """The k-th largest entry and how many entries beside it are kept.

    Attributes
    ----------
    threshold
        The k-th largest entry (of the magnitudes, where those were ranked); infinity for k = 0.
    above
        Entries strictly greater than the threshold.
    ties
        Entries kept among those equal to it; ``above + ties == k``.
    magnitude
        Whether magnitudes were ranked.
    """

    threshold: float
    above: int
    ties: int
    magnitude: bool


def kth_largest(
    arrays: Sequence[torch.Tensor | np.ndarray],
    k: int,
    *,
    magnitude: bool = True,
    threads: int | None = None,
) -> Selection:
    """The k-th largest entry of all arrays together, exactly.

    Parameters
    ----------
    arrays
        Of any shapes; float32, float16 or bfloat16, torch (CPU) or NumPy. Arrays that are not
        row-major are copied one at a time.
    k
        From 0 to the number of entries.
    magnitude
        Rank ``|x|`` (default) or ``x``. -0.0 equals 0.0 either way.
    threads
        Default: torch's number of threads.

    Raises
    ------
    TypeError
        If an array is of another dtype or not on the CPU.
    ValueError
        If an entry is NaN or k is out of range.

    Examples
    --------
    >>> kth_largest([np.float32([3, -5]), np.float32([[1, 3]])], 2)
    Selection(threshold=3.0, above=1, ties=1, magnitude=True)
    """
    k = operator.index(k)
    flat = _flatten(arrays)
    total = sum(len(array) for array in flat)
    if not 0 <= k <= total:
        raise ValueError(f"k must be from 0 to the number of entries ({total}), got {k}")
    threads = thread_count(threads, torch.get_num_threads())
    upper = _histogram(flat, _count_upper, magnitude, threads)
    if upper[_NAN]:
        raise ValueError(f"arrays must not contain NaN, which has no rank; got {upper[_NAN]}")
    if k == 0:
        return Selection(np.inf, 0, 0, magnitude)
    high, above_high = _bin_of(upper[:_NAN], k)
    lower = _histogram(flat, partial(_count_lower, np.uint32(high)), magnitude, threads)
    low, above_low = _bin_of(lower[:_NAN], k - above_high)
    above = above_high + above_low
    return Selection(_value_of((high << 16) | low, magnitude), above, k - above, magnitude)


def mask_at_least(
    arrays: Sequence[torch.Tensor | np.ndarray],
    selection: Selection,
    *,
    threads: int | None = None,
) -> list[Any]:
    """Masks of the ``k`` largest entries; of equal entries the first are kept.

    Parameters
    ----------
    arrays
        Those the selection was made from, unchanged.
    selection
        From ``kth_largest``.
    threads
        Default: torch's number of threads.

    Returns
    -------
    list of bool arrays
        Of the arrays' kinds and shapes, with ``above + ties`` True entries in all. Ties go to the
        lowest array, then to the lowest flat index.

    Examples
    --------
    >>> arrays = [np.float32([3, -5]), np.float32([[1, 3]])]
    >>> mask_at_least(arrays, kth_largest(arrays, 2))
    [array([ True,  True]), array([[False, False]])]
    """
    flat = _flatten(arrays)
    masks = [np.empty(len(array), bool) for array in flat]
    threads = thread_count(threads, torch.get_num_threads())
    bits_of_threshold = np.float32(selection.threshold).view(np.uint32)
    key = np.uint32(_key(bits_of_threshold, selection.magnitude))
    chunks = _chunks(flat)

    def mark(share: list[tuple[int, slice]]) -> list[int]:
        return [
            _mark(_bits(flat[which][part]), masks[which][part], key, selection.magnitude)
            for which, part in share
        ]

    found = _side_by_side(mark, chunks, threads)
    # All entries equal to the threshold are marked now; the first `selection.ties` stay.
    spare = selection.ties
    for (which, part), ties in zip(chunks, chain.from_iterable(found), strict=True):
        if ties > spare:
            bits, mask = _bits(flat[which][part]), masks[which][part]
            _unmark_ties(bits, mask, key, selection.magnitude, spare)
        spare -= min(ties, spare)
    return [
        torch.from_numpy(mask).view(array.shape)
        if isinstance(array, torch.Tensor)
        else mask.reshape(array.shape)
        for array, mask in zip(arrays, masks, strict=True)
    ]


def kth_largest_reference(
    arrays: Sequence[torch.Tensor | np.ndarray], k: int, *, magnitude: bool = True
) -> Selection:
    """``kth_largest`` by concatenation and a sort: its plain twin, for tests and for reading."""
    if k == 0:
        return Selection(np.inf, 0, 0, magnitude)
    ranked = _concatenated(arrays, magnitude)
    threshold = np.sort(ranked)[-k]
    above = int((ranked > threshold).sum())
    return Selection(float(threshold), above, k - above, magnitude)


def mask_at_least_reference(
    arrays: Sequence[torch.Tensor | np.ndarray], selection: Selection
) -> list[np.ndarray]:
    """``mask_at_least`` by a stable sort, as NumPy masks."""
    ranked = _concatenated(arrays, selection.magnitude)
    mask = np.zeros(len(ranked), bool)
    mask[np.argsort(-ranked, kind="stable")[: selection.above + selection.ties]] = True
    shapes = [tuple(array.shape) for array in arrays]
    parts = np.split(mask, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _concatenated(arrays: Sequence[torch.Tensor | np.ndarray], magnitude: bool) -> np.ndarray:
    flat = np.concatenate([_bits(array).view(np.float32) for array in _flatten(arrays)])
    return np.abs(flat) if magnitude else flat


def _flatten(arrays: Sequence[torch.Tensor | np.ndarray]) -> list[Any]:
    """Each array as one dimension, after checking its kind."""
    flat: list[Any] = []
    for i, array in enumerate(arrays):
        if isinstance(array, torch.Tensor) and array.is_cpu and array.dtype in _TORCH_DTYPES:
            flat.append(array.detach().reshape(-1))
        elif isinstance(array, np.ndarray) and array.dtype in _NUMPY_DTYPES:
            flat.append(array.reshape(-1))
        else:
            known = isinstance(array, (torch.Tensor, np.ndarray))
            got = f"{array.dtype} on {array.device}" if known else type(array).__name__
            raise TypeError(
                f"arrays[{i}] must be a torch tensor or NumPy array of 32 or 16 bit floats "
                f"on the CPU, got {got}"
            )
    return flat


def _bits(part: Any) -> np.ndarray:
    """The entries as float32 and those as uint32; a view where they are float32 already."""
    if isinstance(part, torch.Tensor):
        return part.float().numpy().view(np.uint32)
    return np.ascontiguousarray(part, np.float32).view(np.uint32)


def _chunks(flat: list[Any]) -> list[tuple[int, slice]]:
    return [
        (which, slice(start, start + _CHUNK))
        for which, array in enumerate(flat)
        for start in range(0, len(array), _CHUNK)
    ]


def _side_by_side(
    function: Callable[[list[Any]], Result], items: list[Any], threads: int
) -> list[Result]:
    """The function on ``threads`` runs of neighbouring items, in order."""
    size = max(1, -(-len(items) // threads))
    starts = range(0, max(len(items), 1), size)
    return side_by_side([partial(function, items[start : start + size]) for start in starts])


def _histogram(
    flat: list[Any], count: Callable[..., None], magnitude: bool, threads: int
) -> np.ndarray:
    """Entries per 16-bit digit; the last bin holds the NaN."""

    def run(share: list[tuple[int, slice]]) -> np.ndarray:
        counts = np.zeros(_NAN + 1, np.int64)
        for which, part in share:
            count(_bits(flat[which][part]), magnitude, counts)
        return counts

    return np.sum(_side_by_side(run, _chunks(flat), threads), axis=0)


def _bin_of(counts: np.ndarray, k: int) -> tuple[int, int]:
    """Bin of the k-th largest entry, and the number of entries in the bins above it."""
    at_least = np.cumsum(counts[::-1])
    place = int(np.searchsorted(at_least, k))
    return len(counts) - 1 - place, int(at_least[place] - counts[::-1][place])


def _value_of(key: int, magnitude: bool) -> float:
    """The float of a key."""
    if not magnitude:
        key = key ^ _SIGN if key & _SIGN else ~key & 0xFFFFFFFF
    return float(np.uint32(key).view(np.float32))


@njit(cache=True, nogil=True)
def _key(bits: np.uint32, magnitude: bool) -> np.uint32:
    """Integer that orders as the float does."""
    if magnitude:
        return bits & np.uint32(0x7FFFFFFF)
    if bits == np.uint32(_SIGN):  # -0.0 is 0.0
        return np.uint32(_SIGN)
    # A mask of the sign (all ones for a negative number) mirrors without a branch.
    mirror = np.uint32(np.int32(bits) >> 31)
    return bits ^ (mirror | np.uint32(_SIGN))


@njit(cache=True, nogil=True)
def _count_upper(bits: np.ndarray, magnitude: bool, counts: np.ndarray) -> None:
    nans = 0
    for i in range(bits.size):
        nans += (bits[i] & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
        counts[_key(bits[i], magnitude) >> np.uint32(16)] += 1
    counts[_NAN] += nans


@njit(cache=True, nogil=True)
def _count_lower(high: np.uint32, bits: np.ndarray, magnitude: bool, counts: np.ndarray) -> None:
    """Lower digits of the entries whose upper digit is ``high``."""
    for i in range(bits.size):
        key = _key(bits[i], magnitude)
        if key >> np.uint32(16) == high:
            counts[key & np.uint32(0xFFFF)] += 1


@njit(cache=True, nogil=True)
def _mark(bits: np.ndarray, mask: np.ndarray, threshold: np.uint32, magnitude: bool) -> int:
    """Mark entries at or above the threshold and count those equal to it."""
    ties = 0
    for i in range(bits.size):
        key = _key(bits[i], magnitude)
        mask[i] = key >= threshold
        ties += key == threshold
    return ties


@njit(cache=True, nogil=True)
def _unmark_ties(
    bits: np.ndarray, mask: np.ndarray, threshold: np.uint32, magnitude: bool, keep: int
) -> None:
    """Clear the entries equal to the threshold after the first ``keep`` of them."""
    for i in range(bits.size):
        if _key(bits[i], magnitude) == threshold:
            mask[i] = keep > 0
            keep -= 1
