"""A container of flow that flowpipe does not have: the members of a clip in an npz."""

from __future__ import annotations

import zipfile

import numpy as np

from flowpipe.errors import FormatError
from flowpipe.flow.store.layouts import META, Layout
from flowpipe.runner.atomic import discard, place, temporary_file

TOY = Layout(
    "toy",
    "a toy archive",
    ".toy",
    "float",
    "tests.helpers.toy_layout",
    ("x{i}", "y{i}"),
    base=0,
    own_checksums=True,
    published="Toys, 2001",
)


def open_sink(out, clip, kind, dtype):
    return Sink(out, kind.done_marker(out, clip), dtype)


def open_source(root, clip, kind):
    return Source(kind.done_marker(root, clip))


def holds_meta(path):
    try:
        return META in Source(path).names()
    except FormatError:
        return True


class Sink:
    crc32 = None

    def __init__(self, out, destination, dtype):
        self._temporary, self._destination, self._dtype = temporary_file(out), destination, dtype
        self._members = {}

    def add(self, names, parts):
        self._members |= dict(zip(names, parts[0].astype(self._dtype), strict=True))

    def finish(self, meta):
        with self._temporary.open("wb") as file:
            np.savez(file, **self._members, **{META: np.frombuffer(meta, np.uint8)})
        place(self._temporary, self._destination)

    def discard(self):
        discard(self._temporary)


class Source:
    def __init__(self, path):
        self._path = path
        try:
            with np.load(path) as archive:
                self._members = dict(archive)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise FormatError(f"{str(path)!r} is not a toy: {error}") from None

    def read(self, name):
        raise AssertionError("float layouts are read as arrays")

    def array(self, index, names):
        try:
            return np.stack([self._members[name] for name in names]).astype(np.float32)
        except KeyError as error:
            raise FormatError(f"{str(self._path)!r} lacks {error}") from None

    def names(self):
        return list(self._members)

    def meta(self):
        return self._members[META].tobytes() if META in self._members else None

    def close(self):
        pass
