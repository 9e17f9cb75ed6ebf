from __future__ import annotations

from pathlib import Path

from flowpipe.classify.protocols import leave_one_group_out
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.duplicates import group_duplicates, identical_clips
from flowpipe.datasets.load import load_dataset
from tests.helpers.clips import shared_data


def clips_of(folder: Path, **contents: bytes) -> tuple[Clip, ...]:
    for name, content in contents.items():
        (folder / f"{name}.avi").write_bytes(content)
    return tuple(Clip(folder / f"{n}.avi", n, n[0], None) for n in contents)


def test_only_the_same_bytes_are_identical(tmp_path):
    big = b"x" * 300_000
    almost = big[:100_000] + b"y" + big[100_001:]  # outside the blocks of the fingerprint
    clips = clips_of(tmp_path, a1=big, a2=almost, a3=big, b1=b"", b2=b"", b3=b"z")
    assert [[clip.name for clip in same] for same in identical_clips(clips)] == [["a1", "a3"]]


def test_identical_clips_share_a_group_and_are_named(tmp_path):
    clips = clips_of(tmp_path, a1=b"1", a2=b"1", a3=b"2", b1=b"3", b2=b"1")
    splits = (Split("s", ("a1", "b1"), ("a2", "a3")),)
    found = group_duplicates(Dataset("mine", clips, ("a", "b"), splits))
    assert [clip.group for clip in found.clips] == ["a1", "a1", None, None, "a1"]
    assert found.notes[0] == "3 clips are byte-identical to others: 'a1' = 'a2' = 'b2'"
    assert found.notes[1] == "'a1', 'a2', 'b2' are identical, but labelled a and b"
    assert "s: 1 of the test clips or more are training clips too: 'a1' = 'a2'" in found.notes[2]
    for split in leave_one_group_out(found).splits:
        assert len({"a1", "a2", "b2"} & set(split.test)) in (0, 3)


def test_groups_are_joined_as_wholes(tmp_path):
    one, two, three, four = clips_of(tmp_path, a1=b"1", a2=b"2", a3=b"1", a4=b"4")
    groups = ("g1", "g1", "g2", "g2")
    clips = tuple(
        Clip(c.path, c.name, c.label, g)
        for c, g in zip((one, two, three, four), groups, strict=True)
    )
    found = group_duplicates(Dataset("mine", clips, ("a",)))
    assert {clip.group for clip in found.clips} == {"g1"}


def test_a_set_without_duplicates_stays_as_it_is(tmp_path):
    dataset = Dataset("mine", clips_of(tmp_path, a1=b"1", a2=b"2"), ("a",))
    assert group_duplicates(dataset) is dataset


def test_copies_that_people_make():
    found = load_dataset(shared_data("field", "duplicates", "dups"))
    groups = {clip.name: clip.group for clip in found.clips}
    assert len(set(groups.values())) == 10
    assert groups["left/left1"] == groups["left/left1 (1)"]
    assert groups["left/left0"] == groups["right/left0"]
    assert any("labelled left and right" in note for note in found.notes)
