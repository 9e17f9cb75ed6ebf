"""What encoding does to one item: fit an encoder, encode a clip, make a kernel.

Each leaves one file with the key of what it was made from, and leaves a file with that key alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from flowpipe.classify.kernels import Gram, chi2_distances, linear_gram
from flowpipe.encoding.parameters import Descriptor, Encoding
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
from flowpipe.io.npz import key_of, load_arrays, save_arrays, take
from flowpipe.pipelines.tables import Tracked, blocks, sample
from flowpipe.runner.pool import Advance, Done

KERNEL = "flowpipe kernel 1"


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


def _encoded(rows: int, *, skipped: bool) -> Done:
    return Done(skipped, None if rows else "no trajectories: its vectors are zero")
