"""Tell from a file's headers whether all of it is there, and what it is if it is no video.

RIFF, ISO base media (mp4, mov, 3gp) and Matroska files say how long they are. What follows the
last part that the index needs, such as an APE or ID3 tag, does not count. Frame counts cannot
tell: healthy MPEG-4 streams with packed B-frames hold more packets than frames.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import av

from flowpipe.io.video_errors import TruncatedVideoError

_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_MATROSKA_SEGMENT = 0x18538067
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PK\x07\x08": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\x1f\x8b\x08": "gzip",
    b"\x1f\x9d": "compress (.Z)",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"LZIP": "lzip",
    b"MSCF": "cab",
    b"!<arch>\n": "ar",
    b"07070": "cpio",
}
_ISO_BOXES = frozenset(
    b"ftyp moov mdat moof mfra sidx ssix styp emsg prft free skip wide uuid meta udta pdin pnot "
    b"PICT".split()
)
"""Types of top-level boxes. Whatever else follows the last box is a tag or padding."""
_NEEDED = ("moov", "mdat", "moof", "mfra")


def require_whole(path: str | os.PathLike[str]) -> None:
    """Raise a TruncatedVideoError if a file is shorter than its container says.

    Reads a few header bytes, so that no work is spent on a video whose last frames are missing.
    A missing or unreadable file is left to :func:`flowpipe.io.video.frames`.
    """
    path = Path(path)
    with suppress(OSError):
        if path.is_file():
            raise_if_short(path, "its last frames are missing")


def raise_if_short(path: Path, rest: str) -> None:
    """Raise a TruncatedVideoError if bytes are missing at the end; `rest` ends the message."""
    needed, actual = needed_bytes(path), path.stat().st_size
    if needed is not None and needed > actual:
        raise TruncatedVideoError(path, f"truncated: {actual} of {needed} bytes are there, {rest}")


def needed_bytes(path: Path) -> int | None:
    """Return how long a file must be to hold every frame; None if its container does not say."""
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _riff_end(file)
        if head[:4] == _EBML_MAGIC:
            return _matroska_end(file)
    boxes = _iso_boxes(path)
    if not {"ftyp", "moov"} & set(boxes):
        return None
    end = max((boxes[kind] or 0 for kind in _NEEDED if kind in boxes), default=0)
    total = path.stat().st_size
    if "moov" in boxes and "moof" not in boxes and (end > total or None in boxes.values()):
        end = _indexed_end(path) or end
    return end


def archive_format(path: Path) -> str | None:
    """Return the format of an archive or compressed file, by its content; None for others."""
    with path.open("rb") as file:
        head = file.read(512)
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return name
    return "tar" if _is_tar(head) else None


def lacks_index(path: Path) -> bool:
    """Return whether a file is an mp4 or mov without a moov box."""
    boxes = _iso_boxes(path)
    return "moov" not in boxes and not boxes.keys().isdisjoint(("ftyp", "mdat"))


def is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are printable UTF-8."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode()
    return all(char.isprintable() or char in "\r\n\t\f" for char in text)


def _is_tar(head: bytes) -> bool:
    """Return whether the checksum of a tar header fits: tars before POSIX have no magic number."""
    with suppress(ValueError):
        stored = int(head[148:156].strip(b" \0"), 8)
        return len(head) == 512 and stored == sum(head[:148]) + sum(head[156:]) + 8 * ord(" ")
    return False


def _indexed_end(path: Path) -> int | None:
    """Return where the last sample in the index of an mp4's video ends; None without an index."""
    with (
        suppress(av.error.FFmpegError, UnicodeError),
        av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container,
    ):
        return max(
            (
                entry.pos + entry.size
                for stream in container.streams.video
                for entry in stream.index_entries
            ),
            default=None,
        )
    return None


def _riff_end(file: BinaryIO) -> int | None:
    """End of the last RIFF chunk: large AVI files are a chain of them."""
    position, end = 0, None
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return end
        size = int.from_bytes(head[4:], "little")
        if size in (0, 0xFFFFFFFF):
            return end
        # Some writers leave out the last pad byte, so an odd chunk may end the file as it is.
        end = position + 8 + size
        position = end + size % 2


def _matroska_end(file: BinaryIO) -> int | None:
    def number(keep_marker: bool) -> int | None:
        first = file.read(1)
        if not first or not first[0]:
            return None
        length = 9 - first[0].bit_length()
        rest = file.read(length - 1)
        value = int.from_bytes(first + rest, "big")
        if keep_marker:
            return value
        value &= (1 << 7 * length) - 1
        return None if value == (1 << 7 * length) - 1 else value  # all ones: unknown (live)

    file.seek(len(_EBML_MAGIC))
    header = number(keep_marker=False)
    if header is None:
        return None
    file.seek(header, os.SEEK_CUR)
    if number(keep_marker=True) != _MATROSKA_SEGMENT:
        return None
    size = number(keep_marker=False)
    return None if size is None else file.tell() + size


def _iso_boxes(path: Path) -> dict[str, int | None]:
    """End of each top-level box of an ISO base media file by its type, None for "to the end"."""
    ends: dict[str, int | None] = {}
    total = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position < total:
            file.seek(position)
            head = file.read(16)
            kind = head[4:8]
            if kind not in _ISO_BOXES:
                break
            size = int.from_bytes(head[:4], "big")
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            elif size == 0:
                ends[kind.decode("ascii")] = None
                break
            if size < 8:
                break
            position += size
            ends[kind.decode("ascii")] = position
    return ends
