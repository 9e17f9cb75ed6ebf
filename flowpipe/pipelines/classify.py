"""Classify encoded clips: from kernels to scores, metrics and a report.

Each descriptor alone and all of them together are evaluated, since they share their kernels. The
output folder holds ``parts/<split>-<configuration>.npz`` with the scores of one split,
``scores.npz`` and ``scores-<descriptor>.npz`` with those of all splits, ``metrics.json``,
``report.html``, and ``classifiers/<split>/classifier.safetensors``, which label new videos.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sklearn

from flowpipe import __version__
from flowpipe.classify.metrics import Metrics, evaluate, mistakes
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol, protocol_from_json
from flowpipe.classify.scores import Scores, load_scores, save_scores
from flowpipe.classify.work import ScoreSplit, load_split_scores
from flowpipe.encoding.table import ENCODERS
from flowpipe.errors import FlowpipeError
from flowpipe.pipelines.classifiers import write_classifier
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.pipelines.kept import keep_classifiers, record_of
from flowpipe.pipelines.split_scores import ALL, description_of, scores_path, tasks_of
from flowpipe.report.html import Results, Row, write_report
from flowpipe.report.thumbnails import thumbnail_strip
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.run import run_stage
from flowpipe.runner.timing import timed, times_of

logger = logging.getLogger(__name__)

RESULTS = ("metrics.json", "scores.npz", "report.html")


def classify(
    vectors: Path,
    out: Path,
    svm: Svm,
    *,
    title: str,
    other_runs: Sequence[Path] = (),
    times: Mapping[str, float] | None = None,
    workers: Workers | int | None = None,
) -> Metrics:
    """Train SVMs on the training clips of every split, and evaluate them on its test clips.

    Parameters
    ----------
    vectors
        Folder of the stage before, :func:`flowpipe.pipelines.encode.encode`.
    out
        The output folder; created where it does not exist.
    svm
        Parameters of the SVMs.
    title
        Title of the report.
    other_runs
        Folders of other runs; the report shows those with the same protocol.
    times
        Seconds that earlier stages took, for the report.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Returns
    -------
    Metrics
        The metrics of all descriptors together.

    Raises
    ------
    StageMismatchError
        The folder holds outputs of other parameters.
    ParameterError, FormatError
        `vectors` is no such folder, or is not finished.
    """
    description = description_of(vectors, svm)
    upstream = description["encode"]
    provenance.open_stage(out, description)
    protocol = protocol_from_json(vectors / PROTOCOL)
    names = upstream["descriptors"]
    configurations = {ALL: names, **({name: [name] for name in names} if len(names) > 1 else {})}
    tasks = tasks_of(protocol, configurations, vectors, out, svm)
    logger.info(
        f"SVMs of {len(protocol.classes)} classes in {len(protocol.splits)} splits, on "
        f"{', '.join(configurations)} -> {out}"
    )
    most = max(len(split.train) + len(split.test) for split in protocol.splits)
    workers = as_workers(workers)
    fitting = workers.within_memory(20 * most**2)
    # Cores without a task of their own train further classes of a task.
    threads = max(1, workers.local_jobs // max(1, min(fitting.local_jobs, len(tasks))))
    score = ScoreSplit(svm, ENCODERS[upstream["encoding"]].kernel, out, threads)
    summary = timed(
        out,
        "SVMs",
        lambda: run_stage(score, tasks, out=out, workers=fitting, unit="SVMs", noun="split"),
    )
    if summary.failed:
        raise FlowpipeError(
            f"the SVMs of {summary.failed} splits could not be trained; {summary.failures} says why"
        )
    files = {}
    for number, split in enumerate(protocol.splits, 1):
        scored = scores_path(out, number, ALL)
        path = write_classifier(vectors, scored, number, split, protocol.classes, out)
        files[path.parent.name] = path
    scores = {name: _joined_scores(protocol, name, out) for name in configurations}
    keep_classifiers(files, record_of(scores[ALL]), out)
    metrics = {name: evaluate(each) for name, each in scores.items()}
    facts = json_files.read_json(vectors / PROTOCOL)
    notes = (*protocol.notes, *_notes(facts))
    content = {
        **metrics[ALL].to_json(),
        "protocol": protocol.name,
        "notes": list(notes),
        "clips_without_trajectories": facts.get("without_trajectories", []),
        "descriptors": {name: metrics[name].to_json() for name in metrics if name != ALL},
        "stage": description,
    }
    atomic.write_atomic(out / "metrics.json", json_files.to_json(content), out)
    videos = facts.get("videos", {})
    results = Results(
        title=title,
        metrics=metrics[ALL],
        protocol=protocol.name,
        rows=[*_rows(metrics), *_other_runs(other_runs, description, protocol, out)],
        wrong=mistakes(scores[ALL]),
        picture=lambda name: thumbnail_strip(vectors / videos[name]) if name in videos else None,
        notes=notes,
        parameters=_parameters(description),
        timings={**(times or {}), **{f"classify: {k}": v for k, v in times_of(out).items()}},
        environment=_environment(),
    )
    write_report(out / "report.html", results, out)
    atomic.remove_stale(out)
    for line in _lines(metrics):
        logger.info(line)
    return metrics[ALL]


def _joined_scores(protocol: Protocol, configuration: str, out: Path) -> Scores:
    """Join the scores of all splits, and save them."""
    splits = []
    for number, split in enumerate(protocol.splits, 1):
        path = scores_path(out, number, configuration)
        names, scores = load_split_scores(path, len(protocol.classes))
        splits.append(protocol.scored(split.name, names, scores))
    joined = Scores(protocol.classes, tuple(splits))
    name = "scores.npz" if configuration == ALL else f"scores-{configuration}.npz"
    save_scores(out / name, joined, out)
    return joined


def _notes(facts: Json) -> list[str]:
    notes = []
    if empty := facts.get("without_trajectories", []):
        shown = ", ".join(repr(name) for name in empty[:3]) + (", ..." if len(empty) > 3 else "")
        notes.append(
            f"{len(empty)} clip{'s' * (len(empty) != 1)} without trajectories, with vectors of "
            f"zeros: {shown}"
        )
    sizes = facts.get("sizes", [])
    if len(sizes) > 1:
        notes.append(
            f"the frames have {len(sizes)} sizes, from {'x'.join(map(str, sizes[0]))} to "
            f"{'x'.join(map(str, sizes[-1]))}: where clips are crops, their size can reveal the "
            "class; --size resizes all of them to one size"
        )
    return notes


def _rows(metrics: Mapping[str, Metrics]) -> list[Row]:
    return [
        Row("all descriptors" if name == ALL and len(metrics) > 1 else name, each)
        for name, each in metrics.items()
    ]


def _other_runs(folders: Sequence[Path], ours: Json, protocol: Protocol, out: Path) -> list[Row]:
    """Evaluate other runs with the same protocol; name each by the settings that differ.

    Their test clips are given the labels of this run, since some may have been corrected.
    """
    rows = []
    for folder in folders:
        if folder == out or not (folder / "scores.npz").exists():
            continue
        theirs = provenance.read_stage(folder)
        if theirs is None:
            continue
        if theirs["encode"]["protocol"] != ours["encode"]["protocol"]:
            continue
        if theirs["training_labels"] != ours["training_labels"]:
            continue
        mine = _flat(ours)
        differing = {k: v for k, v in _flat(theirs).items() if mine.get(k) != v}
        name = ", ".join(f"{key} {value}" for key, value in sorted(differing.items()))
        rows.append(Row(f"another run: {name}", evaluate(_relabelled(folder, protocol))))
    return sorted(rows, key=lambda row: row.name)


def _relabelled(folder: Path, protocol: Protocol) -> Scores:
    scores = load_scores(folder / "scores.npz")
    splits = [
        protocol.scored(split.split, split.names, split.scores)
        if protocol.names >= set(split.names)
        else split
        for split in scores.splits
    ]
    return replace(scores, splits=tuple(splits))


def _flat(description: Json) -> dict[str, Any]:
    """Return the settings of all stages by name."""
    flat: dict[str, Any] = {}
    for key, value in description.items():
        flat.update(_flat(value) if isinstance(value, dict) else {key: value})
    flat.pop("stage", None)
    return flat


def _parameters(description: Json) -> dict[str, dict[str, Any]]:
    encode = dict(description["encode"])
    trajectories = dict(encode.pop("trajectories"))
    protocol = encode.pop("protocol")
    parameters = trajectories.pop("parameters")
    stages = {
        "classify": {k: v for k, v in description.items() if k != "encode"},
        "encode": encode,
        "protocol": protocol,
        "trajectories": {**trajectories, **parameters},
    }
    return {
        stage: {name: value for name, value in values.items() if name != "stage"}
        for stage, values in stages.items()
    }


def _environment() -> dict[str, str]:
    return {
        "flowpipe": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "scikit-learn": sklearn.__version__,
        "computer": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def _lines(metrics: Mapping[str, Metrics]) -> list[str]:
    lines = []
    for row in _rows(metrics):
        accuracy = row.metrics.accuracy
        lines.append(
            f"{row.name:16s} {100 * accuracy.value:5.1f} % of {int(row.metrics.confusion.sum())} "
            f"test clips (95 %: {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}), "
            f"mean over splits {100 * row.metrics.mean_accuracy.value:.1f} %"
        )
    return lines
