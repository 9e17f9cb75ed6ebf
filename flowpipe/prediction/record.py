"""What is kept beside a classifier: views of a clip, and how scores become probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import json_files
from flowpipe.training.testing import Testing

RECORD = "prediction.json"
FORMAT = "flowpipe prediction 1"


@dataclass(frozen=True)
class Record:
    """What is known of a classifier besides what it consists of.

    Attributes
    ----------
    temperature
        Calibrates probabilities, see :mod:`flowpipe.classify.calibration`; None if they are not
        calibrated.
    held_out
        Number of clips that the temperature was fitted to.
    scores
        Digests of the scores that it was fitted to, by split.
    testing
        Views of a clip with which a network was evaluated.
    task
        Which of the sets that a network was trained on its labels are of, from 1.
    """

    temperature: float | None = None
    held_out: int = 0
    scores: Mapping[str, str] = field(default_factory=dict)
    testing: Testing = field(default_factory=Testing)
    task: int = 1

    def save(self, folder: Path) -> None:
        """Write the record into the folder of a classifier, which is not in its place yet."""
        content = json_files.to_json({"format": FORMAT, **asdict(self)})
        (folder / RECORD).write_bytes(content)


def read_record(folder: Path) -> Record:
    """Return the record in the folder of a classifier, or that of one that was never evaluated.

    Raises
    ------
    FormatError
        The record is damaged, or of another version.
    """
    path = folder / RECORD
    if not path.is_file():
        return Record()
    content = json_files.read_json(path)
    if content.get("format") != FORMAT:
        raise FormatError(
            f"{str(path)!r} has format {content.get('format')!r}; it must be {FORMAT!r}"
        )
    try:
        return _record(content)
    except (KeyError, TypeError, ValueError, ParameterError) as error:
        raise FormatError(f"{str(path)!r} is no record of a classifier: {error}") from None


def _record(content: Mapping[str, Any]) -> Record:
    temperature, held_out, task = content["temperature"], content["held_out"], content["task"]
    if temperature is not None and not (
        isinstance(temperature, int | float) and math.isfinite(temperature) and temperature > 0
    ):
        raise ValueError(f"temperature is {temperature!r}; it must be more than 0")
    if not isinstance(held_out, int) or not isinstance(task, int) or task < 1:
        raise ValueError(f"held_out is {held_out!r} and task {task!r}; they must be counts")
    scores = content["scores"]
    if not isinstance(scores, dict) or not all(isinstance(each, str) for each in scores.values()):
        raise TypeError("its scores are no digests by split")
    testing = content["testing"]
    if not isinstance(testing, dict):
        raise TypeError(f"testing is {testing!r}; it must be an object")
    for name, text in (("test_clips", "all"), ("short_side", None), ("crop_size", None)):
        value = testing.get(name)
        if value is not None and value != text and type(value) is not int:
            raise TypeError(f"{name} is {value!r}; it must be a number")
    return Record(temperature, held_out, scores, Testing(**testing), task)
