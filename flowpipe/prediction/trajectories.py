"""A classifier on trajectories: encoders, and the weights of the SVMs, in one file.

A linear SVM on the vectors of several descriptors is one matrix per descriptor. An SVM on the
chi-squared kernel needs its support vectors. Both are computed from the coefficients of the
training clips (:class:`flowpipe.classify.svm.OneVsRest`), so that a classifier gives the scores of
the baseline that it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from sklearn.metrics.pairwise import additive_chi2_kernel
from threadpoolctl import threadpool_limits

from flowpipe.classify.svm import OneVsRest, filled
from flowpipe.datasets.base import Clip
from flowpipe.encoding.files import Encoders, encoding_of
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import take
from flowpipe.io.source import Size
from flowpipe.prediction.base import Classifier
from flowpipe.prediction.flow import FLOW, RecordedFlow
from flowpipe.prediction.record import Record, read_record
from flowpipe.runner import atomic
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Advance, Done, Work
from flowpipe.trajectories.clip_tables import Rows, read_blocks
from flowpipe.trajectories.parameters import TrajectoryStage, stage_of
from flowpipe.trajectories.work import TABLE_SUFFIX, ExtractClip

FORMAT = "flowpipe classifier 1"
_BLOCK = 256
"""Training vectors that are in memory at a time."""


@dataclass(frozen=True, eq=False)
class TrajectoryClassifier(Classifier):
    """Encoders and SVMs of one split, or of all clips.

    Attributes
    ----------
    path, classes, record
        As for :class:`~flowpipe.prediction.Classifier`.
    stage
        Record of the extraction of trajectories.
    encoding, encoders
        Parameters, and the fitted encoder of each descriptor.
    present, intercept
        (P,) classes with training clips, and their intercepts.
    weights
        By descriptor. Linear: (P, D) weights. Chi-squared: (S, D) support vectors.
    dual, mean_distances
        Chi-squared only: (P, S) coefficients, and the mean distance of each descriptor.
    """

    path: Path
    classes: tuple[str, ...]
    stage: Json
    encoding: Encoding
    encoders: Encoders
    present: NDArray[np.int64]
    intercept: NDArray[np.float64]
    weights: Mapping[str, NDArray[np.floating]]
    dual: NDArray[np.float64] | None = None
    mean_distances: NDArray[np.float64] | None = None
    record: Record = field(default_factory=Record)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips."""
        trained = np.zeros(len(self.classes), np.bool_)
        trained[self.present] = True
        return trained

    def description(self) -> Json:
        """Return the record of the trajectories."""
        if self.flow is None:
            return self.trajectories().description()
        # The rest of the record is the same on any flow.
        described = self.trajectories("farneback").description()
        return {**described, "flow": self.flow.description()}

    @property
    def flow(self) -> RecordedFlow | None:
        """The flow that tracks follow, where it is extracted by itself."""
        flow = self.stage.get("flow")
        return RecordedFlow(flow, str(self.path)) if isinstance(flow, dict) else None

    @property
    def size(self) -> Size:
        """The size of the frames on which points are tracked."""
        return self.trajectories("farneback" if self.flow else None).size

    def trajectories(self, flow: str | Path | None = None) -> TrajectoryStage:
        """Return the parameters of the extraction, with a folder where flow is taken from one.

        Raises
        ------
        ParameterError
            The folder is needed and not given.
        """
        return stage_of(self.stage, str(self.path), flow)

    def extraction(self, out: Path) -> Work[Clip]:
        """Return the work that extracts trajectories into a folder."""
        if self.flow is None:
            return ExtractClip(self.trajectories(), out)
        work, stage = self.flow.work(out / FLOW), self.trajectories("farneback")
        return ExtractOnFlow(self.flow, work, stage, out)

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the extraction has temporary files."""
        return [out, *(self.flow.folders(out / FLOW) if self.flow else [])]

    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return the table of a clip, and the flow that it was made on."""
        flow = self.flow.outputs(clip, out / FLOW) if self.flow else []
        return [out / f"{clip.name}{TABLE_SUFFIX}", *flow]

    def scores(self, clip: Clip, extracted: Path) -> NDArray[np.float32]:
        """Return the values of the decision functions of a clip's trajectories."""
        return self.scores_of(self._blocks(clip, extracted))

    def scores_of(self, blocks: Iterable[tuple[Mapping[str, Rows], Rows]]) -> NDArray[np.float32]:
        """Return the values of the decision functions of rows, given in blocks.

        A block is the rows by descriptor, and their (n, 3) positions x, y and t as fractions of
        width, height and duration.
        """
        with threadpool_limits(1):
            decisions = self.decisions(self._encoded(blocks).vectors())
        scores: NDArray[np.float32] = filled(decisions[None], self.present, len(self.classes))[0]
        return scores

    def shares(self, clip: Clip, extracted: Path, label: str) -> NDArray[np.float64]:
        """Return how much each trajectory of a clip speaks for a class.

        Parameters
        ----------
        clip, extracted
            A clip that has been extracted into a folder.
        label
            The class.

        Returns
        -------
        (n,) float64
            In the order of the table. Fisher vectors: their sum is the score less the intercept,
            since for a clip whose root and norm are given, the score is a sum over trajectories.
            Bags of words: the first-order change of the score with the trajectory's share.

        Raises
        ------
        ParameterError
            The class has no SVM.
        """
        index = self.classes.index(label) if label in self.classes else -1
        if index not in self.present:
            raise ParameterError(f"label is {label!r}; it must be a class with training clips")
        row = int(np.flatnonzero(self.present == index)[0])
        with threadpool_limits(1):
            encoded = self._encoded(self._blocks(clip, extracted))
            weights = self._gradient(encoded.vectors(), row)
            return encoded.shares(weights, self._blocks(clip, extracted))

    def _encoded(self, blocks: Iterable[tuple[Mapping[str, Rows], Rows]]) -> ClipVectors:
        encoded = ClipVectors(self.encoders, self.encoding.pyramid)
        for rows, positions in blocks:
            encoded.add(rows, positions)
        return encoded

    def _blocks(self, clip: Clip, extracted: Path) -> Iterator[tuple[dict[str, Rows], Rows]]:
        return read_blocks(extracted / f"{clip.name}{TABLE_SUFFIX}", self.encoding.descriptors)

    def _gradient(
        self, vectors: Mapping[str, NDArray[np.float32]], row: int
    ) -> dict[str, NDArray[np.float64]]:
        """Return the gradient of a decision function with respect to the vectors."""
        if self.dual is None or self.mean_distances is None:
            return {name: each[row].astype(np.float64) for name, each in self.weights.items()}
        kernel = np.exp(-self._distances(vectors, self.mean_distances, self.dual.shape[1]))
        found = {}
        for (name, support), mean in zip(self.weights.items(), self.mean_distances, strict=True):
            own, theirs = vectors[name].astype(np.float64), support.astype(np.float64)
            total = own + theirs
            # Of (x - y)^2 / (x + y) with respect to x; a word that neither has takes no part.
            slope = np.divide(
                (own - theirs) * (own + 3 * theirs), total**2, np.zeros_like(total), where=total > 0
            )
            scale = 0.5 / mean if mean > 0 else 0.0
            found[name] = -scale * ((self.dual[row] * kernel) @ slope)
        return found

    def _distances(
        self, vectors: Mapping[str, NDArray[np.float32]], means: NDArray[np.float64], count: int
    ) -> NDArray[np.float64]:
        """Return the distances to the support vectors, over the mean ones, summed over channels."""
        distances = np.zeros(count)
        for (name, support), mean in zip(self.weights.items(), means, strict=True):
            if mean > 0:
                distances += additive_chi2_kernel(vectors[name][None], support)[0] * (-0.5 / mean)
        return distances

    def decisions(self, vectors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Return the (P,) values of the decision functions of a clip's vectors."""
        total: NDArray[np.float64]
        if self.dual is None or self.mean_distances is None:
            total = np.zeros(len(self.present))
            for name, weights in self.weights.items():
                total += weights @ vectors[name].astype(np.float64)
            return total + self.intercept
        distances = self._distances(vectors, self.mean_distances, self.dual.shape[1])
        return np.asarray(self.dual @ np.exp(-distances) + self.intercept)

    def save(self, path: Path, root: Path, key: str | None = None) -> None:
        """Write the classifier atomically, with the digest of what it was made from."""
        arrays: dict[str, NDArray[Any]] = {"present": self.present, "intercept": self.intercept}
        for descriptor, encoder in self.encoders.items():
            for name, array in encoder.to_arrays().items():
                arrays[f"encoder.{descriptor}.{name}"] = array
            arrays[f"weights.{descriptor}"] = self.weights[descriptor]
        if self.dual is not None and self.mean_distances is not None:
            arrays |= {"dual": self.dual, "mean_distances": self.mean_distances}
        about = {
            "format": FORMAT,
            "classes": list(self.classes),
            "trajectories": self.stage,
            "encoding": asdict(self.encoding),
            "key": key,
        }
        data = safetensors.numpy.save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            {"flowpipe": json.dumps(about, sort_keys=True)},
        )
        atomic.write_atomic(path, data, root)

    @classmethod
    def load(cls, path: Path) -> TrajectoryClassifier:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FormatError
            The file is damaged, of another version, or its parts do not fit together.
        ParameterError
            Its trajectories need more than a video: boxes, or flow without a record.
        """
        try:
            with safe_open(path, "np") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                about = json.loads((file.metadata() or {}).get("flowpipe", "null"))
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FormatError(f"{str(path)!r} is not a whole classifier: {error}") from None
        recorded = about.get("format") if isinstance(about, dict) else None
        if recorded != FORMAT:
            raise FormatError(f"{str(path)!r} has format {recorded!r}; it must be {FORMAT!r}")
        try:
            found = _assembled(path, about, arrays)
        except (KeyError, TypeError, ValueError, AttributeError, ParameterError) as error:
            raise FormatError(f"{str(path)!r} is not a whole classifier: {error}") from None
        found.extraction(path.parent)  # can be made of a new video
        return replace(found, record=read_record(path.parent))


@dataclass(frozen=True)
class ExtractOnFlow:
    """Extract flow, and the trajectories that follow it.

    Attributes
    ----------
    flow, work
        The flow, and what extracts it into a folder in `out`.
    stage
        The trajectories; its own flow does not matter.
    out
        The output folder.
    """

    flow: RecordedFlow
    work: Work[Clip]
    stage: TrajectoryStage
    out: Path

    def __call__(self, clip: Clip, advance: Advance) -> Done:
        """Write the table of a clip, unless it is there."""
        folder = self.out / FLOW
        self.work(clip, advance)
        stored = {clip.name: self.flow.stored(clip, folder)}
        stage = replace(self.stage, flow=folder)
        return ExtractClip(stage, self.out, stored_flow=stored)(clip, lambda units: None)


def key_of_classifier(path: Path) -> str | None:
    """Return the key of a file, or None if it is missing or cannot be read."""
    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get("flowpipe", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError):
        return None
    key = about.get("key") if isinstance(about, dict) else None
    return key if isinstance(key, str) else None


def classifier_of(
    path: Path,
    classes: tuple[str, ...],
    stage: Json,
    encoding: Encoding,
    encoders: Encoders,
    machines: OneVsRest,
    mean_distances: NDArray[np.float64],
    vectors_of: Callable[[int], Mapping[str, NDArray[np.float32]]],
) -> TrajectoryClassifier:
    """Return the classifier of trained SVMs.

    Parameters
    ----------
    path
        Where it will be written.
    classes, stage, encoding, encoders, mean_distances
        As for :class:`TrajectoryClassifier`.
    machines
        The SVMs, with a coefficient for each training clip.
    vectors_of
        Returns the vectors of a training clip, by its index.
    """
    names = encoding.descriptors
    support = np.flatnonzero(machines.dual.any(axis=0))
    common = (path, classes, stage, encoding, encoders, machines.present, machines.intercept)
    if encoding.encoder.kernel == "chi2":
        rows = [vectors_of(int(clip)) for clip in support]
        support_vectors = {str(name): np.stack([row[name] for row in rows]) for name in names}
        dual = np.ascontiguousarray(machines.dual[:, support])
        return TrajectoryClassifier(*common, support_vectors, dual, mean_distances)
    sums: dict[str, NDArray[np.float64]] = {}
    for start in range(0, len(support), _BLOCK):
        block = support[start : start + _BLOCK]
        rows = [vectors_of(int(clip)) for clip in block]
        for name in names:
            products = machines.dual[:, block] @ np.stack([row[name] for row in rows])
            sums[name] = sums[name] + products if name in sums else products
    # The kernel is the mean of the products of the descriptors.
    return TrajectoryClassifier(
        *common, {name: (sums[name] / len(names)).astype(np.float32) for name in names}
    )


def _assembled(path: Path, about: Json, arrays: dict[str, NDArray[Any]]) -> TrajectoryClassifier:
    classes = tuple(str(each) for each in about["classes"])
    encoding = encoding_of(about["encoding"])
    present = take(path, arrays, "present", (None,), "i")
    if len(present) < 2 or len(set(present.tolist())) < len(present):
        raise ValueError("it has fewer than two classes")
    if not 0 <= present.min() <= present.max() < len(classes):
        raise ValueError(f"it has {len(classes)} names of classes, and SVMs of others")
    intercept = take(path, arrays, "intercept", (len(present),))
    dual = mean_distances = None
    count = len(present)
    if encoding.encoder.kernel == "chi2":
        dual = take(path, arrays, "dual", (len(present), None))
        count = dual.shape[1]
        mean_distances = take(path, arrays, "mean_distances", (len(encoding.descriptors),))
    encoders: Encoders = {}
    weights: dict[str, NDArray[np.floating]] = {}
    for name in encoding.descriptors:
        encoders[name] = encoding.create()
        encoders[name].from_arrays(partial(_taken, path, arrays, f"encoder.{name}."))
        length = len(ClipVectors({name: encoders[name]}, encoding.pyramid).vectors()[name])
        weights[name] = take(path, arrays, f"weights.{name}", (count, length))
    if not isinstance(about["trajectories"], dict):
        raise TypeError("its record of trajectories is no object")
    return TrajectoryClassifier(
        path, classes, about["trajectories"], encoding, encoders, present, intercept, weights,
        dual, mean_distances,
    )  # fmt: skip


def _taken(
    path: Path,
    arrays: dict[str, NDArray[Any]],
    prefix: str,
    name: str,
    shape: tuple[int | None, ...],
) -> NDArray[Any]:
    return take(path, arrays, prefix + name, shape)
