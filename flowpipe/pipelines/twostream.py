"""Two streams: fused; and all of it from videos to an accuracy."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flowpipe.classify.fusion import Part, fuse
from flowpipe.classify.metrics import Metrics, evaluate
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import Scores, load_scores, save_scores
from flowpipe.datasets.base import Dataset
from flowpipe.errors import FlowpipeError
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.flow import compute_flow
from flowpipe.pipelines.streams import (
    LabelledFlow,
    Machine,
    check_clips,
    line_of,
    score_stream,
    train_stream,
    training_of,
    training_seconds,
)
from flowpipe.report.html import Results, Row, write_report, wrong_clips
from flowpipe.runner import atomic, json_files
from flowpipe.runner.inspect import note_used
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import short_hash
from flowpipe.training.distributed import alone
from flowpipe.training.evaluate import Testing
from flowpipe.training.parameters import Stream

logger = logging.getLogger(__name__)


RESULTS = ("metrics.json", "fused.npz", "report.html")


@dataclass(frozen=True)
class Fusion:
    """Weights of the recipe's streams.

    Attributes
    ----------
    rgb, flow
        TSN's 1 and 1.5.
    idt
        Of trajectories.
    probabilities
        Apply a softmax to each stream's scores first.
    """

    rgb: float = 1.0
    flow: float = 1.5
    idt: float = 1.0
    probabilities: bool = False


def two_stream(
    dataset: Dataset,
    protocol: Protocol,
    out: Path,
    stage: FlowStage,
    streams: Mapping[str, Stream],
    testing: Testing,
    *,
    fusion: Fusion | None = None,
    idt: Path | None = None,
    splits: Sequence[str] = (),
    machine: Machine | None = None,
    workers: Workers | int | None = None,
) -> int:
    """From videos to the accuracy of two streams; return the exit status.

    Every stage has a folder of its own in `out`, named by the stage and a hash of what determines
    it, so that a run with another setting makes anew only what follows from that setting.

    Parameters
    ----------
    dataset, protocol
        The clips, and which of them train and which are tested.
    out
        The folder of all that is made; the results of the last run stand in it directly.
    stage
        The flow, with its frames.
    streams
        ``rgb`` and ``flow``.
    testing
        How much of a clip is looked at.
    fusion
        Weights.
    idt
        Scores of trajectories that join the fusion.
    splits
        Names of those to train and test for, by default all.
    machine
        Where networks run.
    workers
        Number of worker processes of the extraction, or a
        :class:`~flowpipe.runner.pool.Workers`; by default one per core.

    Raises
    ------
    FlowpipeError
        Flow of clips that are needed could not be made.
    """
    alone("two-stream")
    for note in protocol.notes:
        logger.info(f"note: {note}")
    if splits:
        kept = tuple(split for split in protocol.splits if split.name in set(splits))
        protocol = replace(protocol, splits=kept)
    used = {name for split in protocol.splits for name in (*split.train, *split.test)}
    flow = out / f"flow-{short_hash(stage.description())}"
    clips = [clip for clip in dataset.clips if clip.name in used]
    extracted = compute_flow(clips, flow, stage, workers=workers)
    if extracted.failed:
        raise FlowpipeError(
            f"{extracted.failed} clips have no flow ({extracted.failures} says why); leave them "
            "out of the set, or mend them, and run again"
        )
    labelled = LabelledFlow(dataset, protocol, flow)
    fed = {name: (labelled, stream) for name, stream in streams.items()}
    compare_streams(fed, out, testing, fusion=fusion, idt=idt, machine=machine)
    return extracted.exit_status


def compare_streams(
    streams: Mapping[str, tuple[LabelledFlow, Stream]],
    out: Path,
    testing: Testing,
    *,
    fusion: Fusion | None = None,
    idt: Path | None = None,
    machine: Machine | None = None,
) -> Metrics:
    """Train, test and fuse streams on flow that is there; return the metrics of the fusion.

    Parameters
    ----------
    streams
        Each with the flow that it is trained on, all of one set and protocol.
    out, testing, fusion, idt, machine
        As for :func:`two_stream`.

    Raises
    ------
    FlowpipeError
        As :func:`two_stream` does.
    """
    fusion = fusion or Fusion()
    for labelled, stream in streams.values():
        names = [split.name for split in labelled.protocol.splits]
        check_clips([labelled], names, stream.snippets, tests=True)
    dataset, protocol = labelled.dataset, labelled.protocol
    parts: list[Part] = []
    times: dict[str, float] = {}
    parameters: dict[str, Json] = {}
    used: list[Path] = []
    for name, (labelled, stream) in streams.items():
        logger.info(f"{name} stream")
        trained = out / f"train-{name}-{short_hash(training_of([labelled], stream))}"
        train_stream([labelled], stream, trained, machine=machine)
        key = short_hash({**testing.description(), "models": trained.name})
        tested, began = out / f"test-{name}-{key}", time.perf_counter()
        scores = score_stream(trained, labelled, testing, tested, machine=machine)
        used += [labelled.flow, trained, tested]
        weight = fusion.flow if stream.snippets.is_flow else fusion.rgb
        parts.append(Part(f"{name} stream", scores, weight))
        times[f"{name}: training"] = training_seconds(trained)
        times[f"{name}: test"] = time.perf_counter() - began
        groups = (asdict(stream.snippets), asdict(stream.network), asdict(stream.training))
        parameters[name] = {"weights": stream.weights, **groups[0], **groups[1], **groups[2]}
    parameters["test"] = asdict(testing)
    if idt is not None:
        parts.append(Part("trajectories", _only(load_scores(idt), protocol), fusion.idt))
    key = short_hash({"fusion": asdict(fusion), "parts": sorted(times), "idt": str(idt)})
    fused = out / f"fuse-{key}"
    metrics = fuse_streams(
        parts,
        fused,
        probabilities=fusion.probabilities,
        title=f"{dataset.name}: two streams",
        protocol=protocol.name,
        notes=protocol.notes,
        parameters=parameters,
        timings=times,
    )
    for name in RESULTS:
        atomic.write_atomic(out / name, (fused / name).read_bytes(), out)
    note_used(out, [*used, fused])
    logger.info(f"report: {out / 'report.html'}")
    return metrics


def fuse_streams(
    parts: Sequence[Part],
    out: Path,
    *,
    probabilities: bool = False,
    title: str = "Fusion",
    protocol: str = "as scored",
    notes: Sequence[str] = (),
    parameters: Mapping[str, Mapping[str, object]] | None = None,
    timings: Mapping[str, float] | None = None,
) -> Metrics:
    """Fuse the scores of streams; write ``fused.npz``, ``metrics.json`` and ``report.html``.

    Parameters
    ----------
    parts
        Streams and their weights.
    out
        The output folder; made if it is not there.
    probabilities
        Apply a softmax to each stream's scores first.
    title, protocol, notes, parameters, timings
        For the report.

    Returns
    -------
    Metrics
        Of the fusion.

    Raises
    ------
    UnlikeScoresError
        The streams scored different clips.
    """
    fused = fuse(parts, probabilities=probabilities)
    alone = {part.name: evaluate(part.scores) for part in parts}
    metrics = evaluate(fused)
    weights = " : ".join(f"{part.weight:g}" for part in parts)
    how = "probabilities" if probabilities else "scores"
    out.mkdir(parents=True, exist_ok=True)
    save_scores(out / "fused.npz", fused, out)
    whole = {
        **metrics.to_json(),
        "weights": {part.name: part.weight for part in parts},
        "of": how,
        "streams": {name: each.to_json() for name, each in alone.items()},
    }
    atomic.write_atomic(out / "metrics.json", json_files.to_json(whole), out)
    results = Results(
        title=title,
        metrics=metrics,
        protocol=protocol,
        rows=[
            *(Row(name, each) for name, each in alone.items()),
            Row(f"fused, {how} {weights}", metrics),
        ],
        wrong=wrong_clips(fused),
        notes=notes,
        parameters=parameters or {},
        timings=timings or {},
    )
    write_report(out / "report.html", results, out)
    atomic.remove_stale(out)
    for name, each in [*alone.items(), (f"fused {weights}", metrics)]:
        logger.info(line_of(name, each))
    return metrics


def _only(scores: Scores, protocol: Protocol) -> Scores:
    """The splits of a protocol, of scores that may have more."""
    wanted = {split.name for split in protocol.splits}
    kept = tuple(split for split in scores.splits if split.split in wanted)
    return Scores(scores.classes, kept or scores.splits)
