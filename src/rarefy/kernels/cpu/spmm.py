"""Sparse weights times dense activations on the CPU: ``Y = clamp(W X + b + R, lo, hi)``.

``W`` (C_out x C_in) is sparse and fixed, ``X`` (C_in x P) dense: a 1x1 convolution over P pixels of
a channels-first image as it lies in memory, or a linear layer over P tokens (``X = tokens.T``).
Loop order: pixel tile, then output block, then non-zeros; the accumulators stay in registers and
bias, residual and clamp are applied before the one store.

Source: Elsen et al. 2020, "Fast Sparse ConvNets" (arXiv 1911.09723), section 3; packing and the
rule for ``block="auto"`` as in XNNPACK. Departures: where blocks do not divide the rows, the last
block overlaps the one before it instead of being cut into single rows.

Only kept weights multiply: a NaN or infinity in X does not spread through a zero weight, as it
would in a dense product (``0 * inf``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from rarefy.kernels.cpu._microkernel import LANES, microkernel, tile_vectors
from rarefy.kernels.cpu._threads import side_by_side, thread_count

Array = TypeVar("Array", torch.Tensor, np.ndarray)

# Weights per input channel from which copying the activations to an aligned panel pays: the copy
# costs about two multiply-adds per activation, and saves a tenth or more of each.
_WORTH_A_PANEL = 20

# Below this many multiply-adds (about 500 us of work) a second thread gains nothing: waking it
# costs 60 to 200 us on a virtual machine, as measured.
_WORTH_A_THREAD = 15_000_000

_UNBOUNDED = -math.inf, math.inf


@dataclass(frozen=True, eq=False)
class PackedSparse:
    """Block CSR whose blocks are ``block`` neighbouring output rows of one input channel.

    Block row ``b`` covers output rows ``first_rows[b] : first_rows[b] + block``; its non-zero
    blocks are ``ptr[b]:ptr[b + 1]``.

    Attributes
    ----------
    ptr
        First non-zero block of each block row, int64, ``(block rows + 1,)``.
    col
        Input channel of each non-zero block, int32.
    val
        Its weights, float32, ``(len(col) * block,)``; zeros inside a kept block are stored.
    bias
        float32, ``(C_out,)``; zeros where none was given.
    shape
        ``(C_out, C_in)``.
    block
        Output rows in a block: 1, 2 or 4.
    """

    ptr: np.ndarray
    col: np.ndarray
    val: np.ndarray
    bias: np.ndarray
    shape: tuple[int, int]
    block: int

    @property
    def first_rows(self) -> np.ndarray:
        """First output row of each block row."""
        return _first_rows(self.shape[0], self.block)

    def dense(self) -> np.ndarray:
        """The weights as a dense float32 matrix."""
        weight = np.zeros(self.shape, np.float32)
        first = np.repeat(self.first_rows, np.diff(self.ptr))
        for j in range(self.block):
            weight[first + j, self.col] = self.val[j :: self.block]
        return weight


def pack(
    weight: torch.Tensor | np.ndarray,
    *,
    block: Literal[1, 2, 4, "auto"] = "auto",
    bias: torch.Tensor | np.ndarray | None = None,
) -> PackedSparse:
    """Pack a weight matrix for ``spmm``. The packed weights are a copy that carries no gradient.

    Parameters
    ----------
    weight
        ``(C_out, C_in)``, float32, zeros (of either sign) where pruned.
    block
        Output rows that share an input channel. ``"auto"``, as in XNNPACK: 4 if the kept blocks
        of 4 are at least 90 % full, else 2 by the same test, else 1.
    bias
        ``(C_out,)``, float32, added to every pixel.

    Raises
    ------
    TypeError
        If weight or bias is not float32.
    ValueError
        If a shape does not fit, or block is none of 1, 2, 4, "auto", or exceeds C_out.

    Examples
    --------
    >>> pack(np.array([[0, 2], [0, 0]], dtype=np.float32), block=1).ptr
    array([0, 1, 1])
    """
    matrix = _as_numpy(weight, "weight", ndim=2)
    rows, channels = matrix.shape
    if channels >= 2**31:
        raise ValueError(f"weight has {channels} input channels, more than int32 can index")
    offset = np.zeros(rows, np.float32) if bias is None else _as_numpy(bias, "bias", ndim=1)
    if offset.shape != (rows,):
        raise ValueError(f"bias must have one entry per row of weight ({rows}), got {offset.size}")
    size = _auto_block(matrix) if block == "auto" else block
    if size not in (1, 2, 4):
        raise ValueError(f'block must be 1, 2, 4 or "auto", got {block!r}')
    if size > max(rows, 1):
        raise ValueError(f"block is {size} but weight has only {rows} output rows")
    blocks = _blocks(matrix, size)
    kept = (blocks != 0).any(axis=1)
    row, col = np.nonzero(kept)
    return PackedSparse(
        ptr=np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int64),
        col=col.astype(np.int32),
        val=blocks[row, :, col].ravel(),
        bias=offset.copy(),
        shape=(rows, channels),
        block=size,
    )


def spmm(
    packed: PackedSparse,
    x: Array,
    *,
    out: Array | None = None,
    clamp: tuple[float, float] | None = None,
    residual: Array | None = None,
    threads: int | None = None,
) -> Array:
    """Packed sparse weights times dense activations, with bias, residual and clamp fused.

    Parameters
    ----------
    packed
        From ``pack``.
    x
        ``(C_in, P)``, float32, torch (CPU) or NumPy. Copied unless it is row-major.
    out
        ``(C_out, P)``, row-major, of x's kind; written and returned. It may overlap neither x nor
        residual.
    clamp
        ``(lo, hi)`` applied last: ``(0, inf)`` is ReLU, ``(0, 6)`` ReLU6.
    residual
        ``(C_out, P)``, of x's kind, added before the clamp.
    threads
        Default: torch's number of threads, or 1 for products too small to share.

    Returns
    -------
    array
        ``(C_out, P)``, float32, of x's kind.

    Raises
    ------
    TypeError
        If an array is not float32 on the CPU, or the kinds differ.
    ValueError
        If a shape does not fit, x requires grad, out overlaps an input, or lo > hi.

    Examples
    --------
    >>> weight = np.array([[0, 2], [0, 0]], dtype=np.float32)
    >>> x = np.array([[1, 1, 1], [3, -4, 5]], dtype=np.float32)
    >>> spmm(pack(weight), x, clamp=(0, np.inf))
    array([[ 6.,  0., 10.],
           [ 0.,  0.,  0.]], dtype=float32)
    """
    low, high = _UNBOUNDED if clamp is None else clamp
    if not low <= high:
        raise ValueError(f"clamp must be (lo, hi) with lo <= hi, got {clamp!r}")
    x = _input(x, "x")
    rows, channels = packed.shape
    x_channels, pixels = x.shape
    if x_channels != channels:
        raise ValueError(f"x must have C_in = {channels} rows, got shape {tuple(x.shape)}")
    shape = rows, pixels
    if residual is not None:
        residual = _input(residual, "residual", like=x, shape=shape)
    if out is None:
        out = _empty(x, rows, pixels)
    else:
        _check_out(out, x, residual, shape)
    thread_count(threads, 1)
    if pixels >= LANES:
        run = bind(packed, pixels, clamp=(low, high), threads=threads)
        run(_address(x), 0 if residual is None else _address(residual), _address(out))
    elif pixels > 0:
        # Fewer pixels than one vector: the kernel works on whole vectors, so pad to one.
        x, residual = _pad(x), None if residual is None else _pad(residual)
        out[:] = spmm(packed, x, clamp=clamp, residual=residual, threads=threads)[:, :pixels]
    return out


def spmm_reference(
    packed: PackedSparse,
    x: Array,
    *,
    clamp: tuple[float, float] | None = None,
    residual: Array | None = None,
) -> Array:
    """``spmm`` by a dense product: its plain twin, for tests and for reading."""
    y = packed.dense() @ np.asarray(x) + packed.bias[:, None]
    if residual is not None:
        y = y + np.asarray(residual)
    if clamp is not None:
        y = np.clip(y, *clamp)
    return torch.from_numpy(y) if isinstance(x, torch.Tensor) else y


def bind(
    packed: PackedSparse,
    pixels: int,
    *,
    clamp: tuple[float, float] = _UNBOUNDED,
    threads: int | None = None,
) -> Callable[[int, int, int], Any]:
    """Everything about a product but its activations, for those who repeat it.

    Returns a function of the addresses of x ``(C_in, pixels)``, of a residual (0: none) and of y
    ``(C_out, pixels)``: row-major float32 matrices, where y overlaps no other. It checks nothing.

    Raises
    ------
    ValueError
        If the pixels do not fill a vector.
    """
    if pixels < LANES:
        raise ValueError(f"pixels must be at least {LANES}, got {pixels}: spmm pads fewer")
    default = torch.get_num_threads() if packed.val.size * pixels > _WORTH_A_THREAD else 1
    threads = thread_count(threads, default)
    channels, block_rows = packed.shape[1], len(packed.ptr) - 1
    panelled = len(packed.col) >= _WORTH_A_PANEL * channels
    most = tile_vectors(packed.block, channels, panelled)
    weights = packed.ptr, packed.col, packed.val, packed.bias
    sizes = (channels, pixels), (float(clamp[0]), float(clamp[1])), panelled
    if threads == 1:
        tiles = _tiles(0, -(-pixels // LANES), pixels, packed.block, most)
        return partial(_run, weights, sizes, tiles, (0, block_rows))
    work = [
        partial(_run, weights, sizes, _tiles(*vectors, pixels, packed.block, most), blocks)
        for vectors, blocks in _shares(packed, pixels, threads, most)
    ]
    return lambda x, residual, y: side_by_side([partial(run, x, residual, y) for run in work])


def _run(
    weights: tuple[np.ndarray, ...],
    sizes: tuple[Any, ...],
    tiles: list[tuple[Callable[..., None], tuple[int, int]]],
    blocks: tuple[int, int],
    x: int,
    residual: int,
    y: int,
) -> None:
    for kernel, span in tiles:
        kernel(*weights, x, residual, y, *sizes, span, blocks)


def _shares(
    packed: PackedSparse, pixels: int, threads: int, most: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Each thread's range of pixel vectors and range of block rows."""
    vectors = -(-pixels // LANES)
    block_rows = len(packed.ptr) - 1
    if vectors >= 2 * threads * most:
        cuts = np.linspace(0, vectors, threads + 1).astype(int).tolist()
        for share in zip(cuts, cuts[1:], strict=False):
            yield share, (0, block_rows)
        return
    # Few pixels: every thread takes all of them and as many block rows as hold its part of the
    # weights (a block row without weights still costs about one).
    cost = packed.ptr + np.arange(block_rows + 1)
    cuts = np.searchsorted(cost, np.linspace(0, cost[-1], threads + 1)).tolist()
    for share in zip(cuts, cuts[1:], strict=False):
        if share[0] < share[1]:
            yield (0, vectors), share


@lru_cache(maxsize=1024)
def _tiles(
    first: int, stop: int, pixels: int, block: int, most: int
) -> list[tuple[Callable[..., None], tuple[int, int]]]:
    """Vectors ``first:stop`` as runs of equal tiles: kernels and their (first, stop) pixels.

    A tile has up to ``most`` vectors. Tiles differ by one vector at most, so no small last tile
    pays for every weight with little to multiply; the last one takes the tail along.
    """
    over = pixels % LANES
    tail = 0
    if 0 < over <= 8 and stop * LANES > pixels and stop - first > 1:
        tail = 4 if over <= 4 else 8
        stop -= 1
    vectors = stop - first
    size, larger = divmod(vectors, -(-vectors // most))
    tiles = [size + 1] * larger + [size] * ((vectors - larger * (size + 1)) // size)
    runs: list[tuple[Callable[..., None], tuple[int, int]]] = []
    for (count, extra), run in groupby(zip(tiles, [0] * (len(tiles) - 1) + [tail], strict=True)):
        end = first + count * len(list(run))
        runs.append((microkernel(block, count, extra), (first * LANES, min(end * LANES, pixels))))
        first = end
    return runs


def _first_rows(rows: int, block: int) -> np.ndarray:
    return np.minimum(np.arange(0, rows, block), rows - block)


def _blocks(matrix: np.ndarray, block: int) -> np.ndarray:
    """The matrix as ``(block rows, block, C_in)``."""
    rows = _first_rows(len(matrix), block)[:, None] + np.arange(block)
    return matrix[rows]


def _auto_block(matrix: np.ndarray) -> int:
    """XNNPACK's rule: the largest block whose kept blocks are at least 90 % full."""
    for block in (4, 2):
        if block <= len(matrix):
            counts = (_blocks(matrix, block) != 0).sum(axis=1)
            kept = np.count_nonzero(counts)
            if kept and counts.sum() >= 0.9 * kept * block:
                return block
    return 1


def _as_numpy(array: Any, name: str, *, ndim: int) -> np.ndarray:
    array = _row_major(array, name, ndim=ndim)
    return array.detach().numpy() if isinstance(array, torch.Tensor) else array


def _empty(like: Any, rows: int, pixels: int) -> Any:
    # Two integers, not a tuple: torch parses them twice as fast, and a small product takes 50 us.
    if isinstance(like, torch.Tensor):
        return torch.empty(rows, pixels)
    return np.empty((rows, pixels), np.float32)


def _address(array: Array) -> int:
    return (
        array.data_ptr()
        if isinstance(array, torch.Tensor)
        else array.__array_interface__["data"][0]
    )


def _pad(array: Array) -> Array:
    """Zeros after the pixels, up to one vector."""
    missing = LANES - array.shape[1]
    if isinstance(array, torch.Tensor):
        return torch.nn.functional.pad(array, (0, missing))
    return np.pad(array, ((0, 0), (0, missing)))


def _row_major(array: Any, name: str, *, ndim: int) -> Any:
    """The array, or a row-major copy, after checking that it is float32 on the CPU."""
    result: Any
    if isinstance(array, torch.Tensor):
        if array.dtype is not torch.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
        if not array.is_cpu:
            raise TypeError(f"{name} must be on the CPU, got {array.device}")
        result = array.contiguous()
    elif isinstance(array, np.ndarray):
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}")
        result = array if array.flags.c_contiguous and array.flags.aligned else array.copy()
    else:
        raise TypeError(f"{name} must be a torch tensor or NumPy array, got {type(array).__name__}")
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {tuple(array.shape)}")
    return result


def _input(array: Any, name: str, *, like: Any = None, shape: tuple[int, int] | None = None) -> Any:
    """An input of ``spmm`` in row-major order, checked against ``like``'s kind and ``shape``."""
    if isinstance(array, torch.Tensor) and array.requires_grad and torch.is_grad_enabled():
        raise ValueError(f"{name} requires grad, but spmm is forward only: detach() it first")
    if like is not None and isinstance(array, torch.Tensor) != isinstance(like, torch.Tensor):
        raise TypeError(f"{name} must be a {type(like).__name__} as x is, got {type(array)}")
    result = _row_major(array, name, ndim=2)
    if shape is not None and result.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(result.shape)}")
    return result


def _check_out(out: Any, x: Any, residual: Any, shape: tuple[int, int]) -> None:
    read_only = isinstance(out, np.ndarray) and not out.flags.writeable
    if _input(out, "out", like=x, shape=shape) is not out or read_only:
        raise ValueError("out must be row-major and writable")
    for name, array in (("x", x), ("residual", residual)):
        if array is not None:
            ahead = _address(array) - _address(out)
            if -array.nbytes < ahead < out.nbytes:
                raise ValueError(f"out must not overlap {name}: it is read after the first write")
