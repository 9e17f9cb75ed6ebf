from __future__ import annotations

import pytest

from flowpipe.datasets.load import detect, load_dataset
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make, write

UCF = "v_Archery_g01_c01.avi"
HMDB = "Film_wave_u_nm_np1_fr_goo_1.avi"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ([f"Archery/{UCF}", "v_Archery_g01_c02.avi"], "ucf101"),
        ([f"wave/{HMDB}"], "hmdb51"),
        (["person01_boxing_d1_uncomp.avi"], "kth"),
        (["0_1_4.avi", "1_1_2.avi"], "ut-interaction"),
        (["a/x.mp4", "b/y.mp4"], "folders"),
        ([f"a/{UCF}", "a/mine.avi"], "folders"),
    ],
)
def test_the_kind_of_a_folder_shows_in_its_names(tmp_path, names, kind):
    root = make(tmp_path, *names)
    assert detect(root) == kind
    assert len(load_dataset(root).clips) == len(names)


def test_a_list_in_the_folder_comes_before_the_names(tmp_path):
    make(tmp_path, UCF)
    write(tmp_path / "dataset.csv", "path,label", f"{UCF},shooting")
    assert load_dataset(tmp_path).classes == ("shooting",)


def test_kinetics_is_known_by_its_columns(tmp_path):
    write(tmp_path / "x.csv", "label,youtube_id,time_start,time_end,split", "a,b,1,2,train")
    assert detect(tmp_path) == "kinetics"
    assert detect(tmp_path / "x.csv") == "kinetics"


def test_a_list_can_stand_for_the_set(tmp_path):
    make(tmp_path, "a.avi", "b.avi")
    text = write(tmp_path / "train.txt", "a.avi 3 0")
    other = write(tmp_path / "test.txt", "b.avi 3 0")
    table = write(tmp_path / "set.csv", "path,label", "b.avi,x")
    assert [clip.name for clip in load_dataset(text).clips] == ["a"]
    assert [clip.name for clip in load_dataset(table).clips] == ["b"]
    assert load_dataset(tmp_path, "auto", [text, other]).splits[0].test == ("b",)
    assert load_dataset(tmp_path, "tsn", [text, other]).splits[0].train == ("a",)
    assert [clip.name for clip in load_dataset(tmp_path, "csv", [table]).clips] == ["b"]


def test_what_cannot_be_told_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"a\.avi.*name the kind"):
        detect(make(tmp_path / "1", "a.avi", "b/c.avi"))
    with pytest.raises(FormatError, match="holds no video"):
        detect(make(tmp_path / "2", "a.txt"))
    with pytest.raises(FormatError, match=r"a\.txt\.gz.*no list"):
        detect(make(tmp_path / "3", "a.txt.gz") / "a.txt.gz")
    with pytest.raises(ParameterError, match="nowhere"):
        detect(tmp_path / "nowhere")


def test_wrong_arguments_are_errors(tmp_path):
    root = make(tmp_path, "a/x.avi")
    with pytest.raises(ParameterError, match=r"'ucf102'.*ucf101"):
        load_dataset(root, "ucf102")
    with pytest.raises(ParameterError, match="folders takes none"):
        load_dataset(root, "folders", [tmp_path / "l.txt"])
    with pytest.raises(ParameterError, match="takes one"):
        load_dataset(root, "ucf101", [tmp_path, tmp_path])


def test_the_real_sets_are_told_apart():
    assert detect(shared_data("ucf101")) == "ucf101"
    assert detect(shared_data("kth")) == "kth"
    assert detect(shared_data("ut-interaction", "set1")) == "ut-interaction"
