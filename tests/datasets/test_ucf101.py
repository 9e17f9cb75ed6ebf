from __future__ import annotations

from collections import Counter

import pytest

from flowpipe.datasets.facts import load_facts
from flowpipe.datasets.ucf101 import ucf101
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make, write


def lists(folder, *, train=(), test=(), classes=("Archery", "HandstandPushups")):
    write(folder / "classInd.txt", *(f"{n} {name}" for n, name in enumerate(classes, 1)))
    write(folder / "trainlist01.txt", *train)
    write(folder / "testlist01.txt", *test)
    return folder


@pytest.mark.parametrize("folder", ["HandstandPushups", "HandStandPushups", "."])
@pytest.mark.parametrize("file", ["HandstandPushups", "HandStandPushups"])
def test_either_spelling_of_handstand_pushups_is_found(tmp_path, folder, file):
    root = make(tmp_path / "UCF-101", f"{folder}/v_{file}_g01_c02.avi")
    lists(
        tmp_path / "ucfTrainTestlist",
        train=["HandstandPushups/v_HandStandPushups_g01_c02.avi 2"],
        test=["Archery/v_Archery_g08_c01.avi"],
    )
    found = ucf101(root)
    (clip,) = found.clips
    assert clip.name == "HandstandPushups/v_HandStandPushups_g01_c02"
    assert clip.label == "HandstandPushups"
    assert clip.group == "g01"
    assert clip.path.is_file()
    assert found.splits[0].train == (clip.name,)
    assert found.missing() == ("Archery/v_Archery_g08_c01",)


def test_the_parent_of_both_folders_will_do(tmp_path):
    make(tmp_path / "UCF-101", "Archery/v_Archery_g01_c01.avi")
    lists(tmp_path / "ucfTrainTestlist", train=["Archery/v_Archery_g01_c01.avi 1"])
    found = ucf101(tmp_path)
    assert len(found.clips) == 1
    assert found.missing() == ()


def test_without_lists_the_classes_are_known_and_there_are_no_splits(tmp_path):
    found = ucf101(make(tmp_path / "a" / "b", "v_HandStandPushups_g25_c07.avi"))
    assert len(found.classes) == 101
    assert found.clips[0].label == "HandstandPushups"
    assert found.splits == ()


@pytest.mark.parametrize(
    ("train", "right"),
    [
        ("Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g01_c01.avi 1"),
        ("Archery/v_Archery_g01_c01.avi 2", "Archery/v_Archery_g01_c01.avi 1"),
        ("Archery/v_Bowling_g01_c01.avi 1", "<Class>"),
        ("v_Archery_g01_c01.avi 1", "<Class>"),
        ("Diving/v_Diving_g01_c01.avi 1", "classInd.txt"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, train, right):
    make(tmp_path, "v_Archery_g01_c01.avi")
    folder = lists(tmp_path / "l", train=["Archery/v_Archery_g02_c01.avi 1", train])
    with pytest.raises(FormatError) as caught:
        ucf101(tmp_path, folder)
    assert "trainlist01.txt" in str(caught.value)
    assert "line 2" in str(caught.value)
    assert repr(train) in str(caught.value)
    assert right in str(caught.value)


def test_malformed_classes_are_named(tmp_path):
    folder = lists(tmp_path / "l")
    write(folder / "classInd.txt", "1 Archery", "3 Bowling")
    with pytest.raises(FormatError, match=r"classInd\.txt.*line 2.*'3 Bowling'.*'2 "):
        ucf101(make(tmp_path, "v_Archery_g01_c01.avi"), folder)


def test_lists_that_are_not_there_are_an_error(tmp_path):
    make(tmp_path, "v_Archery_g01_c01.avi")
    with pytest.raises(ParameterError, match="not a folder"):
        ucf101(tmp_path, tmp_path / "nowhere")
    folder = lists(tmp_path / "l")
    (folder / "testlist01.txt").unlink()
    with pytest.raises(FormatError, match=r"testlist01\.txt' cannot be read: No such file"):
        ucf101(tmp_path, folder)


def test_a_foreign_video_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FormatError, match=r"holiday\.mp4.*v_Archery"):
        ucf101(make(tmp_path, "v_Archery_g01_c01.avi", "holiday.mp4"))
    with pytest.raises(FormatError, match=r"'Sleeping'.*101 classes"):
        ucf101(make(tmp_path / "other", "v_Sleeping_g01_c01.avi"))


def test_the_official_lists_and_some_real_clips():
    found = ucf101(shared_data("ucf101"))
    assert len(found.clips) == 26
    assert len(found.classes) == 101
    assert found.classes[36] == "HandstandPushups"
    sizes = [(len(split.train), len(split.test)) for split in found.splits]
    assert sizes == [(9537, 3783), (9586, 3734), (9624, 3696)]
    assert len(found.missing()) == 13320 - 26
    facts = load_facts("ucf101")
    for split in found.splits:
        halves = [
            Counter(name.split("/")[0] for name in half) for half in (split.train, split.test)
        ]
        counts = {label: (halves[0][label], halves[1][label]) for label in found.classes}
        assert counts == facts.splits[split.name]
