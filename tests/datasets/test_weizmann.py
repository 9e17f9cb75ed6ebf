from __future__ import annotations

import pytest

from flowpipe.classify.protocols import protocol
from flowpipe.datasets.facts import check_against_facts
from flowpipe.datasets.load import load_dataset
from flowpipe.datasets.weizmann import ACTORS, CLASSES, weizmann
from flowpipe.errors import FormatError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make


def test_loose_or_in_class_folders(tmp_path):
    loose = weizmann(make(tmp_path / "1", "eli_walk.avi", "lena_wave1.avi", "lena_walk2.avi"))
    assert [(clip.name, clip.label, clip.group) for clip in loose.clips] == [
        ("walk/eli_walk", "walk", "eli"),
        ("walk/lena_walk2", "walk", "lena"),
        ("wave1/lena_wave1", "wave1", "lena"),
    ]


def test_another_name_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"anna_walk\.avi.*daria_walk\.avi"):
        weizmann(make(tmp_path, "anna_walk.avi"))


def test_the_real_set_agrees_with_its_facts_and_leaves_one_actor_out():
    found = load_dataset(shared_data("weizmann"))
    assert (found.kind, len(found.clips), found.classes) == ("weizmann", 90, CLASSES)
    assert check_against_facts(found) == []
    splits = protocol(found).splits
    assert sorted(split.name for split in splits) == [f"without {actor}" for actor in ACTORS]
    assert {(len(split.train), len(split.test)) for split in splits} == {(80, 10)}
