"""Stored maps of labelled clips as a torch data set, read from their files frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowpipe.datasets.base import Clip
from flowpipe.datasets.match import match_clips
from flowpipe.errors import FormatError, ParameterError
from flowpipe.models.probes import StoredShape
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.data.sampling import centre_starts, random_starts
from flowpipe.training.features.layouts import StoredFeatures, read_record, stored_features
from flowpipe.training.features.map_files import load_maps
from flowpipe.training.features.maps import NETWORK


@dataclass(frozen=True, slots=True)
class ClipMaps:
    """Stored maps of a clip, of one network or several.

    Attributes
    ----------
    paths
        The array in each folder.
    count
        Number of maps that all of them have.
    keys
        Digests of what they were made of.
    """

    paths: tuple[Path, ...]
    count: int
    keys: tuple[str, ...]

    def read(self, numbers: Sequence[int]) -> NDArray[np.float16]:
        """Return what is stored of some frames, (T, numbers) float16.

        Raises
        ------
        FormatError
            A file is not what it was when it was checked.
        """
        arrays = [load_maps(path) for path in self.paths]
        if min(map(len, arrays)) < self.count:
            raise FormatError(f"{str(self.paths[0])!r} has fewer maps than before")
        rows = [array[list(numbers)].reshape(len(numbers), -1) for array in arrays]
        return np.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]


def map_records(folders: Sequence[Path]) -> list[Json]:
    """Return the records of folders of maps.

    Raises
    ------
    ParameterError
        A folder holds no maps, or lacks their network, or they were made of different flow.
    """
    if not folders:
        raise ParameterError("there are no folders of maps; make them with features --maps")
    records: list[Json] = []
    for folder in folders:
        record = provenance.read_stage(folder) if folder.is_dir() else None
        is_maps = record is not None and record.get("stage") == "features"
        if record is None or not is_maps or not ("maps" in record or "tokens" in record):
            raise ParameterError(
                f"{str(folder)!r} holds no maps; make them with features --maps or --tokens"
            )
        if not (folder / NETWORK).is_file():
            raise ParameterError(
                f"{str(folder)!r} has maps without their network, by an older version; the same "
                "features command adds it"
            )
        records.append(record)
        if differ := provenance.differences(records[0].get("source"), record.get("source")):
            raise ParameterError(
                f"{str(folders[0])!r} and {str(folder)!r} have maps of different flow or frames: "
                f"{differ[0]}"
            )
    return records


def map_names(folder: Path) -> list[str]:
    """Return the names of the clips that have maps in a folder."""
    return sorted(_by_clip(folder))


def find_maps(
    clips: Sequence[Clip | str], folders: Sequence[Path]
) -> tuple[dict[str, ClipMaps], list[StoredShape], dict[str, str]]:
    """Find the maps of clips.

    Parameters
    ----------
    clips
        Clips of a set, or their names.
    folders
        Folders of maps.

    Returns
    -------
    found, shapes, missing
        By clip name, the maps; what is stored of a frame in each folder; and why clips have none.

    Raises
    ------
    ParameterError
        The maps of clips differ in size.
    """
    parts: list[dict[str, StoredFeatures]] = []
    missing: dict[str, str] = {}
    for folder in folders:
        stored = _by_clip(folder)
        names, reasons = match_clips(clips, stored, folder)
        parts.append({clip: stored[name] for clip, name in names.items()})
        missing.update(reasons)
    found: dict[str, ClipMaps] = {}
    shapes: list[StoredShape] = []
    first = ""
    for name in parts[0]:
        if name in missing:
            continue
        own = [part[name] for part in parts]
        try:
            maps, of_frame = _opened(own)
        except (FormatError, OSError) as error:
            missing[name] = str(error)
            continue
        if shapes and of_frame != shapes:
            raise ParameterError(
                f"maps of {name!r} are {_sizes(of_frame)}, and those of {first!r} "
                f"{_sizes(shapes)}; a head needs one size: extract frames of one (--frame-size)"
            )
        found[name], shapes, first = maps, of_frame, first or name
    return found, shapes, missing


class MapClips(Dataset[tuple[Tensor, int]]):
    """Maps of labelled clips, drawn from equal parts of each.

    Parameters
    ----------
    clips
        Maps of each clip, and its class.
    frames
        Number of parts.
    is_random
        Draw a map from each part; otherwise the one in its middle is taken.
    test_clips
        Number of times that all parts are sampled, at equal steps within each; if nothing is drawn.
    seed
        What is drawn follows from seed, epoch and index alone.

    Attributes
    ----------
    labels
        Class of each clip.
    """

    def __init__(
        self,
        clips: Sequence[tuple[ClipMaps, int]],
        frames: int,
        *,
        is_random: bool,
        test_clips: int = 1,
        seed: int = 0,
    ) -> None:
        self._clips = [maps for maps, _ in clips]
        self.labels = [label for _, label in clips]
        self._frames, self._random = frames, is_random
        self._test_clips, self._seed, self._epoch = test_clips, seed, 0

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return what is stored of the frames of a clip, (T, numbers) float16, and its class."""
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} clips; asked for {index}")
        clip = self._clips[index]
        if self._random:
            rng = np.random.default_rng([self._seed, self._epoch, index])
            numbers = random_starts(clip.count, self._frames, 1, rng)
        else:
            numbers = centre_starts(clip.count, self._frames, 1, self._test_clips)
        return torch.from_numpy(clip.read(numbers.tolist())), self.labels[index]

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, from 0: maps are drawn again."""
        self._epoch = epoch


def _by_clip(folder: Path) -> dict[str, StoredFeatures]:
    found = {}
    for each in stored_features(folder):
        name = (read_record(each.record) or {}).get("clip")
        if isinstance(name, str):
            found[name] = each
    return found


def _opened(stored: Sequence[StoredFeatures]) -> tuple[ClipMaps, list[StoredShape]]:
    """Return the maps of a clip, and what is stored of a frame in each folder."""
    shapes, counts, keys = [], [], []
    for each in stored:
        maps, record = load_maps(each.path), read_record(each.record)
        if record is None:
            raise FormatError(f"{str(each.record)!r} is no record of maps")
        shapes.append(_shape(maps.shape[1:], record, each.record))
        counts.append(len(maps))
        keys.append(str(record.get("key")))
    if max(counts) - min(counts) > 1:  # a clip has one frame more than fields of flow
        raise FormatError(
            f"there are {' and '.join(map(str, counts))} maps of the clip; they need the same "
            "number of frames between them"
        )
    return ClipMaps(tuple(each.path for each in stored), min(counts), tuple(keys)), shapes


def _shape(shape: tuple[int, ...], record: Mapping[str, Any], where: Path) -> StoredShape:
    if "tokens" not in record:
        return StoredShape((shape[0], shape[1], shape[2]), (shape[0], shape[1]))
    grid = record.get("grid")
    numbers = [record["tokens"], record.get("heads"), *(grid if isinstance(grid, list) else [])]
    if len(numbers) != 4 or not all(type(each) is int and each > 0 for each in numbers):
        raise FormatError(f"{str(where)!r} does not say what its tokens are")
    blocks, heads, height, width = numbers
    if shape[:2] != (3 * blocks, 1 + height * width) or shape[2] % heads:
        raise FormatError(
            f"{str(where)!r} says {blocks} blocks of {height} x {width} tokens and {heads} heads, "
            f"and its array is {shape}"
        )
    return StoredShape((shape[0], shape[1], shape[2]), (height, width), blocks, heads)


def _sizes(shapes: Sequence[StoredShape]) -> str:
    return ", ".join(" x ".join(map(str, each.shape)) for each in shapes)
