from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.datasets.base import Clip
from flowpipe.datasets.intervals import Interval, IntervalSet, covered_frames, frame_labels
from flowpipe.errors import FormatError, ParameterError

CLASSES = ("jump", "run")


def a_set(**parts: tuple[Interval, ...]) -> IntervalSet:
    clips = tuple(Clip(Path(f"{name}.avi"), name) for name in parts)
    return IntervalSet("made-up", clips, parts, CLASSES)


@pytest.mark.parametrize(
    ("start", "end"),
    [(2, 1), (1, 1), (-0.5, 1), (0, float("inf")), (float("nan"), 1), (0, float("nan"))],
)
def test_times_of_an_interval_are_finite_and_in_order(start, end):
    with pytest.raises(ParameterError, match="must begin at 0 s or later, and end after that"):
        Interval(start, end, "run")


@given(
    st.sampled_from([12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 4.0, 1000 / 3]),
    st.lists(st.tuples(st.integers(0, 199), st.integers(1, 60)), max_size=6),
)
def test_intervals_of_whole_frames_label_exactly_those(rate, parts):
    intervals = [Interval(a / rate, (a + n) / rate, "run") for a, n in parts]
    labels = frame_labels(intervals, CLASSES, 200, rate)
    expected = np.zeros((200, 2), bool)
    for a, n in parts:
        expected[a : a + n, 1] = True
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(covered_frames(intervals, 200, rate), expected[:, 1])


@given(st.floats(0, 100), st.floats(0.01, 50), st.floats(0.5, 60), st.integers(0, 400))
def test_a_frame_has_a_label_if_the_middle_of_its_time_is_inside(start, length, rate, frames):
    labels = frame_labels([Interval(start, start + length, "jump")], CLASSES, frames, rate)
    middle = (np.arange(frames) + 0.5) / rate
    inside = (start <= middle) & (middle < start + length)
    unsure = np.minimum(abs(middle - start), abs(middle - start - length)) < 1e-9
    assert labels.shape == (frames, 2)
    np.testing.assert_array_equal(labels[~unsure, 0], inside[~unsure])
    assert not labels[:, 1].any()


def test_a_frame_may_have_several_labels_or_none():
    labels = frame_labels([Interval(0, 2, "jump"), Interval(1, 3, "run")], CLASSES, 4, 1.0)
    np.testing.assert_array_equal(labels, [[1, 0], [1, 1], [0, 1], [0, 0]])


def test_an_unknown_label_and_wrong_numbers_are_refused():
    with pytest.raises(ParameterError, match="'hop' is not among"):
        frame_labels([Interval(0, 2, "hop")], CLASSES, 4, 1.0)
    with pytest.raises(ParameterError, match="frame_rate is 0"):
        frame_labels([], CLASSES, 4, 0)
    with pytest.raises(ParameterError, match="frames is -1"):
        covered_frames([], -1, 25.0)


def test_intervals_are_clipped_to_their_videos_and_the_notes_say_so():
    whole = a_set(
        a=(Interval(0, 2, "run"), Interval(8, 10.4, "jump")),
        b=(Interval(1, 3, "run"), Interval(4, 9, "run"), Interval(20, 30, "jump")),
        c=(Interval(1, 300, "run"),),
    )
    found = whole.within({"a": 10.0, "b": 5.0})
    assert found.intervals == {
        "a": (Interval(0, 2, "run"), Interval(8, 10.0, "jump")),
        "b": (Interval(1, 3, "run"), Interval(4, 5.0, "run")),
        "c": (Interval(1, 300, "run"),),
    }
    slightly, shorter = found.notes
    assert slightly == "1 interval ends up to 1 s after the video: clipped"
    assert shorter == (
        "1 video is shorter than the intervals say, which are clipped: 'b' (5.00 s, intervals up "
        "to 30.00 s)"
    )
    assert found.within({"a": 10.0, "b": 5.0}).notes == found.notes


def test_frames_in_place_of_seconds_are_noticed():
    whole = a_set(
        a=(Interval(0, 50, "run"), Interval(100, 250, "jump")), b=(Interval(75, 90, "run"),)
    )
    with pytest.raises(FormatError, match=r"2 of 3 intervals .* begin after the end .*start_frame"):
        whole.within({"a": 10.0, "b": 10.0})


def test_ambiguous_intervals_are_clipped_as_well():
    clip = Clip(Path("a.avi"), "a")
    unsure = {"a": (Interval(1, 9, "Ambiguous"), Interval(6, 7, "Ambiguous"))}
    whole = IntervalSet("made-up", (clip,), {"a": ()}, CLASSES, ambiguous=unsure)
    found = whole.within({"a": 5.0})
    assert found.ambiguous == {"a": (Interval(1, 5.0, "Ambiguous"),)}
    assert found.durations == {"a": 5.0}


def test_a_set_is_consistent():
    clip = Clip(Path("a.avi"), "a")
    with pytest.raises(ParameterError, match="'b' differs"):
        IntervalSet("made-up", (clip,), {"a": (), "b": ()}, CLASSES)
    with pytest.raises(ParameterError, match="share the clip name 'a'"):
        IntervalSet("made-up", (clip, clip), {"a": ()}, CLASSES)
    with pytest.raises(ParameterError, match="'hop'"):
        IntervalSet("made-up", (clip,), {"a": (Interval(0, 1, "hop"),)}, CLASSES)
    with pytest.raises(FormatError, match="differ in nothing but case"):
        IntervalSet("made-up", (clip,), {"a": ()}, ("run", "Run"))
