from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given as property_of
from hypothesis import strategies as st

from flowpipe.classify.protocols import (
    given,
    k_fold,
    leave_one_group_out,
    official,
    protocol,
    protocol_from_json,
)
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.ucf101 import ucf101
from flowpipe.datasets.ut_interaction import ut_interaction
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner.json_files import to_json
from tests.helpers.clips import shared_data


def dataset(*clips: tuple[str, str | None, str | None], splits=()) -> Dataset:
    made = tuple(Clip(Path(f"{name}.avi"), name, label, group) for name, label, group in clips)
    classes = tuple(sorted({label for _, label, _ in clips if label is not None}))
    return Dataset("made-up", made, classes, tuple(splits))


def grid(groups: int = 4, classes: str = "ab") -> Dataset:
    return dataset(*((f"{c}{g}", c, str(g)) for g in range(1, groups + 1) for c in classes))


def test_each_group_is_left_out_once_in_the_order_of_the_clips():
    found = leave_one_group_out(grid(11))
    assert [split.name for split in found.splits][:2] == ["without 1", "without 2"]
    assert found.splits[9].name == "without 10"
    assert found.splits[0].test == ("a1", "b1")
    assert len(found.splits[0].train) == 20
    assert found.notes == ()


def test_clips_without_a_group_are_their_own():
    found = leave_one_group_out(dataset(*((f"{c}{i}", c, None) for c in "ab" for i in range(3))))
    assert [split.test for split in found.splits] == [(f"{c}{i}",) for c in "ab" for i in range(3)]


def test_clips_without_a_label_are_left_out_and_named():
    found = leave_one_group_out(
        dataset(*((c.name, c.label, c.group) for c in grid().clips), ("x", None, "1"))
    )
    assert all("x" not in split.train + split.test for split in found.splits)
    assert found.notes == ("1 clip without a label left out: 'x'",)


def test_a_class_with_one_clip_is_lost_where_that_clip_is_tested():
    clips = [(c.name, c.label, c.group) for c in grid().clips]
    found = leave_one_group_out(dataset(*clips, ("z1", "z", "2")))
    (note,) = found.notes
    assert note.startswith("without 2: class 'z' has no training clip, so its 1 test clip cannot")
    assert found.classes == ("a", "b", "z")


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([("a", "a", "1"), ("b", "b", "1")], "has the one group '1'"),
        ([("a", None, "1"), ("b", None, "2")], "no labelled clips"),
        ([("a", "a", "1"), ("b", "b", "2")], "trains on the one class 'b'"),
    ],
)
def test_sets_that_cannot_leave_a_group_out(clips, message):
    with pytest.raises(ParameterError, match=message):
        leave_one_group_out(dataset(*clips))


@property_of(st.integers(2, 6), st.integers(6, 12), st.integers(0, 3))
def test_folds_part_the_set_by_groups(k, groups, seed):
    clips = grid(groups, "abc")
    found = k_fold(clips, k, seed)
    group_of = {clip.name: clip.group for clip in clips.clips}
    tested = [name for split in found.splits for name in split.test]
    assert sorted(tested) == sorted(group_of)
    for split in found.splits:
        assert len(split.train) + len(split.test) == len(group_of)
        assert not {group_of[n] for n in split.train} & {group_of[n] for n in split.test}


def test_folds_depend_on_the_seed_alone():
    assert k_fold(grid(8), 3, 1) == k_fold(grid(8), 3, 1)
    assert k_fold(grid(8), 3, 1) != k_fold(grid(8), 3, 2)


@pytest.mark.filterwarnings("error")
def test_folds_of_classes_with_fewer_clips_than_folds():
    found = k_fold(dataset(*((f"c{i}", "abc"[i % 3], None) for i in range(9))), 4)
    assert len(found.splits) == 4
    assert sorted(n for split in found.splits for n in split.test) == [f"c{i}" for i in range(9)]
    clips = [(c.name, c.label, c.group) for c in grid(6).clips]
    assert (
        "class 'rare' has no training clip"
        in k_fold(dataset(*clips, ("r", "rare", None)), 3).notes[0]
    )


@pytest.mark.parametrize("k", [1, 5])
def test_number_of_folds_out_of_range(k):
    with pytest.raises(ParameterError, match=f"k is {k}; it must be 2 to 4"):
        k_fold(grid(4), k)


