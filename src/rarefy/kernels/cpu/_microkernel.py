"""Vector registers in Numba, and the sparse-times-dense micro-kernel written with them.

Numba's own loops keep reloading and storing their accumulators. Here they are values: ``Registers``
is a Numba type of ``rows x count`` vectors of ``lanes`` floats, the functions below are the only
operations on it, and LLVM keeps it in registers and legalises 16 lanes to what the processor has
(one AVX-512 register, two of AVX, four of NEON).

In memory, vector ``i`` of a row starts at ``offset + lanes i``, but the last one at
``offset + last``. With ``last < lanes (count - 1)`` the last two vectors overlap and carry the same
values twice: a remainder then needs neither a mask, which NEON lacks, nor a scalar loop. A short
remainder gets a vector of 4 or 8 lanes of its own instead (the *tail*): on MobileNet's 7 x 7 maps
49 = 3 x 16 + 1 pixels then cost little more than 48, not 64.

Source: loop order and register blocking of Elsen et al. 2020, "Fast Sparse ConvNets", section 3.
Departures: activations that many weights will read are first copied to an aligned, contiguous
panel, one pixel tile at a time (loads that straddle cache lines and page look-ups would cost more
than the copy); no software prefetch, which gained nothing.
"""

# Numba calls these functions with its own objects and by its own conventions.
# mypy: disallow-untyped-defs=False
# ruff: noqa: ARG001

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES = 16

_PANEL_FLOATS = 16 * 1024

_FLOAT = ir.FloatType()
_INDEX = ir.IntType(64)


class Registers(types.Type):
    """Numba type of ``rows x count`` vectors of ``lanes`` floats, row by row."""

    def __init__(self, rows: int, count: int, lanes: int) -> None:
        self.rows, self.count, self.lanes = rows, count, lanes
        self.vector = ir.VectorType(_FLOAT, lanes)
        super().__init__(name=f"Registers({rows}, {count}, {lanes})")


@register_model(Registers)
class _RegistersModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Registers) -> None:
        super().__init__(manager, kind, ir.ArrayType(kind.vector, kind.rows * kind.count))


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    lane = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(lane, undefined, zeros)


