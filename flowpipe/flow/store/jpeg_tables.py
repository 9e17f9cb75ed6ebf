"""Read the header of a grey baseline JPEG (ITU-T T.81), compiled by Numba: its tables.

One look-up of the next :data:`BITS` bits resolves a Huffman code together with the bits of the
coefficient that follows it, and the next code and coefficient where they fit too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flowpipe._vectors import kernel

BITS = 12
"""Bits of the code that one look-up resolves."""
END = 128
"""Advance of the code for the end of a block: beyond where any other leads."""
NO_TABLE = 255
"""In place of the definition of a table that there is not."""


def new_tables() -> tuple[NDArray[np.generic], ...]:
    """Return the memory of a decoder, which keeps the Huffman tables of the picture before.

    Look-ups, codes that are longer, and the definition of each table (two of DC, two of AC);
    quantisation tables; the coefficients of a block, and a place for those that are none.
    """
    return (
        np.zeros((4, 1 << BITS), np.int64),
        np.zeros((4, 296), np.int64),
        np.full((4, 272), NO_TABLE, np.uint8),
        np.zeros((4, 2 * END), np.int32),
        np.zeros(65, np.int32),
    )


@kernel
def _entry(value, bits, is_ac):
    """Return coefficient and advance of a symbol with the bits that follow it.

    Packed as ``coefficient << 8 | advance``. A coefficient of `size` bits is positive if the first
    bit is 1.
    """
    size, advance = value & 15, (value >> 4) + 1
    if is_ac and value == 0:
        return np.int64(END)
    if size > 0 and bits < 1 << (size - 1):
        bits -= (1 << size) - 1
    return np.int64(bits << 8 | advance)


@kernel
def _build(definition, is_ac, lookup, long):
    """Make the look-up of a Huffman table from its definition; return whether it is one.

    An entry holds one coefficient, or two where both fit into the bits of a look-up: from the
    lowest bit the bits that the first takes, the bits of both, the advance of each in the block (8
    bits each), and the coefficients (16 bits each). One alone is given twice, the second without
    advance. 0: the code, or the coefficient with it, is longer than a look-up; then `long` has, by
    the length of a code, the largest one, and what leads from it to its symbol.
    """
    lookup[:] = 0
    code, symbol = 0, 0
    for length in range(1, 17):
        count = np.int64(definition[length - 1])
        if code + count > 1 << length or symbol + count > 256:
            return False
        long[length] = code + count - 1 if count else -1
        long[20 + length] = symbol - code
        for _ in range(count):
            value = np.int64(definition[16 + symbol])
            long[40 + symbol] = value
            size = value & 15
            if (is_ac and size == 0 and 0 < value < 0xF0) or (not is_ac and value > 11):
                return False
            total = length + size
            if total <= BITS:
                free = BITS - total
                for bits in range(1 << size):
                    place = (code << size | bits) << free
                    found = _entry(value, bits, is_ac)
                    lookup[place : place + (1 << free)] = (
                        total | total << 8 | (found & 255) << 16 | (found >> 8) << 48
                    )
            code += 1
            symbol += 1
        code <<= 1
    single = lookup.copy()
    for index, first in enumerate(single):
        used = first & 255
        advance = first >> 16 & 255
        entry = first | ((first >> 48) & 0xFFFF) << 32
        if is_ac and used and advance != END:
            second = single[index << used & ((1 << BITS) - 1)]
            both = used + (second & 255)
            if second and both <= BITS:
                entry = used | both << 8 | advance << 16 | (second >> 16 & 255) << 24
                entry |= (second >> 48 & 0xFFFF) << 32 | (first >> 48) << 48
        lookup[index] = entry
    return True


@kernel
def long_code(code, is_ac, long):
    """Return the entry, as of a look-up, of a code of any length at the top of 64 bits."""
    for length in range(1, 17):
        prefix = np.int64(code >> np.uint64(64 - length))
        if prefix <= long[length]:
            value = long[40 + prefix + long[20 + length]]
            size = value & 15
            # In two steps, since no number can be shifted by 64.
            bits = np.int64(code << np.uint64(length) >> np.uint64(1) >> np.uint64(63 - size))
            found, total = _entry(value, bits, is_ac), length + size
            advance, coefficient = found & 255, found >> 8
            return (
                total
                | total << 8
                | advance << 16
                | (coefficient & 0xFFFF) << 32
                | coefficient << 48
            )
    return np.int64(0)


@kernel
def read_header(data, at, end, height, width, lookups, long, definitions, quantisation):
    """Read everything before the scan.

    Returns where its code begins and the numbers of its quantisation, DC and AC tables; 0 first if
    the picture is not of the simple kind or of another size.
    """
    nothing = (0, 0, 0, 0)
    if end - at < 4 or data[at] != 0xFF or data[at + 1] != 0xD8:
        return nothing
    at += 2
    component, quantiser, has_frame = data[at], np.int64(0), False
    # A bit for each table: those of the picture before do not count.
    has_factors = has_codes = np.int64(0)
    while at + 4 <= end:
        if data[at] != 0xFF:
            return nothing
        marker = data[at + 1]
        size = np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])
        first, last = at + 4, at + 2 + size
        if size < 2 or last > end:
            return nothing
        at = last
        if marker == 0xDB:
            while first + 65 <= last:
                number = np.int64(data[first])
                if number > 3:  # or its values are of 16 bits
                    return nothing
                for k in range(64):
                    quantisation[number, k] = data[first + 1 + k]
                has_factors |= 1 << number
                first += 65
            if first != last:
                return nothing
        elif marker == 0xC4:
            while first + 17 <= last:
                kind, number = data[first] >> 4, data[first] & 15
                if kind > 1 or number > 1:
                    return nothing
                length = np.int64(16)
                for k in range(16):
                    length += np.int64(data[first + 1 + k])
                if length > 272 or first + 1 + length > last:
                    return nothing
                table = np.int64(2 * kind + number)
                known = definitions[table, 0] != NO_TABLE
                for k in range(length):
                    known &= definitions[table, k] == data[first + 1 + k]
                if not known:
                    for k in range(length):
                        definitions[table, k] = data[first + 1 + k]
                    if not _build(definitions[table], kind == 1, lookups[table], long[table]):
                        definitions[table, 0] = NO_TABLE
                        return nothing
                has_codes |= 1 << table
                first += 1 + length
            if first != last:
                return nothing
        elif marker == 0xC0:
            if size != 11 or data[first] != 8 or data[first + 5] != 1 or data[first + 8] > 3:
                return nothing
            high = np.int64(data[first + 1]) << 8 | np.int64(data[first + 2])
            wide = np.int64(data[first + 3]) << 8 | np.int64(data[first + 4])
            if high != height or wide != width or has_frame:
                return nothing
            sampling = data[first + 7]  # which does not matter, but may not be anything
            if not (0 < sampling >> 4 < 5 and 0 < sampling & 15 < 5):
                return nothing
            component = data[first + 6]
            quantiser, has_frame = np.int64(data[first + 8]), True
        elif marker == 0xDA:
            dc, ac = np.int64(data[first + 2] >> 4), np.int64(data[first + 2] & 15)
            if size != 8 or data[first] != 1 or not has_frame or dc > 1 or ac > 1:
                return nothing
            if (
                data[first + 1] != component
                or data[first + 3] != 0
                or data[first + 4] != 63
                or data[first + 5] != 0
            ):
                return nothing
            if not has_factors >> quantiser & 1 or ~has_codes & (1 << dc | 4 << ac):
                return nothing
            return last, quantiser, dc, 2 + ac
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):  # restarts, other kinds of code
            return nothing
    return nothing
