"""The two-stream baseline: from videos to the accuracy of two networks and of their fusion."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path

from flowpipe.classify.fusion import StreamScores
from flowpipe.classify.metrics import Metrics
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.protocols import protocol as choose_protocol
from flowpipe.classify.scores import Scores, load_scores
from flowpipe.classify.splits import CLASSIFIERS, FINAL
from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.datasets.names import safe_name
from flowpipe.errors import FlowpipeError
from flowpipe.flow.extract import FlowStage
from flowpipe.flow.store import stored_clips
from flowpipe.io import video
from flowpipe.io.video import VideoError
from flowpipe.models.clip_input import ClipInput
from flowpipe.pipelines import evaluate, fuse, train
from flowpipe.pipelines.flow import compute_flow
from flowpipe.pipelines.kept import copy_classifiers
from flowpipe.pipelines.labelled import LabelledFlow, with_usable_clips, without_clips
from flowpipe.report.curves import Curve
from flowpipe.runner import atomic
from flowpipe.runner.inspect import note_used
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import short_hash
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.distributed import alone
from flowpipe.training.parameters import Fusion, Stream, preset
from flowpipe.training.runtime import TrainingRuntime
from flowpipe.training.testing import Testing

logger = logging.getLogger(__name__)


def two_stream(
    dataset: Dataset | str | PathLike[str],
    out: str | PathLike[str] = "two-stream",
    protocol: Protocol | str | None = None,
    stage: FlowStage | None = None,
    streams: Mapping[str, Stream] | None = None,
    testing: Testing | None = None,
    *,
    fusion: Fusion | None = None,
    idt: str | PathLike[str] | None = None,
    splits: Sequence[str] = (),
    final: bool = False,
    runtime: TrainingRuntime | None = None,
    workers: Workers | int | None = None,
    leave_out_unusable: bool = False,
) -> Metrics:
    """Classify a labelled set of videos by two networks, on RGB frames and on flow.

    Each stage has a folder of its own in `out`, named after the stage and a hash of what determines
    it. A run with another setting recomputes only what depends on that setting, and an interrupted
    run resumes.

    Parameters
    ----------
    dataset
        The labelled set, or its folder or list.
    out
        The folder of all outputs: ``metrics.json``, ``fused.npz``, ``report.html`` and
        ``classifiers`` of the last run, and the folders of the stages.
    protocol
        Which clips train and which are tested; by default the official splits, or leave one group
        out where there are none.
    stage
        Extraction of flow, with the frames; by default TV-L1 at 340x256.
    streams
        The networks by their names in the report; by default TSN's, ``rgb`` and ``flow``.
    testing
        Views of a test clip; by default as the authors of the networks test them.
    fusion
        Weights of the streams; by default 1 for frames and 1.5 for flow.
    idt
        Scores of :func:`flowpipe.idt_baseline` with the same protocol, which join the fusion.
    splits
        Names of the splits to train and test; by default all.
    final
        Also train both networks on all clips, for new videos; see :func:`flowpipe.load_classifier`.
        The fusion has trajectories in it if `idt` was run with ``final``, too.
    runtime
        Device, data loading, checkpoints.
    workers
        Number of worker processes of the extraction, or a
        :class:`~flowpipe.runner.pool.Workers`; by default one per core.
    leave_out_unusable
        Leave out clips that are too short or damaged, which are logged, in place of an
        error.

    Returns
    -------
    Metrics
        Of the fusion.

    Raises
    ------
    FlowpipeError
        Flow of clips that are needed could not be computed, or a clip is too short.

    Notes
    -----
    K. Simonyan and A. Zisserman, "Two-Stream Convolutional Networks for Action Recognition in
    Videos", NIPS 2014; L. Wang et al., "Temporal Segment Networks", ECCV 2016.

    Examples
    --------
    >>> import flowpipe
    >>> from flowpipe.training.parameters import preset
    >>> quick = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> streams = {name: preset("small", name).changed(**quick) for name in ("rgb", "flow")}
    >>> stage = flowpipe.FlowStage(size=None, frames=True)
    >>> metrics = flowpipe.two_stream("videos", stage=stage, streams=streams, splits=["split1"])
    >>> metrics.confusion.shape  # true class by predicted class
    (6, 6)
    """
    alone("two-stream")
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset)
    if not isinstance(protocol, Protocol):
        protocol = choose_protocol(dataset, protocol)
    out = Path(out)
    record_dataset(dataset, out)
    stage = stage or FlowStage(frames=True)
    streams = streams or {"rgb": preset("tsn", "rgb"), "flow": preset("tsn", "flow")}
    for note in protocol.notes:
        logger.info(f"note: {note}")
    if splits:
        chosen = set(splits)
        protocol = replace(
            protocol, splits=tuple(split for split in protocol.splits if split.name in chosen)
        )
    count = len(protocol.splits) * len(streams)
    logger.info(f"{len(protocol.splits)} splits of {len(streams)} streams: {count} networks")
    flow = out / f"flow-{short_hash(stage.description())}"
    clips = _used(dataset, protocol, final=final)
    if short := _too_short(clips, flow, stage, [stream.clip for stream in streams.values()]):
        if not leave_out_unusable:
            raise UnusableClipsError(short, len(clips))
        protocol = without_clips(protocol, short)
        clips = _used(dataset, protocol, final=final)
    extracted = compute_flow(clips, flow, stage, workers=workers)
    if extracted.failed and not leave_out_unusable:
        raise FlowpipeError(
            f"{extracted.failed} clips have no flow ({extracted.failures} says why); repair them, "
            "or leave out unusable clips (--leave-out-unusable)"
        )
    return _train_and_fuse(
        LabelledFlow(dataset, protocol, flow),
        streams,
        out,
        testing or Testing(),
        fusion=fusion,
        idt=idt,
        final=final,
        runtime=runtime,
        leave_out_unusable=leave_out_unusable,
    )


def _train_and_fuse(
    labelled: LabelledFlow,
    streams: Mapping[str, Stream],
    out: Path,
    testing: Testing,
    *,
    fusion: Fusion | None,
    idt: str | PathLike[str] | None,
    final: bool,
    runtime: TrainingRuntime | None,
    leave_out_unusable: bool,
) -> Metrics:
    """Train, test and fuse streams on stored flow; return the metrics of the fusion."""
    fusion = fusion or Fusion()
    # A clip that one stream cannot use is left out of all, so that they score the same clips.
    for stream in streams.values():
        labelled = with_usable_clips(
            labelled,
            [*(split.name for split in labelled.protocol.splits), *([FINAL] if final else [])],
            stream.clip,
            test=True,
            leave_out=leave_out_unusable,
        )
    dataset, protocol = labelled.dataset, labelled.protocol
    scored: list[StreamScores] = []
    times: dict[str, float] = {}
    curves: dict[str, list[Curve]] = {}
    parameters: dict[str, Json] = {}
    used: list[Path] = []
    for name, stream in streams.items():
        logger.info(f"{name} stream")
        description = train.description_of([labelled], stream)
        trained = out / f"train-{name}-{short_hash(description)}"
        train.train_networks([labelled], stream, trained, final=final, runtime=runtime)
        key = short_hash(evaluate.description_of(trained, labelled, testing))
        tested, start = out / f"evaluate-{name}-{key}", time.perf_counter()
        scores = evaluate.score_networks(trained, labelled, testing, tested, runtime=runtime)
        used += [labelled.flow, trained, tested]
        weight = fusion.weight(stream)
        scored.append(StreamScores(f"{name} stream", scores, weight, tested / CLASSIFIERS))
        curves[name] = train.training_curves(trained)
        times[f"{name}: training"] = train.training_seconds(trained)
        times[f"{name}: test"] = time.perf_counter() - start
        groups = (asdict(stream.clip), asdict(stream.network), asdict(stream.training))
        parameters[name] = {"weights": stream.weights, **groups[0], **groups[1], **groups[2]}
    parameters["test"] = asdict(testing)
    if idt is not None:
        scores = _only(load_scores(Path(idt)), protocol)
        weight, kept = fusion.fusion_weights[2], Path(idt).parent / CLASSIFIERS
        scored.append(StreamScores("trajectories", scores, weight, kept))
    key = short_hash(fuse.description_of(scored, softmax=fusion.softmax))
    fused = out / f"fuse-{key}"
    metrics = fuse.fuse_streams(
        scored,
        fused,
        softmax=fusion.softmax,
        title=f"{dataset.name}: two streams",
        protocol=protocol.name,
        notes=protocol.notes,
        parameters=parameters,
        timings=times,
        training=curves,
    )
    for name in fuse.RESULTS:
        atomic.write_atomic(out / name, (fused / name).read_bytes(), out)
    copy_classifiers(fused, out)
    note_used(out, [*used, fused])
    logger.info(f"report: {out / 'report.html'}")
    return metrics


def _used(dataset: Dataset, protocol: Protocol, *, final: bool) -> list[Clip]:
    """Return the clips that train or are tested; all labelled ones for the final networks."""
    used = {name for split in protocol.splits for name in (*split.train, *split.test)}
    used |= set(protocol.names) if final else set()
    return [clip for clip in dataset.clips if clip.name in used]


def _too_short(
    clips: Sequence[Clip], flow: Path, stage: FlowStage, inputs: Sequence[ClipInput]
) -> dict[str, str]:
    """Return why clips without flow are too short for a snippet, by name.

    Files are decoded only if they declare too few frames, or none. Files that cannot be read are
    left to the extraction of flow, which reports them.
    """
    extra = {"rgb": 0, "rgb-diff": 1}
    needed = max(
        (clip.span if clip.short_clips == "refuse" else 1)
        + extra.get(clip.modality, abs(stage.step))
        for clip in inputs
    )
    done = {each.name for each in stored_clips(flow)} if flow.is_dir() else set()
    short = {}
    for clip in clips:
        if safe_name(clip.name) in done or clip.path.is_dir():
            continue
        try:
            declared = video.probe(clip.path).declared_frames
            if declared is not None and declared >= needed:
                continue
            count = sum(1 for _ in video.frames(clip.path, max_frames=needed))
        except (VideoError, OSError):
            continue
        if count < needed:
            short[clip.name] = f"{count} frames; a snippet takes {needed}"
    return short


def _only(scores: Scores, protocol: Protocol) -> Scores:
    """Return the splits of a protocol, of scores that may have more."""
    wanted = {split.name for split in protocol.splits}
    kept = tuple(split for split in scores.splits if split.split in wanted)
    return Scores(scores.classes, kept or scores.splits)
