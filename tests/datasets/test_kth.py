from __future__ import annotations

import pytest

from flowpipe.datasets import kth as kth_set
from flowpipe.datasets.facts import check_against_facts
from flowpipe.datasets.kth import kth
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make


def whole(root):
    return make(
        root,
        *(
            f"{label}/person{person:02d}_{label}_d{scenario}_uncomp.avi"
            for label in kth_set.CLASSES
            for person in range(1, 26)
            for scenario in range(1, 5)
            if (label, person, scenario) != ("handclapping", 13, 3)
        ),
    )


def test_persons_are_groups_and_divide_the_set(tmp_path):
    found = kth(whole(tmp_path))
    assert len(found.clips) == 599
    assert check_against_facts(found) == []
    persons, validation = found.splits
    assert (len(persons.train), len(persons.test)) == (383, 216)
    assert (len(validation.train), len(validation.test)) == (191, 192)
    groups = {clip.name: clip.group for clip in found.clips}
    for split in found.splits:
        assert not {groups[name] for name in split.train} & {groups[name] for name in split.test}
    assert groups["boxing/person01_boxing_d1_uncomp"] == "person01"


def test_scenarios_can_be_chosen(tmp_path):
    found = kth(whole(tmp_path), scenarios=(3,))
    assert len(found.clips) == 149
    assert all("_d3_" in clip.name for clip in found.clips)
    with pytest.raises(ParameterError, match=r"\(5,\)"):
        kth(tmp_path, scenarios=(5,))


def test_every_person_is_in_one_part():
    parts = (kth_set.TRAINING, kth_set.VALIDATION, kth_set.TEST)
    assert sorted(person for part in parts for person in part) == list(range(1, 26))


def test_another_name_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"person1_boxing.*person01_boxing_d1"):
        kth(make(tmp_path, "person1_boxing_d1.avi"))


def test_a_real_clip():
    (clip,) = kth(shared_data("kth")).clips
    assert (clip.name, clip.label) == ("boxing/person01_boxing_d1_uncomp", "boxing")
