"""What a folder means is read where it is plain, and refused with the option that decides else."""

from __future__ import annotations

import json

import pytest

from flowpipe.classify.protocols import protocol
from flowpipe.datasets.base import Clip, Dataset, Split
from flowpipe.datasets.discover import discover
from flowpipe.datasets.find import find_clips
from flowpipe.datasets.load import load_dataset, record_dataset
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make, write

# --- splits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "TESTING"),
        ("videos_train", "videos_test"),
        ("train_256", "test"),
    ],
)
def test_folders_of_splits_are_splits(tmp_path, train, test):
    found = load_dataset(
        make(tmp_path, f"{train}/a/1.avi", f"{train}/b/2.avi", f"{test}/a/3.avi", f"{test}/b/4.avi")
    )
    assert (found.kind, found.classes) == ("split-folders", ("a", "b"))
    (split,) = found.splits
    assert split.train == (f"{train}/a/1", f"{train}/b/2")
    assert split.test == (f"{test}/a/3", f"{test}/b/4")


def test_validation_folders_are_a_split_that_is_not_reported(tmp_path):
    files = [f"{half}/{c}/{half}.avi" for half in ("train", "val", "test") for c in "ab"]
    found = load_dataset(make(tmp_path, *files))
    assert [split.name for split in found.splits] == ["folders", "folders-val"]
    assert [split.name for split in protocol(found).splits] == ["folders"]


def test_validation_is_the_test_where_there_is_no_other(tmp_path):
    files = [f"{half}/{c}/{half}.avi" for half in ("train", "validation") for c in "ab"]
    (split,) = protocol(load_dataset(make(tmp_path, *files))).splits
    assert split.name == "folders-val"


def test_folders_of_splits_can_be_classes_if_asked_for(tmp_path):
    root = make(tmp_path, "train/a/1.avi", "test/a/2.avi")
    assert load_dataset(root, "folders").classes == ("test", "train")


def test_videos_directly_in_train_and_test_have_no_class(tmp_path):
    with pytest.raises(FormatError, match=r"no class folder.*--dataset folders takes test, train"):
        load_dataset(make(tmp_path, "train/1.avi", "test/2.avi"))


def test_a_class_called_train_beside_others(tmp_path):
    assert load_dataset(make(tmp_path, "train/1.avi", "bus/2.avi")).classes == ("bus", "train")


def test_folders_of_splits_beside_another_folder_stop(tmp_path):
    root = make(tmp_path, "train/a/1.avi", "test/a/2.avi", "extra/b/3.avi")
    with pytest.raises(FormatError, match=r"test, train .* but extra is not; .*--dataset folders"):
        load_dataset(root)


def test_a_set_without_clips_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"l\.txt' holds no clip of the kind tsn"):
        load_dataset(write(tmp_path / "l.txt", "# nothing yet"))
    with pytest.raises(FormatError, match="holds no clip of the kind kth"):
        load_dataset(tmp_path, "kth")


def test_the_split_folders_of_the_field():
    found = load_dataset(shared_data("field", "split-folders", "traintest"))
    assert (found.kind, found.classes) == ("split-folders", ("left", "right"))
    assert [(len(s.train), len(s.test)) for s in found.splits] == [(8, 4)]


# --- subjects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "files",
    [
        ["s01/a.avi", "s02/a.avi"],
        ["subject1/run/1.avi", "subject2/run/1.avi"],
        ["Person_1/x.avi", "Person_2/y.avi", "Person_3/z.avi"],
        ["alice/run/1.avi", "bob/run/1.avi", "bob/jump/2.avi"],
    ],
)
def test_subjects_are_not_taken_for_classes(tmp_path, files):
    root = make(tmp_path, *files)
    with pytest.raises(FormatError, match=r"--dataset folders.*subject-folders"):
        load_dataset(root)
    assert len(load_dataset(root, "folders").classes) > 1


def test_subject_folders_make_groups(tmp_path):
    found = load_dataset(make(tmp_path, "s1/run/1.avi", "s2/run/1.avi"), "subject-folders")
    assert [(clip.name, clip.label, clip.group) for clip in found.clips] == [
        ("s1/run/1", "run", "s1"),
        ("s2/run/1", "run", "s2"),
    ]


@pytest.mark.parametrize(
    "files", [["run/g01/1.avi", "jump/g01/1.avi"], ["run/1.avi", "jump/deep/1.avi"]]
)
def test_numbered_folders_within_classes_are_no_classes(tmp_path, files):
    assert load_dataset(make(tmp_path, *files)).classes == ("jump", "run")


# --- names against folders -----------------------------------------------------------------------


