"""Read list files and CSV files as people write them, and name the line of an error."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowpipe.datasets.base import VIDEO_SUFFIXES
from flowpipe.errors import FormatError

_COMMENT = re.compile(r"\s*(?:#|;|//)(?:\s.*|$)", re.DOTALL)


def malformed(path: Path, number: int, line: str, right: str) -> FormatError:
    """Return the error for a line of a list: where it is, what it says and what would be right."""
    return FormatError(f"{str(path)!r}, line {number}: {line!r} should be {right}")


def read_text(path: Path) -> str:
    """Return the text of a list: UTF-8 or UTF-16, with or without a byte order mark.

    Bytes that are not UTF-8 are kept as ``surrogateescape`` decodes them, so that file names in
    another encoding equal those that the file system gives; see :func:`spellings`.

    Raises
    ------
    FormatError
        The file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{str(path)!r} cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif _looks_like_utf16(data, 0):
        encoding = "utf-16-be"
    elif _looks_like_utf16(data, 1):
        encoding = "utf-16-le"
    else:
        return data.decode("utf-8-sig", errors="surrogateescape")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FormatError(f"{str(path)!r} is damaged UTF-16: {error}; save it as UTF-8") from None


def _looks_like_utf16(data: bytes, high: int) -> bool:
    """Return whether nearly every second byte is zero, as in UTF-16 of Latin letters."""
    return (
        len(data) > 8
        and len(data) % 2 == 0
        and data[high::2].count(0) > 0.9 * (len(data) // 2)
        and data[1 - high :: 2].count(0) == 0
    )


def is_comment(line: str) -> bool:
    """Return whether a line begins with ``#``, ``;`` or ``//`` and a space, and names no video."""
    return bool(_COMMENT.fullmatch(line)) and not any(
        word.lower().endswith(tuple(VIDEO_SUFFIXES)) for word in line.split()
    )


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of the lines that are neither blank nor a comment."""
    # str.splitlines would also break lines at characters that file names may contain
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip() and not is_comment(line):
            yield number, line.rstrip("\r")


def rows_of(
    path: Path, required: Iterable[str], right: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields by column name of the rows of a CSV file with a header.

    White space around fields is removed; the names of columns are read without regard to case.

    Parameters
    ----------
    path
        The file: comma separated, quoted where needed, one header line.
    required
        Columns that the header has to name.
    right
        How the header should read, for the error.

    Raises
    ------
    FormatError
        A column is missing, a row has more or fewer fields than the header, or a quote is open.
    """
    text = io.StringIO(read_text(path), newline="")
    reader = csv.reader(text, strict=True, skipinitialspace=True)
    header: list[str] | None = None
    number = 1
    try:
        for row in reader:
            if not row or is_comment(",".join(row)):
                pass
            elif header is None:
                header = [name.strip().lower() for name in row]
                if not set(required) <= set(header) or len(set(header)) < len(header):
                    raise malformed(path, number, ",".join(row), f"the header {right}")
            else:
                if len(row) != len(header):
                    wanted = f"{len(header)} fields: {','.join(header)}"
                    raise malformed(path, number, ",".join(row), wanted)
                yield number, dict(zip(header, (field.strip() for field in row), strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(f"{str(path)!r}, line {reader.line_num}: {error}") from error
    if header is None:
        raise FormatError(f"{str(path)!r} is empty; its first line should be the header {right}")


def readable(text: str) -> str:
    """Return text in composed form (NFC), bytes that were not UTF-8 read as Windows-1252."""
    if re.search("[\udc80-\udcff]", text):
        data = os.fsencode(text)
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return unicodedata.normalize("NFC", text)


def spellings(path: str) -> Iterator[str]:
    """Yield the ways in which a listed path may be written on disk.

    As it is; decoded and composed (NFC), decomposed (NFD); with slashes for backslashes.
    """
    texts = dict.fromkeys((path, readable(path), unicodedata.normalize("NFD", readable(path))))
    for text in texts:
        yield text
    if "\\" in path:
        for text in texts:
            yield text.replace("\\", "/")


def existing(bases: Iterable[Path], texts: Iterable[str]) -> Path | None:
    """Return the first file or folder that one of the texts names from one of the bases.

    A text may lack the suffix of the video.
    """
    bases = list(bases)
    for text in texts:
        for base in bases:
            for spelling in spellings(text):
                if (path := _with_any_suffix(base / spelling)) is not None:
                    return path
    return None


def _with_any_suffix(path: Path) -> Path | None:
    try:
        if path.is_file() or not path.name:
            return path if path.name else None
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            for suffix in sorted(VIDEO_SUFFIXES):
                if (candidate := path.with_name(path.name + suffix)).is_file():
                    return candidate
        return path if path.exists() else None
    except (OSError, ValueError):  # too long a name, a closed folder, a NUL
        return None
