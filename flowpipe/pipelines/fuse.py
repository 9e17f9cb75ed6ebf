"""Fuse the scores of several streams into one accuracy and a report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from flowpipe.classify import fusion
from flowpipe.classify.fusion import StreamScores
from flowpipe.classify.metrics import Metrics, evaluate, mistakes
from flowpipe.classify.scores import save_scores
from flowpipe.pipelines.kept import keep_fusion
from flowpipe.pipelines.labelled import accuracy_line
from flowpipe.report.curves import Curve
from flowpipe.report.html import Results, Row, write_report
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json

logger = logging.getLogger(__name__)

RESULTS = ("metrics.json", "fused.npz", "report.html")


def fuse(
    scores: Mapping[str | PathLike[str], float] | Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "fused",
    *,
    softmax: bool = False,
) -> Metrics:
    """Add the scores of streams, weighted, and evaluate the sum.

    Parameters
    ----------
    scores
        Files of scores, such as ``scores.npz`` of :func:`flowpipe.evaluate` or
        :func:`flowpipe.idt_baseline`, with a weight for each; or without weights, which are 1 then.
        A file may also be given with its weight in one text, ``"rgb/scores.npz:1.5"``.
    out
        The output folder, for ``fused.npz``, ``metrics.json``, ``report.html``, and, if the
        classifiers that gave the scores were kept beside them, the fused ``classifiers``.
    softmax
        Add probabilities in place of the scores before the softmax.

    Returns
    -------
    Metrics
        Of the sum.

    Raises
    ------
    UnlikeScoresError
        The streams scored different clips, classes or splits.
    ParameterError
        A file does not exist, or the weights are all 0.
    StageMismatchError
        The folder holds a fusion of other scores.

    Examples
    --------
    >>> import flowpipe
    >>> metrics = flowpipe.fuse({"rgb-scores.npz": 1, "flow-scores.npz": 1.5})
    >>> 0 <= metrics.accuracy.value <= 1
    True
    """
    if isinstance(scores, Mapping):
        streams = [fusion.read_stream(str(path), weight) for path, weight in scores.items()]
    else:
        streams = [fusion.read_stream(str(path)) for path in scores]
    return fuse_streams(streams, Path(out), softmax=softmax)


def description_of(streams: Sequence[StreamScores], *, softmax: bool) -> Json:
    """Return the record of a fusion, which identifies the scores by their content."""
    return {
        "stage": "fuse",
        "of": "probabilities" if softmax else "scores",
        "streams": [[each.weight, each.digest()] for each in streams],
    }


def fuse_streams(
    streams: Sequence[StreamScores],
    out: Path,
    *,
    softmax: bool = False,
    title: str = "Fusion",
    protocol: str = "as scored",
    notes: Sequence[str] = (),
    parameters: Mapping[str, Mapping[str, object]] | None = None,
    timings: Mapping[str, float] | None = None,
    training: Mapping[str, Sequence[Curve]] | None = None,
) -> Metrics:
    """Fuse the scores of streams; write ``fused.npz``, ``metrics.json``, and the report.

    Parameters
    ----------
    streams
        Scores with their weights.
    out, softmax
        As for :func:`fuse`.
    title, protocol, notes, parameters, timings, training
        For the report.

    Returns
    -------
    Metrics
        Of the sum.

    Raises
    ------
    UnlikeScoresError
        The streams scored different clips.
    """
    fused = fusion.fuse(streams, softmax=softmax)
    alone = {stream.name: evaluate(stream.scores) for stream in streams}
    metrics = evaluate(fused)
    weights = " : ".join(f"{stream.weight:g}" for stream in streams)
    kind = "probabilities" if softmax else "scores"
    provenance.open_stage(out, description_of(streams, softmax=softmax))
    save_scores(out / "fused.npz", fused, out)
    content = {
        **metrics.to_json(),
        "weights": {stream.name: stream.weight for stream in streams},
        "of": kind,
        "streams": {name: each.to_json() for name, each in alone.items()},
    }
    atomic.write_atomic(out / "metrics.json", json_files.to_json(content), out)
    keep_fusion(streams, fused, out, softmax=softmax)
    results = Results(
        title=title,
        metrics=metrics,
        protocol=protocol,
        rows=[
            *(Row(name, each) for name, each in alone.items()),
            Row(f"fused, {kind} {weights}", metrics),
        ],
        wrong=mistakes(fused),
        notes=notes,
        parameters=parameters or {},
        timings=timings or {},
        training=training or {},
    )
    write_report(out / "report.html", results, out)
    atomic.remove_stale(out)
    for name, each in [*alone.items(), (f"fused {weights}", metrics)]:
        logger.info(accuracy_line(name, each))
    return metrics
