"""Vectors of eight floats in loops that Numba compiles, built from LLVM's operations.

Where the compiler does not vectorise a loop over pixels, an intrinsic does so explicitly: Python
code that runs when the loop is compiled and emits one operation per call. LLVM supports vectors of
eight on every processor.
"""

from __future__ import annotations

import numba
from llvmlite import ir
from numba.core import cgutils

from flowpipe._numba import DistinctArrays

LANES = 8
"""Floats per vector, as of AVX2; rows are padded to whole vectors."""
WORD, LANE = ir.IntType(64), ir.IntType(32)
FLOATS, INTEGERS = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(LANE, LANES)
ZERO = ir.Constant(FLOATS, [0.0] * LANES)

# The only fastmath flag is that the sign of zero does not matter, which changes no sum. If
# reassociation or contraction were allowed, freshly compiled code would round differently from the
# same code out of Numba's cache. NumPy's error model, since a check for division by zero would
# prevent vectorisation.
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
    """A flat array in an intrinsic, with loads and stores by element index."""

    def __init__(self, context, builder, kind, value):
        self._builder = builder
        self._data = context.make_array(kind)(context, builder, value).data

    def _address(self, at, kind):
        return self._builder.bitcast(self._builder.gep(self._data, [at]), kind.as_pointer())

    def load(self, at, kind=FLOATS, align=4):
        """Load the number or vector of a type at an index."""
        value = self._builder.load(self._address(at, kind))
        value.align = align
        return value

    def store(self, at, value, align=4):
        """Store a number or vector at an index."""
        self._builder.store(value, self._address(at, value.type)).align = align


def memories(context, builder, signature, arguments, *which):
    """Wrap the array arguments at the given positions."""
    return [Memory(context, builder, signature.args[i], arguments[i]) for i in which]


def spread(builder, value, lanes=LANES):
    """Return a vector filled with a number."""
    nothing = ir.Constant(ir.VectorType(value.type, 1), ir.Undefined)
    vector = builder.insert_element(nothing, value, LANE(0))
    return builder.shuffle_vector(vector, vector, indices([0] * lanes))


def indices(lanes):
    """Return the mask of a shuffle."""
    return ir.Constant(ir.VectorType(LANE, len(lanes)), lanes)


def transposed(builder, rows):
    """Transpose eight vectors of eight."""

    def merge(stride, first, second):
        """Shuffle pairs of vectors `stride` apart in two ways."""
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
    """Return the sum of the eight numbers of a vector, added in pairs."""
    for lanes in ([4, 5, 6, 7], [2, 3], [1]):
        order = indices((lanes * LANES)[:LANES])
        vector = builder.fadd(vector, builder.shuffle_vector(vector, vector, order))
    return builder.extract_element(vector, LANE(0))


def root_of(builder, vector):
    """Return the square roots of a vector."""
    root = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(FLOATS, [FLOATS]), f"llvm.sqrt.v{LANES}f32"
    )
    return builder.call(root, [vector])
