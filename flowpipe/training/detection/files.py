"""Files of trained detectors: safetensors with a JSON description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from flowpipe.errors import FormatError
from flowpipe.models.described import read_described, reading, save_described
from flowpipe.models.detectors import make_detector
from flowpipe.runner.json_files import Json
from flowpipe.training.detection.parameters import DetectorTraining

_FORMAT = "flowpipe detector 1"
_MOST = 1 << 20


@dataclass(frozen=True, eq=False)
class TrainedDetector:
    """A detector, and what is stored with it.

    Attributes
    ----------
    path
        The file.
    network
        Maps windows (B, steps, F) to scores.
    n_features
        Size of a step's feature.
    classes
        Class names; the background, without a name, is scored last.
    about
        What it was trained on and how.
    """

    path: Path
    network: nn.Module
    n_features: int
    classes: tuple[str, ...]
    about: Json

    @property
    def steps(self) -> int:
        """Number of steps of a window."""
        return int(self.network.steps)  # type: ignore[arg-type]


def save_detector(
    path: Path,
    network: nn.Module,
    made_of: Json,
    about: Json,
    root: Path,
) -> None:
    """Write a detector atomically.

    Parameters
    ----------
    path, root
        The file, and the output folder.
    network
        The detector.
    made_of
        ``model``, ``n_features``, ``classes``, ``options`` and ``standardise``, as
        :func:`~flowpipe.models.detectors.make_detector` takes them, with the names of the classes.
    about
        What else is stored with it.
    """
    description = {"format": _FORMAT, **made_of, "about": about}
    save_described(path, network.state_dict(), description, root)


def load_detector_file(path: Path) -> TrainedDetector:
    """Read what :func:`save_detector` wrote.

    Raises
    ------
    FormatError
        It does not exist, is not such a file, or does not fit together.
    """
    with reading(path, "trained detector"):
        state, described = read_described(path, _FORMAT)
        classes = tuple(str(each) for each in described["classes"])
        n_features = int(described["n_features"])
        if not 1 <= n_features <= _MOST or not 1 <= len(classes) <= _MOST:
            raise ValueError(f"it has {n_features} features and {len(classes)} classes")
        if not isinstance(described["options"], dict):
            raise TypeError("options is no object")
        options = DetectorTraining(described["model"], **described["options"]).options()
        if any(value.dtype != torch.float32 for value in state.values()):
            raise TypeError("its weights must be float32")
        # Without memory of its own, so that a file with wrong sizes takes none.
        with torch.device("meta"):
            network = make_detector(
                described["model"],
                n_features,
                len(classes) + 1,
                options,
                standardise=bool(described["standardise"]),
            )
        network.load_state_dict(state, assign=True)
    if not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise FormatError(f"{str(path)!r} has weights that are not finite")
    return TrainedDetector(path, network.eval(), n_features, classes, described["about"])
