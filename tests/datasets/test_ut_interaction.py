from __future__ import annotations

import pytest

from flowpipe.datasets.facts import check_against_facts
from flowpipe.datasets.ut_interaction import ut_interaction
from flowpipe.errors import FormatError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make


def test_names_hold_sequence_and_class(tmp_path):
    found = ut_interaction(make(tmp_path, "10_2_1.avi", "9_2_0.avi", "0_1_5.avi", "58_10_4.avi"))
    assert [(clip.name, clip.group) for clip in found.clips] == [
        ("push/0_1_5", "1"),
        ("hand-shake/9_2_0", "2"),
        ("hug/10_2_1", "2"),
        ("punch/58_10_4", "10"),
    ]
    assert found.classes == ("hand-shake", "hug", "kick", "point", "punch", "push")


def test_two_sets_do_not_share_names_or_groups(tmp_path):
    found = ut_interaction(make(tmp_path, "set1/0_1_4.avi", "set2/0_1_4.avi"))
    assert [(clip.name, clip.group) for clip in found.clips] == [
        ("punch/set1_0_1_4", "set1/1"),
        ("punch/set2_0_1_4", "set2/1"),
    ]


def test_another_name_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"0_1_6\.avi.*0_1_4\.avi"):
        ut_interaction(make(tmp_path, "0_1_6.avi"))


def test_the_real_set_agrees_with_its_facts(tmp_path):
    folder = shared_data("ut-interaction", "set1")
    found = ut_interaction(folder)
    assert len(found.clips) == 60
    assert len({clip.group for clip in found.clips}) == 10
    assert check_against_facts(found) == []
    for path in folder.glob("*.avi"):
        if not path.name.startswith("20_"):
            (tmp_path / path.name).symlink_to(path)
    assert check_against_facts(ut_interaction(tmp_path)) == [
        "59 clips; ut-interaction has 60",
        "class kick: 9 of 10 clips",
        "group 4, class kick: 0 of 1 clips",
    ]
