"""How a training went: ``log.csv``, ``curves.png``, and TensorBoard's files on request."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from flowpipe.errors import BackendUnavailableError
from flowpipe.runner.atomic import write_atomic

LOG_NAME, CURVES_NAME = "log.csv", "curves.png"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch of a training.

    Attributes
    ----------
    epoch
        From 1.
    lr
        Learning rate of its first step.
    loss, accuracy
        Means over the training clips, each measured before the step that used it. Training without
        labels has no accuracy.
    seconds
        Duration.
    clips
        Number of training clips.
    """

    epoch: int
    lr: float
    loss: float
    accuracy: float | None
    seconds: float
    clips: int


@dataclass(frozen=True, slots=True)
class Step:
    """A step that a training has taken.

    Attributes
    ----------
    epoch
        From 0.
    step, steps
        Number of steps taken in the epoch, and of all.
    epochs
        Number of epochs of the training.
    clips
        Number of clips of the step, over all processes.
    """

    epoch: int
    step: int
    steps: int
    epochs: int
    clips: int


class TrainingLog:
    """Write the log and the curves of a training.

    Parameters
    ----------
    out
        Folder of the training.
    tensorboard
        Also write for TensorBoard, into ``tensorboard/``.

    Raises
    ------
    BackendUnavailableError
        TensorBoard is asked for and not installed.
    """

    def __init__(self, out: Path, *, tensorboard: bool = False) -> None:
        self._out = out
        self._board: Any = _board(out / "tensorboard") if tensorboard else None
        self._on_board = 0

    def write(self, epochs: Sequence[Epoch]) -> None:
        """Write the log of these epochs, in place of the one before."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in fields(Epoch)])
        for epoch in epochs:
            writer.writerow(
                [
                    f"{value:.6g}" if isinstance(value, float) else value
                    for value in asdict(epoch).values()
                ]
            )
        write_atomic(self._out / LOG_NAME, text.getvalue().encode(), self._out)
        if self._board is not None:
            for epoch in epochs[self._on_board :]:
                for name in ("loss", "accuracy", "lr"):
                    if (value := getattr(epoch, name)) is not None:
                        self._board.add_scalar(name, value, epoch.epoch)
            self._board.flush()
            self._on_board = len(epochs)

    def close(self, epochs: Sequence[Epoch]) -> None:
        """Draw the curves."""
        write_atomic(self._out / CURVES_NAME, draw_curves(epochs), self._out)
        if self._board is not None:
            self._board.close()


def draw_curves(epochs: Sequence[Epoch]) -> bytes:
    """Draw loss, accuracy and learning rate by epoch, as a PNG; no accuracy where there is none."""
    numbers = [epoch.epoch for epoch in epochs]
    accuracies = [100 * each.accuracy for each in epochs if each.accuracy is not None]
    curves: list[tuple[str, list[float], float | None]] = [
        ("loss, training clips", [epoch.loss for epoch in epochs], None),
        ("accuracy in %, training clips", accuracies, 100),
        ("learning rate", [epoch.lr for epoch in epochs], None),
    ]
    if not accuracies:
        del curves[1]
    figure = Figure(figsize=(3.5 * len(curves), 3.2), layout="constrained", dpi=110)
    for place, (name, values, top) in enumerate(curves, 1):
        axes = figure.add_subplot(1, len(curves), place)
        axes.plot(numbers, values, color="#2f74b5", linewidth=1.4)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.set_ylim(bottom=0, top=top)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BackendUnavailableError(
            "TensorBoard is not installed: pip install 'flowpipe[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder))
