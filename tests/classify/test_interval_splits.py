from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowpipe.classify.interval_splits import all_videos, interval_splits
from flowpipe.datasets.base import Clip, Split
from flowpipe.datasets.intervals import IntervalSet
from flowpipe.errors import ParameterError

NAMES = ("v10", "v2", "v3", "v1")


def a_set(groups=("10", "2", "2", "1"), splits=()) -> IntervalSet:
    clips = [
        Clip(Path(f"{name}.avi"), name, group=group)
        for name, group in zip(NAMES, groups, strict=True)
    ]
    intervals = dict.fromkeys(NAMES, ())
    return IntervalSet("toy", tuple(clips), intervals, ("a",), tuple(splits))


def test_groups_are_left_out_one_at_a_time_in_the_order_of_the_videos():
    splits = interval_splits(a_set(), NAMES)
    assert [(s.name, s.test) for s in splits] == [
        ("without 10", ("v10",)),
        ("without 2", ("v2", "v3")),
        ("without 1", ("v1",)),
    ]
    assert splits[1].train == ("v10", "v1")


def test_a_video_without_a_group_is_one():
    assert len(interval_splits(a_set(groups=(None,) * 4), NAMES)) == 4


def test_folds_are_of_whole_groups():
    splits = interval_splits(a_set(), NAMES, "2-fold")
    assert sorted(name for split in splits for name in split.test) == sorted(NAMES)
    for split in splits:
        assert len({"v2", "v3"} & set(split.test)) in (0, 2)
        assert not set(split.train) & set(split.test)


def test_official_splits_come_first_and_keep_what_has_features():
    official = [Split("val-test", ("v1", "v2"), ("v3", "v10"))]
    (split,) = interval_splits(a_set(splits=official), ("v1", "v2", "v3"))
    assert (split.name, split.train, split.test) == ("val-test", ("v1", "v2"), ("v3",))
    with pytest.raises(ParameterError, match="'val-test' of 'toy' has no test video"):
        interval_splits(a_set(splits=official), ("v1", "v2"))


def test_splits_of_a_file(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"splits": [{"name": "x", "train": ["v1"], "test": ["v2"]}]}))
    (split,) = interval_splits(a_set(), NAMES, str(path))
    assert (split.train, split.test) == (("v1",), ("v2",))


def test_the_last_split_trains_on_everything():
    assert all_videos(NAMES).train == NAMES
    assert all_videos(NAMES).test == ()


@pytest.mark.parametrize(
    ("groups", "wanted", "reason"),
    [
        (("1",) * 4, None, "has 1 group"),
        (("10", "2", "2", "1"), "4-fold", "number of folds is 4; it must be 2 to 3"),
        (("10", "2", "2", "1"), "official", "has no official splits"),
        (("10", "2", "2", "1"), "lol", "protocol is 'lol'"),
    ],
)
def test_what_is_not_possible_is_said(groups, wanted, reason):
    with pytest.raises(ParameterError, match=reason):
        interval_splits(a_set(groups), NAMES, wanted)


def test_many_groups_are_not_left_out_one_at_a_time_unless_asked():
    names = [f"v{n}" for n in range(51)]
    clips = tuple(Clip(Path(name), name) for name in names)
    many = IntervalSet("many", clips, dict.fromkeys(names, ()), ("a",))
    with pytest.raises(ParameterError, match="trains 51 detectors"):
        interval_splits(many, names)