def test_official_splits_without_what_is_missing():
    split = Split("1", ("a1", "b1", "gone"), ("a2", "b2"))
    clips = [(c.name, c.label, c.group) for c in grid(2).clips]
    found = official(dataset(*clips, splits=[split]))
    assert found.splits == (Split("1", ("a1", "b1"), ("a2", "b2")),)
    assert found.notes == ("1 clip of the splits not there: 'gone'",)
    with pytest.raises(ParameterError, match="has no official splits"):
        official(grid())


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([Split("1", ("a1", "a1", "b1"), ("a2",))], "has 'a1' more than once in its training half"),
        ([Split("1", ("a1", "b1"), ("gone",))], "'1' has no test clip that is there"),
        ([Split("1", ("a1", "b1"), ("a2",))] * 2, "two splits of 'given' are called '1'"),
        ([Split("1", ("a1", "a3"), ("a2",))], "trains on the one class 'a'"),
        ([], "has no splits"),
    ],
)
def test_splits_that_cannot_be_used(splits, message):
    with pytest.raises(ParameterError, match=message):
        given(grid(), splits)


def test_a_split_with_the_name_of_that_of_all_clips_is_refused():
    names = [clip.name for clip in grid().clips]
    with pytest.raises(ParameterError, match="split of 'mine' is called 'final'"):
        given(grid(), [Split("final", tuple(names[:4]), tuple(names[4:]))], "mine")


def test_ut_interaction_leaves_out_ten_sequences():
    found = leave_one_group_out(ut_interaction(shared_data("ut-interaction", "set1")))
    assert [len(split.test) for split in found.splits] == [6, 6, 6, 6, 6, 5, 6, 7, 6, 6]
    assert found.notes == ()


def test_ucf101_says_what_is_missing():
    found = official(ucf101(shared_data("ucf101")))
    assert [split.name for split in found.splits] == ["split1", "split2", "split3"]
    assert found.notes[0].startswith("13294 clips of the splits not there: ")


def test_the_protocol_that_a_user_names(tmp_path):
    plain = grid()
    splits = [Split("one", ("a1", "b1"), ("a2", "b2"))]
    with_splits = dataset(*((c.name, c.label, c.group) for c in plain.clips), splits=splits)
    assert protocol(plain, None).name == protocol(plain, "loo").name == "leave-one-group-out"
    assert protocol(with_splits, None).name == protocol(with_splits, "official").name == "official"
    assert protocol(with_splits, "loo").name == "leave-one-group-out"
    assert len(protocol(plain, "2-fold").splits) == 2
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"splits": [{"train": ["a1", "b1"], "test": ["b3"]}]}))
    assert protocol(plain, str(path)).name == "mine"
    for wanted in ("k-fold", "official.json", "thirds", ""):
        with pytest.raises(ParameterError, match="a number of folds such as '5-fold'"):
            protocol(plain, wanted)
    with pytest.raises(ParameterError, match="has no official splits"):
        protocol(plain, "official")


def test_what_is_not_there_is_left_out_of_every_split():
    found = leave_one_group_out(grid(3))
    assert found.among(set(found.labels)) is found
    left = found.among(set(found.labels) - {"a1"})
    assert [split.test for split in left.splits] == [("b1",), ("a2", "b2"), ("a3", "b3")]
    assert all("a1" not in split.train for split in left.splits)
    assert left.notes == ("1 clip left out, since it failed: 'a1'",)
    again = left.among(set(left.labels) - {"b2", "a3"})
    assert again.notes[1:] == ("2 clips left out, since they failed: 'a3', 'b2'",)
    fewer = left.among(set(left.labels) - {"b1"})
    assert [split.name for split in fewer.splits] == ["without 2", "without 3"]
    assert fewer.notes[-1] == "1 split left out without test clips: 'without 1'"
    with pytest.raises(ParameterError, match="split 'without 1' has no training clip left"):
        found.among({"a1", "b1"})


def test_scores_are_joined_with_true_classes_by_name():
    table = np.array([[1, 0], [0, 1], [3, 2]], np.float32)
    found = leave_one_group_out(grid()).scored("without 1", ("b1", "a1", "b2"), table)
    assert (found.split, found.names) == ("without 1", ("b1", "a1", "b2"))
    assert found.labels.tolist() == [1, 0, 1]
    assert found.scores is table


def test_protocols_survive_json(tmp_path):
    clips = [(c.name, c.label, c.group) for c in grid(3).clips]
    found = leave_one_group_out(dataset(*clips, ("z1", "z", "2")))
    path = tmp_path / "found.json"
    path.write_bytes(to_json(found.to_json()))
    assert protocol_from_json(path) == found
    assert found.indices(["b2", "z1", "a1"]).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("splits", None, "no lists 'splits' and 'classes'"),
        ("labels", {"a1": "nonsense"}, "must have 'labels'"),
        ("labels", {"a1": ["a"]}, "must have 'labels'"),
        ("labels", {}, "has no label of 'a1'"),
        ("splits", [7], "split 1 of .* is not an object"),
    ],
)
def test_what_is_no_protocol(tmp_path, name, value, message):
    path = tmp_path / "found.json"
    path.write_text(json.dumps({**leave_one_group_out(grid(2)).to_json(), name: value}))
    with pytest.raises(FormatError, match=message):
        protocol_from_json(path)
