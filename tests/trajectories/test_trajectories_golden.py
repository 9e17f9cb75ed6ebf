"""Whole clips against the output of the released DT and iDT programs."""

import cv2
import numpy as np
import pytest

from flowpipe.trajectories.extract import Trajectories, extract
from flowpipe.trajectories.parameters import TrajectoryParameters

from .conftest import CLIPS, join, read_frames

DESCRIPTORS = ("trajectory", "hog", "hof", "mbhx", "mbhy")
EVERY = [(kind, clip) for kind in ("dt", "idt") for clip in CLIPS]


def features(rows: Trajectories) -> np.ndarray:
    return np.hstack([getattr(rows, name) for name in DESCRIPTORS])


@pytest.mark.parametrize(("kind", "clip"), EVERY)
def test_rows_are_those_of_the_released_program(kind, clip, run_golden):
    rows, golden = run_golden(kind, clip)
    assert len(rows) == len(golden["info"])
    error = np.abs(rows.info - golden["info"]).max(axis=1)
    assert np.quantile(error, 0.99) <= 5e-3
    assert error.max() <= 0.2


@pytest.mark.parametrize(("kind", "clip"), EVERY)
@pytest.mark.parametrize("field", DESCRIPTORS)
def test_features_are_those_of_the_released_program(kind, clip, field, run_golden):
    rows, golden = run_golden(kind, clip)
    ours = getattr(rows, field)
    widths = [getattr(rows, name).shape[1] for name in DESCRIPTORS]
    first = sum(widths[: DESCRIPTORS.index(field)])
    theirs = golden["features"][:, first : first + ours.shape[1]]
    error = np.abs(ours[golden["rows"]] - theirs).max(axis=1)
    assert np.quantile(error, 0.99) <= (1e-4 if field == "trajectory" else 5e-4)
    assert error.max() <= 0.1


def common_rows(ours: np.ndarray, theirs: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
    """Pairs of rows with the same last frame and scale and nearly the same place and extent."""
    places: dict[tuple[float, int], list[int]] = {}
    for j, row in enumerate(theirs):
        places.setdefault((row[0], round(100 * row[6])), []).append(j)
    pairs, used = [], set()
    for i, row in enumerate(ours):
        near = [j for j in places.get((row[0], round(100 * row[6])), []) if j not in used]
        if near:
            distance = np.abs(theirs[near, 1:5] - row[1:5]).max(axis=1)
            if distance.min() < tolerance:
                pairs.append((i, near[int(distance.argmin())]))
                used.add(pairs[-1][1])
    return pairs


@pytest.mark.parametrize(
    ("clip", "common", "noise"),
    [
        # the released program's own change under another order of its matches, but for HOG's zero
        ("v_Bowling_g01_c01", 0.93, {"trajectory": 0.063, "hog": 1e-3, "hof": 0.12, "mbhx": 0.055}),
        ("boxing", 0.995, {"trajectory": 0.063, "hog": 1e-3, "hof": 0.006, "mbhx": 0.055}),
    ],
)
def test_own_homographies_stay_inside_the_noise_of_ransac(
    clip, common, noise, test_data, run_golden
):
    _, golden = run_golden("idt", clip)
    ours = join(list(extract(read_frames(test_data / CLIPS[clip]), TrajectoryParameters())))
    pairs = np.array(common_rows(ours.info, golden["info"], 0.1))
    assert len(pairs) >= common * len(golden["info"])
    assert len(pairs) >= common * len(ours)
    sampled = {row: k for k, row in enumerate(golden["rows"].tolist())}
    both = np.array([(i, sampled[j]) for i, j in pairs.tolist() if j in sampled])
    difference = features(ours)[both[:, 0]] - golden["features"][both[:, 1]]
    first = 0
    for name in DESCRIPTORS:
        width = getattr(ours, name).shape[1]
        change = np.linalg.norm(difference[:, first : first + width], axis=1)
        first += width
        if name in noise:
            assert np.median(change) <= noise[name], name


def test_one_thread_or_many_give_the_same_rows(test_data):
    frames = list(read_frames(test_data / CLIPS["boxing"]))[:40]
    threads = cv2.getNumThreads()
    results = []
    try:
        for count in (1, 4):
            cv2.setNumThreads(count)
            results.append(join(list(extract(frames, TrajectoryParameters()))))
    finally:
        cv2.setNumThreads(threads)
    assert len(results[0])
    np.testing.assert_array_equal(features(results[0]), features(results[1]))
