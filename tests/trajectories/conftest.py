"""Real clips and the released programs' numbers for them, where FLOWPIPE_TEST_DATA names them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.trajectories.extract import Trajectories, extract
from flowpipe.trajectories.parameters import TrajectoryParameters
from tests.helpers.clips import shared

CLIPS = {
    "boxing": "data/kth/person01_boxing_d1_uncomp.avi",
    "v_Bowling_g01_c01": "data/ucf101/v_Bowling_g01_c01.avi",
}


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of clips, ``data``, and of the released programs' numbers, ``golden``."""
    return shared()


def read_frames(path: Path) -> Iterator[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    while True:
        found, frame = video.read()
        if not found:
            return
        yield frame


def join(batches: list[Trajectories]) -> Trajectories:
    fields = Trajectories.__dataclass_fields__
    return Trajectories(*(np.concatenate([getattr(b, name) for b in batches]) for name in fields))


@pytest.fixture(scope="session")
def run_golden(test_data: Path) -> Callable[[str, str], tuple[Trajectories, dict[str, np.ndarray]]]:
    """Ours and the released programs' numbers of a clip, with their homographies for iDT."""
    done: dict[tuple[str, str], tuple[Trajectories, dict[str, np.ndarray]]] = {}

    def run(kind: str, clip: str) -> tuple[Trajectories, dict[str, np.ndarray]]:
        if (kind, clip) not in done:
            with np.load(test_data / "golden" / f"{kind}_{clip}.npz") as file:
                golden = dict(file)
            homographies = None
            if kind == "idt":
                frames = golden["h_frame"].tolist()
                homographies = dict(zip(frames, golden["homography"], strict=True))
            frames = list(read_frames(test_data / CLIPS[clip]))
            rows = extract(
                frames,
                TrajectoryParameters(kind=kind),
                homographies=homographies,
                length=len(frames),
            )
            done[kind, clip] = join(list(rows)), golden
        return done[kind, clip]

    return run
