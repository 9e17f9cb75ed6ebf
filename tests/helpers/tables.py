"""A labelled set of made-up videos and made-up trajectories that tell its classes apart."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.encoding.parameters import Encoding
from flowpipe.runner import provenance
from flowpipe.trajectories.extract import Trajectories
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage
from flowpipe.trajectories.table import TableWriter
from tests.helpers import clips

SMALL = Encoding(descriptors=("hof", "mbhx"), gaussians=3, rows=200)
WORDS = Encoding(encoding="bow", descriptors=("hof", "mbhx"), clusters=8, rows=200)


def made_up_set(root: Path, classes: Mapping[str, int], *, groups: int = 3) -> Dataset:
    """So many clips of each class, in groups g0, g1, ... in turn; their videos are no videos."""
    clips = []
    for label, count in classes.items():
        for number in range(count):
            path = root / f"{label}/{number}.avi"
            write_source(path, f"{label} {number}")
            clips.append(Clip(path, f"{label}/{number}", label, f"g{number % groups}"))
    return Dataset("made-up", tuple(clips), tuple(classes))


def with_split(dataset: Dataset, test_group: str = "g0") -> Dataset:
    """The set with one official split."""
    groups = {clip.name: clip.group for clip in dataset.clips if clip.label is not None}
    train = tuple(name for name, group in groups.items() if group != test_group)
    test = tuple(name for name, group in groups.items() if group == test_group)
    return replace(dataset, splits=(Split("one", train, test),))


def write_source(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def write_tables(
    dataset: Dataset, folder: Path, rows: Mapping[str, int] | None = None, **table
) -> Path:
    """Tables of all clips, of 60 rows but where `rows` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    description = TrajectoryStage().description()
    provenance.open_stage(folder, description)
    for clip in dataset.clips:
        index = dataset.classes.index(clip.label) if clip.label else 0
        write_table(folder, clip, (rows or {}).get(clip.name, 60), index, **table)
    return folder


def write_table(
    folder: Path, clip: Clip, count: int, kind: int, *, seed: int = 0, size=(64, 48), length=30
) -> Path:
    """A table whose rows lie about a place of their class."""
    content = list(clip.path.read_bytes())
    rng = np.random.default_rng([seed, *content])
    centre = np.random.default_rng(kind).uniform(0, 1, 1000).astype(np.float32)
    parameters = TrajectoryParameters()
    fields = {}
    for name, width in parameters.widths.items():
        noise = rng.normal(0, 0.1, (count, width)).astype(np.float32)
        fields[name] = np.clip(centre[:width] + noise, 0, 1)
    source = {
        "path": os.path.relpath(clip.path, folder),
        **provenance.fingerprint(clip.path),
        "sha256": provenance.sha256(clip.path),
    }
    path = folder / f"{clip.name}.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
    with TableWriter(path, parameters) as table:
        table.append(Trajectories(**fields))
        table.finish(length, *size, source=json.dumps(source), truncated=False)
    return path


def contents(folder: Path, *without: str) -> dict[str, str]:
    """SHA-256 of the files below a folder, but for records of time and pages that show them."""
    leave = {"times.json", "report.html", *without}
    return {
        name: digest
        for name, digest in clips.contents(folder).items()
        if name.rpartition("/")[2] not in leave
    }