def test_a_weak_pattern_loses_to_class_folders(tmp_path):
    found = load_dataset(make(tmp_path, "cats/0_1_4.avi", "dogs/1_1_2.avi"))
    assert (found.kind, found.classes) == ("folders", ("cats", "dogs"))


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        (["a/v_Archery_g01_c01.avi", "b/v_Archery_g01_c02.avi"], "ucf101"),
        (["x/person01_boxing_d1.avi", "y/person02_boxing_d1.avi"], "kth"),
        (["x/eli_walk.avi", "y/ido_walk.avi"], "weizmann"),
        (["up/Film_wave_u_nm_np1_fr_goo_1.avi", "wave/Film_wave_u_nm_np1_fr_goo_2.avi"], "hmdb51"),
    ],
)
def test_a_published_name_in_a_folder_that_contradicts_it_stops(tmp_path, files, kind):
    root = make(tmp_path, *files)
    with pytest.raises(FormatError, match=r"--dataset folders|--dataset .* by the folders"):
        load_dataset(root)
    assert len(load_dataset(root, "folders").classes) == 2
    assert load_dataset(root, kind).kind == kind


# --- classes -------------------------------------------------------------------------------------


def test_classes_are_in_natural_order(tmp_path):
    found = load_dataset(make(tmp_path, *(f"{n}/x.avi" for n in (10, 2, 1))))
    assert found.classes == ("1", "2", "10")
    found = load_dataset(make(tmp_path / "u", "JumpRope/x.avi", "JumpingJack/x.avi"))
    assert found.classes == ("JumpingJack", "JumpRope")  # as classInd.txt of UCF101 has them


@pytest.mark.parametrize("other", ["Run", "run ", " RUN"])
def test_classes_that_differ_in_case_or_white_space_are_refused(tmp_path, other):
    with pytest.raises(FormatError, match="nothing but case or white space"):
        load_dataset(make(tmp_path, "run/1.avi", f"{other}/2.avi"))


def test_a_csv_with_white_space_and_capitals_in_its_header(tmp_path):
    make(tmp_path, "a.avi", "b.avi", "c d.avi")
    write(
        tmp_path / "dataset.csv",
        " Path, Label ,GROUP",
        " a.avi , x ,1",
        "b.avi,x,2",
        "c d.avi, y,3",
    )
    found = load_dataset(tmp_path)
    assert found.classes == ("x", "y")
    assert [(clip.name, clip.label, clip.group) for clip in found.clips] == [
        ("a", "x", "1"),
        ("b", "x", "2"),
        ("c d", "y", "3"),
    ]
    write(tmp_path / "dataset.csv", "path,label", "a.avi,run", "b.avi,Run")
    with pytest.raises(FormatError, match=r"dataset\.csv.*'run' and 'Run'|'Run' and 'run'"):
        load_dataset(tmp_path)


# --- what is said --------------------------------------------------------------------------------


def test_what_a_set_is_taken_for_is_logged_and_recorded(tmp_path, caplog):
    caplog.set_level("INFO")
    root = make(tmp_path / "set", "train/a/1.avi", "train/b/2.avi", "test/a/3.avi")
    found = load_dataset(root)
    assert "set, read as split-folders: 3 clips, 2 classes (a, b), no groups" in caplog.text
    assert "folders (2 training, 1 test)" in caplog.text
    record_dataset(found, tmp_path / "out")
    recorded = json.loads((tmp_path / "out/.flowpipe/dataset.json").read_text())
    assert recorded["kind"] == "split-folders"
    assert recorded["classes"] == {"a": 2, "b": 1}


def test_a_half_copied_set_is_told_and_in_the_notes_of_the_protocol(tmp_path, caplog):
    make(tmp_path, *(f"{c}/{actor}_{c}.avi" for c in ("run", "walk") for actor in ("eli", "ido")))
    found = load_dataset(tmp_path)
    assert "4 clips; weizmann has 90" in found.notes
    assert "4 clips; weizmann has 90" in caplog.text
    assert "4 clips; weizmann has 90" in protocol(found).notes


def test_missing_clips_are_counted_and_named(tmp_path, caplog):
    make(tmp_path, "a.avi")
    found = load_dataset(write(tmp_path / "l.txt", "a.avi 5 0", "b.avi 5 1", "c.avi 5 1"))
    assert found.missing() == ("b", "c")
    assert "2 listed clips are not on disk, such as b, c" in caplog.text
    assert "2 missing clips (b, c)" in found.describe()


