from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import asdict, replace

import av
import cv2
import numpy as np
import pytest

from flowpipe.datasets import scene
from flowpipe.datasets.facts import data_folder
from flowpipe.datasets.load import load_dataset
from flowpipe.datasets.scene import MOTIONS, Scene
from flowpipe.datasets.synthetic import (
    DRAWING,
    Synthetic,
    read_synthetic,
    render,
    write_synthetic,
)
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import contents

SMALL = Synthetic(n_groups=2, clips_per_group=2, width=64, height=48, n_frames=4)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic") / "set"
    return root, write_synthetic(root, SMALL)


def test_the_set_is_balanced(small):
    _, found = small
    assert found.name == "synthetic"
    assert found.classes == tuple(MOTIONS)
    assert len(found.classes) == 6
    assert Counter(clip.label for clip in found.clips) == dict.fromkeys(MOTIONS, 4)
    kinds = Counter((clip.group, clip.label, clip.name.endswith("_moving")) for clip in found.clips)
    assert len(kinds) == 2 * 6 * 2
    assert set(kinds.values()) == {1}
    assert found.missing() == ()


def test_splits_keep_groups_whole_and_test_each_once(small):
    _, found = small
    groups = {clip.name: clip.group for clip in found.clips}
    for split in found.splits:
        assert not {groups[name] for name in split.train} & {groups[name] for name in split.test}
        assert len(split.train) + len(split.test) == len(found.clips)
    tested = Counter(name for split in found.splits for name in split.test)
    assert tested == dict.fromkeys(groups, 1)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    root, _ = small
    write_synthetic(tmp_path / "again", SMALL)
    write_synthetic(tmp_path / "other", replace(SMALL, seed=1))
    first, again, other = map(contents, (root, tmp_path / "again", tmp_path / "other"))
    assert first == again
    videos = [name for name in first if name.endswith(".avi")]
    assert len(videos) == 24
    assert all(first[name] != other[name] for name in videos)
    assert len({first[name] for name in videos}) == 24


def test_what_is_there_is_not_made_again_and_what_lacks_is(small, tmp_path):
    root, _ = small
    part = tmp_path / "part"
    made = []

    def stop_after_five(done, total):
        made.append((done, total))
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_synthetic(part, SMALL, stop_after_five)
    assert made[-1] == (5, 24)
    with pytest.raises(FormatError, match=r"dataset\.csv is missing"):
        read_synthetic(part)
    kept = {path: path.stat().st_mtime_ns for path in part.rglob("*.avi")}
    assert len(kept) == 5
    write_synthetic(part, SMALL)
    assert contents(part) == contents(root)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_the_folder_of_something_else_is_left_alone(small, tmp_path):
    root, _ = small
    with pytest.raises(ParameterError, match=r"seed 0 not 7.*another folder"):
        write_synthetic(root, replace(SMALL, seed=7))
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ParameterError, match="something else"):
        write_synthetic(tmp_path, SMALL)


def test_the_video_holds_what_was_drawn(small):
    root, found = small
    for clip in found.clips[:3]:
        drawn = list(render(SMALL, clip.path.relative_to(root.resolve()).as_posix()))
        with av.open(str(clip.path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == SMALL.fps
            planes = [frame.to_ndarray() for frame in container.decode(stream)]
        assert len(planes) == SMALL.n_frames
        for frame, image in zip(planes, drawn, strict=True):
            np.testing.assert_array_equal(frame, cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420))


def test_a_written_set_is_detected(small):
    root, found = small
    assert replace(load_dataset(root), kind="", notes=()) == found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_groups", 1),
        ("width", 47),
        ("height", 121),
        ("n_frames", 1),
        ("fps", 0),
        ("seed", -1),
        ("fps", 2.5),
    ],
)
def test_parameters_out_of_range_are_errors(name, value):
    with pytest.raises(ParameterError, match=f"{name} is {value}"):
        Synthetic(**{name: value})


