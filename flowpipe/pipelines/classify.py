"""From kernels to scores, metrics and a report.

Every descriptor alone and all of them together are classified, for they share their kernels. The
folder of the stage holds, beside its records, ``parts/<split>-<configuration>.npz`` with the scores
of one split, ``scores.npz`` and ``scores-<descriptor>.npz`` with those of all, ``metrics.json`` and
``report.html``.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import sklearn
from threadpoolctl import threadpool_limits

from flowpipe import __version__
from flowpipe.classify.kernels import Gram, mean_gram, multichannel_gram
from flowpipe.classify.metrics import Metrics, evaluate
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol, protocol_from_json
from flowpipe.classify.scores import Scores, SplitScores, load_scores, save_scores
from flowpipe.classify.svm import one_vs_rest
from flowpipe.datasets.base import Split
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.io.npz import key_of, load_arrays, save_arrays, take
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.pipelines.encode_work import KERNEL, kernel_path, load_kernel
from flowpipe.report.html import Results, Row, write_report, wrong_clips
from flowpipe.report.stills import film_strip
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Workers, as_workers
from flowpipe.runner.provenance import digest
from flowpipe.runner.run import run_stage
from flowpipe.runner.timing import timed, times_of

logger = logging.getLogger(__name__)


ALL = "all"
"""The configuration of all descriptors together."""

PART = "flowpipe split scores 1"
"""Format of the scores of one split, which hold no labels."""

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
    """Classify the test clips of every split.

    Parameters
    ----------
    vectors
        Folder of the stage before, :func:`flowpipe.pipelines.encode.encode`.
    out
        The output folder; made if it is not there.
    svm
        The machines.
    title
        Of the report.
    other_runs
        Folders of other runs; the report shows those of the same protocol.
    times
        Seconds of what came before, for the report.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Returns
    -------
    Metrics
        Of all descriptors together.

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
    wanted = {ALL: names, **({name: [name] for name in names} if len(names) > 1 else {})}
    parts = _parts(protocol, wanted, vectors, out, svm)
    logger.info(f"machines on {', '.join(wanted)}, into {out}")
    most = max(len(part.split.train) + len(part.split.test) for part in parts)
    score = ScoreSplit(protocol, svm, upstream["encoding"] == "bow", out)
    summary = timed(
        out,
        "machines",
        lambda: run_stage(
            score,
            parts,
            out=out,
            workers=as_workers(workers).within_memory(20 * most**2),
            unit="machines",
            noun="part",
        ),
    )
    if summary.failed:
        raise FlowpipeError(f"{summary.failed} parts failed; {summary.failures} says why")
    found = {name: _gathered(parts, name, protocol, out) for name in wanted}
    metrics = {name: evaluate(scores) for name, scores in found.items()}
    facts = json_files.read_json(vectors / PROTOCOL)
    notes = (*protocol.notes, *_notes(facts))
    whole = {
        **metrics[ALL].to_json(),
        "protocol": protocol.name,
        "notes": list(notes),
        "clips_without_trajectories": facts.get("without_trajectories", []),
        "descriptors": {name: metrics[name].to_json() for name in wanted if name != ALL},
        "stage": description,
    }
    atomic.write_atomic(out / "metrics.json", json_files.to_json(whole), out)
    videos = facts.get("videos", {})
    took = {**(times or {}), **{f"classify: {k}": v for k, v in times_of(out).items()}}
    results = Results(
        title=title,
        metrics=metrics[ALL],
        protocol=protocol.name,
        rows=[*_rows(metrics), *_other_runs(other_runs, description, protocol, out)],
        wrong=wrong_clips(
            found[ALL], lambda name: film_strip(vectors / videos[name]) if name in videos else None
        ),
        notes=notes,
        parameters=_parameters(description),
        timings=took,
        environment=_environment(),
    )
    write_report(out / "report.html", results, out)
    atomic.remove_stale(out)
    for line in _lines(metrics):
        logger.info(line)
    return metrics[ALL]


def description_of(vectors: Path, svm: Svm) -> Json:
    """What ``stage.json`` says."""
    upstream = provenance.read_stage(vectors) or {}
    if upstream.get("stage") != "encode" or not (vectors / PROTOCOL).is_file():
        raise ParameterError(f"{str(vectors)!r} holds no encoded clips; make them with encode")
    labels = json_files.read_json(vectors / PROTOCOL).get("training_labels")
    return {**svm.description(), "training_labels": labels, "encode": upstream}


