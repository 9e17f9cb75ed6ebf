"""Detect intervals in new videos, frame by frame."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flowpipe._options import with_options
from flowpipe.classify.detection import Detection
from flowpipe.classify.finding import Finding, IntervalFinder
from flowpipe.datasets import discover
from flowpipe.datasets.base import Clip, counted
from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.io.source import VideoSource
from flowpipe.prediction.detection.load import Detector, load_detector
from flowpipe.report.detection import DetectionPage, VideoLine, write_detection_page
from flowpipe.report.thumbnails import thumbnail_strip
from flowpipe.runner import atomic, json_files

logger = logging.getLogger(__name__)

Format = Literal["csv", "jsonl"]
HEADER = "path,start,end,label,score"
_STRIP, _SHOWN = 8, 40


@dataclass(frozen=True, eq=False)
class DetectedVideo:
    """What was found in a video.

    Attributes
    ----------
    name, path
        Of the video.
    intervals
        In the order in which they were over.
    times
        (T,) seconds of the steps.
    scores
        (T, classes + 1) probabilities of the present, the background last.
    end
        Its end in seconds.
    """

    name: str
    path: Path
    intervals: tuple[Detection, ...]
    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    end: float


@dataclass(frozen=True)
class Detections:
    """What :func:`detect` found.

    Attributes
    ----------
    classes
        Class names, without the background.
    videos
        In their order.
    failed
        Why each of the others could not be used, by name.
    """

    classes: tuple[str, ...]
    videos: tuple[DetectedVideo, ...]
    failed: dict[str, str] = field(default_factory=dict)


def detect(
    detector: Detector | str | PathLike[str],
    videos: str | PathLike[str] | Sequence[str | PathLike[str]],
    out: str | PathLike[str] | None = None,
    finding: Finding | None = None,
    *,
    device: str = "auto",
    found: Callable[[Clip, Detection], None] = lambda clip, interval: None,
    **options: Any,
) -> Detections:
    """Detect intervals in videos, each in one pass over its frames.

    Flow and features are computed as those of the training. Nothing after a frame has a part in its
    scores, and an interval is given out as soon as it is over.

    Parameters
    ----------
    detector
        The detector, or the output folder of :func:`flowpipe.train_detector` or that of one of its
        splits.
    videos
        Folders (searched recursively), video files, globs, or list files.
    out
        Folder for ``intervals.csv``, ``intervals.json`` and ``report.html``; nothing is written
        without it.
    finding
        Threshold and suppression.
    device
        Where a detector that is given by its folder computes.
    found
        Called with each interval as soon as it is over.
    **options
        Fields of :class:`~flowpipe.classify.finding.Finding`, in place of their values.

    Returns
    -------
    Detections
        Intervals and scores of every video that could be used, and why the others could not.

    Raises
    ------
    FlowpipeError
        There is no detector, its networks are not with it, or there are no videos.

    Examples
    --------
    >>> import flowpipe  # after the example of train_detector
    >>> found = flowpipe.detect("detector", "clip.avi", threshold=(0.2,))
    >>> video = found.videos[0]
    >>> video.name, video.scores.shape[1], found.failed  # six classes, and the background
    ('clip', 7, {})
    """
    finding = with_options(options, finding or Finding())[0]
    if not isinstance(detector, Detector):
        detector = load_detector(detector, device)
    given = [videos] if isinstance(videos, str | PathLike) else videos
    clips = discover.discover([fspath(each) for each in given])
    done, failed = [], {}
    for clip in clips:
        try:
            done.append(detect_video(detector, clip, finding, found))
        except (FlowpipeError, OSError) as error:
            failed[clip.name] = str(error)
            logger.warning(f"failed: {clip.name}: {error}")
    result = Detections(detector.detector.classes, tuple(done), failed)
    if out is not None:
        write_detections(result, finding, Path(out))
    return result


def detect_video(
    detector: Detector,
    clip: Clip,
    finding: Finding,
    found: Callable[[Clip, Detection], None] = lambda clip, interval: None,
) -> DetectedVideo:
    """Detect intervals in a video; see :func:`detect`.

    Raises
    ------
    FlowpipeError
        The video cannot be used.
    """
    stage = detector.networks[0].flow.stage()
    source = VideoSource(
        clip.path, None, keep_truncated=stage.keep_truncated, keep_damaged=stage.keep_damaged
    )
    finder = IntervalFinder(detector.detector.classes, finding)
    times: list[float] = []
    scores: list[NDArray[np.float32]] = []
    intervals: list[Detection] = []

    def give(over: list[Detection]) -> None:
        for each in over:
            intervals.append(each)
            found(clip, each)

    for row in _scored(detector, source):
        now = _time(source, clip)
        times.append(now)
        scores.append(row)
        give(finder.add(now, row[:-1]))
    if not scores:
        raise FormatError(
            f"{str(clip.path)!r} has {counted(len(source.times), 'frame')}, too few for a feature"
        )
    rate = source.fps()
    end = _time(source, clip) + (1 / rate if rate else 0.0)
    give(finder.finish(end))
    return DetectedVideo(
        clip.name, clip.path, tuple(intervals), np.array(times), np.stack(scores), end
    )


def _scored(detector: Detector, source: VideoSource) -> Iterator[NDArray[np.float32]]:
    """Yield the probabilities of each step, when its frame is the newest of the source."""
    features, scorer = detector.features(), detector.scorer()
    for image in source:
        if (feature := features.add(image)) is not None:
            yield scorer.next(feature)
    if (feature := features.finish()) is not None:
        yield scorer.next(feature)


def _time(source: VideoSource, clip: Clip) -> float:
    """Return the time of the newest frame, in seconds from the first."""
    first, now = source.times[0], source.times[-1]
    if first is None or now is None:
        raise FormatError(
            f"the frames of {str(clip.path)!r} have no times, which intervals in seconds need"
        )
    return now - first


def line(clip: Clip | DetectedVideo, interval: Detection, form: Format) -> str:
    """Return an interval as a line of CSV or of JSON."""
    values = {
        "path": str(clip.path),
        "start": round(interval.start, 3),
        "end": round(interval.end, 3),
        "label": interval.label,
        "score": round(interval.score, 4),
    }
    if form == "jsonl":
        return json.dumps(values, ensure_ascii=False) + "\n"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values.values())
    return text.getvalue()


def write_detections(found: Detections, finding: Finding, out: Path) -> None:
    """Write ``intervals.csv``, ``intervals.json`` and ``report.html`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    rows = [line(video, each, "csv") for video in found.videos for each in video.intervals]
    atomic.write_atomic(out / "intervals.csv", "".join([HEADER + "\n", *rows]).encode(), out)
    content = {
        "classes": list(found.classes),
        "finding": asdict(finding),
        "videos": [
            {
                "name": video.name,
                "path": str(video.path),
                "seconds": round(video.end, 3),
                "intervals": [asdict(each) for each in video.intervals],
            }
            for video in found.videos
        ],
        "failed": found.failed,
    }
    atomic.write_atomic(out / "intervals.json", json_files.to_json(content), out)
    count = sum(len(video.intervals) for video in found.videos)
    page = DetectionPage(
        title="Detected intervals",
        about=f"{len(found.videos)} videos, {count} intervals of {len(found.classes)} classes",
        classes=found.classes,
        videos=[
            VideoLine(
                video.name,
                video.times,
                video.end,
                video.scores[:, :-1],
                video.intervals,
                strip=thumbnail_strip(video.path, _STRIP),
            )
            for video in found.videos[:_SHOWN]
        ],
        left_out=len(found.videos[_SHOWN:]),
        notes=[f"{name}: {reason}" for name, reason in found.failed.items()],
        parameters={"intervals": asdict(finding)},
    )
    write_detection_page(out / "report.html", page, out)
    atomic.remove_stale(out)
