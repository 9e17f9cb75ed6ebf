"""What a training is between two steps, on disk.

Files hold arrays and JSON, and are written atomically: whenever a process is killed, the one that
is there is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowpipe.errors import FormatError
from flowpipe.io.npz import load_arrays, save_arrays
from flowpipe.models.names import State
from flowpipe.models.weights import as_array, as_state
from flowpipe.runner import provenance
from flowpipe.runner.json_files import Json
from flowpipe.training.log import Epoch

CHECKPOINT_NAME = "checkpoint.npz"
_FORMAT = "flowpipe checkpoint 2"


@dataclass(slots=True)
class Position:
    """Where a training is, and what it has measured.

    Attributes
    ----------
    epoch, step
        The next step, and its epoch, from 0.
    sums
        Loss, right clips and clips of the epoch so far.
    seconds
        Duration of the epoch so far.
    epochs
        The finished ones.
    parts
        Number of parts that a batch is divided into, which fit into the memory.
    scaler
        State of the scaling of gradients in float16.
    """

    epoch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    seconds: float = 0.0
    epochs: list[Epoch] = field(default_factory=list)
    parts: int = 1
    scaler: Json = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Json) -> Position:
        """Return the position that a checkpoint stores."""
        return cls(
            epoch=int(stored["epoch"]),
            step=int(stored["step"]),
            sums=[float(value) for value in stored["sums"]],
            seconds=float(stored["seconds"]),
            epochs=[Epoch(**epoch) for epoch in stored["epochs"]],
            parts=int(stored["parts"]),
            scaler=dict(stored["scaler"]),
        )


def save_checkpoint(
    out: Path, about: Json, position: Position, tensors: Mapping[str, State]
) -> None:
    """Write a checkpoint in place of the one before.

    Parameters
    ----------
    out
        Folder of the training.
    about
        Everything that determines the result.
    position
        Where the training is.
    tensors
        States by the name of their owner, such as ``network``.
    """
    arrays = {
        f"{owner}/{name}": as_array(value)
        for owner, state in tensors.items()
        for name, value in state.items()
    }
    description = {"about": about, "position": asdict(position)}
    save_arrays(out / CHECKPOINT_NAME, _FORMAT, description, arrays, out)


def load_checkpoint(out: Path, about: Json) -> tuple[Json, dict[str, State]] | None:
    """Read the checkpoint of a training, if there is one.

    Returns
    -------
    dict, dict
        The position, for :meth:`Position.of`, and the states by the name of their owner.

    Raises
    ------
    FormatError
        It is of another training, or damaged.
    """
    path = out / CHECKPOINT_NAME
    if not path.exists():
        return None
    stored, arrays = load_arrays(path, _FORMAT)
    check_same(stored.get("about"), about, path)
    tensors: dict[str, State] = {}
    for full, value in as_state(arrays).items():
        owner, _, name = full.partition("/")
        tensors.setdefault(owner, {})[name] = value
    position = stored.get("position")
    if not isinstance(position, dict):
        raise FormatError(f"{str(path)!r} is not a whole checkpoint: it has no position")
    return position, tensors


def check_same(theirs: Any, ours: Json, path: Path) -> None:
    """Check that a file is of the training that is asked for.

    Raises
    ------
    FormatError
        It is of another.
    """
    differ = provenance.differences(theirs, ours)
    if differ:
        raise FormatError(
            f"{str(path)!r} is of another training ({'; '.join(map(str, differ[:4]))}); "
            "take another folder, or remove it"
        )