@dataclass(frozen=True, slots=True)
class SplitPart:
    """A split to be classified with one configuration."""

    name: str
    path: Path
    key: str
    split: Split
    configuration: str
    kernels: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ScoreSplit:
    """Train the SVMs of a split and score its test clips.

    What it writes depends on no label of a test clip, so it holds none.
    """

    protocol: Protocol
    svm: Svm
    distances: bool
    out: Path

    def __call__(self, part: SplitPart, advance: Advance) -> Done:
        """Score it, unless that is done."""
        if key_of(part.path, PART) == part.key:
            return Done(skipped=True)
        count, split = len(self.protocol.classes), part.split
        names = (*split.train, *split.test)
        train, test = np.split(np.arange(len(names)), [len(split.train)])
        y_train = self.protocol.indices(split.train)
        with threadpool_limits(1):
            grams = self._grams(part.kernels, names)
            gram = multichannel_gram(grams, train) if self.distances else mean_gram(grams)
            scores = one_vs_rest(gram, y_train, train, test, count, self.svm)
        arrays = {"names": np.array(split.test), "scores": scores}
        save_arrays(part.path, PART, {}, arrays, self.out, part.key)
        advance(count)
        return Done()

    @staticmethod
    def _grams(paths: Sequence[Path], names: Sequence[str]) -> Iterator[Gram]:
        for path in paths:
            clips, kernel = load_kernel(path)
            if clips != tuple(names):
                raise FormatError(f"{str(path)!r} is of other clips; run encode again")
            yield kernel


def _parts(
    protocol: Protocol,
    wanted: Mapping[str, Sequence[str]],
    vectors: Path,
    out: Path,
    svm: Svm,
) -> list[SplitPart]:
    parts = []
    for configuration, descriptors in wanted.items():
        for number, split in enumerate(protocol.splits, 1):
            kernels = tuple(kernel_path(vectors, number, name) for name in descriptors)
            keys = [key_of(path, KERNEL) for path in kernels]
            if None in keys:
                raise FormatError(
                    f"{str(vectors)!r} lacks {str(kernels[keys.index(None)])!r}; run encode again"
                )
            labels = [protocol.labels[name] for name in split.train]
            key = digest([svm.description(), keys, protocol.classes, labels])
            path = out / f"parts/{number}-{configuration}.npz"
            name = f"{split.name}, {configuration}"
            parts.append(SplitPart(name, path, key, split, configuration, kernels))
    return parts


def _gathered(
    parts: Sequence[SplitPart], configuration: str, protocol: Protocol, out: Path
) -> Scores:
    """Join the scores of all splits with the labels of their test clips, and save them."""
    splits = []
    for part in parts:
        if part.configuration != configuration:
            continue
        _, arrays = load_arrays(part.path, PART)
        names = tuple(take(part.path, arrays, "names", (None,), "U").tolist())
        table = take(part.path, arrays, "scores", (len(names), len(protocol.classes)))
        splits.append(SplitScores(part.split.name, names, protocol.indices(names), table))
    scores = Scores(protocol.classes, tuple(splits))
    name = "scores.npz" if configuration == ALL else f"scores-{configuration}.npz"
    save_scores(out / name, scores, out)
    return scores


def _notes(facts: Json) -> list[str]:
    notes = []
    if empty := facts.get("without_trajectories", []):
        shown = ", ".join(repr(name) for name in empty[:3]) + (", ..." if len(empty) > 3 else "")
        notes.append(
            f"{len(empty)} clip{'s' * (len(empty) != 1)} without trajectories, whose vectors are "
            f"zero: {shown}"
        )
    sizes = facts.get("sizes", [])
    if len(sizes) > 1:
        notes.append(
            f"the frames are of {len(sizes)} sizes, from {'x'.join(map(str, sizes[0]))} to "
            f"{'x'.join(map(str, sizes[-1]))}: where clips are crops, their size can give the "
            "class away; --size takes all of them at one size"
        )
    return notes


def _rows(metrics: Mapping[str, Metrics]) -> list[Row]:
    return [
        Row("all descriptors" if name == ALL and len(metrics) > 1 else name, each)
        for name, each in metrics.items()
    ]


def _other_runs(folders: Sequence[Path], ours: Json, protocol: Protocol, out: Path) -> list[Row]:
    """Evaluate other runs of the same protocol; name each by the settings that differ.

    Their test clips get the labels of this run, of which some may have been corrected since.
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
        differ = {k: v for k, v in _flat(theirs).items() if _flat(ours).get(k) != v}
        name = ", ".join(f"{key} {value}" for key, value in sorted(differ.items()))
        rows.append(Row(f"another run: {name}", evaluate(_relabelled(folder, protocol))))
    return sorted(rows, key=lambda row: row.name)


def _relabelled(folder: Path, protocol: Protocol) -> Scores:
    scores = load_scores(folder / "scores.npz")
    splits = [
        replace(split, labels=protocol.indices(split.names))
        if all(name in protocol.labels for name in split.names)
        else split
        for split in scores.splits
    ]
    return replace(scores, splits=tuple(splits))


def _flat(description: Json) -> dict[str, Any]:
    """Settings by name, whatever stage they are of."""
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
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors",
    }


def _lines(metrics: Mapping[str, Metrics]) -> list[str]:
    lines = []
    for row in _rows(metrics):
        found = row.metrics.accuracy
        lines.append(
            f"{row.name:16s} {100 * found.value:5.1f} % of {int(row.metrics.confusion.sum())} "
            f"tests (95 %: {100 * found.low:.1f} to {100 * found.high:.1f}), "
            f"mean over splits {100 * row.metrics.mean_accuracy.value:.1f} %"
        )
    return lines
