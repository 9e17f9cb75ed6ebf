"""What is scored in a classification: the record, the tasks, and the files of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import Protocol
from flowpipe.classify.work import KERNEL_FORMAT, SplitToScore, kernel_path
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import key_of
from flowpipe.pipelines.encode import PROTOCOL
from flowpipe.runner import json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.provenance import digest

ALL = "all"
"""The configuration of all descriptors together."""


def description_of(vectors: Path, svm: Svm) -> Json:
    """Return the content of ``stage.json``."""
    upstream = provenance.read_stage(vectors) or {}
    if upstream.get("stage") != "encode" or not (vectors / PROTOCOL).is_file():
        raise ParameterError(f"{str(vectors)!r} holds no encoded clips; make them with encode")
    labels = json_files.read_json(vectors / PROTOCOL).get("training_labels")
    return {**svm.description(), "training_labels": labels, "encode": upstream}


def tasks_of(
    protocol: Protocol,
    configurations: Mapping[str, Sequence[str]],
    vectors: Path,
    out: Path,
    svm: Svm,
) -> list[SplitToScore]:
    """Return the splits to score, for each configuration of descriptors."""
    tasks = []
    for configuration, descriptors in configurations.items():
        for number, split in enumerate(protocol.splits, 1):
            kernels = tuple(kernel_path(vectors, number, name) for name in descriptors)
            keys = [key_of(path, KERNEL_FORMAT) for path in kernels]
            if None in keys:
                raise FormatError(
                    f"{str(vectors)!r} lacks {str(kernels[keys.index(None)])!r}; run encode again"
                )
            labels = tuple(protocol.indices(split.train).tolist())
            tasks.append(
                SplitToScore(
                    name=f"{split.name}, {configuration}",
                    path=scores_path(out, number, configuration),
                    key=digest([svm.description(), keys, protocol.classes, labels]),
                    split=split,
                    training_labels=labels,
                    n_classes=len(protocol.classes),
                    kernels=kernels,
                )
            )
    return tasks


def scores_path(out: Path, split: int, configuration: str) -> Path:
    """Return the file of the scores and the SVMs of a split, numbered from 1."""
    return out / f"parts/{split}-{configuration}.npz"
