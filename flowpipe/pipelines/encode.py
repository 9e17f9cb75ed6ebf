"""Encode trajectories: encoders, vectors and kernels for every split.

The output folder holds ``encoders/<split>-<descriptor>.npz`` (splits are numbered from 1),
``vectors/<clip>.npz`` with the vectors of the clip in all splits, and
``kernels/<split>-<descriptor>.npz``, the products or distances of all pairs of the split's clips.
Each file carries the digest of all that it was made from, including the digests of the videos: a
changed video changes what depends on it and nothing else. Encoders depend only on the training
clips of their split.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from flowpipe.classify.protocols import Protocol
from flowpipe.classify.work import ComputeKernel, KernelToCompute, kernel_path
from flowpipe.datasets.base import Clip
from flowpipe.encoding.files import (
    VECTORS_FORMAT,
    encoder_path,
    load_encoders,
    vector_name,
    vectors_path,
)
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.pyramid import n_cells
from flowpipe.encoding.work import ClipToEncode, EncodeClip, EncoderToFit, FitEncoder
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.io.npz import key_of
from flowpipe.runner import atomic, json_files, provenance
from flowpipe.runner.failures import FailureLog
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Outcome, Workers, as_workers
from flowpipe.runner.provenance import digest
from flowpipe.runner.run import Summary, run_stage
from flowpipe.runner.timing import timed
from flowpipe.trajectories.clip_tables import ClipTable, find_tables

logger = logging.getLogger(__name__)

PROTOCOL = "protocol.json"

_SHOWN = 10


class FittingError(FlowpipeError):
    """Encoders or kernels could not be computed."""


def encode(
    clips: Sequence[Clip],
    protocol: Protocol,
    trajectories: Path,
    out: Path,
    encoding: Encoding,
    *,
    workers: Workers | int | None = None,
) -> Summary:
    """Encode the clips of a protocol for each of its splits.

    Parameters
    ----------
    clips
        Clips of the set.
    protocol
        Its training and test clips.
    trajectories
        Folder of ``extract-trajectories``.
    out
        The output folder; created where it does not exist.
    encoding
        Parameters of the encoders.
    workers
        Number of worker processes, or a :class:`~flowpipe.runner.pool.Workers`; by default one per
        core.

    Returns
    -------
    Summary
        The summary of the vectors. Clips without a table count as failed, and so do those without
        trajectories unless they are left out.

    Raises
    ------
    StageMismatchError
        The folder holds outputs of other parameters.
    ParameterError
        `trajectories` is no such folder, or a split has no clips left.
    FittingError
        Encoders or kernels could not be computed.
    """
    workers = as_workers(workers)
    description = description_of(protocol, trajectories, encoding)
    provenance.open_stage(out, description)
    # An encoder depends on the training clips of its split, not on the rest of the protocol.
    others = ("protocol", "leave_out_unusable")
    made_with = {name: value for name, value in description.items() if name not in others}
    used = [clip for clip in clips if clip.name in protocol.names]
    tables, missing = find_tables(used, trajectories)
    _record(used, missing, out)
    left = protocol.among(tables.keys())
    empty = _without_trajectories(tables)
    _require_rows(left, tables)
    if encoding.leave_out_unusable and empty:
        left = left.among(tables.keys() - set(empty), "have no trajectories")
        empty = []
    fits = _fits(left, tables, out, made_with)
    logger.info(
        f"{len(tables)} clips, {_count(left.splits, 'split')}: {encoding.encoder.title} -> {out}"
    )
    widest = max(table.widest for table in tables.values())
    memory = 6 * 4 * widest * min(encoding.n_rows, sum(table.rows for table in tables.values()))
    fitted = timed(
        out,
        "encoders",
        lambda: run_stage(
            FitEncoder(encoding, tables, out),
            fits,
            out=out,
            workers=workers.within_memory(memory),
            unit="rows",
            noun="encoder",
        ),
    )
    _require(fitted, "encoders")
    vectors = _vectors(left, tables, fits, out)
    work = EncodeClip(encoding, {fit.path: fit.split for fit in fits}, out)
    summary = timed(
        out,
        "vectors",
        lambda: run_stage(
            work,
            vectors,
            out=out,
            workers=workers,
            unit="rows",
            outputs=lambda clip: [clip.out],
            overwrite=True,
        ),
    )
    if summary.failed:
        encoded = {v.name for v in vectors if key_of(v.out, VECTORS_FORMAT) == v.key}
        if any(split.test and encoded.isdisjoint(split.test) for split in left.splits):
            raise FittingError(f"no test clip of a split was encoded; {summary.failures} says why")
        left = left.among(encoded)
    _write_protocol(left, protocol.training_labels(), tables, out)
    most = max(len(split.train) + len(split.test) for split in left.splits)
    computed = timed(
        out,
        "kernels",
        lambda: run_stage(
            ComputeKernel(encoding.encoder.kernel, out),
            _kernels(left, tables, fits, out),
            out=out,
            workers=workers.within_memory(most * (8 * most + _vector_bytes(encoding, fits))),
            unit="vectors",
            noun="kernel",
        ),
    )
    _require(computed, "kernels")
    failed = (*missing, *empty, *summary.failed_clips)
    return replace(summary, failed=len(failed), failed_clips=failed)


def description_of(protocol: Protocol, trajectories: Path, encoding: Encoding) -> Json:
    """Return the content of ``stage.json``."""
    upstream = provenance.read_stage(trajectories) or {}
    if upstream.get("stage") not in ("trajectories", "tdd"):
        raise ParameterError(
            f"{str(trajectories)!r} holds no trajectories; make them with extract-trajectories"
        )
    splits = [asdict(split) for split in protocol.splits]
    return {
        **encoding.description(),
        "protocol": {
            "name": protocol.name,
            "splits": len(splits),
            "digest": digest(splits),
        },
        "trajectories": upstream,
    }


def _record(clips: Sequence[Clip], missing: Mapping[str, str], out: Path) -> None:
    """Report the clips without a table, and write them to the failure log."""
    log = FailureLog(out / provenance.RECORDS / "failures.jsonl", out)
    log.begin({clip.name for clip in clips})
    for clip in clips:
        if clip.name in missing:
            logger.info(f"left out: {clip.name}: {missing[clip.name]}")
            log.add(Outcome(clip, "failed", "no-trajectories", missing[clip.name]))


def _without_trajectories(tables: Mapping[str, ClipTable]) -> list[str]:
    """Return the clips whose tables have no rows; name them with the reasons."""
    empty = [table for table in tables.values() if not table.rows]
    if empty:
        shown = [f"{table.name!r} ({table.why_empty})" for table in empty[:_SHOWN]]
        more = ", ..." if len(empty) > _SHOWN else ""
        logger.warning(f"{_count(empty, 'clip')} without trajectories: {', '.join(shown)}{more}")
    return [table.name for table in empty]


def _require_rows(protocol: Protocol, tables: Mapping[str, ClipTable]) -> None:
    """Raise an error if no training clip of a split has a trajectory."""
    for split in protocol.splits:
        train = [tables[name] for name in split.train]
        if not any(table.rows for table in train):
            raise ParameterError(
                f"split {split.name!r}: none of its {_count(train, 'training clip')} has a "
                f"trajectory, so there is nothing to learn from; {train[0].name!r} has "
                f"{train[0].why_empty}"
            )


def _fits(
    protocol: Protocol, tables: Mapping[str, ClipTable], out: Path, made_with: Json
) -> list[EncoderToFit]:
    fits = []
    for number, split in enumerate(protocol.splits, 1):
        sources = [(name, tables[name].source) for name in split.train]
        for descriptor in made_with["descriptors"]:
            name = f"{split.name}, {descriptor}"
            path = encoder_path(out, number, descriptor)
            key = digest([made_with, descriptor, sources])
            fits.append(EncoderToFit(name, path, key, number, descriptor, split.train))
    return fits


def _vectors(
    protocol: Protocol, tables: Mapping[str, ClipTable], fits: Sequence[EncoderToFit], out: Path
) -> list[ClipToEncode]:
    splits_of: dict[str, list[int]] = {}
    for number, split in enumerate(protocol.splits, 1):
        for name in (*split.train, *split.test):
            splits_of.setdefault(name, []).append(number)
    vectors = []
    for name, numbers in splits_of.items():
        keys = [fit.key for fit in fits if fit.split in numbers]
        key = digest([tables[name].source, keys])
        path = vectors_path(out, name)
        vectors.append(ClipToEncode(name, tables[name].path, key, path, frozenset(numbers)))
    return vectors


def _kernels(
    protocol: Protocol, tables: Mapping[str, ClipTable], fits: Sequence[EncoderToFit], out: Path
) -> list[KernelToCompute]:
    kernels = []
    for fit in fits:
        split = protocol.splits[fit.split - 1]
        clips = (*split.train, *split.test)
        key = digest([fit.key, [(name, tables[name].source) for name in clips]])
        path = kernel_path(out, fit.split, fit.descriptor)
        vector = vector_name(fit.split, fit.descriptor)
        kernels.append(KernelToCompute(fit.name, path, key, vector, clips))
    return kernels


def _write_protocol(
    protocol: Protocol,
    training_labels: Sequence[Mapping[str, str]],
    tables: Mapping[str, ClipTable],
    out: Path,
) -> None:
    """Write the protocol as it was carried out, and what the report says about the clips."""
    used = [table for name, table in tables.items() if name in protocol.names]
    content = {
        **protocol.to_json(),
        "training_labels": digest([protocol.classes, training_labels]),
        "without_trajectories": [table.name for table in used if not table.rows],
        "sizes": sorted({table.size for table in used}),
        "videos": {table.name: os.path.relpath(table.video, out) for table in used},
    }
    atomic.write_atomic(out / PROTOCOL, json_files.to_json(content), out)


def _vector_bytes(encoding: Encoding, fits: Sequence[EncoderToFit]) -> int:
    """Return the size of the longest vector of a descriptor."""
    encoders = [load_encoders(fit.path)[0] for fit in fits if fit.split == fits[0].split]
    longest = max(encoder.n_outputs for each in encoders for encoder in each.values())
    return 4 * n_cells(encoding.pyramid) * longest


def _require(summary: Summary, noun: str) -> None:
    if summary.failed:
        raise FittingError(
            f"{summary.failed} {noun} could not be computed; {summary.failures} says why"
        )


def _count(items: Sequence[object], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"
