from __future__ import annotations

import pytest

from flowpipe.datasets.kinetics import kinetics
from flowpipe.errors import FormatError
from tests.helpers.trees import make, write

HEADER = "label,youtube_id,time_start,time_end,split"


def test_files_are_found_under_either_name_anywhere(tmp_path):
    make(
        tmp_path,
        "train/air drumming/-0aBc_dEf12_000003_000013.mp4",
        "AAAAAAAAAAA.webm",
        "air_drumming/BBBBBBBBBBB_000000_000010.mkv",
        "zumba/BBBBBBBBBBB_000000_000010.mkv",
    )
    write(
        tmp_path / "train.csv",
        f"{HEADER},is_cc",
        "air drumming,-0aBc_dEf12,3,13,train,0",
        '"massaging person\'s head, gently",AAAAAAAAAAA,5.0,15.0,train,0',
        "air drumming,BBBBBBBBBBB,0,10,train,0",
    )
    write(tmp_path / "val.csv", HEADER, "zumba,aaaaaaaaaaa,5,15,validate", "zumba,CC,1,2,val")
    write(tmp_path / "other.csv", "path,label", "x,y")
    found = kinetics(tmp_path)
    head = "massaging person's head, gently"
    assert [(clip.name, clip.label, clip.group) for clip in found.clips] == [
        ("air drumming/-0aBc_dEf12_000003_000013", "air drumming", "-0aBc_dEf12"),
        (f"{head}/AAAAAAAAAAA_000005_000015", head, "AAAAAAAAAAA"),
        ("air drumming/BBBBBBBBBBB_000000_000010", "air drumming", "BBBBBBBBBBB"),
    ]
    assert found.clips[2].path.parent.name == "air_drumming"
    assert found.classes == ("air drumming", head, "zumba")
    assert [(split.name, len(split.train), len(split.test)) for split in found.splits] == [
        ("val", 3, 2)
    ]
    # ids differ by case only: the validation clip is another video, which is not there
    assert found.missing() == ("zumba/CC_000001_000002", "zumba/aaaaaaaaaaa_000005_000015")


def test_rows_without_label(tmp_path):
    make(tmp_path, "x_000001_000002.mp4")
    found = kinetics(tmp_path, [write(tmp_path / "test.csv", HEADER, ",x,1,2,test")])
    assert [(clip.name, clip.label) for clip in found.clips] == [
        ("unlabelled/x_000001_000002", None)
    ]
    assert found.classes == ()


@pytest.mark.parametrize(
    "row", ["a,x,1,2,trian", "a,x,one,2,train", "a,x,3,2,train", "a,,1,2,train", "..,x,1,2,train"]
)
def test_a_malformed_row_is_named(tmp_path, row):
    path = write(tmp_path / "bad.csv", HEADER, "a,x,1,2,train", row)
    with pytest.raises(FormatError) as caught:
        kinetics(tmp_path)
    assert str(path) in str(caught.value)
    assert "line 3" in str(caught.value)
    assert repr(row) in str(caught.value)


def test_a_row_listed_twice_and_no_list_are_errors(tmp_path):
    with pytest.raises(FormatError, match="label,youtube_id"):
        kinetics(tmp_path)
    write(tmp_path / "a.csv", HEADER, "a,x,1,2,train", "a,x,1,2,val")
    with pytest.raises(FormatError, match=r"line 3.*not listed before"):
        kinetics(tmp_path)
