"""Decode a part of a grey baseline JPEG (ITU-T T.81), compiled by Numba.

Networks see a crop of a field, and most of the time of a decoder goes into the entropy code. So
blocks outside the part are skipped code by code, and what lies below it is not decoded. The inverse
transform is the integer one of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) with 13 bits, as in
libjpeg, so that the levels are libjpeg's. It writes columns, since the resize that follows works
along them.

Only the simple case is handled: one component, 8 bit, no restart intervals, nothing damaged. What
it does not handle is left to OpenCV.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from flowpipe._vectors import INTEGERS, LANES, WORD, kernel, memories, transposed
from flowpipe.flow.store.jpeg_tables import BITS, END, long_code, read_header

MARGIN = 512
"""Bytes after a scan that may be read: more than those of a block."""

_ORDER = np.array(
    [
        *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5),
        *(12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28),
        *(35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51),
        *(58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63),
    ],
    np.int64,
)
_ZIGZAG = np.append(_ORDER, np.full(2 * END - 64, 64)).astype(np.uint64)
"""Place of each coefficient in a block, and one for what is beyond the last."""


@intrinsic
def _inverse_transform(typing, coefficients, out, at, stride):
    """Write the pixels of a block of 64 coefficients as eight columns, `stride` bytes apart."""
    signature = numba.void(coefficients, out, numba.int64, numba.int64)

    def generate(context, builder, signature, arguments):
        block, pixels = memories(context, builder, signature, arguments, 0, 1)
        at, stride = arguments[2:]

        def constant(value):
            return ir.Constant(INTEGERS, [value] * LANES)

        def times(vector, factor):
            return builder.mul(vector, constant(round(factor * 8192)))

        def total(*vectors):
            first, *rest = vectors
            for vector in rest:
                first = builder.add(first, vector)
            return first

        def one_dimension(v, shift, bias):
            common = times(total(v[2], v[6]), 0.541196100)
            low = total(common, times(v[6], -1.847759065))
            high = total(common, times(v[2], 0.765366865))
            # The bias rounds, and moves pixels to the middle of their range.
            first, fifth = (builder.shl(v[k], constant(13)) for k in (0, 4))
            first = total(first, constant(bias))
            plus, minus = total(first, fifth), builder.sub(first, fifth)
            even = [total(plus, high), total(minus, low)]
            even += [builder.sub(minus, low), builder.sub(plus, high)]
            z5 = times(total(v[7], v[3], v[5], v[1]), 1.175875602)
            z1, z2 = times(total(v[7], v[1]), -0.899976223), times(total(v[5], v[3]), -2.562915447)
            z3 = total(times(total(v[7], v[3]), -1.961570560), z5)
            z4 = total(times(total(v[5], v[1]), -0.390180644), z5)
            odd = [
                total(times(v[1], 1.501321110), z1, z4),
                total(times(v[3], 3.072711026), z2, z3),
                total(times(v[5], 2.053119869), z2, z4),
                total(times(v[7], 0.298631336), z1, z3),
            ]
            pairs = list(zip(even, odd, strict=True))
            sums = [builder.add(a, b) for a, b in pairs]
            sums += [builder.sub(a, b) for a, b in reversed(pairs)]
            return [builder.ashr(value, constant(shift)) for value in sums]

        rows = [block.load(WORD(LANES * k), INTEGERS) for k in range(LANES)]
        rows = one_dimension(rows, 11, 1 << 10)
        columns = one_dimension(transposed(builder, rows), 18, (128 << 18) + (1 << 17))
        narrow = ir.VectorType(ir.IntType(8), LANES)
        zero, most = constant(0), constant(255)
        for k, column in enumerate(columns):
            column = builder.select(builder.icmp_signed("<", column, zero), zero, column)
            column = builder.select(builder.icmp_signed(">", column, most), most, column)
            place = builder.add(at, builder.mul(stride, WORD(k)))
            pixels.store(place, builder.trunc(column, narrow), align=1)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _big_endian(typing, data, at):
    """Return the number of eight bytes whose first is the most significant."""
    signature = numba.uint64(data, numba.int64)

    def generate(context, builder, signature, arguments):
        (memory,) = memories(context, builder, signature, arguments, 0)
        return builder.bswap(memory.load(arguments[1], WORD, align=1))

    return signature, generate


@kernel
def _unstuffed(data, at, end, scan):
    """Copy the code of a scan without its stuffed zeros; return its bytes, -1 if it has no end."""
    size = 0
    while at + 1 < end:
        byte = data[at]
        if byte == 0xFF:
            if data[at + 1]:
                scan[size : size + MARGIN] = 0
                return size if data[at + 1] == 0xD9 else -1
            at += 1
        scan[size] = byte
        size += 1
        at += 1
    return -1


@kernel
def decode_columns(data, at, end, height, width, blocks, scan, tables, out):
    """Decode a part of a picture.

    Parameters
    ----------
    data, at, end
        Bytes, and where in them the JPEG begins and ends.
    height, width
        Of the picture, in pixels.
    blocks
        First and last (exclusive) row, then column, of blocks of 8x8 pixels to decode.
    scan
        Memory for the code, :data:`MARGIN` bytes longer than the JPEG.
    tables
        Of :func:`~flowpipe.flow.store.jpeg_tables.new_tables`.
    out
        Flat uint8: the pixels, column by column.

    Returns
    -------
    bool
        Whether the picture is of the simple kind and its code without fault as far as it was read.
    """
    lookups, long, definitions, quantisation, block = tables
    at, quantiser, dc_table, ac_table = read_header(
        data, at, end, height, width, lookups, long, definitions, quantisation
    )
    size = _unstuffed(data, at, end, scan) if at else -1
    if size < 0:
        return False
    top, bottom, left, right = blocks
    stride = 8 * (bottom - top)
    dc_lookup, ac_lookup = lookups[dc_table], lookups[ac_table]
    factors = quantisation[quantiser]
    code, bits, place, level = np.uint64(0), 0, 0, 0
    unused = np.uint64(64 - BITS)
    for y in range(bottom):
        for x in range((width + 7) // 8):
            wanted = y >= top and left <= x < right
            if place > size + 8:
                return False
            code |= _big_endian(scan, place) >> np.uint64(bits)  # type: ignore[call-arg]
            place += (63 - bits) >> 3
            bits |= 56
            entry = dc_lookup[code >> unused]
            if not entry:
                entry = long_code(code, False, long[dc_table])
                if not entry:
                    return False
            code <<= np.uint64(entry & 255)
            bits -= entry & 255
            level += entry >> 48
            if wanted:
                block[:] = 0
                block[0] = level * factors[0]
            k = 0
            while k < 63:
                code |= _big_endian(scan, place) >> np.uint64(bits)
                place += (63 - bits) >> 3
                bits |= 56
                entry = ac_lookup[code >> unused]
                if not entry:
                    entry = long_code(code, True, long[ac_table])
                    if not entry:
                        return False
                k += entry >> 16 & 255
                if wanted:
                    at_k = np.uint64(k)
                    block[_ZIGZAG[at_k]] = (entry >> 48) * factors[at_k]
                if 63 <= k < END:  # a block that is full has no end
                    code <<= np.uint64(entry & 255)
                    bits -= entry & 255
                    break
                k += entry >> 24 & 255
                if wanted:
                    at_k = np.uint64(k)
                    block[_ZIGZAG[at_k]] = np.int64(np.int16(entry >> 32)) * factors[at_k]
                code <<= np.uint64(entry >> 8 & 255)
                bits -= entry >> 8 & 255
            if 63 < k < END:
                return False
            if wanted:
                corner = (x - left) * 8 * stride + (y - top) * 8
                _inverse_transform(block, out, corner, stride)  # type: ignore[call-arg]
    return 8 * place - bits <= 8 * size
