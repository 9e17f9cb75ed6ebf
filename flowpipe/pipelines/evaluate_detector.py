"""Score the test videos of a set with trained detectors, and measure them by frames and intervals.

Each video is scored in one pass, step by step: every score is of the window that ends at its step.
The frames that count are those that are the present of a step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe._options import with_options
from flowpipe.classify.detection import Detection, IntervalMetrics, interval_metrics
from flowpipe.classify.finding import Finding, find_intervals, sliding
from flowpipe.classify.per_frame import FrameMetrics, frame_metrics
from flowpipe.datasets.base import Clip, Split
from flowpipe.datasets.intervals import IntervalSet
from flowpipe.datasets.load import AUTO
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import save_arrays
from flowpipe.models.detectors import DETECTOR_NAME
from flowpipe.pipelines.detection_data import LabelledSteps, labelled_steps
from flowpipe.pipelines.evaluate import check_same_flow
from flowpipe.report.detection import DetectionPage, Table, VideoLine, write_detection_page
from flowpipe.report.html import percent
from flowpipe.report.thumbnails import thumbnail_strip
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.detection.files import TrainedDetector, load_detector_file
from flowpipe.training.detection.scores import step_scores
from flowpipe.training.detection.windows import StepLabels
from flowpipe.training.distributed import alone, pick_device

logger = logging.getLogger(__name__)

SCORES = "flowpipe detector scores 1"
_STRIP, _SHOWN = 8, 12


@dataclass(frozen=True, eq=False)
class DetectorMetrics:
    """The metrics of detectors.

    Attributes
    ----------
    frames
        Average precision of the scores of frames, plain and calibrated.
    intervals
        Average precision of the intervals that were found in them.
    chance
        Mean average precision of scores that know nothing: the mean share of the classes.
    """

    frames: FrameMetrics
    intervals: IntervalMetrics
    chance: float

    def to_json(self) -> Json:
        """Return the metrics as JSON; NaN becomes null."""
        return {
            "frames": self.frames.to_json(),
            "intervals": self.intervals.to_json(),
            "chance": None if math.isnan(self.chance) else self.chance,
        }


@dataclass(frozen=True, eq=False)
class _Scored:
    """A test video."""

    name: str
    split: str
    scores: NDArray[np.float32]
    labels: StepLabels
    found: list[Detection]


def evaluate_detector(
    detector: str | PathLike[str],
    dataset: IntervalSet | str | PathLike[str],
    features: Sequence[str | PathLike[str]] | str | PathLike[str],
    out: str | PathLike[str] = "detector-scores",
    finding: Finding | None = None,
    *,
    protocol: str | None = None,
    splits: Sequence[str] = (),
    videos: str | PathLike[str] | None = None,
    kind: str = AUTO,
    leave_out_unusable: bool = False,
    device: str = "auto",
    **options: Any,
) -> DetectorMetrics:
    """Score the test videos of every split with its detector, and find intervals in the scores.

    Parameters
    ----------
    detector
        Output folder of :func:`flowpipe.train_detector`.
    dataset, features, protocol, videos, kind, leave_out_unusable
        As for :func:`flowpipe.train_detector`, features in the same order.
    out
        The output folder, for ``scores.npz``, ``metrics.json`` and ``report.html``.
    finding
        Thresholds and suppression of the intervals; by default thresholds of 0.1, 0.2, ..., 0.9.
    splits
        Names of the splits to test; by default all.
    device
        Where the detectors compute: ``cpu``, a torch device, or a GPU if there is one.
    **options
        Fields of :class:`~flowpipe.classify.finding.Finding`, in place of their values.

    Returns
    -------
    DetectorMetrics
        Over the test videos of all splits.

    Raises
    ------
    FormatError
        A detector is missing or damaged, or was trained on other classes or features.
    UnusableClipsError
        Videos have no features, or damaged ones; all are listed.
    StageMismatchError
        The folder holds scores of other detectors or videos.

    Examples
    --------
    >>> import flowpipe  # after the example of train_detector
    >>> metrics = flowpipe.evaluate_detector("detector", "untrimmed", "untrimmed-features")
    >>> metrics.frames.classes[:2], 0 <= metrics.frames.mean_average_precision <= 1
    (('horizontal', 'orbit'), True)
    """
    alone("evaluate-detector")
    rules: Finding = with_options(options, finding or sliding())[0]
    labelled = labelled_steps(
        dataset,
        features,
        protocol,
        videos=videos,
        kind=kind,
        leave_out_unusable=leave_out_unusable,
    )
    root, out = Path(detector), Path(out)
    chosen = labelled.chosen(splits)
    loaded = [_detector(labelled, split, root) for split in chosen]
    description = {
        "stage": "evaluate-detector",
        **asdict(rules),
        "tested": labelled.description(),
        "detectors": provenance.read_stage(root),
    }
    provenance.open_stage(out, description)
    scored = [
        each
        for split, found in zip(chosen, loaded, strict=True)
        for each in _scores(labelled, split, found, rules, device)
    ]
    _save(labelled, scored, out)
    metrics = _metrics(labelled, scored)
    content = {**metrics.to_json(), "splits": [split.name for split in chosen]}
    atomic.write_atomic(out / "metrics.json", json_files.to_json(content), out)
    _report(labelled, scored, metrics, loaded[0], rules, out)
    atomic.remove_stale(out)
    frames = metrics.frames
    logger.info(
        f"{loaded[0].about['training']['model']}: per-frame mAP "
        f"{percent(frames.mean_average_precision)} % of {frames.n_frames} steps (calibrated "
        f"{percent(frames.mean_calibrated)} %, chance {percent(metrics.chance)} %), intervals: "
        f"mAP {percent(metrics.intervals.average)} % at overlaps of "
        f"{min(metrics.intervals.overlaps):g} to {max(metrics.intervals.overlaps):g}"
    )
    return metrics


def _detector(labelled: LabelledSteps, split: Split, root: Path) -> TrainedDetector:
    """Return the detector of a split, which was trained on such features.

    Raises
    ------
    FormatError
        It was trained on other classes or features.
    """
    path = labelled.folder(split, root) / DETECTOR_NAME
    detector = load_detector_file(path)
    if detector.classes != labelled.dataset.classes:
        raise FormatError(
            f"{str(path)!r} was trained on the classes {', '.join(detector.classes)}; those of "
            f"{labelled.dataset.name!r} are {', '.join(labelled.dataset.classes)}"
        )
    trained = detector.about.get("features")
    if not isinstance(trained, list) or not all(isinstance(each, dict) for each in trained):
        raise FormatError(f"{str(path)!r} does not say which features it was trained on")
    if len(trained) != len(labelled.folders):
        raise ParameterError(
            f"{str(path)!r} was trained on {len(trained)} folders of features; "
            f"{len(labelled.folders)} are given"
        )
    for theirs, folder in zip(trained, labelled.folders, strict=True):
        check_same_features(path, theirs, folder.record, folder.path)
    return detector


def check_same_features(path: Path, trained: Json, given: Json, folder: Path) -> None:
    """Compare the features that a detector was trained on with others.

    Raises
    ------
    ParameterError
        They are of another network or of other windows, or of flow with another bound or step.
        Other differences of the flow are logged.
    """
    own, other = ({k: v for k, v in each.items() if k != "source"} for each in (trained, given))
    if differ := provenance.differences(own, other):
        raise ParameterError(
            f"{str(path)!r} was trained on other features than those in {str(folder)!r}: "
            f"{'; '.join(map(str, differ[:3]))}"
        )
    sources = [each.get("source") for each in (trained, given)]
    check_same_flow(path, sources[0], sources[1], folder)


def _scores(
    labelled: LabelledSteps, split: Split, detector: TrainedDetector, finding: Finding, device: str
) -> list[_Scored]:
    scored = []
    for name in split.test:
        steps = labelled.steps[name]
        scores = step_scores(detector, steps.features, pick_device(device))
        found = find_intervals(steps.times(), scores[:, :-1], detector.classes, finding)
        scored.append(_Scored(name, split.name, scores, labelled.labels(name), found))
    return scored


def _save(labelled: LabelledSteps, scored: Sequence[_Scored], out: Path) -> None:
    """Write the scores of all test videos, an array of each and the frames that they are of."""
    arrays: dict[str, NDArray[Any]] = {}
    listed: list[Json] = []
    for number, each in enumerate(scored):
        steps = labelled.steps[each.name]
        arrays[f"{number}/scores"], arrays[f"{number}/present"] = each.scores, steps.present
        listed.append(
            {
                "name": each.name,
                "split": each.split,
                "frames": steps.frames,
                "frame_rate": steps.frame_rate,
                "found": [asdict(one) for one in each.found],
            }
        )
    described = {"classes": list(labelled.dataset.classes), "videos": listed}
    save_arrays(out / "scores.npz", SCORES, described, arrays, out)


def _metrics(labelled: LabelledSteps, scored: Sequence[_Scored]) -> DetectorMetrics:
    dataset = labelled.dataset
    # A video may be a test video of several splits, with a detector of its own in each.
    names = [f"{number} {each.name}" for number, each in enumerate(scored)]
    frames = frame_metrics(
        np.concatenate([each.labels.classes for each in scored]),
        np.concatenate([each.scores for each in scored]),
        dataset.classes,
        np.concatenate([each.labels.unclear for each in scored]),
    )
    intervals = interval_metrics(
        {name: dataset.intervals[each.name] for name, each in zip(names, scored, strict=True)},
        {name: each.found for name, each in zip(names, scored, strict=True)},
        dataset.classes,
        ambiguous={
            name: dataset.ambiguous.get(each.name, ())
            for name, each in zip(names, scored, strict=True)
        },
    )
    shares = frames.positives[frames.positives > 0] / max(frames.n_frames, 1)
    chance = float(shares.mean()) if len(shares) else math.nan
    return DetectorMetrics(frames, intervals, chance)


def _report(
    labelled: LabelledSteps,
    scored: Sequence[_Scored],
    metrics: DetectorMetrics,
    detector: TrainedDetector,
    finding: Finding,
    out: Path,
) -> None:
    dataset, frames, intervals = labelled.dataset, metrics.frames, metrics.intervals
    clips = {clip.name: clip for clip in dataset.clips}
    lines = []
    for number, each in enumerate(scored):
        steps = labelled.steps[each.name]
        times = steps.times()
        lines.append(
            VideoLine(
                each.name,
                times[:, 0],
                float(times[-1, 1]),
                each.scores[:, :-1],
                each.found,
                dataset.intervals[each.name],
                _strip(clips.get(each.name)) if number < _SHOWN else None,
            )
        )
    overlaps = [f"{overlap:g}" for overlap in intervals.overlaps]
    rows = [
        (
            name,
            [
                f"{int(frames.positives[i])}",
                percent(float(frames.average_precision[i])),
                percent(float(frames.calibrated[i])),
                f"{int(intervals.positives[i])}",
                *(percent(float(value)) for value in intervals.average_precision[:, i]),
            ],
        )
        for i, name in enumerate(dataset.classes)
    ]
    means = [
        f"{int(frames.positives.sum())}",
        percent(frames.mean_average_precision),
        percent(frames.mean_calibrated),
        f"{int(intervals.positives.sum())}",
        *(percent(value) for value in intervals.mean_average_precision),
    ]
    head = ["Class", "Steps", "AP", "Calibrated AP", "Intervals"]
    page = DetectionPage(
        title=f"Detection, {dataset.name}",
        about=(
            f"{len(scored)} tests of videos, {frames.n_frames} steps; chance is "
            f"{percent(metrics.chance)} %"
        ),
        classes=dataset.classes,
        videos=lines[:_SHOWN],
        left_out=len(lines[_SHOWN:]),
        numbers=[
            ("Per-frame mAP", frames.mean_average_precision, "mean over the classes"),
            ("Calibrated", frames.mean_calibrated, "as if half of the steps were of the class"),
            ("Intervals", intervals.average, "mAP, mean over the overlaps"),
        ],
        tables=[
            Table(
                "Average precision in %",
                [*head, *(f"at {overlap}" for overlap in overlaps)],
                [*rows, ("mean", means)],
            )
        ],
        notes=dataset.notes,
        parameters={"detector": detector.about["training"], "intervals": asdict(finding)},
    )
    write_detection_page(out / "report.html", page, out)


def _strip(clip: Clip | None) -> bytes | None:
    return None if clip is None else thumbnail_strip(clip.path, _STRIP)
