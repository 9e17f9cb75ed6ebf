"""From trajectories to what machines learn from: encoders, vectors and kernels of every split.

The folder of the stage holds, beside its records, ``encoders/<split>-<descriptor>.npz`` (splits by
number, from 1), ``vectors/<clip>.npz`` with the vectors of the clip in all splits, and
``kernels/<split>-<descriptor>.npz``, the products or distances of all pairs of the split's clips.
Each file carries the digest of all that it was made from: the videos' own digests, so that a
changed video changes what depends on it and nothing else. Encoders depend on the training clips of
their split alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from flowpipe import artifacts
from flowpipe.arrays import key_of, load_arrays, save_arrays, take
from flowpipe.artifacts import Json, digest
from flowpipe.classify.kernels import Gram, chi2_distances, linear_gram
from flowpipe.classify.protocols import Protocol
from flowpipe.clips import Clip
from flowpipe.encoding.parameters import Descriptor, Encoding
from flowpipe.encoding.pyramid import n_cells
from flowpipe.encoding.sampling import sample_rows
from flowpipe.encoding.stage import (
    ENCODERS,
    VECTORS,
    ClipVectors,
    Encoders,
    fit_encoders,
    load_encoders,
    load_vectors,
    save_encoders,
    save_vectors,
)
from flowpipe.errors import FlowpipeError, ParameterError
from flowpipe.execution import Advance, Done, Outcome
from flowpipe.pipelines.steps import run_stage, say, timed, within_memory
from flowpipe.pipelines.tables import Tracked, blocks, sample, survey
from flowpipe.runs import FailureLog, Summary

KERNEL = "flowpipe kernel 1"
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
    jobs: int,
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
    jobs
        Worker processes.

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
    description = description_of(protocol, trajectories, encoding, device)
    artifacts.open_stage(out / "stage.json", description, out)
    # Labels and test clips have no part in what an encoder is made from.
    made_with = {name: value for name, value in description.items() if name != "protocol"}
    used = [clip for clip in clips if clip.name in protocol.labels]
    tables, lacking = survey(used, trajectories, root)
    _record(used, lacking, out)
    left = protocol.among(tables.keys())
    fits = _fits(left, tables, out, made_with)
    count = len(left.splits)
    say(f"{len(tables)} clips, {count} split{'s' * (count != 1)}, {encoding.encoding}, into {out}")
    fitting = FitEncoder(encoding, tables, out, device)
    each = 6 * 4 * _WIDEST * min(encoding.n_rows, sum(table.rows for table in tables.values()))
    fitted = timed(
        out,
        "encoders",
        lambda: run_stage(
            fitting,
            fits,
            out=out,
            records=out,
            jobs=within_memory(jobs, each),
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
        lambda: run_stage(work, vectors, out=out, records=out, jobs=jobs, unit="rows"),
    )
    if summary.failed:
        left = left.among({one.name for one in vectors if key_of(one.out, VECTORS) == one.key})
    _write_protocol(left, tables, out)
    kernels = _kernels(left, tables, fits, out)
    most = max(len(split.train) + len(split.test) for split in left.splits)
    multiply = MakeKernel(encoding.encoding == "words", out)
    made = timed(
        out,
        "kernels",
        lambda: run_stage(
            multiply,
            kernels,
            out=out,
            records=out,
            jobs=within_memory(jobs, most * (8 * most + _largest(encoding))),
            unit="vectors",
            noun="kernel",
        ),
    )
    _require(made, "kernels")
    return replace(summary, failed=summary.failed + len(lacking))


def description_of(protocol: Protocol, trajectories: Path, encoding: Encoding, device: str) -> Json:
    """What ``stage.json`` says."""
    path = trajectories / "stage.json"
    upstream = artifacts.read_json(path) if path.is_file() else {}
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
            "digest": digest([protocol.classes, dict(protocol.labels), splits]),
        },
        "trajectories": upstream,
    }


class FittingError(FlowpipeError):
    """What machines learn from could not be made."""


@dataclass(frozen=True, slots=True)
class Fit:
    """An encoder to be fitted: of one descriptor, to the training clips of one split."""

    name: str
    path: Path
    key: str
    split: int
    descriptor: Descriptor
    train: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FitEncoder:
    """Fits an encoder."""

    encoding: Encoding
    tables: Mapping[str, Tracked]
    out: Path
    device: str

    def __call__(self, fit: Fit, advance: Advance) -> Done:
        """Fit it, unless it is there."""
        if key_of(fit.path, ENCODERS) == fit.key:
            return Done(skipped=True)
        lengths = {name: self.tables[name].rows for name in fit.train}
        chosen = sample_rows(lengths, self.encoding.n_rows, self.encoding.seed)
        rows = sample(self.tables, chosen, fit.descriptor)
        only = replace(self.encoding, descriptors=(fit.descriptor,))
        # Sums by several threads would differ with their number in the last bits.
        with threadpool_limits(1):
            encoders = fit_encoders({fit.descriptor: rows}, only, self.device)
        save_encoders(fit.path, encoders, only, self.out, fit.key)
        advance(len(rows))
        return Done()


@dataclass(frozen=True, slots=True)
class ToEncode:
    """A clip to be encoded, by the encoders of the splits that it is in."""

    name: str
    path: Path
    key: str
    out: Path
    splits: frozenset[int]


@dataclass
class EncodeClip:
    """Makes the vectors of a clip, in all splits."""

    encoding: Encoding
    encoders: Mapping[Path, int]
    out: Path
    device: str
    _loaded: dict[int, Encoders] = field(default_factory=dict, repr=False)

    def __call__(self, clip: ToEncode, advance: Advance) -> Done:
        """Encode it, unless that is done."""
        if (done := self._stored(clip)) is not None:
            return done
        self._load()
        names = self.encoding.descriptors
        splits = {
            number: ClipVectors(encoders, self.encoding.pyramid)
            for number, encoders in self._loaded.items()
            if number in clip.splits
        }
        count = 0
        with threadpool_limits(1):
            for rows, positions in blocks(clip.path, names):
                for each in splits.values():
                    each.add(rows, positions)
                count += len(positions)
                advance(len(positions))
        vectors = {
            member(number, name): vector
            for number, each in splits.items()
            for name, vector in each.vectors().items()
        }
        save_vectors(clip.out, vectors, {"clip": clip.name, "rows": count}, self.out, clip.key)
        return _encoded(count, skipped=False)

    def _stored(self, clip: ToEncode) -> Done | None:
        if key_of(clip.out, VECTORS) != clip.key:
            return None
        _, description = load_vectors(clip.out, ())
        return _encoded(description["rows"], skipped=True)

    def _load(self) -> None:
        if self._loaded:
            return
        for path, number in self.encoders.items():
            encoders, _ = load_encoders(path, self.device)
            self._loaded.setdefault(number, {}).update(encoders)


@dataclass(frozen=True, slots=True)
class Kernel:
    """The products of all pairs of the clips of a split, or their distances, of one descriptor."""

    name: str
    path: Path
    key: str
    member: str
    clips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MakeKernel:
    """Makes a kernel from vectors."""

    distances: bool
    out: Path

    def __call__(self, kernel: Kernel, advance: Advance) -> Done:
        """Make it, unless it is there."""
        if key_of(kernel.path, KERNEL) == kernel.key:
            return Done(skipped=True)
        table = np.empty((0, 0), np.float32)
        for number, name in enumerate(kernel.clips):
            vectors, _ = load_vectors(vectors_path(self.out, name), (kernel.member,))
            vector = vectors[kernel.member]
            if number == 0:
                table = np.empty((len(kernel.clips), len(vector)), np.float32)
            table[number] = vector
            advance(1)
        with threadpool_limits(1):
            found = chi2_distances(table) if self.distances else linear_gram(table)
        arrays = {"clips": np.array(kernel.clips), "kernel": found}
        save_arrays(kernel.path, KERNEL, {}, arrays, self.out, kernel.key)
        return Done()


def load_kernel(path: Path) -> tuple[tuple[str, ...], Gram]:
    """Clips of a kernel, and the (n, n) matrix."""
    _, arrays = load_arrays(path, KERNEL)
    clips = take(path, arrays, "clips", (None,), "U")
    return tuple(clips.tolist()), take(path, arrays, "kernel", (len(clips), len(clips)))


def vectors_path(out: Path, clip: str) -> Path:
    """Where the vectors of a clip stand."""
    return out / f"vectors/{clip}.npz"


def kernel_path(out: Path, split: int, descriptor: str) -> Path:
    """Where the kernel of a split stands; splits are numbered from 1."""
    return out / f"kernels/{member(split, descriptor)}.npz"


def member(split: int, descriptor: str) -> str:
    """Name of a vector within its file."""
    return f"{split}-{descriptor}"


def _record(clips: Sequence[Clip], lacking: Mapping[str, str], out: Path) -> None:
    log = FailureLog(out / "failures.jsonl", out)
    log.begin({clip.name for clip in clips})
    for clip in clips:
        if clip.name in lacking:
            say(f"left out: {clip.name}: {lacking[clip.name]}")
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


def _write_protocol(protocol: Protocol, tables: Mapping[str, Tracked], out: Path) -> None:
    """The protocol as it was carried out, and what the report says of the clips."""
    used = [tables[name] for name in protocol.labels if name in tables]
    content = {
        **protocol.to_json(),
        "without_trajectories": [table.name for table in used if not table.rows],
        "sizes": sorted({table.size for table in used}),
        "videos": {table.name: os.path.relpath(table.video, out) for table in used},
    }
    artifacts.write_atomic(out / PROTOCOL, artifacts.to_json(content), out)


def _encoded(rows: int, *, skipped: bool) -> Done:
    return Done(skipped, None if rows else "no trajectories: its vectors are zero")


def _largest(encoding: Encoding) -> int:
    """Bytes of the longest vector of a descriptor."""
    wide = round(2 * encoding.gaussians * encoding.pca * _WIDEST)
    length = wide if encoding.encoding == "fisher" else encoding.words
    return 4 * n_cells(encoding.pyramid) * length


def _require(summary: Summary, what: str) -> None:
    if summary.failed:
        raise FittingError(
            f"{summary.failed} {what} could not be made; {summary.failures} says why"
        )
