"""Run the classical baseline: trajectories, a vector per clip, SVMs, an accuracy."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

from flowpipe._options import with_options
from flowpipe.classify import protocols
from flowpipe.classify.metrics import Metrics
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import load_scores
from flowpipe.classify.splits import CLASSIFIERS, FINAL
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.encoding.parameters import Encoding
from flowpipe.pipelines.classifiers import fit_final, of_all_clips
from flowpipe.pipelines.classify import RESULTS, classify
from flowpipe.pipelines.encode import description_of as encoding_of
from flowpipe.pipelines.encode import encode
from flowpipe.pipelines.kept import add_classifier, copy_classifiers, record_of
from flowpipe.pipelines.split_scores import description_of as classifying
from flowpipe.pipelines.trajectories import track, with_trajectory_options
from flowpipe.runner import atomic
from flowpipe.runner.inspect import note_used
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.provenance import short_hash
from flowpipe.runner.run import Shard, Summary, as_shard
from flowpipe.runner.timing import timed, times_of
from flowpipe.trajectories.parameters import TrajectoryStage

logger = logging.getLogger(__name__)


@overload
def idt_baseline(
    dataset: Dataset | str | PathLike[str],
    out: str | PathLike[str] = ...,
    protocol: Protocol | str | None = ...,
    stage: TrajectoryStage | None = ...,
    encoding: Encoding | str | None = ...,
    svm: Svm | None = ...,
    *,
    final: bool = ...,
    workers: Workers | int | None = ...,
    shard: None = ...,
    **options: Any,
) -> Metrics: ...


@overload
def idt_baseline(
    dataset: Dataset | str | PathLike[str],
    out: str | PathLike[str] = ...,
    protocol: Protocol | str | None = ...,
    stage: TrajectoryStage | None = ...,
    encoding: Encoding | str | None = ...,
    svm: Svm | None = ...,
    *,
    final: bool = ...,
    workers: Workers | int | None = ...,
    shard: Shard | str | None,
    **options: Any,
) -> Metrics | Summary: ...


def idt_baseline(
    dataset: Dataset | str | PathLike[str],
    out: str | PathLike[str] = "idt-baseline",
    protocol: Protocol | str | None = None,
    stage: TrajectoryStage | None = None,
    encoding: Encoding | str | None = None,
    svm: Svm | None = None,
    *,
    final: bool = False,
    workers: Workers | int | None = None,
    shard: Shard | str | None = None,
    **options: Any,
) -> Metrics | Summary:
    """Classify a labelled data set by its (improved) dense trajectories.

    Each stage has its own folder in `out`, named after the stage and a hash of what determines it.
    A changed setting recomputes only what depends on it, and an interrupted run resumes.

    Parameters
    ----------
    dataset
        The data set, or its folder or list.
    out
        The output folder: ``metrics.json``, ``scores.npz`` and ``report.html`` of the last run, its
        classifiers, one for each split, and the folders of the stages.
    protocol
        Training and test clips: a protocol, or what
        :func:`flowpipe.classify.protocols.protocol` takes. By default the official splits, or leave
        one group out where there are none.
    stage, encoding, svm
        Parameters of the stages, by default those of the papers. `encoding` may be the name of an
        encoder, ``fisher`` or ``bow``.
    final
        Also fit a classifier to all clips, for new videos; see :func:`flowpipe.load_classifier`.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.
    shard
        Extract the trajectories of this part of the clips only, such as ``"2/8"``, and stop.
    **options
        Fields of `stage`, of its parameters, of `encoding` or of `svm`: ``kind="dt"``,
        ``gaussians=64``, ``c=10``.

    Returns
    -------
    Metrics
        The metrics of all descriptors together. ``failed`` counts the clips that failed, that are
        listed but do not exist, and that have no trajectories, unless they are left out. With a
        `shard`, the summary of its extraction instead.

    Raises
    ------
    FlowpipeError
        The data set cannot be read, an option is unknown or out of range, or no classifier can be
        trained.

    Notes
    -----
    H. Wang and C. Schmid, "Action Recognition with Improved Trajectories", ICCV 2013.

    Examples
    --------
    >>> import flowpipe
    >>> metrics = flowpipe.idt_baseline("videos", "idt", gaussians=4)
    >>> metrics.confusion.shape  # true class by predicted class
    (6, 6)
    """
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset)
    if not isinstance(protocol, Protocol):
        protocol = protocols.protocol(dataset, protocol)
    workers = as_workers(workers)
    part = None if shard is None else as_shard(shard)
    out = Path(out)
    if isinstance(encoding, str):
        options["encoding"], encoding = encoding, None
    others = {field.name for group in (Encoding, Svm) for field in fields(group)}
    of_stage = {name: options.pop(name) for name in set(options) - others}
    stage = with_trajectory_options(stage or TrajectoryStage(), of_stage)
    settings: Encoding
    settings, svm = with_options(options, encoding or Encoding(), svm or Svm())
    record_dataset(dataset, out)
    missing = dataset.missing()
    _warn(missing, "listed but not there")
    for note in protocol.notes:
        logger.info(f"note: {note}")
    clips = [clip for clip in dataset.clips if clip.name in protocol.names]
    tracks = out / f"trajectories-{short_hash(stage.description())}"
    tracked = timed(
        tracks, "extraction", lambda: track(clips, tracks, stage, workers=workers, shard=part)
    )
    if part is not None:
        return tracked
    vectors = out / f"encode-{short_hash(encoding_of(protocol, tracks, settings))}"
    encoded = encode(clips, protocol, tracks, vectors, settings, workers=workers)
    scores = out / f"classify-{short_hash(classifying(vectors, svm))}"
    times = {
        **{f"trajectories: {part}": took for part, took in times_of(tracks).items()},
        **{f"encode: {part}": took for part, took in times_of(vectors).items()},
    }
    other_runs = sorted(out.glob("classify-*"))
    title = f"{dataset.name}: {stage.parameters.kind} trajectories, {settings.encoding}"
    metrics = classify(
        vectors, scores, svm, title=title, other_runs=other_runs, times=times, workers=workers
    )
    for name in RESULTS:
        atomic.write_atomic(out / name, (scores / name).read_bytes(), out)
    used = [tracks, vectors, scores]
    copy_classifiers(scores, out)
    if final:
        whole = of_all_clips(protocol)
        vectors = out / f"encode-{short_hash(encoding_of(whole, tracks, settings))}"
        encode(clips, whole, tracks, vectors, settings, workers=workers)
        fitted = out / f"classify-{short_hash(classifying(vectors, svm))}"
        path = fit_final(vectors, fitted, svm, workers=workers)
        add_classifier(FINAL, path, record_of(load_scores(scores / "scores.npz")), out)
        logger.info(f"classifier of all {len(whole.names)} clips: {out / CLASSIFIERS / FINAL}")
        used += [vectors, fitted]
    note_used(out, used)
    logger.info(f"report: {out / 'report.html'}")
    # A clip whose extraction failed has no table, so it counts as failed in encode too.
    return replace(metrics, failed=max(tracked.failed, encoded.failed) + len(missing))


def _warn(names: Sequence[str], what: str) -> None:
    if names:
        shown = ", ".join(map(repr, names[:10])) + (", ..." if len(names) > 10 else "")
        logger.warning(f"{len(names)} clip{'s' * (len(names) != 1)} {what}: {shown}")