def _pack(builder: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    registers = ir.Constant(ir.ArrayType(vectors[0].type, len(vectors)), ir.Undefined)
    for i, vector in enumerate(vectors):
        registers = builder.insert_value(registers, vector, i)
    return registers


def _unpack(builder: ir.IRBuilder, registers: ir.Value) -> list[ir.Value]:
    return [builder.extract_value(registers, i) for i in range(registers.type.count)]


def _data(context: Any, builder: ir.IRBuilder, kind: types.Array, array: ir.Value) -> ir.Value:
    return context.make_array(kind)(context, builder, array).data


def _pointers(builder: ir.IRBuilder, shape: Registers, args: list[ir.Value]) -> list[ir.Value]:
    """Pointer to each vector, from the arguments (address, offset, stride, last)."""
    address, offset, stride, last = args
    data = builder.inttoptr(address, _FLOAT.as_pointer())
    pointers = []
    for row in range(shape.rows):
        start = builder.add(offset, builder.mul(stride, ir.Constant(_INDEX, row)))
        steps = [ir.Constant(_INDEX, shape.lanes * i) for i in range(shape.count - 1)] + [last]
        for step in steps:
            pointer = builder.gep(data, [builder.add(start, step)])
            pointers.append(builder.bitcast(pointer, shape.vector.as_pointer()))
    return pointers


@intrinsic(prefer_literal=True)
def spread(typingctx, rows, count, lanes, array, at):
    """Row ``r`` of the registers filled with ``array[at + r]``."""
    shape = Registers(rows.literal_value, count.literal_value, lanes.literal_value)

    def codegen(context, builder, signature, args):
        data = _data(context, builder, signature.args[3], args[3])
        vectors = []
        for row in range(shape.rows):
            place = builder.add(args[4], ir.Constant(_INDEX, row))
            value = builder.load(builder.gep(data, [place]))
            vectors += [_broadcast(builder, value, shape.lanes)] * shape.count
        return _pack(builder, vectors)

    return shape(rows, count, lanes, array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load(typingctx, rows, count, lanes, address, offset, stride, last):
    """Registers read from floats at ``address``; rows are ``stride`` apart."""
    shape = Registers(rows.literal_value, count.literal_value, lanes.literal_value)

    def codegen(context, builder, signature, args):
        pointers = _pointers(builder, shape, args[3:])
        return _pack(builder, [builder.load(pointer, align=4) for pointer in pointers])

    return shape(rows, count, lanes, types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, registers, address, offset, stride, last):
    """Registers written to floats at ``address``; rows are ``stride`` apart."""

    def codegen(context, builder, signature, args):
        pointers = _pointers(builder, registers, args[1:])
        for vector, pointer in zip(_unpack(builder, args[0]), pointers, strict=True):
            builder.store(vector, pointer, align=4)
        return context.get_dummy_value()

    return types.void(registers, types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def fma(typingctx, registers, weights, at, x):
    """Row ``r`` becomes ``registers[r] + weights[at rows + r] * x``, rounded once."""
    rows, count, vector = registers.rows, registers.count, registers.vector

    def codegen(context, builder, signature, args):
        accumulators, factors = _unpack(builder, args[0]), _unpack(builder, args[3])
        data = _data(context, builder, signature.args[1], args[1])
        first = builder.mul(args[2], ir.Constant(_INDEX, rows))
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{vector.count}f32"
        )
        vectors = []
        for row in range(rows):
            place = builder.add(first, ir.Constant(_INDEX, row))
            weight = _broadcast(builder, builder.load(builder.gep(data, [place])), vector.count)
            for i in range(count):
                operands = [weight, factors[i], accumulators[row * count + i]]
                vectors.append(builder.call(fused, operands))
        return _pack(builder, vectors)

    return registers(registers, weights, types.uintp, x), codegen


@intrinsic
def add(typingctx, registers, other):
    """Elementwise sum."""

    def codegen(context, builder, signature, args):
        pairs = zip(_unpack(builder, args[0]), _unpack(builder, args[1]), strict=True)
        return _pack(builder, [builder.fadd(a, b) for a, b in pairs])

    return registers(registers, other), codegen


@intrinsic
def clamp(typingctx, registers, low, high):
    """Elementwise ``min(max(registers, low), high)`` that keeps NaN, as torch's does."""

    def codegen(context, builder, signature, args):
        low, high = (_broadcast(builder, bound, registers.lanes) for bound in args[1:])
        clamped = []
        for vector in _unpack(builder, args[0]):
            # An ordered comparison is false for NaN, which thus passes through both selections.
            above = builder.select(builder.fcmp_ordered("<", vector, low), low, vector)
            clamped.append(builder.select(builder.fcmp_ordered(">", above, high), high, above))
        return _pack(builder, clamped)

    return registers(registers, types.float32, types.float32), codegen


@intrinsic
def keep_alive(typingctx, array):
    """Nothing, but Numba frees an array after its last use, and a use of its address is none."""

    def codegen(context, builder, signature, args):
        return context.get_dummy_value()

    return types.void(array), codegen


@cache
def tile_vectors(block: int, channels: int, panelled: bool) -> int:
    """Vectors of pixels a micro-kernel of ``block`` output rows holds, of ``channels`` inputs.

    ``block * count`` accumulators must fit the register file beside the activations: 16 of
    AVX-512's 32, or 4 x 16 lanes on AVX2 (16 registers of 8) and NEON (32 of 4). Within that, a
    panel of 64 KiB but at least 2 vectors was within a twentieth of the best on every shape tried:
    fewer pay more per weight for its index and per row for its loop, more make the panel outgrow
    the cache. Blocks of rows read less of it a multiply-add, so they bear larger panels: with at
    least 3 vectors (2 rows) or 4 (4 rows), 1,024 channels took a tenth less.
    """
    accumulators = 16 if binding.get_host_cpu_features().get("avx512f", False) else 4
    least = {1: 2, 2: 3, 4: 4}[block]
    fitting = max(least, _PANEL_FLOATS // (LANES * max(1, channels)))
    return min(fitting, 6, accumulators // block) if panelled else min(8, accumulators // block)


@cache
def microkernel(block: int, count: int, tail: int) -> Callable[..., None]:
    """The product for ``block`` output rows and ``count`` vectors of pixels at a time.

    With a ``tail`` of 4 or 8 it also covers the last ``tail`` pixels of the matrix.
    """
    width = LANES * count
    full = LANES * (count - 1)

    @njit(nogil=True, cache=True, error_model="numpy")
    def kernel(ptr, col, val, bias, x, residual, y, shape, bounds, panelled, tiles, blocks):
        """The block rows ``blocks`` of the pixels ``tiles`` (first, stop).

        ``x``, ``residual`` (or 0) and ``y`` are addresses of row-major matrices: a torch tensor
        gives its address at once, while its NumPy view costs as much as a small product.
        """
        channels, pixels = shape
        low, high = np.float32(bounds[0]), np.float32(bounds[1])
        rows = bias.size
        tail_pixel = pixels - tail
        memory = np.empty(channels * (width + tail) + LANES if panelled else 0, np.float32)
        panel = -(-memory.ctypes.data // 64) * 64
        for pixel in range(tiles[0], tiles[1], width):
            last = min(full, pixels - LANES - pixel)
            source, start, stride, end = x, pixel, pixels, last
            tail_start, tail_stride = tail_pixel, pixels
            if panelled:
                source, start, stride, end = panel, 0, width, full
                tail_start, tail_stride = channels * width, tail
                for c in range(channels):
                    tile = load(1, count, LANES, x, c * pixels + pixel, 0, last)
                    store(tile, panel, c * width, 0, full)
                    if tail:
                        end_of_row = load(1, 1, tail, x, c * pixels + tail_pixel, 0, 0)
                        store(end_of_row, panel, tail_start + c * tail, 0, 0)
            for b in range(blocks[0], blocks[1]):
                # The last block overlaps the one before it where rows do not divide evenly.
                row = min(b * block, rows - block)
                acc = spread(block, count, LANES, bias, row)
                if tail:
                    acc_tail = spread(block, 1, tail, bias, row)
                # Unsigned, so that Numba does not test every index for being negative.
                for k in range(np.uintp(ptr[b]), np.uintp(ptr[b + 1])):
                    at = start + col[k] * stride
                    acc = fma(acc, val, k, load(1, count, LANES, source, at, 0, end))
                    if tail:
                        at = tail_start + col[k] * tail_stride
                        acc_tail = fma(acc_tail, val, k, load(1, 1, tail, source, at, 0, 0))
                at = row * pixels + pixel
                if residual != 0:
                    acc = add(acc, load(block, count, LANES, residual, at, pixels, last))
                store(clamp(acc, low, high), y, at, pixels, last)
                if tail:
                    at = row * pixels + tail_pixel
                    if residual != 0:
                        acc_tail = add(acc_tail, load(block, 1, tail, residual, at, pixels, 0))
                    store(clamp(acc_tail, low, high), y, at, pixels, 0)
        keep_alive(memory)

    return kernel
