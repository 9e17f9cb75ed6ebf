"""Find and read a trained detector, with the networks that its features come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowpipe.errors import FlowpipeError, FormatError
from flowpipe.prediction.detection.features import FeatureNetwork, FeatureStream
from flowpipe.prediction.detection.find import find_detector
from flowpipe.prediction.flow import RecordedFlow
from flowpipe.prediction.live.parameters import LiveFlow
from flowpipe.prediction.record import Record
from flowpipe.runner.json_files import Json
from flowpipe.training.detection.files import TrainedDetector, load_detector_file
from flowpipe.training.detection.networks import feature_network
from flowpipe.training.detection.scores import StepScorer
from flowpipe.training.detection.steps import timing_of
from flowpipe.training.distributed import pick_device
from flowpipe.training.features.stage import FeatureStage

BACKGROUND = "background"


@dataclass(frozen=True, eq=False)
class Detector:
    """A trained detector, and the networks that its features come from.

    Attributes
    ----------
    path
        The file that it was read from.
    detector
        Scores steps.
    networks
        One for each folder of features that it was trained on.
    device
        Where all of them compute.
    record
        Its scores are not calibrated.
    """

    path: Path
    detector: TrainedDetector
    networks: tuple[FeatureNetwork, ...]
    device: torch.device
    record: Record = field(default_factory=Record)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, the background last, in the order of the scores."""
        return (*self.detector.classes, BACKGROUND)

    @property
    def trained(self) -> NDArray[np.bool_]:
        """(classes,) all of them."""
        return np.ones(len(self.classes), bool)

    @property
    def stride(self) -> int:
        """Frames from step to step."""
        return self.networks[0].timing.stride

    def features(self, choice: LiveFlow = "trained", *, stored: bool = True) -> FeatureStream:
        """Return what computes the features of frames; see :class:`FeatureStream`."""
        return FeatureStream(self.networks, choice=choice, stored=stored, device=self.device)

    def scorer(self) -> StepScorer:
        """Return what scores one step after the other."""
        return StepScorer(self.detector, self.device)


def load_detector(folder: str | PathLike[str], device: str = "auto") -> Detector:
    """Read a trained detector for new videos.

    Parameters
    ----------
    folder
        The output folder of ``train-detector``, the folder of one of its splits, or the file
        ``detector.safetensors`` itself. Where a folder holds the detectors of several splits, the
        one that was trained on all videos (``--final``) is taken.
    device
        Where it computes: ``cpu``, a torch device, or a GPU if there is one.

    Raises
    ------
    ParameterError
        There is no detector, there are several, or its feature networks are not with it.
    FormatError
        A file is damaged, or the features were made of flow without a record, so that those of a
        new video cannot be made.
    """
    path = find_detector(Path(folder))
    detector = load_detector_file(path)
    records = detector.about.get("features")
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise FormatError(f"{str(path)!r} does not say which features it was trained on")
    networks = tuple(_checked(record, path, number) for number, record in enumerate(records, 1))
    return Detector(path, detector, networks, pick_device(device))


def _checked(record: Json, path: Path, number: int) -> FeatureNetwork:
    try:
        found = _network(record, path, number)
        found.method("trained", stored=True)  # the record is complete
        return found
    except FlowpipeError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{str(path)!r} does not say how features are made: {error!r}") from None


def _network(record: Json, path: Path, number: int) -> FeatureNetwork:
    source = record.get("source")
    if not isinstance(source, dict):
        raise FormatError(
            f"{str(path)!r} was trained on features of flow or frames that have no record by "
            "flowpipe, so that those of a new video cannot be made in the same way"
        )
    timing = timing_of(record, str(path))
    network = feature_network(record, path.parent, number)
    FeatureStage(crops=record["crops"], layer=record.get("layer"))
    flow = RecordedFlow(source, str(path), with_frames=not network.clip.is_flow)
    flow.stage()
    return FeatureNetwork(network, record, flow, timing)
