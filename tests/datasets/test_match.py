from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from flowpipe.datasets.base import Clip
from flowpipe.datasets.discover import discover
from flowpipe.datasets.load import load_dataset
from flowpipe.datasets.match import match_clips
from tests.helpers.clips import shared_data
from tests.helpers.trees import make

FLOW = Path("flow")


@pytest.mark.parametrize(
    ("clip", "names", "output"),
    [
        ("a/x", ["a/x", "UCF-101/a/x", "x"], "a/x"),
        ("a/x", ["UCF-101/a/x", "UCF-101/b/x"], "UCF-101/a/x"),
        ("a/x", ["x", "y"], "x"),
        ("A/v_HandstandPushups", ["a/v_HandStandPushups"], "a/v_HandStandPushups"),
        ("é/x", [unicodedata.normalize("NFD", "é/x")], unicodedata.normalize("NFD", "é/x")),
        ("a/x%1", ["a/x%1"], "a/x%1"),
        ("hug/0_1_4", ["set1/0_1_4", "set1/0_2_4"], "set1/0_1_4"),
    ],
)
def test_a_name_is_the_end_of_the_other(clip, names, output):
    assert match_clips([clip], names, FLOW) == ({clip: output}, {})


def test_the_path_of_the_video_counts_where_the_set_has_names_of_its_own():
    clip = Clip(Path("/data/ut/set1/0_1_4.avi"), "punch/set1_0_1_4", "punch")
    found, _ = match_clips([clip], ["set1/0_1_4", "set2/0_1_4"], FLOW)
    assert found == {clip.name: "set1/0_1_4"}


def test_what_fits_several_fits_none():
    found, missing = match_clips(["a/x"], ["1/a/x", "2/a/x"], FLOW)
    assert not found
    assert "several outputs that may be its own: '1/a/x', '2/a/x'" in missing["a/x"]
    found, missing = match_clips(["a/x", "b/x"], ["x"], FLOW)
    assert not found
    assert missing["b/x"] == "'x' in 'flow' may belong to any of 'a/x', 'b/x'"


def test_an_output_of_the_very_name_is_not_given_to_another():
    found, missing = match_clips(["x", "b/x"], ["x"], FLOW)
    assert found == {"x": "x"}
    assert "another clip's" in missing["b/x"]


def test_the_error_shows_the_nearest_name():
    _, missing = match_clips(["a/walk_01"], ["run/run_01", "walk/walk_1"], FLOW)
    assert missing["a/walk_01"] == "not in 'flow'; the nearest name there is 'walk/walk_1'"


UCF = [f"UCF-101/Archery/v_Archery_g0{n}_c01.avi" for n in (1, 2)]
KTH = ["person01_boxing_d1_uncomp.avi", "person02_walking_d1_uncomp.avi"]
UT = ["set1/0_1_4.avi", "set2/0_1_4.avi"]
WEIZMANN = ["walk/eli_walk.avi", "run/eli_run.avi"]
ODD = ["a/y%40.avi", "a/ÿ\n.avi", "b/x.avi", "b/x.mp4"]
SPLIT = ["train/a/1.avi", "test/a/1.avi", "test/b/2.avi", "train/b/3.avi"]


@pytest.mark.parametrize("extracted", [".", ".."])
@pytest.mark.parametrize("files", [UCF, KTH, UT, WEIZMANN, ODD, SPLIT])
def test_flow_of_a_folder_or_of_that_above_is_found_for_its_set(tmp_path, files, extracted):
    root = make(tmp_path / "data" / "set", *files)
    dataset = load_dataset(root)
    outputs = [clip.name for clip in discover([str(root / extracted)])]
    found, missing = match_clips(dataset.clips, outputs, FLOW)
    assert not missing
    assert sorted(found.values()) == sorted(outputs)


def test_the_layout_of_ucf101_that_its_authors_publish():
    root = shared_data("field", "ucf101-layout", "ucf")
    outputs = [clip.name for clip in discover([str(root)])]
    found, missing = match_clips(load_dataset(root).clips, outputs, FLOW)
    assert (len(found), missing) == (12, {})
    assert found["Archery/v_Archery_g01_c01"] == "UCF-101/Archery/v_Archery_g01_c01"