def test_a_list_of_which_nothing_exists(tmp_path):
    path = write(tmp_path / "l.txt", "v/a.avi 5 0", "v/b.avi 5 1")
    with pytest.raises(FormatError, match=r"none of the 2 clips .* is on disk; .*v/a\.avi'"):
        load_dataset(path)
    stored = load_dataset(path, stored=["v/a", "elsewhere/b"])
    assert [(clip.name, clip.label) for clip in stored.clips] == [("v/a", "0")]
    assert stored.missing() == ("v/b",)
    assert stored.describe().startswith("l, read as tsn: 1 clip, ")


def test_labels_that_begin_at_one_are_told(tmp_path):
    make(tmp_path, "a.avi", "b.avi")
    found = load_dataset(write(tmp_path / "l.txt", "a.avi 5 1", "b.avi 5 2"))
    assert "no clip has the label 0: labels count from 0, these begin at 1" in found.notes


# --- leave one out -------------------------------------------------------------------------------


def test_many_splits_have_to_be_asked_for(caplog):
    clips = tuple(Clip(f"{n}.avi", f"{n}", "ab"[n % 2]) for n in range(51))
    with pytest.raises(ParameterError, match=r"its 51 clips without groups .*--protocol loo"):
        protocol(Dataset("mine", clips, ("a", "b")))
    caplog.set_level("INFO")
    assert len(protocol(Dataset("mine", clips, ("a", "b")), "loo").splits) == 51
    assert "protocol leave-one-group-out: 51 splits" in caplog.text
    assert len(protocol(Dataset("mine", clips[:50], ("a", "b"))).splits) == 50


def test_validation_splits_are_not_reported():
    clips = tuple(Clip(f"{n}.avi", f"{n}", "ab"[n % 2]) for n in range(6))
    splits = (Split("s", ("0", "1"), ("2", "3")), Split("v", ("0", "1"), ("4", "5"), True))
    dataset = Dataset("mine", clips, ("a", "b"), splits)
    assert [split.name for split in protocol(dataset).splits] == ["s"]


# --- folders of frames, and what flowpipe wrote --------------------------------------------------


def test_folders_of_frames_are_clips_where_there_is_no_video(tmp_path):
    root = make(tmp_path, "run/a/00001.jpg", "run/a/00002.jpg", "jump/b/img_00001.PNG")
    assert [clip.name for clip in discover([str(root)])] == ["jump/b", "run/a"]
    assert [clip.name for clip in discover([str(root / "run/a")])] == ["a"]
    assert load_dataset(root).classes == ("jump", "run")
    make(tmp_path, "run/c.mp4")
    assert [clip.name for clip in discover([str(root)])] == ["run/c"]


def test_folders_of_flow_are_no_input_of_extract_flow_but_are_a_set(tmp_path):
    files = ["a/1/flow_x_00001.jpg", "a/1/flow_y_00001.jpg", "b/2/u/0001.jpg"]
    root = make(tmp_path, *files[:2])
    with pytest.raises(ParameterError, match="no videos in"):
        discover([str(root)])
    assert [clip.name for clip in load_dataset(root).clips] == ["a/1"]


def test_a_list_of_frame_folders():
    root = shared_data("field", "frame-folders", "rgb3")
    found = load_dataset(root / "rawframes_list.txt")
    assert [(clip.name, clip.label) for clip in found.clips] == [("right/a", "0"), ("left/b", "1")]


def test_a_gif_is_a_video(tmp_path):
    assert [clip.name for clip in discover([str(make(tmp_path, "a.gif"))])] == ["a"]


def test_what_flowpipe_wrote_is_never_input(tmp_path):
    root = make(tmp_path, "a/1.avi", "flow-view/a/1.mp4", "flow-view/.flowpipe/stage.json", "out/x")
    (root / "flow-view/.flowpipe/stage.json").write_text('{"stage": "view"}')
    assert [entry.name for entry in find_clips(root)] == ["a/1.avi"]
    assert load_dataset(root).classes == ("a",)
    assert [clip.name for clip in discover([str(root)])] == ["a/1"]
    assert [clip.name for clip in discover([str(root / "*")])] == ["a/1"]
    assert [clip.name for clip in discover([str(root / "**/*.*")])] == ["a/1"]
    assert [clip.name for clip in discover([str(root / "a"), str(root / "flow-view")])] == ["1"]
    with pytest.raises(ParameterError, match="pictures of flow"):
        discover([str(root / "flow-view")])


def test_videos_beside_their_outputs_are_still_found(tmp_path):
    root = make(tmp_path, "a.avi", ".flowpipe/stage.json")
    (root / ".flowpipe/stage.json").write_text('{"stage": "flow"}')
    assert [clip.name for clip in discover([str(root)])] == ["a"]
