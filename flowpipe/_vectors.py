"""Vectors of eight floats for loops that Numba compiles, put together from LLVM's operations.

Where a compiler does not find the vectors in a loop over pixels, an intrinsic states them: it is
Python that runs when the loop around it is compiled, and emits one operation a call. LLVM has
vectors of eight everywhere, in whatever the processor offers for them.
"""

from __future__ import annotations

import numba
from llvmlite import ir
from numba.core import cgutils

from flowpipe._numba import DistinctArrays

LANES = 8
"""Floats of a vector, of AVX2; rows are rounded up to whole vectors."""
WORD, LANE = ir.IntType(64), ir.IntType(32)
FLOATS, INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(LANE, LANES)
ZERO = ir.Constant(FLOATS, [0.0] * LANES)

# Of fastmath only that the sign of a zero does not matter: that changes no sum. With reassociation
# or contraction allowed, code that Numba has just compiled rounds differently from the same code
# out of its cache: the first run on a machine gave other bytes than the next. Numpy's errors, as a
# check for division by zero keeps LLVM from vectorising.
kernel = numba.njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"nsz"},
    pipeline_class=DistinctArrays,
)


def padded(size: int) -> int:
    """Round up to whole vectors."""
    return -(-size // LANES) * LANES


class Memory:
    """A flat array in the code of an intrinsic: loads and stores at an index of an element."""

    def __init__(self, context, builder, kind, value):
        self._builder = builder
        self._data = context.make_array(kind)(context, builder, value).data

    def _address(self, at, kind):
        return self._builder.bitcast(self._builder.gep(self._data, [at]), kind.as_pointer())

    def load(self, at, kind=FLOATS):
        """Load what stands at `at` as a number or vector of that kind."""
        value = self._builder.load(self._address(at, kind))
        value.align = 4
        return value

    def store(self, at, value):
        """Store a number or vector."""
        self._builder.store(value, self._address(at, value.type)).align = 4


def memories(context, builder, signature, arguments, *which):
    """Make the array arguments at some places usable."""
    return [Memory(context, builder, signature.args[i], arguments[i]) for i in which]


def spread(builder, value, lanes=LANES):
    """Fill a vector with a number."""
    nothing = ir.Constant(ir.VectorType(value.type, 1), ir.Undefined)
    vector = builder.insert_element(nothing, value, LANE(0))
    return builder.shuffle_vector(vector, vector, indices([0] * lanes))


def indices(lanes):
    """Order of a shuffle."""
    return ir.Constant(ir.VectorType(LANE, len(lanes)), lanes)


def transposed(builder, rows):
    """Transpose eight vectors of eight."""

    def merge(stride, first, second):
        """Pairs of vectors `stride` apart, shuffled in two ways."""
        out = [None] * LANES
        for low in range(LANES):
            if not low & stride:
                high = low | stride
                for place, order in ((low, first), (high, second)):
                    out[place] = builder.shuffle_vector(rows[low], rows[high], indices(order))
        return out

    rows = merge(4, [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])
    rows = merge(2, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
    return merge(1, [0, 8, 2, 10, 4, 12, 6, 14], [1, 9, 3, 11, 5, 13, 7, 15])


def total_of(builder, vector):
    """Sum of the eight numbers of a vector, in pairs."""
    for lanes in ([4, 5, 6, 7], [2, 3], [1]):
        order = indices((lanes * LANES)[:LANES])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, order))
    return builder.extract_element(vector, LANE(0))


def root_of(builder, vector):
    """Square roots."""
    root = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(FLOATS, [FLOATS]), f"llvm.sqrt.v{LANES}f32"
    )
    return builder.call(root, [vector])
