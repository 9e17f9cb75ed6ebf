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
from dataclasses import dataclass
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
from flowpipe.classify.scores import FORMAT, Scores, SplitScores, load_scores, save_scores
from flowpipe.classify.svm import one_vs_rest
from flowpipe.datasets.base import Split
from flowpipe.errors import FlowpipeError, FormatError, ParameterError
from flowpipe.io.npz import key_of
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.pipelines.encode_work import KERNEL, kernel_path, load_kernel
from flowpipe.report.html import Results, Row, write_report, wrong_clips
from flowpipe.report.stills import film_strip
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Workers
from flowpipe.runner.provenance import digest
from flowpipe.runner.stage import run_stage, timed, times_of, within_memory

logger = logging.getLogger(__name__)


ALL = "all"
"""The configuration of all descriptors together."""

RESULTS = ("metrics.json", "scores.npz", "report.html")


def classify(
    vectors: Path,
    out: Path,
    svm: Svm,
    *,
    title: str,
    beside: Sequence[Path] = (),
    times: Mapping[str, float] | None = None,
    workers: Workers,
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
    beside
        Folders of other runs, to be shown in the report where they had the same protocol.
    times
        Seconds of what came before, for the report.
    workers
        Who does it.

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
    score = ScorePart(protocol, svm, upstream["encoding"] == "words", out)
    summary = timed(
        out,
        "machines",
        lambda: run_stage(
            score,
            parts,
            out=out,
            workers=within_memory(workers, 20 * most**2),
            unit="machines",
            noun="part",
        ),
    )
    if summary.failed:
        raise FlowpipeError(f"{summary.failed} parts failed; {summary.failures} says why")
    found = {name: _gathered(parts, name, out) for name in wanted}
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
        rows=[*_rows(metrics), *_others(beside, description, out)],
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
    return {**svm.description(), "encode": upstream}


@dataclass(frozen=True, slots=True)
class Part:
    """A split to be classified with one configuration."""

    name: str
    path: Path
    key: str
    split: Split
    configuration: str
    kernels: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class ScorePart:
    """Trains the machines of a split and scores its test clips."""

    protocol: Protocol
    svm: Svm
    distances: bool
    out: Path

    def __call__(self, part: Part, advance: Advance) -> Done:
        """Score it, unless that is done."""
        if key_of(part.path, FORMAT) == part.key:
            return Done(skipped=True)
        classes, split = self.protocol.classes, part.split
        names = (*split.train, *split.test)
        train, test = np.split(np.arange(len(names)), [len(split.train)])
        labels = self.protocol.indices(names)
        with threadpool_limits(1):
            grams = self._grams(part.kernels, names)
            gram = multichannel_gram(grams, train) if self.distances else mean_gram(grams)
            table = one_vs_rest(gram, labels, train, test, len(classes), self.svm)
        scores = SplitScores(split.name, split.test, labels[test], table)
        save_scores(part.path, Scores(classes, (scores,)), self.out, part.key)
        advance(len(classes))
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
) -> list[Part]:
    parts = []
    for configuration, descriptors in wanted.items():
        for number, split in enumerate(protocol.splits, 1):
            kernels = tuple(kernel_path(vectors, number, name) for name in descriptors)
            keys = [key_of(path, KERNEL) for path in kernels]
            if None in keys:
                raise FormatError(
                    f"{str(vectors)!r} lacks {str(kernels[keys.index(None)])!r}; run encode again"
                )
            labels = [protocol.labels[name] for name in (*split.train, *split.test)]
            key = digest([svm.description(), keys, protocol.classes, labels])
            path = out / f"parts/{number}-{configuration}.npz"
            name = f"{split.name}, {configuration}"
            parts.append(Part(name, path, key, split, configuration, kernels))
    return parts


def _gathered(parts: Sequence[Part], configuration: str, out: Path) -> Scores:
    """Scores of all splits, which are saved too."""
    found = [load_scores(part.path) for part in parts if part.configuration == configuration]
    scores = Scores(found[0].classes, tuple(split for each in found for split in each.splits))
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


def _others(beside: Sequence[Path], ours: Json, out: Path) -> list[Row]:
    """What other runs reached with the same protocol, by the settings that differ."""
    rows = []
    for folder in beside:
        if folder == out or not (folder / "scores.npz").exists():
            continue
        theirs = provenance.read_stage(folder)
        if theirs is None:
            continue
        if theirs["encode"]["protocol"] != ours["encode"]["protocol"]:
            continue
        differ = {k: v for k, v in _flat(theirs).items() if _flat(ours).get(k) != v}
        name = ", ".join(f"{key} {value}" for key, value in sorted(differ.items()))
        rows.append(Row(f"another run: {name}", evaluate(load_scores(folder / "scores.npz"))))
    return sorted(rows, key=lambda row: row.name)


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
