"""Classify by maps of networks pooled along improved trajectories (TDD), fused with iDT."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from flowpipe.classify import protocols
from flowpipe.classify.fusion import StreamScores
from flowpipe.classify.metrics import Metrics
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.scores import load_scores
from flowpipe.classify.splits import choose_splits
from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.encoding.parameters import Encoding
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.pipelines import fuse
from flowpipe.pipelines.classify import classify
from flowpipe.pipelines.encode import description_of as encoding_of
from flowpipe.pipelines.encode import encode
from flowpipe.pipelines.seen_clips import warn_of_seen_clips
from flowpipe.pipelines.split_scores import description_of as classifying
from flowpipe.pipelines.trajectories import track
from flowpipe.runner import atomic, provenance
from flowpipe.runner.inspect import note_used
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.runner.provenance import short_hash
from flowpipe.runner.run import run_stage
from flowpipe.training.tdd import MapLayer, PoolClip, find_maps, map_layers
from flowpipe.trajectories.clip_tables import find_tables
from flowpipe.trajectories.parameters import TrajectoryStage

logger = logging.getLogger(__name__)

PCA = 0.125
"""Fraction of the dimensions that PCA keeps: 64 of the paper's 512."""


def tdd_baseline(
    dataset: Dataset | str | PathLike[str],
    maps: Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "tdd-baseline",
    protocol: Protocol | str | None = None,
    stage: TrajectoryStage | None = None,
    encoding: Encoding | None = None,
    svm: Svm | None = None,
    *,
    splits: Sequence[str] = (),
    idt: bool = True,
    workers: Workers | int | None = None,
) -> Metrics:
    """Classify a labelled data set by maps of networks, pooled along its trajectories.

    Each stage has its own folder in `out`, named after the stage and a hash of what determines it.
    A changed setting recomputes only what depends on it, and an interrupted run resumes.

    Parameters
    ----------
    dataset
        The data set, or its folder or list.
    maps
        Folders of :func:`flowpipe.extract_features` with ``maps``, one for each layer and each size
        of the frames: of a network on frames and of one on flow. The networks must not have been
        trained on test clips.
    out
        The output folder: ``metrics.json``, ``fused.npz`` and ``report.html``.
    protocol
        Training and test clips; by default the official splits, or leave one group out.
    stage, svm
        Parameters of the trajectories and of the SVMs.
    encoding
        Parameters of the encoders of both. Its descriptors are those of iDT; of pooled maps, PCA
        keeps an eighth of the dimensions.
    splits
        Names of the splits to train and test, such as the one whose networks the maps are of; by
        default all.
    idt
        Add the scores of the trajectories' own descriptors.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Returns
    -------
    Metrics
        Of the fusion, or without `idt` of the pooled maps. ``failed`` counts the clips that failed,
        and that are listed but do not exist.

    Raises
    ------
    FlowpipeError
        The data set or the maps cannot be read, or no classifier can be trained.

    Notes
    -----
    L. Wang, Y. Qiao and X. Tang, "Action Recognition with Trajectory-Pooled Deep-Convolutional
    Descriptors", CVPR 2015.

    Examples
    --------
    >>> import flowpipe
    >>> from flowpipe.encoding.parameters import Encoding
    >>> options = {"backbone": "shufflenet_v2_x0_5", "input_size": 32, "epochs": 1}
    >>> nets = flowpipe.train("videos", "flow", "net", "small", splits=["split1"], **options)
    >>> summary = flowpipe.extract_features("flow", "stage2", "net", maps="stage2")
    >>> encoding = Encoding(gaussians=2)
    >>> own = {"encoding": encoding, "splits": ["split1"]}  # which the network was trained on
    >>> metrics = flowpipe.tdd_baseline("videos", ["stage2"], **own)
    >>> metrics.confusion.shape  # true class by predicted class
    (6, 6)
    """
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset)
    if not isinstance(protocol, Protocol):
        protocol = protocols.protocol(dataset, protocol)
    chosen = choose_splits(protocol.splits, splits, f"{protocol.name} of {dataset.name}")
    warn_of_seen_clips([Path(each) for each in maps], protocol, chosen)
    protocol = replace(protocol, splits=tuple(chosen))
    stage, svm = stage or TrajectoryStage(), svm or Svm()
    workers, out = as_workers(workers), Path(out)
    layers = map_layers([Path(each) for each in maps])
    own = encoding or Encoding()
    of_maps = encoding_of_maps(own, layers)
    record_dataset(dataset, out)
    missing = dataset.missing()
    if missing:
        logger.warning(f"{len(missing)} clips listed but not there: {', '.join(missing[:10])}")
    clips = [clip for clip in dataset.clips if clip.name in protocol.names]
    tracks = out / f"trajectories-{short_hash(stage.description())}"
    track(clips, tracks, stage, workers=workers)
    pooled = pool_maps(clips, layers, tracks, out, workers)
    streams, failed, used = [], 0, [tracks, pooled]
    for name, tables, settings in [("TDD", pooled, of_maps), ("iDT", tracks, own)][: 1 + idt]:
        vectors = out / f"encode-{short_hash(encoding_of(protocol, tables, settings))}"
        encoded = encode(clips, protocol, tables, vectors, settings, workers=workers)
        scores = out / f"classify-{short_hash(classifying(vectors, svm))}"
        classify(vectors, scores, svm, title=f"{dataset.name}: {name}", workers=workers)
        streams.append(StreamScores(name, load_scores(scores / "scores.npz")))
        failed = max(failed, encoded.failed)
        used += [vectors, scores]
    fused = out / f"fuse-{short_hash(fuse.description_of(streams, softmax=False))}"
    metrics = fuse.fuse_streams(
        streams,
        fused,
        title=f"{dataset.name}: {' and '.join(stream.name for stream in streams)}",
        protocol=protocol.name,
        notes=protocol.notes,
    )
    for name in fuse.RESULTS:
        atomic.write_atomic(out / name, (fused / name).read_bytes(), out)
    note_used(out, [*used, fused])
    logger.info(f"report: {out / 'report.html'}")
    return replace(metrics, failed=failed + len(missing))


