"""What all trained classifiers have in common, and the labels that they give."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flowpipe.classify.calibration import probabilities
from flowpipe.datasets.base import Clip
from flowpipe.datasets.names import safe_name, without_suffix
from flowpipe.errors import ParameterError
from flowpipe.prediction.record import Record
from flowpipe.runner.json_files import Json
from flowpipe.runner.pool import Work


@dataclass(frozen=True, eq=False)
class Prediction:
    """Scores of one video.

    Attributes
    ----------
    name
        Name of the clip.
    path
        The video.
    classes
        Names of the classes.
    scores
        (classes,) float32: values of decision functions, or scores before the softmax.
    trained
        (classes,) bool: classes with training clips. The others are never the label.
    temperature
        Calibrates the probabilities; None if they are not calibrated.
    """

    name: str
    path: Path
    classes: tuple[str, ...]
    scores: NDArray[np.float32]
    trained: NDArray[np.bool_]
    temperature: float | None = None

    @property
    def label(self) -> str:
        """The class with the largest score."""
        return self.top(1)[0][0]

    @property
    def calibrated(self) -> bool:
        """Whether the probabilities were calibrated on held-out clips."""
        return self.temperature is not None

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(classes,) softmax of the scores; to compare classes only, unless it is calibrated."""
        return probabilities(self.scores, self.trained, self.temperature or 1.0)

    def top(self, count: int = 5) -> list[tuple[str, float, float]]:
        """Return the classes with the largest scores: label, score, probability.

        Classes without training clips are left out.
        """
        order = np.argsort(-self.scores, kind="stable")
        order = order[self.trained[order]][:count]
        probabilities = self.probabilities
        return [
            (self.classes[each], float(self.scores[each]), float(probabilities[each]))
            for each in order
        ]


class Classifier(ABC):
    """A trained classifier.

    Attributes
    ----------
    path
        The file that it was read from.
    classes
        Names of the classes, in the order of the scores.
    record
        Views of a clip, and the calibration.
    """

    path: Path
    classes: tuple[str, ...]
    record: Record
    unit: ClassVar[str] = "frames"
    """What the extraction counts, in the plural."""
    is_network: ClassVar[bool] = False
    """Whether it is a network, which has views."""
    has_device: ClassVar[bool] = False
    """Whether it computes on a device."""

    @property
    @abstractmethod
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) classes with training clips."""

    @abstractmethod
    def description(self) -> Json:
        """Return the record of what is extracted from a video."""

    @abstractmethod
    def extraction(self, out: Path) -> Work[Clip]:
        """Return the work that extracts what is scored, exactly as in training, into a folder."""

    def folders(self, out: Path) -> list[Path]:
        """Return the folders in which the extraction into a folder has temporary files."""
        return [out]

    @abstractmethod
    def outputs(self, clip: Clip, out: Path) -> list[Path]:
        """Return the files and folders of a clip that has been extracted into a folder."""

    @abstractmethod
    def scores(self, clip: Clip, extracted: Path) -> NDArray[np.float32]:
        """Return the (classes,) scores of a clip that has been extracted into a folder."""

    def prediction(self, clip: Clip, extracted: Path) -> Prediction:
        """Return the labels of a clip that has been extracted into a folder."""
        scores = self.scores(clip, extracted)
        temperature = self.record.temperature
        return Prediction(clip.name, clip.path, self.classes, scores, self.trained, temperature)

    def predict(self, video: str | PathLike[str]) -> Prediction:
        """Label a video.

        Parameters
        ----------
        video
            The video, or a folder of frames.

        Raises
        ------
        FlowpipeError
            The video cannot be used; the message names it.

        Examples
        --------
        >>> import flowpipe
        >>> classifier = flowpipe.load_classifier("idt/classifiers/01-split1")
        >>> prediction = classifier.predict("clip.avi")
        >>> prediction.label in classifier.classes
        True
        """
        clip = Clip(Path(video), safe_name(without_suffix(Path(video).name)))
        with tempfile.TemporaryDirectory(prefix="flowpipe-") as folder:
            self.extraction(Path(folder))(clip, lambda units: None)
            return self.prediction(clip, Path(folder))


def the_one(paths: Sequence[Path], folder: Path, what: str) -> Path:
    """Return the only path.

    Raises
    ------
    ParameterError
        There is none, or there are several to choose from.
    """
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise ParameterError(f"{str(folder)!r} holds no {what}")
    names = ", ".join(repr(path.parent.relative_to(folder).as_posix()) for path in paths[:5])
    raise ParameterError(
        f"{str(folder)!r} holds {len(paths)} {what}s, one for each split; name the folder of one, "
        f"such as {names}"
    )
