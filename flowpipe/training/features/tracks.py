"""Fisher vectors or bags of words of windows of a clip, from its trajectories.

A trajectory belongs to the windows that contain its last frame, as in the order of the released
programs' rows. Each window is encoded like a clip: the vectors of the descriptors one after the
other, zeros where no trajectory ends. The cells of a pyramid are those of the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowpipe.encoding.files import Encoders
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors
from flowpipe.errors import FormatError
from flowpipe.runner import provenance
from flowpipe.runner.pool import Advance, Done
from flowpipe.training.features.layouts import ClipFiles, files_of, is_current, write_features
from flowpipe.training.features.stage import FeatureStage, Windows
from flowpipe.trajectories.table import Table
from flowpipe.trajectories.verify import StoredTable

MODALITY = "trajectories"

_BLOCK = 16384
"""Rows that are read at a time."""
_END, _PLACE = 0, slice(7, 9)
"""Columns of ``info``: the last frame; mean x and y as fractions of width and height."""


@dataclass(frozen=True)
class TrackFeatures:
    """The work of ``features`` on the trajectories of one clip.

    Attributes
    ----------
    encoders, encoding
        Fitted encoders by descriptor, and their parameters.
    stage
        Windows, with their length, and layout.
    out
        The output folder.
    weights, key
        Digests of the classifier's file, and of the encoders and the windows.
    overwrite
        Compute features again that are up to date.
    """

    encoders: Encoders
    encoding: Encoding
    stage: FeatureStage
    out: Path
    weights: str
    key: str
    overwrite: bool = False

    def files(self, table: StoredTable) -> ClipFiles:
        """Return the files of a clip."""
        return files_of(self.stage.layout, self.out, table.name, MODALITY)

    def __call__(self, clip: StoredTable, advance: Advance) -> Done:
        """Write the features of a clip, unless they are up to date.

        Raises
        ------
        FormatError, OSError
            The table is damaged, or lacks a descriptor.
        """
        files, windows = self.files(clip), self.stage.windows
        identity = provenance.fingerprint(clip.path)["fingerprint"]
        key = provenance.digest([self.key, identity])
        with Table(clip.path) as table:
            n_frames = int(table.attributes["length"])
            short = n_frames < windows.length and not windows.per_frame
            warning = (
                f"shorter than a window ({n_frames} of {windows.length} frames)" if short else None
            )
            if not self.overwrite and is_current(files, key):
                return Done(skipped=True, warning=warning)
            with threadpool_limits(1):
                features = self._features(table, windows, n_frames, advance)
            size = {name: int(table.attributes[name]) for name in ("width", "height")}
        about = {
            "clip": clip.name,
            "modality": MODALITY,
            "length": windows.length,
            "stride": windows.stride,
            "per_frame": windows.per_frame,
            "windows": len(features),
            "features": features.shape[1],
            "frames": n_frames,
            **size,
            "weights": self.weights,
            "key": key,
        }
        stored = features.T if self.stage.entry.features_first else features
        write_features(files, {files.features: stored}, about, self.out)
        return Done(warning=warning)

    def _features(
        self, table: Table, windows: Windows, n_frames: int, advance: Advance
    ) -> NDArray[np.float32]:
        if n_frames < 1:
            raise FormatError("the table is of a clip without frames")
        info = table.read(fields=("info",))["info"]
        ends = info[:, _END]
        # The rows are in the order of their last frames.
        if not (np.diff(ends) >= 0).all():
            raise FormatError("the rows of the table are not in the order of their last frames")
        vectors = []
        for start in windows.starts(n_frames, n_frames):
            first, behind = np.searchsorted(ends, (start, start + windows.length))
            encoded = ClipVectors(self.encoders, self.encoding.pyramid)
            for rows in _blocks(int(first), int(behind)):
                middle = ends[rows] - np.float32(table.parameters.track_length / 2)
                time = np.clip((middle - np.float32(start)) / np.float32(windows.length), 0, 0.999)
                positions = np.column_stack([info[rows, _PLACE], time])
                encoded.add(table.read(rows, self.encoding.descriptors), positions)
            found = encoded.vectors()
            vectors.append(np.concatenate([found[name] for name in self.encoding.descriptors]))
            advance(1)
        return np.stack(vectors).astype(np.float32, copy=False)


def _blocks(first: int, behind: int) -> Iterator[slice]:
    for start in range(first, behind, _BLOCK):
        yield slice(start, min(start + _BLOCK, behind))
