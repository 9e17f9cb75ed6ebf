"""Draw the labels of a video over its frames, and the trajectories that speak for the label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from flowpipe.datasets.base import Clip
from flowpipe.io import video
from flowpipe.io.source import Size, VideoSource
from flowpipe.io.video_writer import VideoWriter
from flowpipe.prediction.base import Classifier, Prediction
from flowpipe.prediction.captions import captions
from flowpipe.prediction.fusion import FusionClassifier
from flowpipe.prediction.trajectories import TrajectoryClassifier
from flowpipe.report.labels import draw_labels, enlarged, magnification
from flowpipe.runner import atomic
from flowpipe.trajectories.clip_tables import track_points
from flowpipe.trajectories.work import TABLE_SUFFIX

_MOST = 2000
"""Trajectories of a clip that are drawn."""
_MOST_AT_ONCE = 80
"""Trajectories in a frame; more of them hide who moves."""
_SUBPIXEL = 4


@dataclass(frozen=True, eq=False)
class Evidence:
    """Trajectories that speak for a label.

    Attributes
    ----------
    size
        The size of the frames, as of :class:`~flowpipe.io.source.VideoSource`.
    points
        (n, L + 1, 2) x and y in pixels of those frames.
    last
        (n,) the frame in which each ends.
    strength
        (n,) how much each says, 0 to 1.
    """

    size: Size
    points: NDArray[np.float32]
    last: NDArray[np.int64]
    strength: NDArray[np.float64]


def evidence(
    classifier: Classifier, clip: Clip, extracted: Path, label: str, most: int = _MOST
) -> Evidence | None:
    """Return the trajectories that speak the most for a label.

    Parameters
    ----------
    classifier
        A classifier on trajectories, or a fusion that has one.
    clip, extracted
        A clip that has been extracted for it into a folder.
    label
        The class.
    most
        Largest number of trajectories.

    Returns
    -------
    Evidence or None
        None if the classifier is not on trajectories.
    """
    if isinstance(classifier, FusionClassifier):
        for member in classifier.members:
            folder = classifier.folder(member, extracted)
            if (found := evidence(member, clip, folder, label, most)) is not None:
                return found
    if not isinstance(classifier, TrajectoryClassifier):
        return None
    shares = classifier.shares(clip, extracted, label)
    chosen = np.sort(np.argsort(-shares, kind="stable")[:most])
    chosen = chosen[shares[chosen] > 0]
    points, last = track_points(extracted / f"{clip.name}{TABLE_SUFFIX}", chosen)
    # The few strongest would leave all others dark.
    top = np.quantile(shares[chosen], 0.9) if len(chosen) else 1.0
    strength = np.minimum(shares[chosen] / top, 1.0)
    return Evidence(classifier.size, points, last, strength)


def draw_prediction(
    classifier: Classifier, clip: Clip, extracted: Path, prediction: Prediction, path: Path
) -> None:
    """Write an mp4 of a clip with its labels, and with the trajectories that speak for the first.

    Parameters
    ----------
    classifier, prediction
        The classifier, and what it found.
    clip, extracted
        The clip, which has been extracted into a folder.
    path
        The mp4; it is written atomically.

    Raises
    ------
    FlowpipeError, OSError
        The video cannot be read, or the file cannot be written.
    """
    tracks = evidence(classifier, clip, extracted, prediction.label)
    size = tracks.size if tracks else None
    source = VideoSource(clip.path, size, keep_truncated=True, keep_damaged=True)
    labels = captions(prediction)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = atomic.temporary_file(path.parent)
    try:
        with VideoWriter(temporary, _fps(clip.path)) as writer:
            for number, frame in enumerate(source):
                picture = enlarged(frame)
                if tracks is not None:
                    _draw_tracks(picture, tracks, number, magnification(frame.shape[0]))
                writer.add(draw_labels(picture, labels), source.times[number])
        atomic.place(temporary, path)
    finally:
        atomic.discard(temporary)
        atomic.remove_stale(path.parent)


def _fps(path: Path) -> float:
    return 0.0 if path.is_dir() else video.probe(path).fps


def _draw_tracks(
    picture: NDArray[np.uint8], tracks: Evidence, number: int, magnification: int
) -> None:
    """Draw the tracks of a frame into it, the strongest last."""
    length = tracks.points.shape[1] - 1
    age = number - (tracks.last - length)
    alive = np.flatnonzero((age >= 1) & (age <= length))
    alive = alive[np.argsort(tracks.strength[alive], kind="stable")[-_MOST_AT_ONCE:]]
    colors = cv2.applyColorMap(
        (255 * tracks.strength[alive]).astype(np.uint8)[:, None], cv2.COLORMAP_INFERNO
    )
    for place, track in enumerate(alive):
        points = (tracks.points[track, : age[track] + 1] + 0.5) * magnification - 0.5
        course = np.rint(points * 2**_SUBPIXEL).astype(np.int32)
        color = [int(each) for each in colors[place, 0]]
        cv2.polylines(picture, [course], False, color, 1, cv2.LINE_AA, _SUBPIXEL)
