from __future__ import annotations

import pytest

from flowpipe.datasets.base import Split
from flowpipe.datasets.intervals import Interval, load_intervals
from flowpipe.errors import FormatError
from tests.helpers.trees import make, write

VAL, TEST = "video_validation_0000051", "video_test_0000004"


@pytest.fixture
def root(tmp_path):
    write(tmp_path / "val/annotation/Diving_val.txt", f"{VAL}  67.5 75.9", f"{VAL}  85.9 90.6")
    write(tmp_path / "test/annotation/Diving_test.txt", f"{TEST} 0.2 1.1")
    write(tmp_path / "test/annotation/CliffDiving_test.txt", f"{TEST} 0.2 1.1")
    write(tmp_path / "test/annotation/Ambiguous_test.txt", f"{TEST} 9.0 12.0", "video_test_1 1 2")
    write(tmp_path / "detclasslist.txt", "7 CliffDiving", "9 Diving")
    return tmp_path


def test_the_folders_of_the_authors_are_read(root):
    make(root, f"videos/{TEST}.mp4")
    found = load_intervals(root)
    assert (found.kind, found.name) == ("thumos14", "thumos14")
    assert found.classes == ("CliffDiving", "Diving")
    assert found.intervals == {
        VAL: (Interval(67.5, 75.9, "Diving"), Interval(85.9, 90.6, "Diving")),
        TEST: (Interval(0.2, 1.1, "CliffDiving"), Interval(0.2, 1.1, "Diving")),
        "video_test_1": (),
    }
    assert found.ambiguous == {
        TEST: (Interval(9, 12, "Ambiguous"),),
        "video_test_1": (Interval(1, 2, "Ambiguous"),),
    }
    assert [clip.name for clip in found.clips] == [TEST]
    assert found.splits == (Split("test", (VAL,), (TEST, "video_test_1")),)


@pytest.mark.parametrize("line", ["video_x 1", "video_x 1 2 3", "video_x one 2", "1 2"])
def test_a_malformed_line_is_named(root, line):
    write(root / "val/annotation/Billiards_val.txt", f"{VAL} 1 2", line)
    with pytest.raises(FormatError, match=r"Billiards_val.txt', line 2: .*<video> <start> <end>"):
        load_intervals(root, stored=())


def test_a_reversed_interval_is_named(root):
    write(root / "val/annotation/Billiards_val.txt", f"{VAL} 2 1")
    with pytest.raises(FormatError, match=r"Billiards_val.txt', line 1: .* ends before it begins"):
        load_intervals(root, stored=())


def test_a_file_that_is_there_twice_is_refused(root):
    write(root / "copy/Diving_test.txt", f"{TEST} 0.2 1.1")
    with pytest.raises(FormatError, match="have the same name; keep one"):
        load_intervals(root, stored=())


def test_a_video_in_both_halves_is_refused(root):
    write(root / "test/annotation/Billiards_test.txt", f"{VAL} 1 2")
    with pytest.raises(FormatError, match="of a video that is not in 'test'"):
        load_intervals(root, stored=())
