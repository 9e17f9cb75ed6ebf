"""Label new videos with a trained classifier."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Literal

from rich.console import Console

from flowpipe.datasets import discover
from flowpipe.datasets.base import Clip
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.prediction import Classifier, Prediction, load_classifier
from flowpipe.runner import atomic, provenance
from flowpipe.runner.pool import Workers, as_workers, over_clips
from flowpipe.runner.progress import Progress
from flowpipe.runner.run import Shard, as_shard

Format = Literal["table", "csv", "jsonl"]


@dataclass(frozen=True)
class Predictions:
    """What :func:`predict` found.

    Attributes
    ----------
    predictions
        In the order of the videos.
    failed
        Why each of the other videos could not be labelled, by name.
    """

    predictions: tuple[Prediction, ...]
    failed: dict[str, str]


def predict(
    classifier: Classifier | str | PathLike[str],
    videos: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    cache: str | PathLike[str] | None = None,
    draw: str | PathLike[str] | None = None,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
) -> Predictions:
    """Label videos with a trained classifier.

    Flow, frames or trajectories are extracted exactly as those of the training clips.

    Parameters
    ----------
    classifier
        The classifier, or what :func:`flowpipe.load_classifier` takes.
    videos
        Folders (searched recursively), video files, globs, or list files.
    cache
        Folder that keeps what is extracted, so that an interrupted run resumes, and another
        classifier with the same extraction uses it. By default nothing is left on disk.
    draw
        Folder for an mp4 of each video, ``<name>.mp4``, with its labels; with the trajectories that
        speak for the first label, the brighter the more, if the classifier is on trajectories.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    shard
        The part of the videos to label, such as ``"2/8"``; by default all.

    Returns
    -------
    Predictions
        A prediction for every video that could be used, and why the others could not.

    Raises
    ------
    FlowpipeError
        There is no classifier, there are no videos, the cache holds something else, or a drawing
        would replace one of the videos.

    Examples
    --------
    >>> import flowpipe
    >>> found = flowpipe.predict("idt/classifiers/01-split1", "clip.avi")
    >>> [prediction.name for prediction in found.predictions], found.failed
    (['clip'], {})
    """
    if not isinstance(classifier, Classifier):
        classifier = load_classifier(classifier)
    given = [videos] if isinstance(videos, str | PathLike) else videos
    found = discover.discover([fspath(each) for each in given])
    clips = as_shard(shard).of(found, {clip.name: _size(clip.path) for clip in found})
    drawn = None if draw is None else Path(draw)
    if drawn is not None:
        _check_drawn(found, drawn)
    workers = as_workers(workers)
    with tempfile.TemporaryDirectory(prefix="flowpipe-") as temporary:
        out = Path(temporary if cache is None else cache)
        if cache is not None:
            provenance.open_stage(out, classifier.description())
        predictions, failed = _labels(
            classifier, clips, out, workers, keep=cache is not None, drawn=drawn
        )
        for folder in {out, *classifier.folders(out)}:
            atomic.remove_stale(folder)
    ordered = [predictions[clip.name] for clip in clips if clip.name in predictions]
    return Predictions(tuple(ordered), failed)


def _labels(
    classifier: Classifier,
    clips: Sequence[Clip],
    out: Path,
    workers: Workers,
    *,
    keep: bool,
    drawn: Path | None,
) -> tuple[dict[str, Prediction], dict[str, str]]:
    """Extract clips in the workers, and score each in this process as it arrives."""
    predictions: dict[str, Prediction] = {}
    failed: dict[str, str] = {}
    console = Console(stderr=True) if workers.progress else None
    sizes = {clip.name: _size(clip.path) for clip in clips}
    work = classifier.extraction(out)
    with Progress(sizes, classifier.unit, console) as progress:
        for outcome in over_clips(work, clips, workers=workers, advance=progress.advance):
            clip, reason = outcome.clip, outcome.reason
            status = outcome.status
            if status != "failed":
                try:
                    found = classifier.prediction(clip, out)
                    if drawn is not None:
                        from flowpipe.prediction.draw import draw_prediction  # matplotlib

                        path = _drawing(clip, drawn)
                        draw_prediction(classifier, clip, out, found, path)
                    predictions[clip.name] = found
                except (FlowpipeError, OSError) as error:
                    status, reason = "failed", str(error)
                if not keep:
                    for path in classifier.outputs(clip, out):
                        atomic.discard(path)
            if status == "failed":
                failed[clip.name] = reason or ""
            progress.finish(clip.name, status, reason)
    return predictions, failed


def _drawing(clip: Clip, drawn: Path) -> Path:
    return drawn / f"{clip.name}.mp4"


def _check_drawn(clips: Sequence[Clip], drawn: Path) -> None:
    """Check that no drawing would replace a video."""
    videos = {clip.path.resolve() for clip in clips}
    for clip in clips:
        if (path := _drawing(clip, drawn)).resolve() in videos:
            raise ParameterError(
                f"draw is {str(drawn)!r}, where {path.name!r} is one of the videos; name a folder "
                "that holds none of them"
            )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def formatted(predictions: Sequence[Prediction], form: Format, top: int) -> str:
    """Return predictions as text: a table, CSV with a row per class, or a JSON object per line."""
    writers: dict[str, Callable[[Sequence[Prediction], int], str]] = {
        "table": _table,
        "csv": _csv,
        "jsonl": _json_lines,
    }
    return writers[form](predictions, top)


def _table(predictions: Sequence[Prediction], top: int) -> str:
    width = max((len(each.name) for each in predictions), default=0)
    lines = []
    for each in predictions:
        shown = ", ".join(f"{label} {100 * p:.1f} %" for label, _, p in each.top(top))
        lines.append(f"{each.name:{width}}  {shown}\n")
    return "".join(lines)


def _csv(predictions: Sequence[Prediction], top: int) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("clip", "path", "rank", "label", "score", "probability"))
    for each in predictions:
        for rank, (label, score, probability) in enumerate(each.top(top), 1):
            row = (each.name, each.path, rank, label, f"{score:.6g}", f"{probability:.6g}")
            writer.writerow(row)
    return text.getvalue()


def _json_lines(predictions: Sequence[Prediction], top: int) -> str:
    lines = []
    for each in predictions:
        best = [
            {"label": label, "score": round(score, 6), "probability": round(probability, 6)}
            for label, score, probability in each.top(top)
        ]
        content = {
            "clip": each.name,
            "path": str(each.path),
            "label": each.label,
            "calibrated": each.calibrated,
            "top": best,
        }
        lines.append(json.dumps(content, ensure_ascii=False) + "\n")
    return "".join(lines)
