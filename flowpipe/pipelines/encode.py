"""From trajectories to what machines learn from: encoders, vectors and kernels of every split.

The folder of the stage holds, beside its records, ``encoders/<split>-<descriptor>.npz`` (splits by
number, from 1), ``vectors/<clip>.npz`` with the vectors of the clip in all splits, and
``kernels/<split>-<descriptor>.npz``, the products or distances of all pairs of the split's clips.
Each file carries the digest of all that it was made from: the videos' own digests, so that a
changed video changes what depends on it and nothing else. Encoders depend on the training clips of
their split alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from flowpipe.classify.protocols import Protocol
from flowpipe.datasets.base import Clip
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.pyramid import n_cells
from flowpipe.encoding.stage import VECTORS
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.io.npz import key_of
from flowpipe.pipelines.encode_work import (
    EncodeClip,
    Fit,
    FitEncoder,
    Kernel,
    MakeKernel,
    ToEncode,
    kernel_path,
    member,
    vectors_path,
)
from flowpipe.pipelines.tables import Tracked, survey
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Outcome, Workers, as_workers
from flowpipe.runner.provenance import digest
from flowpipe.runner.run import FailureLog, Summary, run_stage
from flowpipe.runner.timing import timed

logger = logging.getLogger(__name__)


PROTOCOL = "protocol.json"

_WIDEST = 108
"""Numbers in a row of the widest descriptor."""


def encode(
    clips: Sequence[Clip],
    protocol: Protocol,
    trajectories: Path,
    out: Path,
    encoding: Encoding,
    *,
    root: Path | None = None,
    device: str = "cpu",
    workers: Workers | int | None = None,
) -> Summary:
    """Encode the clips of a protocol: encoders, vectors and kernels for each of its splits.

    Parameters
    ----------
    clips
        Of the set.
    protocol
        Which of them train and which are tested.
    trajectories
        Folder of ``extract-trajectories``.
    out
        The output folder; made if it is not there.
    encoding
        What is computed.
    root
        Folder of the videos: see :func:`flowpipe.pipelines.tables.survey`.
    device
        Where Fisher vectors are computed.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Returns
    -------
    Summary
        Of the vectors; clips without a table count as failed.

    Raises
    ------
    StageMismatchError
        The folder holds outputs of other parameters.
    ParameterError
        `trajectories` is no such folder, or a split has no clips left.
    FittingError
        Encoders or kernels could not be made.
    """
    workers = as_workers(workers)
    description = description_of(protocol, trajectories, encoding, device)
    provenance.open_stage(out, description)
    # An encoder depends on the training clips of its split, not on the rest of the protocol.
    made_with = {name: value for name, value in description.items() if name != "protocol"}
    used = [clip for clip in clips if clip.name in protocol.labels]
    tables, lacking = survey(used, trajectories, root)
    _record(used, lacking, out)
    left = protocol.among(tables.keys())
    fits = _fits(left, tables, out, made_with)
    count = len(left.splits)
    logger.info(
        f"{len(tables)} clips, {count} split{'s' * (count != 1)}, {encoding.encoding}, into {out}"
    )
    fitting = FitEncoder(encoding, tables, out, device)
    each = 6 * 4 * _WIDEST * min(encoding.n_rows, sum(table.rows for table in tables.values()))
    fitted = timed(
        out,
        "encoders",
        lambda: run_stage(
            fitting,
            fits,
            out=out,
            workers=workers.within_memory(each),
            unit="rows",
            noun="encoder",
        ),
    )
    _require(fitted, "encoders")
    vectors = _vectors(left, tables, fits, out)
    work = EncodeClip(encoding, {fit.path: fit.split for fit in fits}, out, device)
    summary = timed(
        out,
        "vectors",
        lambda: run_stage(work, vectors, out=out, workers=workers, unit="rows"),
    )
    if summary.failed:
        left = left.among({one.name for one in vectors if key_of(one.out, VECTORS) == one.key})
    _write_protocol(left, protocol.training_labels(), tables, out)
    kernels = _kernels(left, tables, fits, out)
    most = max(len(split.train) + len(split.test) for split in left.splits)
    multiply = MakeKernel(encoding.encoding == "bow", out)
    made = timed(
        out,
        "kernels",
        lambda: run_stage(
            multiply,
            kernels,
            out=out,
            workers=workers.within_memory(most * (8 * most + _largest(encoding))),
            unit="vectors",
            noun="kernel",
        ),
    )
    _require(made, "kernels")
    failed = (*lacking, *summary.failed_clips)
    return replace(summary, failed=len(failed), failed_clips=failed)


def description_of(protocol: Protocol, trajectories: Path, encoding: Encoding, device: str) -> Json:
    """What ``stage.json`` says."""
    upstream = provenance.read_stage(trajectories) or {}
    if upstream.get("stage") != "trajectories":
        raise ParameterError(
            f"{str(trajectories)!r} holds no trajectories; make them with extract-trajectories"
        )
    splits = [asdict(split) for split in protocol.splits]
    return {
        **encoding.description(),
        "device": device,
        "protocol": {
            "name": protocol.name,
            "splits": len(splits),
            "digest": digest(splits),
        },
        "trajectories": upstream,
    }


class FittingError(FlowpipeError):
    """What machines learn from could not be made."""


def _record(clips: Sequence[Clip], lacking: Mapping[str, str], out: Path) -> None:
    log = FailureLog(out / provenance.RECORDS / "failures.jsonl", out)
    log.begin({clip.name for clip in clips})
    for clip in clips:
        if clip.name in lacking:
            logger.info(f"left out: {clip.name}: {lacking[clip.name]}")
            log.add(Outcome(clip, "failed", "no-trajectories", lacking[clip.name]))


def _fits(
    protocol: Protocol, tables: Mapping[str, Tracked], out: Path, made_with: Json
) -> list[Fit]:
    fits = []
    for number, split in enumerate(protocol.splits, 1):
        sources = [(name, tables[name].source) for name in split.train]
        for descriptor in made_with["descriptors"]:
            path = out / f"encoders/{member(number, descriptor)}.npz"
            key = digest([made_with, descriptor, sources])
            fits.append(
                Fit(f"{split.name}, {descriptor}", path, key, number, descriptor, split.train)
            )
    return fits


def _vectors(
    protocol: Protocol, tables: Mapping[str, Tracked], fits: Sequence[Fit], out: Path
) -> list[ToEncode]:
    within: dict[str, list[int]] = {}
    for number, split in enumerate(protocol.splits, 1):
        for name in (*split.train, *split.test):
            within.setdefault(name, []).append(number)
    vectors = []
    for name, numbers in within.items():
        keys = [fit.key for fit in fits if fit.split in numbers]
        key = digest([tables[name].source, keys])
        path = vectors_path(out, name)
        vectors.append(ToEncode(name, tables[name].path, key, path, frozenset(numbers)))
    return vectors


def _kernels(
    protocol: Protocol, tables: Mapping[str, Tracked], fits: Sequence[Fit], out: Path
) -> list[Kernel]:
    kernels = []
    for fit in fits:
        split = protocol.splits[fit.split - 1]
        clips = (*split.train, *split.test)
        key = digest([fit.key, [(name, tables[name].source) for name in clips]])
        path = kernel_path(out, fit.split, fit.descriptor)
        kernels.append(Kernel(fit.name, path, key, member(fit.split, fit.descriptor), clips))
    return kernels


def _write_protocol(
    protocol: Protocol,
    training_labels: Sequence[Mapping[str, str]],
    tables: Mapping[str, Tracked],
    out: Path,
) -> None:
    """Write the protocol as it was carried out, and what the report says of the clips."""
    used = [tables[name] for name in protocol.labels if name in tables]
    content = {
        **protocol.to_json(),
        "training_labels": digest([protocol.classes, training_labels]),
        "without_trajectories": [table.name for table in used if not table.rows],
        "sizes": sorted({table.size for table in used}),
        "videos": {table.name: os.path.relpath(table.video, out) for table in used},
    }
    atomic.write_atomic(out / PROTOCOL, json_files.to_json(content), out)


def _largest(encoding: Encoding) -> int:
    """Bytes of the longest vector of a descriptor."""
    wide = round(2 * encoding.gaussians * encoding.pca * _WIDEST)
    length = wide if encoding.encoding == "fisher" else encoding.clusters
    return 4 * n_cells(encoding.pyramid) * length


def _require(summary: Summary, what: str) -> None:
    if summary.failed:
        raise FittingError(
            f"{summary.failed} {what} could not be made; {summary.failures} says why"
        )
