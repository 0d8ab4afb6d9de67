"""The loop that leaves the points in a box out, several points at a time in the CPU's registers.

It is written with LLVM's own vectors, since LLVM makes none of a loop whose next place depends on
the points before. Eight points outside the box, as nearly all are, go over at once, which takes
hardly more than to copy them. The vectors are the same on every CPU; LLVM fits them to what it has.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import numba
import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from pipeline.data.grey_levels import frozen

_COLUMNS = 4
AT_ONCE = 8
"""Points that go over together: 128 bytes. Four and sixteen take as long."""
WITHOUT_SIGN = 0x7FFFFFFF
"""The bits of a float32 that its absolute value keeps."""
FLOAT, INT = ir.FloatType(), ir.IntType(32)
_KINDS = {types.float32: FLOAT, types.int16: ir.IntType(16), types.uint8: ir.IntType(8)}
"""LLVM's types of the arrays' elements."""


@no_type_check
def _copier(num):
    """For compiled code: copy `num` points and their labels from `row` to `place` of the outputs.

    All of them are written; the result has a bit for each, the first one's lowest: 1 outside.
    """

    @intrinsic
    def copy(context, points, first, second, row, units, length, width, out, out_1, out_2, place):
        kinds = (points, first, second, row, units, length, width, out, out_1, out_2, place)
        arrays = (points, first, second, units, out, out_1, out_2)
        assert all(array.layout == "C" for array in arrays), arrays
        return types.uint32(*kinds), build

    def build(context, builder, signature, values):
        def pointer(argument, index, size):
            kind = signature.args[argument]
            data = context.make_array(kind)(context, builder, values[argument]).data
            vector = ir.VectorType(_KINDS[kind.dtype], size).as_pointer()
            return builder.bitcast(builder.gep(data, [index]), vector)

        row, length, width, place = (values[argument] for argument in (3, 5, 6, 10))
        four, size = row.type(_COLUMNS), num * _COLUMNS
        points = builder.load(pointer(0, builder.mul(row, four), size), align=2)
        points = _in_metres(builder, points, builder.load(pointer(4, INT(0), _COLUMNS), align=4))
        builder.store(points, pointer(7, builder.mul(place, four), size), align=4)
        for source, target in ((1, 8), (2, 9)):
            labels = builder.load(pointer(source, row, num), align=1)
            builder.store(labels, pointer(target, place, num), align=1)
        outside = builder.or_(
            _beyond(builder, points, axis=0, limit=length),
            _beyond(builder, points, axis=1, limit=width),
        )
        return builder.zext(builder.bitcast(outside, ir.IntType(num)), INT)

    return copy


def _in_metres(builder: Any, points: Any, units: Any) -> Any:
    """A vector of stored points times their columns' units."""
    size = points.type.count
    if points.type.element != FLOAT:
        points = builder.sitofp(points, ir.VectorType(FLOAT, size))
    lanes = _lanes([lane % _COLUMNS for lane in range(size)])
    return builder.fmul(points, builder.shuffle_vector(units, units, lanes))


def _beyond(builder: Any, points: Any, *, axis: int, limit: Any) -> Any:
    """Of each point of a vector, whether its coordinate lies further from 0 than `limit`."""
    size = points.type.count
    lanes = range(axis, size, _COLUMNS)
    floats, bits = ir.VectorType(FLOAT, len(lanes)), ir.VectorType(INT, len(lanes))
    values = builder.bitcast(builder.shuffle_vector(points, points, _lanes(lanes)), bits)
    values = builder.bitcast(builder.and_(values, bits([WITHOUT_SIGN] * len(lanes))), floats)
    limits = builder.insert_element(floats(ir.Undefined), limit, INT(0))
    limits = builder.shuffle_vector(limits, limits, _lanes([0] * len(lanes)))
    return builder.fcmp_ordered(">", values, limits)


def _lanes(lanes: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(INT, len(lanes)), list(lanes))


_copy_some, _copy_one = _copier(AT_ONCE), _copier(1)
_ONE, _SOME = np.uintp(1), np.uintp(AT_ONCE)
_ALL_OUTSIDE = np.uint32(2**AT_ONCE - 1)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _copy_outside(points, first, second, units, length, width, out, out_1, out_2):
    row, count, num = np.uintp(0), np.uintp(0), np.uintp(points.shape[0])
    while row < num:
        # Points are written before it is known whether they count: the next ones go over them.
        if (
            row + _SOME <= num
            and _copy_some(
                points, first, second, row, units, length, width, out, out_1, out_2, count
            )
            == _ALL_OUTSIDE
        ):
            row += _SOME
            count += _SOME
            continue
        end = min(row + _SOME, num)
        while row < end:
            count += np.uintp(
                _copy_one(
                    points, first, second, row, units, length, width, out, out_1, out_2, count
                )
            )
            row += _ONE
    return count


def copy_outside(
    points: Shaped[np.ndarray, "P 4"],
    of_points: Sequence[UInt8[np.ndarray, "P"]],
    *,
    units: Float32[np.ndarray, "4"],
    half_size_m: Sequence[float],
    out: Float32[np.ndarray, "room 4"],
    out_of_points: Sequence[UInt8[np.ndarray, "room"]],
) -> int:
    """Copy `points` x `units` outside an upright box, and two arrays with a row per point.

    Points are float32 or int16. `half_size_m` is the box's half length (x) and half width (y). Says
    how many points there were; the outputs are contiguous and have room for all, and what lies
    behind those counted is arbitrary.
    """
    first, second = of_points
    count = _copy_outside(
        frozen(points),
        frozen(first),
        frozen(second),
        units,
        np.float32(half_size_m[0]),
        np.float32(half_size_m[1]),
        out,
        *out_of_points,
    )
    return int(count)
