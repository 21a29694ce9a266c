"""Compiled lists of spikes, and the weights that are added for them.

A *train* n is one row each of `indices` (int32), `sizes` and `totals`: indices[n, 0] is its number of spikes, the
neurons that spiked follow it in rising order, sizes[n, i] is what the i-th of them sent, totals[n] what its receivers
have summed. A layer's weights lie in *tiles* of 64 outputs (16 where the layer has few), each (inputs, lanes) and
padded with zeros. A tile stays in the core's cache while the spikes of many trains are worked through, its sums in
registers. A train's sum is always taken in the same order, so it never depends on the other trains.

The inner loops are written in LLVM's own terms: its vectoriser would keep the sums in memory.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from snn_policy.engines.compilation import kernel as compiled
from snn_policy.protocol import FloatArray

WIDE, NARROW, ALIGNMENT = 64, 16, 16
"""Outputs per tile, and the alignment of a tile, in floats (a cache line)."""
FLOAT, BYTE, INT, LONG = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)


def lanes_for(outputs: int) -> int:
    """Outputs per tile of a layer."""
    return WIDE if outputs > 2 * NARROW else NARROW


def tiled(weight: FloatArray) -> FloatArray:
    """A layer's weight (outputs, inputs) as tiles (tiles, inputs, lanes)."""
    outputs, inputs = weight.shape
    lanes = lanes_for(outputs)
    padded = np.zeros((-(-outputs // lanes) * lanes, inputs), np.float32)
    padded[:outputs] = weight
    return np.ascontiguousarray(padded.reshape(-1, lanes, inputs).transpose(0, 2, 1))


def row_size(widest: int) -> int:
    """Floats of a buffer's row for up to `widest` neurons: whole tiles, and room for a list's end. Not a multiple of
    the caches' stride, so that neighbouring rows do not displace each other."""
    return -(-(widest + 16) // WIDE) * WIDE + ALIGNMENT


def aligned(size: int, dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
    """Zeros (size,) of four bytes each, beginning on a cache line."""
    room = np.zeros(size + ALIGNMENT, dtype)
    skipped = -room.ctypes.data // 4 % ALIGNMENT
    return room[skipped : skipped + size]


def _row(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    """The pointer to a row of a contiguous array (rows, columns)."""
    made = context.make_array(kind)(context, builder, array)
    return builder.gep(made.data, [builder.mul(row, cgutils.unpack_tuple(builder, made.shape)[1])])


def everywhere(builder: Any, value: Any, kind: Any) -> Any:
    """A vector with the value in every lane."""
    alone = builder.insert_element(ir.Constant(kind, ir.Undefined), value, INT(0))
    return builder.shuffle_vector(alone, alone, ir.Constant(ir.VectorType(INT, kind.count), [0] * kind.count))


def _adder(lanes: int) -> Any:
    """Compiled: add_tile(weights, tile, indices, sizes, totals, n, column), train n's share of one tile:
    totals[n, column:][:lanes] += Σ sizes[n, i]·weights[tile:][indices[n, 1 + i]], four neurons at a time."""
    vector = ir.VectorType(FLOAT, lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        weights, tile, indices, sizes, totals, n, column = arguments
        kinds = signature.args
        base = builder.gep(context.make_array(kinds[0])(context, builder, weights).data, [tile])
        neurons = _row(context, builder, kinds[2], indices, n)
        strengths = _row(context, builder, kinds[3], sizes, n)
        total = builder.gep(_row(context, builder, kinds[4], totals, n), [column])
        total = builder.bitcast(total, vector.as_pointer())
        count = builder.sext(builder.load(neurons), LONG)
        sums = cgutils.alloca_once_value(builder, builder.load(total, align=4))

        def share(i: Any) -> Any:
            neuron = builder.sext(builder.load(builder.gep(neurons, [builder.add(i, LONG(1))])), LONG)
            row = builder.bitcast(builder.gep(base, [builder.mul(neuron, LONG(lanes))]), vector.as_pointer())
            strength = everywhere(builder, builder.load(builder.gep(strengths, [i])), vector)
            return builder.fmul(strength, builder.load(row, align=4))

        fours = builder.and_(count, LONG(-4))
        with cgutils.for_range_slice(builder, LONG(0), fours, LONG(4), intp=LONG) as (i, _):
            a, b, c, d = (share(builder.add(i, LONG(place))) for place in range(4))
            four = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
            builder.store(builder.fadd(builder.load(sums), four), sums)
        with cgutils.for_range_slice(builder, fours, count, LONG(1), intp=LONG) as (i, _):
            builder.store(builder.fadd(builder.load(sums), share(i)), sums)
        builder.store(builder.load(sums), total, align=4)
        return context.get_dummy_value()

    @intrinsic
    def add_tile(typing: Any, weights: Any, tile: Any, indices: Any, sizes: Any, totals: Any, n: Any, column: Any):
        integer = types.int64
        return types.void(weights, integer, indices, sizes, totals, integer, integer), generate

    return add_tile


_add_wide, _add_narrow = _adder(WIDE), _adder(NARROW)


@compiled
def propagate(
    weights: Any, start: int, inputs: int, outputs: int, indices: Any, sizes: Any, totals: Any, stop: int, step: int
) -> None:
    """totals[n] += W·(what train n holds), for n = 0, step, … below `stop`; the layer's tiles begin at `start`."""
    if outputs > 2 * NARROW:
        for column in range(0, outputs, WIDE):
            for n in range(0, stop, step):
                _add_wide(weights, start + column * inputs, indices, sizes, totals, n, column)
    else:
        for column in range(0, outputs, NARROW):
            for n in range(0, stop, step):
                _add_narrow(weights, start + column * inputs, indices, sizes, totals, n, column)


PLACES = [[i for i in range(8) if mask >> i & 1] for mask in range(256)]
"""Which bits of a byte are set."""


def _list_places(typing: Any, values: Any, indices: Any, n: Any) -> Any:
    """indices[n] ← the number and the places of the values (neurons,) that are not zero; returns the number.

    Eight at a time, without a branch. `values` is part of a row of `row_size` floats: what follows is read, not used.
    """
    eight, table_row = ir.VectorType(FLOAT, 8), ir.VectorType(BYTE, 8)
    rows = [ir.Constant(table_row, [*places, *[0] * (8 - len(places))]) for places in PLACES]
    table_type = ir.ArrayType(table_row, 256)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, indices, n = arguments
        table = cgutils.global_constant(builder, "places_of_bits", ir.Constant(table_type, rows))
        array = context.make_array(signature.args[0])(context, builder, given)
        size = cgutils.unpack_tuple(builder, array.shape)[0]
        listed = _row(context, builder, signature.args[1], indices, n)
        count = cgutils.alloca_once_value(builder, LONG(0))

        def add(start: Any, valid: Any) -> None:
            chunk = builder.load(builder.bitcast(builder.gep(array.data, [start]), eight.as_pointer()), align=4)
            fired = builder.fcmp_unordered("!=", chunk, ir.Constant(eight, [0.0] * 8))
            mask = builder.and_(builder.bitcast(fired, BYTE), valid)
            row = builder.gep(table, [LONG(0), builder.zext(mask, LONG)], inbounds=True)
            wide = ir.VectorType(INT, 8)
            places = builder.zext(builder.load(row, align=8), wide)
            places = builder.add(places, everywhere(builder, builder.trunc(start, INT), wide))
            so_far = builder.load(count)
            end = builder.gep(listed, [builder.add(so_far, LONG(1))])
            builder.store(places, builder.bitcast(end, wide.as_pointer()), align=4)
            builder.store(builder.add(so_far, builder.zext(builder.ctpop(mask), LONG)), count)

        whole = builder.and_(size, LONG(-8))
        with cgutils.for_range_slice(builder, LONG(0), whole, LONG(8), intp=LONG) as (start, _):
            add(start, BYTE(255))
        rest = builder.trunc(builder.and_(size, LONG(7)), BYTE)
        with builder.if_then(builder.icmp_unsigned("!=", rest, BYTE(0))):
            add(whole, builder.sub(builder.shl(BYTE(1), rest), BYTE(1)))
        builder.store(builder.trunc(builder.load(count), INT), listed)
        return builder.load(count)

    return types.int64(values, indices, types.int64), generate


list_places: Any = intrinsic(_list_places)


@compiled
def list_spikes(values: Any, indices: Any, sizes: Any, n: int) -> int:
    """Train n holds the values (neurons,) that are not zero, as in `list_places`; returns their number."""
    count = list_places(values, indices, n)
    for i in range(count):
        sizes[n, i] = values[np.uint32(indices[n, 1 + i])]
    return count
