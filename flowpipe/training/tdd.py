"""Pool stored maps along stored trajectories: the work of ``tdd-baseline`` on one clip.

Descriptors are those of the layers, in both normalisations. A layer whose maps were made of frames
of several sizes gives a row per trajectory and size. Only trajectories of the original scale are
used, and their last L points, in the frames of which the maps are; the first point, where a
trajectory was sampled, is left out. Trajectories that end behind the last map, of flow, are
dropped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.match import match_clips
from flowpipe.encoding.parameters import POOLED
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.hdf5 import DeferredErrorFile
from flowpipe.runner import atomic, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.features.layouts import read_record, stored_features
from flowpipe.training.features.map_files import load_maps
from flowpipe.trajectories.clip_tables import ClipTable, track_points
from flowpipe.trajectories.pooled_table import PooledWriter, blocks_of, is_pooled_with
from flowpipe.trajectories.table import Table
from flowpipe.trajectories.tdd import NORMALISATIONS, channel_maxima, pool_maps
from flowpipe.trajectories.work import TABLE_SUFFIX

FoundMaps = dict[Path, dict[str, Path | str]]
"""By folder, by clip: the file of its maps, or why there is none."""

MAPS_SUFFIX = ".npy"
_END, _SCALE = 0, 6
"""Columns of ``info``."""


@dataclass(frozen=True, slots=True)
class MapLayer:
    """A layer of a network, and the folders of its maps, one for each size of the frames."""

    name: str
    folders: tuple[Path, ...]

    @property
    def descriptors(self) -> tuple[str, ...]:
        """Names of the descriptors, one for each normalisation."""
        return tuple(f"{POOLED}{self.name}-{each}" for each in NORMALISATIONS)


def map_layers(folders: Sequence[Path]) -> tuple[MapLayer, ...]:
    """Return the layers that folders of ``features --maps`` hold.

    Raises
    ------
    ParameterError
        A folder holds no maps of every frame, two networks have layers of the same name, or layers
        have different numbers of sizes.
    """
    networks: dict[str, Any] = {}
    found: dict[str, list[Path]] = {}
    for folder in folders:
        record = provenance.read_stage(folder) if folder.is_dir() else None
        if record is None or record.get("stage") != "features" or "maps" not in record:
            raise ParameterError(f"{str(folder)!r} holds no maps; make them with features --maps")
        if "length" in record or record.get("cropped"):
            raise ParameterError(
                f"{str(folder)!r} has maps of {record['network']['model']}, of several frames each "
                "or of their centre; pooling needs those of a 2-D network that sees whole frames"
            )
        if record["stride"] != 1:
            raise ParameterError(
                f"{str(folder)!r} has a map every {record['stride']} frames; pooling needs every "
                "one (--stride 1)"
            )
        network = record["network"]
        name = f"{network['clip']['modality']}-{record['maps']}"
        if networks.setdefault(name, network) != network:
            raise ParameterError(
                f"{str(folder)!r} and {str(found[name][0])!r} hold maps of the layer {name} of "
                "different networks"
            )
        found.setdefault(name, []).append(folder)
    if not found:
        raise ParameterError("there are no folders of maps; make them with features --maps")
    counts = {name: len(each) for name, each in found.items()}
    if len(set(counts.values())) > 1:
        raise ParameterError(
            f"layers have different numbers of sizes: {counts}; give each the same sizes"
        )
    return tuple(MapLayer(name, tuple(each)) for name, each in found.items())


def find_maps(layers: Sequence[MapLayer], clips: Iterable[str]) -> FoundMaps:
    """Find the maps of clips in the folders of layers, however the folders name them.

    Parameters
    ----------
    layers
        Layers with their folders.
    clips
        Names of the clips.

    Returns
    -------
    dict
        By folder, by clip: the file; or why there is none, as text.
    """
    clips = list(clips)
    found: FoundMaps = {}
    for folder in (folder for layer in layers for folder in layer.folders):
        stored = {
            each.path.relative_to(folder).as_posix().removesuffix(MAPS_SUFFIX): each.path
            for each in stored_features(folder)
        }
        names, missing = match_clips(clips, stored, folder)
        found[folder] = {clip: stored[name] for clip, name in names.items()} | missing
    return found


@dataclass(frozen=True, slots=True)
class PoolClip:
    """Pool the maps of a clip along its trajectories, and write the table.

    Attributes
    ----------
    layers
        Layers with their folders of maps.
    found
        The maps of each clip: see :func:`find_maps`.
    tracks, out
        Folders of the trajectories and of the tables.
    """

    layers: tuple[MapLayer, ...]
    found: FoundMaps
    tracks: Path
    out: Path

    def path(self, clip: ClipTable) -> Path:
        """Return the table of a clip."""
        return self.out / f"{clip.name}{TABLE_SUFFIX}"

    def __call__(self, clip: ClipTable, advance: Advance) -> Done:
        """Write the table, unless it is up to date.

        Raises
        ------
        FormatError
            There are no maps of the clip, they are damaged, or of other frames.
        """
        stored = {
            layer.name: [
                _StoredMaps.open(self.found[folder][clip.name], clip) for folder in layer.folders
            ]
            for layer in self.layers
        }
        keys = [each.key for layer in stored.values() for each in layer]
        key = provenance.digest([clip.source, provenance.fingerprint(clip.path), keys])
        if is_pooled_with(self.path(clip), key):
            return Done(skipped=True)
        temporary = atomic.temporary_folder(self.out)
        try:
            with DeferredErrorFile(temporary / "table") as file:
                self._write(file, clip, stored, key, advance)
                file.check()
            atomic.place(temporary / "table", self.path(clip))
        finally:
            atomic.discard(temporary)
        return Done()

    def _write(
        self,
        file: DeferredErrorFile,
        clip: ClipTable,
        stored: Mapping[str, Sequence[_StoredMaps]],
        key: str,
        advance: Advance,
    ) -> None:
        with Table(clip.path) as table:
            info, attributes = table.read(fields=("info",))["info"], dict(table.attributes)
        n_maps = min(len(each.maps) for layer in stored.values() for each in layer)
        rows = np.flatnonzero((info[:, _SCALE] == 1) & (info[:, _END] < n_maps))
        rows = rows[np.argsort(info[rows, _END], kind="stable")]
        widths = {
            name: stored[layer.name][0].maps.shape[3]
            for layer in self.layers
            for name in layer.descriptors
        }
        source = json.loads(attributes["source"])
        source["path"] = os.path.relpath(self.tracks / source["path"], self.out)
        attributes |= {"source": json.dumps(source), "key": key}
        with PooledWriter(file, clip.parameters, widths, attributes) as writer:
            for block in blocks_of(info[rows, _END].astype(np.int64)):
                points, ends = track_points(clip.path, rows[block])
                sizes = len(next(iter(stored.values())))
                for size in range(sizes):
                    pooled: dict[str, NDArray[np.floating]] = {"info": info[rows[block]]}
                    for layer in self.layers:
                        found = stored[layer.name][size].pooled(points[:, 1:], ends)
                        pooled |= {
                            name: found[each]
                            for name, each in zip(layer.descriptors, NORMALISATIONS, strict=True)
                        }
                    writer.append(pooled)
                advance(len(points))


@dataclass(frozen=True, slots=True)
class _StoredMaps:
    """Maps of a clip on disk."""

    maps: NDArray[np.float16]
    highest: NDArray[np.float32]
    pixels_per_cell: tuple[float, float]
    key: str

    @classmethod
    def open(cls, path: Path | str, clip: ClipTable) -> _StoredMaps:
        if isinstance(path, str):
            raise FormatError(f"no maps of {clip.name!r}: {path}")
        record: Json | None = read_record(path.with_name(path.name + ".json"))
        if record is None or "maps" not in record:
            raise FormatError(f"{str(path)!r} has no record of maps")
        if record["frames"] != clip.length:
            raise FormatError(
                f"{str(path)!r} is of {record['frames']} frames, and the trajectories are of "
                f"{clip.length}: they are of different videos"
            )
        maps = load_maps(path)
        size = np.array(clip.size) / (record["width"], record["height"])
        x, y = np.asarray(record["pixels_per_cell"]) * size
        try:
            highest = channel_maxima(maps)
        except ParameterError as error:
            raise FormatError(f"{str(path)!r}: {error}") from None
        return cls(maps, highest, (float(x), float(y)), str(record["key"]))

    def pooled(
        self, points: NDArray[np.floating], ends: NDArray[np.integer]
    ) -> dict[str, NDArray[np.float32]]:
        first = int(ends.min()) - points.shape[1] + 1
        used = self.maps[first : int(ends.max()) + 1]
        return pool_maps(used, points, ends - first, self.pixels_per_cell, self.highest)
