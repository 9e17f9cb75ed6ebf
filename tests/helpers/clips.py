"""Small videos, small flow, and ways to look at folders, for the tests."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.flow.store import FlowWriter, StoredClip, layout

REPOSITORY = Path(__file__).parents[2]


def shared(*parts: str) -> Path:
    """A folder of what real data there are; skips the test where there are none."""
    folder = os.environ.get("FLOWPIPE_TEST_DATA")
    if not folder:
        pytest.skip("real data are not here: FLOWPIPE_TEST_DATA is not set")
    return Path(folder, *parts)


def shared_data(*parts: str) -> Path:
    """A folder of real videos and images."""
    return shared("data", *parts)


def frames(n_frames: int, size: tuple[int, int] = (48, 32), seed: int = 0) -> list[np.ndarray]:
    """BGR frames of a texture that wanders one pixel a frame to the right."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    grey = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 0, 235, cv2.NORM_MINMAX)
    texture = np.dstack([grey, grey + 10, grey + 20])
    return [np.roll(texture, number, axis=1) for number in range(n_frames)]


def write_video(
    path: Path, n_frames: int = 4, size: tuple[int, int] = (48, 32), seed: int = 0
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    # OpenCV looks at the suffix; any other name is given afterwards.
    made = path.with_name("being-written.avi")
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter.fourcc(*"MJPG"), 25, size)
    for frame in frames(n_frames, size, seed):
        writer.write(frame)
    writer.release()
    return made.replace(path)


def smooth_flow(
    n_flows: int, size: tuple[int, int] = (48, 32), largest: float = 18.0, seed: int = 0
) -> np.ndarray:
    """(N, 2, H, W) float32 pixels, smooth, as flow is."""
    width, height = size
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-largest, largest, (n_flows, 2, 3, 4)).astype(np.float32)
    return np.stack([[cv2.resize(c, (width, height)) for c in field] for field in coarse])


def store_clip(
    out: Path,
    name: str,
    flows: np.ndarray,
    *,
    clip: str = "a",
    step: int = 1,
    images: list[np.ndarray] | None = None,
    source: dict | None = None,
    **options,
) -> StoredClip:
    """Write flow with FlowWriter, as extract-flow does."""
    kind = layout(name, step)
    images = images or []
    with FlowWriter(out, clip, kind, **options) as writer:
        for image in images if kind.image else []:
            writer.add_image(image)
        for flow in flows:
            writer.add_flow(flow)
        writer.commit(
            width=flows.shape[3],
            height=flows.shape[2],
            n_frames=len(flows) + abs(step),
            step=step,
            source={"path": "../none.avi"} if source is None else source,
        )
    one_folder = not kind.is_file and name != "tsfusion"
    return StoredClip(out, clip, None if one_folder else name)


def hashed(data: bytes) -> str:
    """What stands for bytes in a comparison: pytest takes an hour to show how megabytes differ."""
    return hashlib.sha256(data).hexdigest()


def contents(root: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by its path from there; not of its runs' times."""
    return {
        path.relative_to(root).as_posix(): hashed(path.read_bytes())
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.parent.name != "progress"
    }


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "flowpipe", *map(str, arguments)]


def environment() -> dict[str, str]:
    tests = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(tests)])}


def flowpipe(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own."""
    return subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
