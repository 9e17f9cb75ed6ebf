from __future__ import annotations

import csv
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.datasets.base import Split
from flowpipe.datasets.intervals import Interval, load_intervals
from flowpipe.errors import FormatError, ParameterError
from tests.helpers import media
from tests.helpers.trees import make, write


def table(root, *rows, header="path,start,end,label"):
    return write(root / "intervals.csv", header, *rows)


def test_seconds_are_read(tmp_path, caplog):
    make(tmp_path, "x/a.avi", "x/b.avi")
    path = table(tmp_path, "x/a.avi,4,6.5,run", "x/a.avi,0.5,2,long  jump", "x/b.avi,,,")
    with caplog.at_level(logging.INFO, "flowpipe"):
        found = load_intervals(path)
    assert found.kind == "csv"
    assert found.classes == ("long jump", "run")
    assert found.intervals == {
        "x/a": (Interval(0.5, 2, "long jump"), Interval(4, 6.5, "run")),
        "x/b": (),
    }
    assert [clip.label for clip in found.clips] == [None, None]
    assert found.notes == ()
    assert "2 videos, 2 intervals, 2 classes" in caplog.text
    assert load_intervals(tmp_path).intervals == found.intervals


def test_frames_are_read_by_the_rate_of_the_video(tmp_path):
    media.write(tmp_path / "a.avi", media.moving(40), rate=20)
    path = table(tmp_path, "a.avi,10,30,run", header="path,start_frame,end_frame,label")
    found = load_intervals(path)
    assert found.intervals == {"a": (Interval(0.5, 1.5, "run"),)}
    assert found.durations == {"a": 2.0}
    assert load_intervals(path, frame_rates=10).intervals == {"a": (Interval(1.0, 2.0, "run"),)}


def test_frames_are_read_by_the_rate_of_the_file_or_of_the_caller(tmp_path):
    make(tmp_path, "a.avi")
    header = "path,start_frame,end_frame,label,frame_rate"
    with_rate = table(tmp_path, "a.avi,10,30,run,10", header=header)
    assert load_intervals(with_rate).intervals == {"a": (Interval(1.0, 3.0, "run"),)}
    without = table(tmp_path, "a.avi,10,30,run,", header=header)
    assert load_intervals(without, frame_rates={"a": 5}).intervals["a"] == (Interval(2, 6, "run"),)
    with pytest.raises(FormatError, match="line 2 is in frames, and the frame rate of 'a'"):
        load_intervals(without)
    with pytest.raises(ParameterError, match=r"frame_rates\['a'\] is -1"):
        load_intervals(without, frame_rates=-1)


def test_an_option_for_frames_is_refused_for_seconds(tmp_path):
    make(tmp_path, "a.avi")
    with pytest.raises(ParameterError, match="are in seconds"):
        load_intervals(table(tmp_path, "a.avi,1,2,run"), frame_rates=25)


def test_groups_splits_and_durations_are_read(tmp_path):
    make(tmp_path, "a.avi", "b.avi")
    found = load_intervals(
        table(
            tmp_path,
            "a.avi,0,2,run,g1,train,10,still",
            "a.avi,3,10.6,run,,,,still",
            "b.avi,0,2,run,g2,TEST,10,still",
            header="path,start,end,label,group,split,duration,camera",
        )
    )
    assert [clip.group for clip in found.clips] == ["g1", "g2"]
    assert found.splits == (Split("split", ("a",), ("b",)),)
    assert found.intervals["a"][1] == Interval(3, 10, "run")
    assert found.notes == ("1 interval ends up to 1 s after the video: clipped",)


def test_what_a_row_says_of_its_video_does_not_change(tmp_path):
    make(tmp_path, "a.avi")
    rows = ("a.avi,0,2,run,g1", "a.avi,3,4,run,g2")
    with pytest.raises(FormatError, match=r"line 3: .* should be of the group 'g1'"):
        load_intervals(table(tmp_path, *rows, header="path,start,end,label,group"))


def test_videos_may_be_elsewhere_and_missing_ones_are_told(tmp_path):
    make(tmp_path / "videos", "a.avi")
    path = table(tmp_path / "lists", "a.avi,0,2,run", "gone.avi,0,2,run")
    found = load_intervals(path, tmp_path / "videos")
    assert [clip.name for clip in found.clips] == ["a"]
    assert [clip.name for clip in found.absent] == ["gone"]
    assert set(found.intervals) == {"a", "gone"}
    assert "1 missing video" in found.describe()
    with pytest.raises(FormatError, match=r"none of the 2 videos .* is on disk"):
        load_intervals(path)
    kept = load_intervals(path, stored=["gone"])
    assert [clip.name for clip in kept.clips] == ["gone"]


