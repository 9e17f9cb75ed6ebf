"""Find the file of a trained detector in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from flowpipe.classify.splits import FINAL
from flowpipe.errors import ParameterError
from flowpipe.models.detectors import DETECTOR_NAME
from flowpipe.prediction.base import the_one


def find_detector(path: Path) -> Path:
    """Return the file of the detector in a folder.

    Raises
    ------
    ParameterError
        There is none, or there are several to choose from.
    """
    found = next(iter(_candidates(path)), None)
    if found is not None:
        return found
    if not path.is_dir():
        raise ParameterError(
            f"{str(path)!r} does not exist; the output folder of train-detector is expected"
        )
    return the_one(sorted(path.glob(f"*/{DETECTOR_NAME}")), path, "detector")


def holds_detector(path: Path) -> bool:
    """Return whether a file or folder holds detectors."""
    return any(_candidates(path)) or any(path.glob(f"*/{DETECTOR_NAME}"))


def _candidates(path: Path) -> Iterator[Path]:
    for each in (path, path / DETECTOR_NAME, path / FINAL / DETECTOR_NAME):
        if each.name == DETECTOR_NAME and each.is_file():
            yield each
