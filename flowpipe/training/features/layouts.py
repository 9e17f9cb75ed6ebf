"""Files of features: the layouts that other programs read, and the record beside each array.

======================  ==============================  ===========  =============================
layout                  array of a clip                 shape        a feature sees
======================  ==============================  ===========  =============================
``npy``                 ``<clip>.npy``                  (T, F)       ``length`` from t * stride on
``actionformer``        ``<video>.npy``                 (T, F)       the same
``opentad``             ``<video>.npy``                 (T, F)       the same
``video-features``      ``<video>_<modality>.npy``      (T, F)       the same
``ms-tcn``              ``<video>.npy``                 (F, frames)  ``length`` around the frame
======================  ==============================  ===========  =============================

All are float32 in C order. ``<clip>`` is the name of the clip with its folders, ``<video>`` the
last part of it: the other programs look for files by the names of videos. ``<array>.npy.json`` is
written last and marks a clip as complete. It says what the features were made of, and has the
checksums of the arrays, which a .npy lacks.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.io.npz import NPY_FAULTS
from flowpipe.runner import atomic, json_files
from flowpipe.runner.json_files import Json
from flowpipe.training.features.map_files import checksum_of, load_maps

FORMAT = "flowpipe features 1"
RECORD_SUFFIX = ".npy.json"


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """A layout of features.

    Attributes
    ----------
    title
        One line for lists.
    published
        Authors, title, venue of the program that reads it.
    settings
        Settings with which the other program reads the features, with the fields ``length``,
        ``stride``, ``half`` (of the length) and ``features`` (their number).
    per_frame
        There is a feature for each frame, of the window around it. Otherwise windows begin at
        multiples of the stride.
    features_first
        The array is (F, T).
    keeps_folders
        Files are named after the clip with its folders, not after its last part alone.
    names_modality
        The modality is a part of the file's name.
    has_times
        Frame rate and times are stored beside the features.
    dots
        Names of videos may have dots. MS-TCN cuts them off at the first.
    """

    title: str
    published: str
    settings: str
    per_frame: bool = False
    features_first: bool = False
    keeps_folders: bool = False
    names_modality: bool = False
    has_times: bool = False
    dots: bool = True


LAYOUTS: dict[str, FeatureLayout] = {
    "npy": FeatureLayout(
        "(T, F) arrays, in the folders of the clips", "", settings="", keeps_folders=True
    ),
    "actionformer": FeatureLayout(
        "(T, F) arrays, as ActionFormer reads them",
        "C. Zhang, J. Wu, Y. Li, 'ActionFormer', ECCV 2022",
        "feat_stride: {stride}, num_frames: {length}, input_dim: {features}, "
        "file_prefix: ~, file_ext: .npy",
    ),
    "opentad": FeatureLayout(
        "(T, F) arrays, as OpenTAD reads them",
        "S. Liu et al., 'OpenTAD: A Unified Framework for Temporal Action Detection', 2025",
        "feature_stride={stride}, sample_stride=1, offset_frames={half}, "
        'LoadFeats with feat_format="npy"',
    ),
    "ms-tcn": FeatureLayout(
        "(F, frames) arrays, as MS-TCN reads them",
        "Y. Abu Farha and J. Gall, 'MS-TCN', CVPR 2019",
        "features_dim = {features}, sample_rate = 1",
        per_frame=True,
        features_first=True,
        dots=False,
    ),
    "video-features": FeatureLayout(
        "(T, F) arrays, times and frame rates, as video_features writes them",
        "V. Iashin, video_features, 2020",
        settings="",
        names_modality=True,
        has_times=True,
    ),
}
"""Layouts by the name that a user types; a new one is an entry here."""


@dataclass(frozen=True, slots=True)
class ClipFiles:
    """Files of a clip.

    Attributes
    ----------
    features, record
        The array, and the JSON beside it.
    fps, times
        Frame rate, and times of the features; None in layouts without them.
    """

    features: Path
    record: Path
    fps: Path | None = None
    times: Path | None = None

    @property
    def arrays(self) -> list[Path]:
        """All arrays."""
        return [path for path in (self.features, self.fps, self.times) if path is not None]

    @property
    def all(self) -> list[Path]:
        """All files, the record last."""
        return [*self.arrays, self.record]


def files_of(layout: str, out: Path, clip: str, modality: str) -> ClipFiles:
    """Return the files of a clip.

    Parameters
    ----------
    layout
        A name of :data:`LAYOUTS`.
    out
        The output folder.
    clip
        Name of the clip.
    modality
        What the features are made of: ``rgb``, ``flow``, ``trajectories``, ...
    """
    entry = LAYOUTS[layout]
    video = clip if entry.keeps_folders else clip.rpartition("/")[2]
    name = f"{video}_{modality}" if entry.names_modality else video
    timed = (out / f"{video}_fps.npy", out / f"{video}_timestamps_ms.npy")
    record = out / f"{name}{RECORD_SUFFIX}"
    return ClipFiles(out / f"{name}.npy", record, *(timed if entry.has_times else ()))


def check_names(layout: str, clips: Iterable[str]) -> None:
    """Check that each clip has a file of its own, which the other program finds.

    Raises
    ------
    ParameterError
        Two clips would have the same file, or a name has a dot where the program cuts it off.
    """
    entry = LAYOUTS[layout]
    known: dict[str, str] = {}
    for clip in clips:
        video = clip if entry.keeps_folders else clip.rpartition("/")[2]
        if not entry.dots and "." in video:
            raise ParameterError(
                f"layout is {layout!r}, which looks for {video.partition('.')[0]!r} in place of "
                f"{video!r}: rename the clip {clip!r}, or use another layout"
            )
        if known.setdefault(video, clip) != clip:
            raise ParameterError(
                f"layout is {layout!r}, which names files after videos without their folders: "
                f"{known[video]!r} and {clip!r} would have the same; use layout npy, or a folder "
                "of output for each"
            )


def write_features(
    files: ClipFiles, arrays: Mapping[Path, NDArray[Any]], about: Json, root: Path
) -> None:
    """Write the arrays of a clip, and then its record.

    Parameters
    ----------
    files
        Where.
    arrays
        By path, all of ``files.arrays``.
    about
        What the record says, besides the checksums.
    root
        The output folder.
    """
    files.record.unlink(missing_ok=True)
    for path in files.arrays:
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(arrays[path]), allow_pickle=False)
        atomic.write_atomic(path, buffer.getvalue(), root)
    write_record(files, about, root)


def write_record(files: ClipFiles, about: Json, root: Path) -> None:
    """Write the record of a clip, with the checksums of its arrays, which are in place."""
    written = {
        path.name: {"bytes": path.stat().st_size, "blake2b": checksum_of(path)}
        for path in files.arrays
    }
    record = {"format": FORMAT, **about, "files": written}
    atomic.write_atomic(files.record, json_files.to_json(record), root)


def is_current(files: ClipFiles, key: str) -> bool:
    """Return whether the features of a clip are there and carry a key."""
    record = read_record(files.record)
    there = record is not None and record.get("key") == key
    return there and all(path.is_file() for path in files.arrays)


def read_record(path: Path) -> Json | None:
    """Return the record of a clip, or None where there is none that can be read."""
    try:
        record = json_files.read_json(path)
    except (FormatError, OSError):
        return None
    return record if record.get("format") == FORMAT else None


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """Features of a clip in an output folder."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """The array."""
        return self.root / f"{self.name}.npy"

    @property
    def record(self) -> Path:
        """The JSON beside it."""
        return self.root / f"{self.name}{RECORD_SUFFIX}"


def stored_features(out: Path) -> Iterator[StoredFeatures]:
    """Yield the features of all complete clips in an output folder, sorted by name."""
    for path in sorted(out.rglob(f"*{RECORD_SUFFIX}")):
        name = path.relative_to(out).as_posix().removesuffix(RECORD_SUFFIX)
        if not name.startswith("."):
            yield StoredFeatures(out, name)


def verify(stored: StoredFeatures) -> str | None:
    """Compare the arrays of a clip with the checksums in its record.

    Returns
    -------
    str or None
        What is wrong, or None.
    """
    try:
        for path, expected in _listed(stored).items():
            if checksum_of(path) != expected:
                return f"{str(path)!r} is damaged: its checksum is not that of its record"
        if "maps" in (read_record(stored.record) or {}):
            load_maps(stored.path)
        else:
            load_features(stored.path)
    except FlowpipeError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error}"
    return None


def remove(stored: StoredFeatures) -> None:
    """Remove the record of a clip, and then its arrays."""
    try:
        arrays: Sequence[Path] = list(_listed(stored))
    except FormatError:
        arrays = [stored.path]
    for path in (stored.record, *arrays):
        if path.exists():
            atomic.remove_atomically(path, stored.root)


def load_features(path: Path) -> NDArray[np.float32]:
    """Read an array of features, as it is stored.

    Raises
    ------
    FormatError
        The file is no array (T, F) or (F, T) of finite float32.
    """
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        except NPY_FAULTS as error:
            raise FormatError(f"{str(path)!r} is no array: {error}") from None
        size = path.stat().st_size - file.tell()
        is_features = len(shape) == 2 and dtype == np.float32 and not is_fortran
        if version != (1, 0) or not is_features or math.prod(shape) * dtype.itemsize != size:
            raise FormatError(f"{str(path)!r} holds no features: (T, F) float32 is expected")
        array = np.fromfile(file, dtype).reshape(shape)
    if not np.isfinite(array).all():
        raise FormatError(f"{str(path)!r} has values that are not finite")
    return array


def _listed(stored: StoredFeatures) -> dict[Path, str]:
    """Return the arrays that a record lists, with their checksums.

    Raises
    ------
    FormatError
        It is no such record.
    """
    record = read_record(stored.record)
    files = record.get("files") if record else None
    if not isinstance(files, dict) or stored.path.name not in files:
        raise FormatError(f"{str(stored.record)!r} is no record of features")
    listed = {}
    for name, about in files.items():
        if Path(name).name != name or not isinstance(about, dict):
            raise FormatError(f"{str(stored.record)!r} lists {name!r}, which is no file beside it")
        listed[stored.record.parent / name] = str(about.get("blake2b"))
    return listed