def test_wrong_times_are_listed_with_their_lines(tmp_path):
    make(tmp_path, "a.avi")
    path = table(
        tmp_path,
        "a.avi,1,2,run",
        "a.avi,5,3,run",
        "a.avi,-1,3,run",
        "a.avi,0,inf,run",
        "a.avi,nan,3,run",
        "a.avi,3,3,run",
    )
    with pytest.raises(FormatError) as caught:
        load_intervals(path)
    lines = str(caught.value).splitlines()
    assert [line.partition("line ")[2] for line in lines] == [
        "3: the interval from 5 to 3 ends before it begins",
        "4: the interval from -1 to 3 begins before the video; 0 is its start",
        "5: the interval from 0.0 to inf is not finite; both should be times",
        "6: the interval from nan to 3.0 is not finite; both should be times",
        "7: the interval from 3 to 3 is empty; it should end after its start",
    ]
    assert all(repr(str(path)) in line for line in lines)


def test_many_wrong_times_are_counted(tmp_path):
    make(tmp_path, "a.avi")
    with pytest.raises(FormatError, match="and 15 more"):
        load_intervals(table(tmp_path, *["a.avi,5,3,run"] * 20))


def test_repeated_and_overlapping_intervals_are_told(tmp_path):
    make(tmp_path, "a.avi", "b.avi")
    path = table(
        tmp_path,
        "a.avi,1,4,run",
        "a.avi,1,4,run",
        "a.avi,3,5,run",
        "a.avi,2,5,jump",
        "a.avi,5,6,run",
        "b.avi,1,4,run",
    )
    found = load_intervals(path)
    assert [len(part) for part in found.intervals.values()] == [4, 1]
    twice, overlap = found.notes
    assert twice == f"1 interval is listed twice, and kept once: {str(path)!r}, line 3"
    assert overlap.startswith("1 interval overlaps another one of the same class (all are kept)")
    assert "line 4 (3 to 5 s) and" in overlap
    assert "line 2 (1 to 4 s), 'run'" in overlap


def test_ambiguous_intervals_are_kept_apart(tmp_path):
    make(tmp_path, "a.avi")
    found = load_intervals(table(tmp_path, "a.avi,1,4,run", "a.avi,5,6,Ambiguous"))
    assert found.classes == ("run",)
    assert found.ambiguous == {"a": (Interval(5, 6, "Ambiguous"),)}
    assert len(found.intervals["a"]) == 1


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("path,label", "a.avi,run", "has neither of 'start,end' and"),
        ("path,start,end,start_frame,end_frame,label", "a.avi,1,2,3,4,run", "has both of"),
        ("file,start,end,label", "a.avi,1,2,run", "should be the header 'path,start,end,label'"),
        ("path,start,end,label", "a.avi,1,2,", "two times and a label"),
        ("path,start,end,label", "a.avi,,2,run", "two times and a label"),
        ("path,start,end,label", ",1,2,run", "with the path of a video"),
        ("path,start,end,label", "a.avi,one,2,run", "numbers for its times"),
        ("path,start,end,label", "a.avi,1,2,run,more", "4 fields"),
        ("path,start,end,label,split", "a.avi,1,2,run,half", "'train', 'test', 'val' or nothing"),
        ("path,start,end,label,duration", "a.avi,1,2,run,-3", "duration of 'a' is '-3'"),
        ("path,start,end,label,duration", "a.avi,1,2,run,nan", "duration of 'a' is 'nan'"),
        ("path,start,end,label,duration", "a.avi,1,2,run,x", "duration of 'a' is 'x'"),
    ],
)
def test_malformed_files_are_refused(tmp_path, header, row, reason):
    make(tmp_path, "a.avi")
    with pytest.raises(FormatError, match=reason):
        load_intervals(table(tmp_path, row, header=header))


def test_a_video_that_is_shorter_than_the_file_says_counts_as_it_is(tmp_path):
    media.write(tmp_path / "a.avi", media.moving(50), rate=25)
    header = "path,start,end,label,duration"
    found = load_intervals(table(tmp_path, "a.avi,1,9,run,10", header=header))
    assert found.intervals == {"a": (Interval(1, 2, "run"),)}
    assert "1 video is shorter than the intervals say" in found.notes[0]


def test_an_empty_list_is_refused(tmp_path):
    with pytest.raises(FormatError, match="lists no video"):
        load_intervals(table(tmp_path))


some_intervals = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.floats(0, 1e5),
        st.floats(1e-3, 1e5),
        st.sampled_from(["run", "high jump", 'a "quoted", label', "跳"]),
    ),
    min_size=1,
    max_size=8,
)


@given(rows=some_intervals)
def test_what_is_written_is_read(rows, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    written = {"a": set(), "b": set()}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "label"])
        writer.writerows([[name, "", "", ""] for name in written])
        for name, start, length, label in rows:
            writer.writerow([name, start, start + length, label])
            written[name].add(Interval(start, start + length, label))
    found = load_intervals(path, stored=())
    assert {name: set(part) for name, part in found.intervals.items()} == written
    for part in found.intervals.values():
        assert list(part) == sorted(part, key=lambda each: each.start)
    assert set(found.classes) == {row[3] for row in rows}
