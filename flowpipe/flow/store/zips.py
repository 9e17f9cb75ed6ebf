"""Read a zip of stored members in the time of its members.

``zipfile`` makes an object of every entry when it opens an archive, which for the 400 members of a
short clip takes as long as decoding ten flow fields, and a loader opens another clip for every
sample. This reads the directory into a plain table, and each member with one call at its place, so
that nothing else is read and processes that share the file do not disturb each other. What is not
such a plain archive (compressed, over 4 GiB, with a comment) or is damaged is left to ``zipfile``.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

_END = struct.Struct("<4s4H2IH")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_LARGE = 0xFFFF, 0xFFFFFFFF  # in place of a value that is in the zip64 fields


class NotPlainError(Exception):
    """The archive is to be read by ``zipfile``."""


class PlainZip:
    """The members of a zip that was written by :class:`flowpipe.flow.store.FlowWriter`.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    NotPlainError
        It is not as simple as that, or not whole.
    OSError
        It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            self._members = _directory(self._file)
        except BaseException:
            self.close()
            raise

    def namelist(self) -> list[str]:
        """Return the names of the members in their order."""
        return list(self._members)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member.

        Raises
        ------
        KeyError
            There is none of that name.
        zipfile.BadZipFile
            It is damaged.
        """
        offset, size, checksum = self._members[name]
        coded = name.encode()
        head = _LOCAL.size + len(coded)
        block = os.pread(self._file, head + size, offset)
        if len(block) < head:
            raise zipfile.BadZipFile("the archive ends before it")
        signature, *_, name_bytes, extra_bytes = _LOCAL.unpack_from(block)
        if signature != b"PK\x03\x04" or name_bytes != len(coded) or block[30:head] != coded:
            raise zipfile.BadZipFile("its local header is another member's")
        if extra_bytes:
            block = os.pread(self._file, size, offset + head + extra_bytes)
            head = 0
        data = block[head:]
        if len(data) != size or zlib.crc32(data) != checksum:
            raise zipfile.BadZipFile(f"bad CRC-32 for file {name!r}")
        return data

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        """Close the file, of a reader that was let go."""
        if getattr(self, "_file", -1) >= 0:
            self.close()


def _directory(file: int) -> dict[str, tuple[int, int, int]]:
    """Return (offset, size, CRC-32) of each member by its name."""
    total = os.fstat(file).st_size
    end = os.pread(file, _END.size, max(0, total - _END.size))
    if len(end) < _END.size:
        raise NotPlainError
    signature, disk, first, here, count, size, start, comment = _END.unpack(end)
    if signature != b"PK\x05\x06" or disk or first or here != count or comment:
        raise NotPlainError
    if count == _LARGE[0] or _LARGE[1] in (size, start) or start + size + _END.size != total:
        raise NotPlainError
    table = os.pread(file, size, start)
    members: dict[str, tuple[int, int, int]] = {}
    position = 0
    try:
        for _ in range(count):
            fields = _ENTRY.unpack_from(table, position)
            signature, flags, method = fields[0], fields[3], fields[4]
            checksum, packed, unpacked, name_bytes, extra, note = fields[7:13]
            offset = fields[16]
            position += _ENTRY.size
            name = table[position : position + name_bytes].decode("ascii")
            position += name_bytes + extra + note
            plain = signature == b"PK\x01\x02" and not flags and not method
            if not plain or packed != unpacked or _LARGE[1] in (packed, offset) or name in members:
                raise NotPlainError
            members[name] = (offset, packed, checksum)
    except (struct.error, UnicodeDecodeError):
        raise NotPlainError from None
    if position != size or len(members) != count:
        raise NotPlainError
    return members
