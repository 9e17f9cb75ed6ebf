from __future__ import annotations

import json

import numpy as np
import pytest

from flowpipe.errors import FormatError, ParameterError
from flowpipe.training.detection.steps import (
    Part,
    Timing,
    join,
    offsets,
    open_features,
    read_steps,
    timing_of,
)
from tests.helpers.detection import store_features

pytestmark = pytest.mark.usefixtures("no_flushing")


def noise(steps: int, size: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(steps, size)).astype(np.float32)


def the_steps(folder, name="a"):
    found, missing = read_steps(open_features([folder]), [name])
    assert missing == {}
    return found[name]


def test_a_feature_belongs_to_the_last_frame_of_its_window(tmp_path):
    folder = store_features(tmp_path / "f", {"a": noise(3)}, length=16, stride=4)
    steps = the_steps(folder)
    assert steps.present.tolist() == [15, 19, 23]
    assert steps.frames == 24
    np.testing.assert_allclose(steps.times(), [[1.5, 1.9], [1.9, 2.3], [2.3, 2.4]])


@pytest.mark.parametrize(
    ("modality", "source", "after"),
    [
        ("rgb", None, 0),
        ("rgb-diff", None, 1),
        ("flow", None, 1),
        ("flow", {"step": 2}, 2),
        ("flow", {"step": -1}, 1),
        ("warped-flow", {"stage": "warped-flow", "flow": {"step": 1}}, 1),
    ],
)
def test_a_field_of_flow_ends_with_the_second_frame_of_its_pair(modality, source, after):
    record = {
        "stage": "features", "layout": "npy", "length": 5, "stride": 2,
        "network": {"clip": {"modality": modality}}, "source": source,
    }  # fmt: skip
    assert timing_of(record, "f") == Timing(5, 2, after)
    assert timing_of(record, "f").first == 4 + after


def test_a_short_video_has_one_step_at_its_last_frame(tmp_path):
    folder = store_features(tmp_path / "f", {"a": noise(1)}, frames={"a": 9}, length=16, stride=4)
    steps = the_steps(folder)
    assert steps.present.tolist() == [8]
    np.testing.assert_allclose(steps.times(), [[0.8, 0.9]])


def test_joined_features_are_of_the_newest_windows_that_have_ended(tmp_path):
    """Windows of 1 and of 10 frames every 4: the first of the long ones ends at frame 9."""
    short = store_features(tmp_path / "s", {"a": noise(8)}, length=1, stride=4)
    long = store_features(
        tmp_path / "l", {"a": noise(5, 2, 1)}, length=10, stride=4, frames={"a": 29}
    )
    found, _ = read_steps(open_features([short, long]), ["a"])
    steps = found["a"]
    assert steps.present.tolist() == [9, 13, 17, 21, 25]
    np.testing.assert_array_equal(steps.features[:, :3], noise(8)[2:7])  # at 8, 12, ...
    np.testing.assert_array_equal(steps.features[:, 3:], noise(5, 2, 1))


@pytest.mark.parametrize("frames", [2, 5, 9, 12, 40])
def test_no_joined_feature_is_of_the_future(frames):
    timings = [Timing(3, 4, 1), Timing(8, 4, 0), Timing(1, 4, 0)]
    parts = []
    for timing in timings:
        ends = timing.first + 4 * np.arange(timing.windows(frames))
        parts.append(Part("x", np.minimum(ends, frames - 1)[:, None].astype(np.float32), frames, 5))
    steps = join("x", parts, timings)
    assert (steps.features <= steps.present[:, None]).all()
    # The newest that there is: the next window of each has not ended.
    if len(steps.present) > 1:
        assert (steps.features + 4 > steps.present[:, None]).all()
    assert offsets(timings) == [1, 0, 1]


def test_streams_of_different_strides_are_refused(tmp_path):
    one = store_features(tmp_path / "one", {"a": noise(4)}, stride=2)
    other = store_features(tmp_path / "other", {"a": noise(4)}, stride=3)
    with pytest.raises(ParameterError, match=r"other' has a feature every 3 frames, .* every 2"):
        open_features([one, other])


def test_videos_of_different_lengths_are_not_joined(tmp_path):
    one = store_features(tmp_path / "one", {"a": noise(4), "b": noise(4)})
    other = store_features(tmp_path / "other", {"a": noise(4), "b": noise(5)})
    found, missing = read_steps(open_features([one, other]), ["a", "b"])
    assert list(found) == ["a"]
    assert "is of 5 frames at 10 a second, and" in missing["b"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stage": "flow"}, "holds no features"),
        ({"maps": "layer3"}, "holds maps of a layer"),
        ({"layout": "ms-tcn"}, "reach beyond the present"),
        ({"length": 0}, "does not say which windows"),
        ({"stride": "x"}, "does not say which windows"),
    ],
)
def test_features_that_do_not_suit_are_refused(tmp_path, changes, reason):
    folder = store_features(tmp_path / "f", {"a": noise(3)}, changes=changes)
    with pytest.raises(ParameterError, match=reason):
        open_features([folder])


def test_a_folder_without_features_is_refused(tmp_path):
    for folder in (tmp_path / "gone", tmp_path):
        with pytest.raises(ParameterError, match="holds no features"):
            open_features([folder])
    with pytest.raises(ParameterError, match="no features are given"):
        open_features([])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"frames": 99}, "has 3 features; 99 frames have 99 windows of 1 every 1"),
        ({"frames": "many"}, "has frames 'many'"),
        ({"fps": 0}, "has frame rate 0"),
        ({"fps": None}, "has frame rate None"),
        ({"fps": float("nan")}, "has frame rate nan"),
        ({"stride": 2}, "has stride 2; the folder has 1"),
        ({"length": 5}, "has length 5; the folder has 1"),
    ],
)
def test_records_that_contradict_the_features_are_named(tmp_path, changed, reason):
    folder = store_features(tmp_path / "f", {"a": noise(3)})
    path = folder / "a.npy.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    _, missing = read_steps(open_features([folder]), ["a"])
    assert reason in missing["a"]


def test_damaged_arrays_are_named(tmp_path):
    folder = store_features(tmp_path / "f", {"a": noise(3), "b": noise(3), "c": noise(3)})
    (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:-1])
    np.save(folder / "b.npy", np.full((3, 3), np.nan, np.float32))
    (folder / "c.npy").unlink()
    _, missing = read_steps(open_features([folder]), ["a", "b", "c", "d"])
    assert "holds no features" in missing["a"]
    assert "not finite" in missing["b"]
    assert "c.npy" in missing["c"]
    assert "not in" in missing["d"]


def test_lengths_that_differ_are_an_error_of_the_join():
    parts = [Part("a", noise(3), 3, 5.0), Part("b", noise(3), 3, 6.0)]
    with pytest.raises(FormatError, match="at 6 a second"):
        join("x", parts, [Timing(1, 1, 0)] * 2)
