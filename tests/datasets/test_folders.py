from __future__ import annotations

import os

import pytest

from flowpipe.datasets.discover import discover
from flowpipe.datasets.folders import class_folders
from flowpipe.datasets.names import safe_name
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.trees import make

ODD_STEMS = ["a b", "line\nbreak", "it's", 'say "x"', "größe", "-rf", "a.b", "%s{0}", "日本"]


def test_the_folder_is_the_label(tmp_path):
    root = make(tmp_path / "set", "run/b.mp4", "run/a.AVI", "jump/c.webm", "notes.txt")
    found = class_folders(root)
    assert found.name == "set"
    assert found.classes == ("jump", "run")
    assert [(clip.name, clip.label, clip.group) for clip in found.clips] == [
        ("jump/c", "jump", None),
        ("run/a", "run", None),
        ("run/b", "run", None),
    ]
    assert all(clip.path.is_file() for clip in found.clips)


def test_equal_stems_in_different_folders_and_of_different_suffix_do_not_collide(tmp_path):
    root = make(tmp_path, "a/x.avi", "b/x.avi", "b/sub/x.avi", "b/y.avi", "b/y.mp4")
    names = {clip.name for clip in class_folders(root).clips}
    assert names == {"a/x", "b/x", "b/sub/x", "b/y.avi", "b/y.mp4"}


def test_odd_names_are_those_of_extract_flow(tmp_path):
    root = make(tmp_path, *(f"c l/{stem}.mp4" for stem in ODD_STEMS))
    found = class_folders(root)
    assert {clip.name for clip in found.clips} == {safe_name(f"c l/{stem}") for stem in ODD_STEMS}
    assert [clip.name for clip in found.clips] == [c.name for c in discover([str(root)])]
    assert all(clip.path.is_file() for clip in found.clips)


def test_a_name_that_is_no_utf8_is_kept(tmp_path):
    make(tmp_path, "a/x.avi")
    raw = os.fsencode(tmp_path) + b"/a/\xff\xfe.avi"
    try:
        os.close(os.open(raw, os.O_CREAT))
    except OSError:
        pytest.skip("this file system takes only names that are UTF-8")
    assert all(clip.path.is_file() for clip in class_folders(tmp_path).clips)
    assert len(class_folders(tmp_path).clips) == 2


def test_hidden_files_and_folders_without_video_are_left_out(tmp_path):
    root = make(tmp_path, "a/x.avi", "a/.y.avi", ".git/z.avi", "lists/train.txt")
    found = class_folders(root)
    assert found.classes == ("a",)
    assert len(found.clips) == 1


def test_a_link_into_its_own_folder_ends(tmp_path):
    root = make(tmp_path, "a/x.avi")
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert len(class_folders(root).clips) < 100


def test_a_broken_link_is_a_clip_whose_extraction_will_say_why(tmp_path):
    root = make(tmp_path, "a/x.avi")
    (root / "a" / "gone.avi").symlink_to(root / "nowhere.avi")
    assert [clip.name for clip in class_folders(root).clips] == ["a/gone", "a/x"]


def test_a_loose_video_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FormatError, match=r"loose\.avi.*<class>"):
        class_folders(make(tmp_path, "a/x.avi", "loose.avi"))


def test_no_video_and_no_folder_are_errors(tmp_path):
    with pytest.raises(FormatError, match="holds no video"):
        class_folders(tmp_path)
    with pytest.raises(ParameterError, match=r"nowhere.*not a folder"):
        class_folders(tmp_path / "nowhere")
