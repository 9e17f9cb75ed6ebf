"""What the readers share: folders of videos, and lists whose every line must be right."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from flowpipe.datasets.base import VIDEO_SUFFIXES
from flowpipe.errors import FormatError, ParameterError


def is_video(path: Path) -> bool:
    """Whether a name is that of a video: it has a video's suffix and is not hidden."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def without_suffix(name: str) -> str:
    """Cut a video's suffix off a name; any other name stays as it is."""
    suffix = PurePosixPath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name


def folder(root: Path) -> Path:
    """Return the folder, or raise a ParameterError that says it is none."""
    if not root.is_dir():
        raise ParameterError(f"{str(root)!r} is not a folder; name the one that holds the videos")
    return root


def videos_below(root: Path, depth: int = 8) -> list[Path]:
    """List the videos of a folder and of its sub-folders, in the order of their names.

    Parameters
    ----------
    root
        The folder. Links are followed, hidden files and folders left out.
    depth
        Levels of sub-folders; it also ends a link that leads back into its own folder.
    """
    try:
        entries = sorted(folder(root).iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ParameterError(f"cannot list the folder {str(root)!r}: {error.strerror}") from error
    found = []
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if depth > 0:
                found += videos_below(entry, depth - 1)
        elif is_video(entry):
            found.append(entry)
    return found


def videos_named(
    root: Path, pattern: re.Pattern[str], example: str, depth: int = 2
) -> list[tuple[Path, re.Match[str]]]:
    """List the videos below a folder, each of whose names (no suffix) has to match a pattern.

    Raises
    ------
    FormatError
        A video has another name; the message gives the example.
    """
    named = []
    for path in videos_below(root, depth):
        match = pattern.fullmatch(path.stem)
        if match is None:
            raise FormatError(
                f"{str(path)!r} is not named like {example!r}, as every video of this set is; "
                "move it out of the folder, or read the folder as another kind of set"
            )
        named.append((path, match))
    return named


def names_below(base: Path, paths: Sequence[Path]) -> list[str]:
    """Clip names of videos: their paths from ``base`` without suffix.

    Videos of one folder that differ in nothing but the suffix keep it.
    """
    relative = [path.relative_to(base).as_posix() for path in paths]
    short = [without_suffix(name) for name in relative]
    count = Counter(short)
    return [
        name if count[name] == 1 else whole for name, whole in zip(short, relative, strict=True)
    ]


def malformed(path: Path, number: int, line: str, right: str) -> FormatError:
    """Build the error for a line of a list: where it is, what it says and what would be right."""
    return FormatError(f"{str(path)!r}, line {number}: {line!r} should be {right}")


def _text(path: Path) -> str:
    # surrogateescape keeps file names that are no UTF-8 equal to what the file system gives
    try:
        return path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise ParameterError(f"cannot read the list {str(path)!r}: {error.strerror}") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of the lines of a list that are not blank."""
    # str.splitlines would also break lines at characters that file names may contain
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line.rstrip("\r")


def rows_of(
    path: Path, required: Iterable[str], right: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and fields by column name of the rows of a CSV file with a header.

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
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header: list[str] | None = None
    number = 1
    try:
        for row in reader:
            if header is None:
                header = [name.strip() for name in row]
                if not set(required) <= set(header) or len(set(header)) < len(header):
                    raise malformed(path, number, ",".join(row), f"the header {right}")
            elif row:
                if len(row) != len(header):
                    wanted = f"{len(header)} fields: {','.join(header)}"
                    raise malformed(path, number, ",".join(row), wanted)
                yield number, dict(zip(header, row, strict=True))
            number = reader.line_num + 1
    except csv.Error as error:
        raise FormatError(f"{str(path)!r}, line {reader.line_num}: {error}") from error
    if header is None:
        raise FormatError(f"{str(path)!r} is empty; its first line should be the header {right}")
