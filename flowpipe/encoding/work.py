"""The work of encoding on one item: fit an encoder, or encode a clip.

Each writes one file, with the key of what it was made from, and skips a file with that key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from flowpipe.encoding.files import (
    ENCODERS_FORMAT,
    VECTORS_FORMAT,
    Encoders,
    load_encoders,
    load_vectors,
    save_encoders,
    save_vectors,
    vector_name,
)
from flowpipe.encoding.parameters import Descriptor, Encoding
from flowpipe.encoding.pyramid import SpatioTemporalPyramid
from flowpipe.encoding.sampling import sample_rows
from flowpipe.encoding.validation import Rows
from flowpipe.errors import ParameterError
from flowpipe.io.npz import key_of
from flowpipe.runner.pool import Advance, Done
from flowpipe.trajectories.clip_tables import ClipTable, read_blocks, read_sample


def fit_encoders(rows: Mapping[str, Rows], encoding: Encoding) -> Encoders:
    """Fit an encoder for each descriptor.

    Parameters
    ----------
    rows
        (n, D) for each descriptor: rows of training clips only, sampled as
        :func:`flowpipe.encoding.sampling.sample_rows` does.
    encoding
        Parameters of the encoders.

    Raises
    ------
    ParameterError
        Too few rows, or a descriptor without rows; the descriptor is named.
    """
    encoders: Encoders = {}
    for name in encoding.descriptors:
        if name not in rows:
            raise ParameterError(f"there are no rows of the descriptor {name!r}")
        try:
            encoders[name] = encoding.create().fit([rows[name]])
        except ValueError as error:
            raise ParameterError(f"descriptor {name!r}: {error}") from error
    return encoders


class ClipVectors:
    """Compute the vectors of a clip whose rows are given all at once or in parts.

    Parameters
    ----------
    encoders
        Fitted encoders by descriptor.
    pyramid
        Grids; see :mod:`flowpipe.encoding.pyramid`.
    """

    def __init__(self, encoders: Encoders, pyramid: Sequence[str] = ("1",)) -> None:
        self._pyramids = {
            name: SpatioTemporalPyramid(encoder, pyramid) for name, encoder in encoders.items()
        }

    def add(self, rows: Mapping[str, Rows], positions: Rows | None = None) -> None:
        """Add rows.

        Parameters
        ----------
        rows
            (n, D) for each descriptor, with the same n.
        positions
            (n, 3) mean x, y and t, as fractions of width, height and duration; for pyramids.
        """
        for name, pyramid in self._pyramids.items():
            pyramid.add(rows[name], positions)

    def vectors(self) -> dict[str, NDArray[np.float32]]:
        """Return the vectors, by descriptor; zeros for a clip without rows."""
        return {name: pyramid.vectors() for name, pyramid in self._pyramids.items()}

    def shares(
        self,
        weights: Mapping[str, NDArray[np.floating]],
        blocks: Iterable[tuple[Mapping[str, Rows], Rows | None]],
    ) -> NDArray[np.float64]:
        """Divide the sum of products of weights and vectors among the rows.

        Parameters
        ----------
        weights
            By descriptor, of the length of its vector.
        blocks
            The rows that have been added, again, with their positions.

        Returns
        -------
        (n,) float64
        """
        linear = {name: each.linearize(weights[name]) for name, each in self._pyramids.items()}
        found = [np.zeros(0)]
        for rows, positions in blocks:
            found.append(
                np.sum(
                    [
                        pyramid.shares(rows[name], linear[name], positions)
                        for name, pyramid in self._pyramids.items()
                    ],
                    axis=0,
                )
            )
        return np.concatenate(found)


@dataclass(frozen=True, slots=True)
class EncoderToFit:
    """An encoder to fit: of one descriptor, to the training clips of one split."""

    name: str
    path: Path
    key: str
    split: int
    descriptor: Descriptor
    train: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FitEncoder:
    """Fit an encoder and write it."""

    encoding: Encoding
    tables: Mapping[str, ClipTable]
    out: Path

    def __call__(self, fit: EncoderToFit, advance: Advance) -> Done:
        """Fit it, unless it has been fitted."""
        if key_of(fit.path, ENCODERS_FORMAT) == fit.key:
            return Done(skipped=True)
        lengths = {name: self.tables[name].rows for name in fit.train}
        chosen = sample_rows(lengths, self.encoding.n_rows, self.encoding.seed)
        rows = read_sample(self.tables, chosen, fit.descriptor)
        only = replace(self.encoding, descriptors=(fit.descriptor,))
        # With several threads, the last bits of sums would depend on their number.
        with threadpool_limits(1):
            encoders = fit_encoders({fit.descriptor: rows}, only)
        save_encoders(fit.path, encoders, only, self.out, fit.key)
        advance(len(rows))
        return Done()


@dataclass(frozen=True, slots=True)
class ClipToEncode:
    """A clip to encode with the encoders of the splits that it is in."""

    name: str
    path: Path
    key: str
    out: Path
    splits: frozenset[int]


@dataclass
class EncodeClip:
    """Encode a clip in all splits and write its vectors."""

    encoding: Encoding
    encoders: Mapping[Path, int]
    out: Path
    _loaded: dict[int, Encoders] = field(default_factory=dict, repr=False)

    def __call__(self, clip: ClipToEncode, advance: Advance) -> Done:
        """Encode it, unless it has been encoded."""
        if key_of(clip.out, VECTORS_FORMAT) == clip.key:
            _, description = load_vectors(clip.out, ())
            return _encoded(description["rows"], skipped=True)
        self._load()
        splits = {
            number: ClipVectors(encoders, self.encoding.pyramid)
            for number, encoders in self._loaded.items()
            if number in clip.splits
        }
        count = 0
        with threadpool_limits(1):
            for rows, positions in read_blocks(clip.path, self.encoding.descriptors):
                for split in splits.values():
                    split.add(rows, positions)
                count += len(positions)
                advance(len(positions))
        vectors = {
            vector_name(number, name): vector
            for number, split in splits.items()
            for name, vector in split.vectors().items()
        }
        save_vectors(clip.out, vectors, {"clip": clip.name, "rows": count}, self.out, clip.key)
        return _encoded(count, skipped=False)

    def _load(self) -> None:
        if self._loaded:
            return
        for path, number in self.encoders.items():
            encoders, _ = load_encoders(path)
            self._loaded.setdefault(number, {}).update(encoders)


def _encoded(rows: int, *, skipped: bool) -> Done:
    return Done(skipped, None if rows else "no trajectories: its vectors are zero")
