"""Window sums in vector registers: what depthwise convolutions and pooling need beside ``fma``.

``Registers`` of :mod:`rarefy.kernels.cpu._microkernel` once more: ``slide`` is a whole depthwise
window for several output rows, so that each vector read from a plane serves every row it belongs
to; a stride of 2 keeps every second lane of two neighbouring vectors.
"""

# Numba calls these functions with its own objects and by its own conventions.
# mypy: disallow-untyped-defs=False
# ruff: noqa: ARG001

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rarefy.kernels.cpu._microkernel import (
    _FLOAT,
    _INDEX,
    LANES,
    Registers,
    _broadcast,
    _data,
    _pack,
    _unpack,
)

_INT = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)


def _lanes(numbers) -> ir.Constant:
    numbers = list(numbers)
    return ir.Constant(ir.VectorType(_INT, len(numbers)), numbers)


@intrinsic(prefer_literal=True)
def slide(typingctx, rows, taps, step, weights, at, address, start, stride):
    """Output rows of a window that moves over a plane of floats at ``address``.

    Lane ``l`` of row ``r`` is ``weights[at] + sum_ij weights[at + 1 + taps i + j] *
    plane[start + (step r + i) stride + step l + j]``: a bias, then the window row by row.
    """
    shape = Registers(rows.literal_value, 1, LANES)
    size, pace = taps.literal_value, step.literal_value

    def codegen(context, builder, signature, args):
        data = _data(context, builder, signature.args[3], args[3])
        plane = builder.inttoptr(args[5], _FLOAT.as_pointer())
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
        )

        def weight(number):
            place = builder.add(args[4], ir.Constant(_INDEX, number))
            return _broadcast(builder, builder.load(builder.gep(data, [place])), LANES)

        def vector(row, ahead):
            place = builder.add(args[6], builder.mul(args[7], ir.Constant(_INDEX, row)))
            pointer = builder.gep(plane, [builder.add(place, ir.Constant(_INDEX, ahead))])
            return builder.load(builder.bitcast(pointer, _VECTOR.as_pointer()), align=4)

        window = [[weight(1 + size * i + j) for j in range(size)] for i in range(size)]
        sums = [weight(0)] * shape.rows
        for row in range(pace * (shape.rows - 1) + size):
            for j in range(size):
                x = vector(row, j)
                if pace == 2:
                    evens = _lanes(range(0, 2 * LANES, 2))
                    x = builder.shuffle_vector(x, vector(row, j + LANES), evens)
                for r in range(shape.rows):
                    i = row - pace * r
                    if 0 <= i < size:
                        sums[r] = builder.call(fused, [window[i][j], x, sums[r]])
        return _pack(builder, sums)

    signature = shape(rows, taps, step, weights, types.intp, types.intp, types.intp, types.intp)
    return signature, codegen


@intrinsic
def keep(typingctx, registers, first, stop):
    """The lanes ``first:stop`` of each vector, zero elsewhere."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_INT, LANES)
        zeros = ir.Constant(_VECTOR, [0.0] * LANES)

        def spread(number):
            undefined = ir.Constant(vector, ir.Undefined)
            lane = builder.trunc(number, _INT)
            one = builder.insert_element(undefined, lane, ir.Constant(_INT, 0))
            return builder.shuffle_vector(one, undefined, _lanes([0] * LANES))

        lanes = _lanes(range(LANES))
        inside = builder.and_(
            builder.icmp_signed(">=", lanes, spread(args[1])),
            builder.icmp_signed("<", lanes, spread(args[2])),
        )
        return _pack(builder, [builder.select(inside, v, zeros) for v in _unpack(builder, args[0])])

    return registers(registers, types.intp, types.intp), codegen


@intrinsic
def total(typingctx, registers):
    """Sum of all lanes of all vectors, in pairs."""

    def codegen(context, builder, signature, args):
        vectors = _unpack(builder, args[0])
        joined = vectors[0]
        for vector in vectors[1:]:
            joined = builder.fadd(joined, vector)
        size = LANES
        while size > 1:
            size //= 2
            other = builder.shuffle_vector(joined, joined, _lanes(range(size, 2 * size)))
            joined = builder.shuffle_vector(joined, joined, _lanes(range(size)))
            joined = builder.fadd(joined, other)
        return builder.extract_element(joined, ir.Constant(_INT, 0))

    return types.float32(registers), codegen


@intrinsic
def peek(typingctx, address, at):
    """The float at place ``at`` behind an address."""

    def codegen(context, builder, signature, args):
        data = builder.inttoptr(args[0], _FLOAT.as_pointer())
        return builder.load(builder.gep(data, [args[1]]))

    return types.float32(types.intp, types.intp), codegen


@intrinsic
def poke(typingctx, value, address, at):
    """Write a float to place ``at`` behind an address."""

    def codegen(context, builder, signature, args):
        data = builder.inttoptr(args[1], _FLOAT.as_pointer())
        builder.store(args[0], builder.gep(data, [args[2]]))
        return context.get_dummy_value()

    return types.void(types.float32, types.intp, types.intp), codegen