def encoding_of_maps(own: Encoding, layers: Sequence[MapLayer]) -> Encoding:
    """Return the parameters of encoders of pooled maps, beside those of trajectories."""
    names = tuple(name for layer in layers for name in layer.descriptors)
    of_maps = replace(own, descriptors=names)  # type: ignore[arg-type]
    return replace(of_maps, pca=PCA) if own.encoding == "fisher" else of_maps


def pool_maps(
    clips: Sequence[Clip],
    layers: Sequence[MapLayer],
    tracks: Path,
    recipe: Path,
    workers: Workers,
) -> Path:
    """Pool the maps of all clips that have trajectories; return the folder of the stage.

    Parameters
    ----------
    clips
        Clips of the set.
    layers
        Layers with their folders of maps.
    tracks
        Folder of the trajectories.
    recipe
        Folder in which that of the stage is made.
    workers
        Worker processes.

    Raises
    ------
    FlowpipeError
        No clip has trajectories.
    """
    out = recipe / f"tdd-{short_hash(_description(layers, tracks))}"
    provenance.open_stage(out, _description(layers, tracks))
    tables, _ = find_tables(clips, tracks)
    if not tables:
        raise FlowpipeError(f"{str(tracks)!r} has no trajectories of any clip")
    work = PoolClip(tuple(layers), find_maps(layers, tables), tracks, out)
    logger.info(f"{len(tables)} clips, maps of {len(layers)} layers along trajectories -> {out}")
    run_stage(
        work,
        list(tables.values()),
        out=out,
        workers=workers,
        unit="rows",
        outputs=lambda clip: [work.path(clip)],
    )
    return out


def _description(layers: Sequence[MapLayer], tracks: Path) -> dict[str, object]:
    """Return the content of ``stage.json``."""
    upstream = provenance.read_stage(tracks)
    if upstream is None:
        raise ParameterError(f"{str(tracks)!r} holds no trajectories")
    return {
        "stage": "tdd",
        "parameters": upstream["parameters"],
        "trajectories": upstream,
        "maps": {
            layer.name: [provenance.read_stage(folder) for folder in layer.folders]
            for layer in layers
        },
    }