def test_the_description_agrees_with_the_code():
    told = json.loads((data_folder() / "synthetic.json").read_text(encoding="utf-8"))
    assert told["drawing"] == DRAWING
    assert told["defaults"] == asdict(Synthetic())
    assert {name: tuple(each["fast"]) for name, each in told["classes"].items()} == MOTIONS
    assert told["swings"] == scene.AMPLITUDES
    assert (told["fast_period"], told["slow_period"]) == (scene.FAST_PERIOD, scene.SLOW_PERIOD)
    assert told["camera"] == {
        "pan": scene.PAN,
        "shake": scene.SHAKE,
        "roll": scene.ROLL,
        "breath": scene.BREATH,
    }
    default = Synthetic()
    assert told["clips"] == len(MOTIONS) * default.n_groups * default.clips_per_group
    thirds = [told["clips"] * 2 // 3, told["clips"] // 3]
    assert told["splits"] == dict.fromkeys(("split1", "split2", "split3"), thirds)


def frames(motion, clip, n_frames=12):
    parameters = Synthetic(n_frames=n_frames)
    camera = "moving" if int(clip[1:3]) % 2 != int(clip[5:7]) % 2 else "still"
    return list(render(parameters, f"{motion}/{clip}_{camera}.avi"))


def flow(first, second):
    grey = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (first, second)]
    return cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 3, 11, 5, 7, 1.5, 0)


def test_classes_share_scene_and_camera():
    for clip, still in (("g01_c01", True), ("g01_c02", False)):
        by_class = [np.stack(frames(motion, clip, 6)) for motion in MOTIONS]
        # no shape reaches into the corner: it shows the background only
        corners = [images[:, :8, :8].astype(int) for images in by_class]
        assert all(np.array_equal(corner, corners[0]) for corner in corners)
        assert (np.ptp(corners[0], axis=0).max() == 0) == still


def statistics(images):
    """Shares of moving across, moving up and down, growing, turning and stretching in the flow.

    From an affine motion fitted to the moving pixels of either half, where one shape is each.
    """
    y, x = np.mgrid[:120, :80] - np.array([60, 40])[:, None, None]
    energy = np.zeros(5)
    for first, second in itertools.pairwise(images):
        both = flow(first, second)
        for half in (both[:, :80], both[:, 80:]):
            moving = np.linalg.norm(half, axis=2) > 0.7
            if moving.sum() < 50:
                continue
            places = np.stack(
                [np.ones(moving.sum()), x[moving] - x[moving].mean(), y[moving] - y[moving].mean()],
                axis=1,
            )
            (u, v), (u_x, v_x), (u_y, v_y) = np.linalg.lstsq(places, half[moving], rcond=None)[0]
            reach = scene.RADIUS / 2
            energy += np.square([u, v, *(reach * np.array([u_x + v_y, v_x - u_y, u_x - v_y]))])
    return np.sqrt(energy / energy.sum())


@pytest.mark.slow
def test_motion_tells_the_classes_apart():
    clips = [f"g{group:02d}_c{number:02d}" for group in (1, 2, 3) for number in (1, 2)]
    still = [clip for clip in clips if int(clip[1:3]) % 2 == int(clip[5:7]) % 2]
    vectors = np.array([[statistics(frames(motion, c)) for c in still] for motion in MOTIONS])
    correct = 0
    for held_out in range(len(still)):
        centroids = np.delete(vectors, held_out, axis=1).mean(axis=1)
        for truth, vector in enumerate(vectors[:, held_out]):
            correct += np.linalg.norm(centroids - vector, axis=1).argmin() == truth
    assert correct >= 0.9 * len(still) * len(MOTIONS)


@pytest.mark.slow
def test_poses_are_distributed_alike_in_every_class():
    rng = np.random.default_rng(0)
    drawn = {
        motion: [scene.draw_swings(rng, motion, 1.0) for _ in range(3000)] for motion in MOTIONS
    }
    for name, amplitude in scene.AMPLITUDES.items():
        quantiles = [
            np.quantile(
                [swings[name].at(t) / amplitude for swings in each], [0.1, 0.3, 0.5, 0.7, 0.9]
            )
            for each in drawn.values()
            for t in (0, 7, 39)
        ]
        assert np.ptp(quantiles, axis=0).max() < 0.2


def test_only_the_fast_swings_differ_between_classes():
    rng = np.random.default_rng(0)
    for motion, fast in MOTIONS.items():
        for name, swing in scene.draw_swings(rng, motion, 1.0).items():
            wanted = scene.FAST_PERIOD if name in fast else scene.SLOW_PERIOD
            assert 0.89 < swing.period / wanted < 1.11


def test_the_camera_moves_about_as_fast_as_the_shapes():
    speeds = []
    for number in range(6):
        drawn = Scene.draw(np.random.default_rng(number), (120, 160), moving=True)
        path = np.array([drawn._camera(t)[:2, 2] for t in range(40)])
        speeds.append(np.linalg.norm(np.diff(path, axis=0), axis=1).mean())
    shapes = scene.AMPLITUDES["x"] * 4 / scene.FAST_PERIOD
    assert 0.5 * shapes < np.mean(speeds) < 2 * shapes
