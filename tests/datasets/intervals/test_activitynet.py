from __future__ import annotations

import json

import pytest

from flowpipe.datasets.base import Split
from flowpipe.datasets.intervals import Interval, load_intervals
from flowpipe.errors import FormatError
from tests.helpers.trees import make


def annotation(start, end, label):
    return {"segment": [start, end], "label": label}


def entry(subset, *annotations, **more):
    return {"subset": subset, "annotations": list(annotations), **more}


def write(root, database):
    path = root / "annotations.json"
    path.write_text(json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database}))
    return path


def test_activitynet_is_read(tmp_path):
    path = write(
        tmp_path,
        {
            "one": entry("training", annotation(1, 4.5, "Rafting"), duration=9.5, url="https://x"),
            "two": entry("validation", annotation(2, 3, "Skiing"), duration=20),
            "three": entry("testing", duration=20),
            "gone": entry("training", annotation(2, 3, "Skiing"), duration=20),
        },
    )
    make(tmp_path, "train/v_one.mp4", "val/two.mkv")
    found = load_intervals(path)
    assert found.kind == "activitynet"
    assert found.intervals == {
        "one": (Interval(1, 4.5, "Rafting"),),
        "two": (Interval(2, 3, "Skiing"),),
        "gone": (Interval(2, 3, "Skiing"),),
    }
    assert [clip.path.name for clip in found.clips] == ["v_one.mp4", "two.mkv"]
    assert [clip.name for clip in found.absent] == ["gone"]
    assert found.splits == (Split("validation", ("one", "gone"), ("two",)),)
    assert found.notes == ("1 test video without intervals in the file: left out",)


def test_thumos_in_this_form_trains_on_its_validation_videos(tmp_path):
    path = write(
        tmp_path,
        {
            "video_validation_0000051": entry("Validation", annotation(1, 2, "Diving")),
            "video_test_0000004": entry("Test", annotation(1, 2, "Diving"), fps=30.0),
        },
    )
    found = load_intervals(path, stored=())
    assert found.splits == (Split("test", ("video_validation_0000051",), ("video_test_0000004",)),)


def test_three_labelled_subsets_are_two_splits(tmp_path):
    some = annotation(1, 2, "Diving")
    path = write(
        tmp_path, {x: entry(x, some) for x in ("training", "validation", "testing", "new")}
    )
    found = load_intervals(path, stored=())
    assert found.splits == (
        Split("test", ("training",), ("testing",)),
        Split("validation", ("training",), ("validation",), validation=True),
    )
    assert found.notes[0].startswith("1 video is in the subset 'new'")


def test_a_name_that_fits_several_videos_fits_none(tmp_path):
    path = write(tmp_path, {"a": entry("training", annotation(1, 2, "x")), "b": entry("training")})
    make(tmp_path, "1/a.mp4", "2/a.mp4", "b.mp4")
    found = load_intervals(path)
    assert [clip.name for clip in found.absent] == ["a"]
    assert "1 name fits several videos" in found.notes[0]


@pytest.mark.parametrize(
    ("database", "reason"),
    [
        ([], "has no object 'database'"),
        ({"a": 3}, r"database\['a'\] is 3; the file should be"),
        ({"a": {"annotations": {}}}, r"database\['a'\].annotations is \{\}; it should be a list"),
        ({"a": entry("x", "no")}, r"annotations\[0\] is 'no'; it should have a label"),
        ({"a": entry("x", annotation(1, 2, ""))}, "should have a label"),
        ({"a": entry("x", annotation(1, 2, 7))}, "should have a label"),
        ({"a": entry("x", {"label": "y"})}, r"segment should be \[start, end\] in seconds"),
        ({"a": entry("x", {"label": "y", "segment": [1]})}, "segment should be"),
        ({"a": entry("x", annotation("1", 2, "y"))}, "segment should be"),
        ({"a": entry("x", annotation(True, 2, "y"))}, "segment should be"),
        ({"a": entry("x", annotation(3, 2, "y"))}, r"annotations\[0\]: .* ends before it begins"),
        ({"a": entry("x", annotation(1, 10**400, "y"))}, "is not finite"),
        ({"a": entry("x", duration=-1)}, "duration is -1; it should be seconds above 0"),
        ({"a": entry("x", duration="9")}, "duration is '9'"),
        ({"../a": entry("x")}, "'../a' is no name of a video"),
        ({"": entry("x")}, "'' is no name of a video"),
    ],
)
def test_malformed_files_are_refused(tmp_path, database, reason):
    with pytest.raises(FormatError, match=reason):
        load_intervals(write(tmp_path, database), stored=())


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text('{"database": {"a": {"annotations": [{"segment": [0, NaN], "label": "x"}]}}}')
    with pytest.raises(FormatError, match="is not finite"):
        load_intervals(path, stored=())
    path.write_text('{"database": ')
    with pytest.raises(FormatError, match="is not JSON"):
        load_intervals(path, stored=())
