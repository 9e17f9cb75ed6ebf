"""Classify clips by the mean of their features with linear SVMs, split by split.

The mean of a clip's features over time, scaled to norm 1, is a vector like those of ``encode``: the
recipe of C3D's published features (Tran et al., ICCV 2015), and of networks that are not trained
further. Several folders, such as those of two streams, count alike: their kernels are averaged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowpipe.classify.kernels import linear_gram, mean_gram
from flowpipe.classify.metrics import Metrics, evaluate
from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.protocols import protocol as choose_protocol
from flowpipe.classify.scores import Scores, save_scores
from flowpipe.classify.svm import one_vs_rest
from flowpipe.datasets.base import Dataset
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.datasets.match import match_clips
from flowpipe.errors import FormatError, ParameterError
from flowpipe.pipelines.labelled import accuracy_line, without_clips
from flowpipe.pipelines.seen_clips import warn_of_seen_clips
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.pool import Workers, as_workers
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.features.layouts import (
    LAYOUTS,
    StoredFeatures,
    load_features,
    read_record,
    stored_features,
)

logger = logging.getLogger(__name__)

Reduce = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Returns the vector of a clip from its (T, F) features."""


def classify_features(
    dataset: Dataset | str | PathLike[str],
    features: Sequence[str | PathLike[str]],
    out: str | PathLike[str] = "scores",
    svm: Svm | None = None,
    *,
    protocol: Protocol | str | None = None,
    leave_out_unusable: bool = False,
    workers: Workers | int | None = None,
) -> Metrics:
    """Train linear SVMs on the mean features of clips, and evaluate them on test clips.

    Parameters
    ----------
    dataset
        The labelled set, or its folder or list.
    features
        Folders of :func:`flowpipe.extract_features`.
    out
        The output folder, for ``scores.npz`` and ``metrics.json``.
    svm
        Parameters of the SVMs.
    protocol
        Training and test clips, as :func:`flowpipe.protocol` takes them.
    leave_out_unusable
        Leave out clips without features, which are logged, in place of an error.
    workers
        Number of threads that train the SVMs of the classes; by default one per core.

    Raises
    ------
    ParameterError
        A folder holds no features, or the workers are those of a cluster.
    UnusableClipsError
        Clips have no features, or damaged ones; all are listed.
    StageMismatchError
        The output folder holds scores of other features or parameters.
    """
    svm, out, workers = svm or Svm(), Path(out), as_workers(workers)
    if workers.executor != "local":
        raise ParameterError(f"executor is {workers.executor!r}; SVMs of features take local")
    folders = [Path(folder) for folder in features]
    records = [_record(folder) for folder in folders]
    if not isinstance(dataset, Dataset):
        dataset = load_dataset(dataset)
    if not isinstance(protocol, Protocol):
        protocol = choose_protocol(dataset, protocol)
    warn_of_seen_clips(folders, protocol)
    clips = [clip.name for clip in dataset.clips if clip.name in protocol.names]
    vectors, missing = [], {}
    for folder in folders:
        found, reasons = vectors_of(folder, clips)
        vectors.append(found)
        missing.update(reasons)
    if missing:
        if not leave_out_unusable:
            raise UnusableClipsError(missing, len(clips))
        protocol = without_clips(protocol, missing)
    splits = [asdict(split) for split in protocol.splits]
    description = {
        **svm.description(),
        "protocol": {"name": protocol.name, "digest": provenance.digest(splits)},
        "training_labels": provenance.digest([protocol.classes, protocol.training_labels()]),
        "features": records,
    }
    provenance.open_stage(out, description)
    record_dataset(dataset, out)
    joined = score_vectors(protocol, vectors, svm, threads=max(1, workers.local_jobs))
    save_scores(out / "scores.npz", joined, out)
    metrics = evaluate(joined)
    content = {**metrics.to_json(), "protocol": protocol.name, "stage": description}
    atomic.write_atomic(out / "metrics.json", json_files.to_json(content), out)
    atomic.remove_stale(out)
    logger.info(accuracy_line("mean features", metrics))
    return metrics


def score_vectors(
    protocol: Protocol,
    vectors: Sequence[Mapping[str, NDArray[np.float32]]],
    svm: Svm,
    *,
    threads: int = 1,
) -> Scores:
    """Score the test clips of every split with linear SVMs on vectors of the clips.

    Parameters
    ----------
    protocol
        Training and test clips.
    vectors
        Of each kind, those of all clips of the protocol, by name; their kernels are averaged.
    svm
        Parameters of the SVMs.
    threads
        Number of threads that train the SVMs of the classes.
    """
    names = sorted(protocol.names)
    rows = {name: row for row, name in enumerate(names)}
    parts = []
    with threadpool_limits(1):
        gram = mean_gram(linear_gram(np.stack([each[name] for name in names])) for each in vectors)
        for split in protocol.splits:
            train, test = (
                np.array([rows[name] for name in half], np.int64)
                for half in (split.train, split.test)
            )
            labels = protocol.indices(split.train)
            scores = one_vs_rest(
                gram, labels, train, test, len(protocol.classes), svm, jobs=threads
            )
            parts.append(protocol.scored(split.name, split.test, scores))
    return Scores(protocol.classes, tuple(parts))


def _record(folder: Path) -> json_files.Json:
    """Return the record of a folder of features."""
    record = provenance.read_stage(folder) if folder.is_dir() else None
    if record is None or record.get("stage") != "features" or record.get("layout") not in LAYOUTS:
        raise ParameterError(f"{str(folder)!r} holds no features; make them with features")
    return record


def mean_over_time(features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean of the (T, F) features of a clip."""
    return np.asarray(features.mean(axis=0, dtype=np.float64))


def vectors_of(
    folder: Path,
    clips: Sequence[str],
    reduced: Reduce = mean_over_time,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, str]]:
    """Return a vector of norm 1 for each clip, and why others have none.

    Parameters
    ----------
    folder
        Features of clips.
    clips
        Names of the clips.
    reduced
        Return the vector of a clip from its (T, F) features.

    Raises
    ------
    ParameterError
        The folder holds no features.
    """
    features_first = LAYOUTS[_record(folder)["layout"]].features_first
    stored: dict[str, StoredFeatures] = {}
    for each in stored_features(folder):
        name = (read_record(each.record) or {}).get("clip")
        if isinstance(name, str):
            stored[name] = each
    found, missing = match_clips(clips, stored, folder)
    vectors: dict[str, NDArray[np.float32]] = {}
    for clip, name in found.items():
        try:
            array = load_features(stored[name].path)
        except (FormatError, OSError) as error:
            missing[clip] = str(error)
            continue
        vector = reduced(array.T if features_first else array)
        norm = np.linalg.norm(vector)
        vectors[clip] = np.asarray(vector / (norm or 1), np.float32)
    return vectors, missing
