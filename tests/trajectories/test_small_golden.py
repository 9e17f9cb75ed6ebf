"""Rows and flow of a synthetic clip are those of the code that was checked against the programs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flowpipe.trajectories.extract import Extractor, Trajectories, extract, to_grey
from flowpipe.trajectories.parameters import TrajectoryParameters

GOLDEN = Path(__file__).parents[1] / "golden" / "trajectories.npz"
FIELDS = ("info", "trajectory", "hog", "hof", "mbhx", "mbhy")


def synthetic_clip() -> list[np.ndarray]:
    """Return 18 frames, 96x96 BGR: a texture moves right, a square on it down and left."""
    random = np.random.RandomState(7)  # its numbers are the same in every version of numpy
    ground, square = (
        np.kron(random.randint(0, 256, (n, n, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        for n in (24, 9)
    )
    frames = []
    for t in range(18):
        frame = np.roll(ground, t, axis=1)
        frame[12 + 2 * t : 48 + 2 * t, 50 - t : 86 - t] = square
        frames.append(frame)
    return frames


def parameters(kind: str) -> TrajectoryParameters:
    return TrajectoryParameters(kind=kind, min_distance=11, scale_num=3)


def rows_of(kind: str) -> dict[str, np.ndarray]:
    batches: list[Trajectories] = list(extract(synthetic_clip(), parameters(kind), length=18))
    return {name: np.concatenate([getattr(b, name) for b in batches]) for name in FIELDS}


def flow_of() -> np.ndarray:
    first, second = map(to_grey, synthetic_clip()[:2])
    extractor = Extractor(first, parameters("dt"))
    extractor.step(1, second)
    return extractor._flow[0]


@pytest.mark.parametrize("kind", ["dt", "idt"])
def test_rows(kind):
    rows = rows_of(kind)
    with np.load(GOLDEN) as golden:
        assert len(golden[f"{kind}_info"]) > 10
        for name in FIELDS:
            np.testing.assert_allclose(
                rows[name], golden[f"{kind}_{name}"], rtol=1e-4, atol=1e-4, err_msg=name
            )


def test_flow():
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(flow_of(), golden["flow"], rtol=0, atol=1e-4)
