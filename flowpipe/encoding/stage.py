"""The stage: encoders fitted to the training clips of a split, and the vectors of its clips.

Every descriptor has an encoder of its own, and a clip has a vector for each; what is classified are
these vectors side by side. Nothing of a test clip may reach :func:`fit_encoders`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowpipe.encoding.bag_of_words import BagOfWords
from flowpipe.encoding.fisher import FisherVector
from flowpipe.encoding.gmm import DiagonalGmm
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.pca import Projection
from flowpipe.encoding.pyramid import Cells
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import load_arrays, save_arrays, take
from flowpipe.runner.json_files import Json

Rows = NDArray[np.floating]
Encoders = dict[str, FisherVector | BagOfWords]

ENCODERS = "flowpipe encoders 1"
VECTORS = "flowpipe vectors 1"
"""Formats of the files, as they say themselves."""


def make_encoder(encoding: Encoding, device: str = "cpu") -> FisherVector | BagOfWords:
    """An encoder for one descriptor, to be fitted."""
    if encoding.encoding == "bow":
        return BagOfWords(encoding.clusters, n_rows=encoding.n_rows, random_state=encoding.seed)
    return FisherVector(
        encoding.gaussians,
        pca=encoding.pca,
        whiten=encoding.whiten,
        n_rows=encoding.n_rows,
        device=device,
        random_state=encoding.seed,
    )


def fit_encoders(rows: Mapping[str, Rows], encoding: Encoding, device: str = "cpu") -> Encoders:
    """Fit an encoder for each descriptor.

    Parameters
    ----------
    rows
        (n, D) for each descriptor: rows of the training clips alone, sampled as
        :func:`flowpipe.encoding.sampling.sample_rows` does.
    encoding
        What to fit.
    device
        Where Fisher vectors are computed.

    Raises
    ------
    ParameterError
        Too few rows, or a descriptor without any; the descriptor is named.
    """
    encoders: dict[str, Any] = {}
    for name in encoding.descriptors:
        if name not in rows:
            raise ParameterError(f"there are no rows of the descriptor {name!r}")
        try:
            encoders[name] = make_encoder(encoding, device).fit([rows[name]])
        except ValueError as error:
            raise ParameterError(f"descriptor {name!r}: {error}") from error
    return encoders


class ClipVectors:
    """Takes in the rows of a clip, all at once or in parts, and gives a vector a descriptor.

    Parameters
    ----------
    encoders
        Fitted.
    pyramid
        Grids; see :mod:`flowpipe.encoding.pyramid`.
    """

    def __init__(self, encoders: Encoders, pyramid: Sequence[str] = ("1",)) -> None:
        self._cells = {name: Cells(encoder, pyramid) for name, encoder in encoders.items()}

    def add(self, rows: Mapping[str, Rows], positions: Rows | None = None) -> None:
        """Take in rows.

        Parameters
        ----------
        rows
            (n, D) for each descriptor, with the same n.
        positions
            (n, 3) mean x, y and t, as parts of width, height and duration; for pyramids.
        """
        for name, cells in self._cells.items():
            cells.add(rows[name], positions)

    def vectors(self) -> dict[str, NDArray[np.float32]]:
        """The vectors, by descriptor; zeros for a clip without rows."""
        return {name: cells.vectors() for name, cells in self._cells.items()}


def save_encoders(
    path: Path, encoders: Encoders, encoding: Encoding, root: Path, key: str | None = None
) -> None:
    """Write fitted encoders: arrays and JSON, no pickle."""
    arrays = {}
    for name, encoder in encoders.items():
        if isinstance(encoder, BagOfWords):
            arrays[f"{name}.words"] = encoder.cluster_centers_
            continue
        if encoder.projection_ is None:
            raise ParameterError(f"the encoder of {name!r} has no PCA; pca must not be None")
        arrays[f"{name}.pca.mean"] = encoder.projection_.mean
        arrays[f"{name}.pca.matrix"] = encoder.projection_.matrix
        arrays[f"{name}.gmm.weights"] = encoder.gmm_.weights
        arrays[f"{name}.gmm.means"] = encoder.gmm_.means
        arrays[f"{name}.gmm.variances"] = encoder.gmm_.variances
    save_arrays(path, ENCODERS, {"encoding": asdict(encoding)}, arrays, root, key)


def load_encoders(path: Path, device: str = "cpu") -> tuple[Encoders, Encoding]:
    """Read what :func:`save_encoders` wrote.

    Raises
    ------
    FormatError
        The file does not hold encoders, or their shapes do not fit together.
    """
    description, arrays = load_arrays(path, ENCODERS)
    try:
        values = dict(description["encoding"])
        for name in ("descriptors", "pyramid"):
            values[name] = tuple(values[name])
        encoding = Encoding(**values)
        encoders: dict[str, Any] = {}
        for name in encoding.descriptors:
            encoder = make_encoder(encoding, device)
            if isinstance(encoder, BagOfWords):
                words = take(path, arrays, f"{name}.words", (encoding.clusters, None))
                encoder.cluster_centers_, encoder.n_features_in_ = words, words.shape[1]
            else:
                _load_fisher(path, arrays, name, encoder)
            encoders[name] = encoder
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{str(path)!r} has unknown encoders: {error}") from None
    return encoders, encoding


def _load_fisher(
    path: Path, arrays: dict[str, NDArray[Any]], name: str, encoder: FisherVector
) -> None:
    mean = take(path, arrays, f"{name}.pca.mean", (None,))
    matrix = take(path, arrays, f"{name}.pca.matrix", (len(mean), None))
    shape = encoder.n_components, matrix.shape[1]
    encoder.projection_ = Projection(mean, matrix)
    encoder.gmm_ = DiagonalGmm(
        take(path, arrays, f"{name}.gmm.weights", shape[:1]),
        take(path, arrays, f"{name}.gmm.means", shape),
        take(path, arrays, f"{name}.gmm.variances", shape),
    )
    encoder.n_features_in_ = len(mean)


def save_vectors(
    path: Path,
    vectors: Mapping[str, NDArray[np.floating]],
    description: Json,
    root: Path,
    key: str | None = None,
) -> None:
    """Write vectors of one clip, each under a name of its own."""
    save_arrays(path, VECTORS, {"vectors": description}, dict(vectors), root, key)


def load_vectors(path: Path, names: Sequence[str]) -> tuple[dict[str, NDArray[np.float32]], Json]:
    """Read some of the vectors that :func:`save_vectors` wrote, and nothing else of the file.

    Raises
    ------
    FormatError
        The file does not hold them.
    """
    description, arrays = load_arrays(path, VECTORS, names)
    vectors = {
        name: take(path, arrays, name, (None,)).astype(np.float32, copy=False) for name in names
    }
    found = description.get("vectors")
    return vectors, found if isinstance(found, dict) else {}
