from __future__ import annotations

import glob
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpipe.datasets.discover import discover
from flowpipe.datasets.names import safe_name
from flowpipe.errors import FormatError, ParameterError


def _make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def _names(*inputs: object) -> list[str]:
    return [clip.name for clip in discover([str(one) for one in inputs])]


def _by_name(*inputs: object) -> dict[str, Path]:
    return {clip.name: clip.path for clip in discover([str(one) for one in inputs])}


# --- folders ---------------------------------------------------------------------------------


def test_a_folder_is_searched_recursively_in_a_fixed_order(tmp_path):
    _make(tmp_path, "b.mp4", "A/z.AVI", "A/deep/er/x.mkv", "c.webm", "notes.txt", "image.jpg")
    assert sorted(_names(tmp_path)) == ["A/deep/er/x", "A/z", "b", "c"]
    assert _names(tmp_path) == _names(tmp_path)
    assert _by_name(tmp_path)["A/z"] == tmp_path / "A/z.AVI"


def test_hidden_entries_are_left_out(tmp_path):
    _make(tmp_path, "a.mp4", ".b.mp4", ".trash/c.mp4", "d/.e/f.mp4", "._a.mp4")
    assert _names(tmp_path) == ["a"]


def test_the_same_stem_in_two_folders(tmp_path):
    _make(tmp_path, "run/001.mp4", "walk/001.mp4")
    assert sorted(_names(tmp_path)) == ["run/001", "walk/001"]


def test_the_same_stem_with_two_suffixes(tmp_path):
    _make(tmp_path, "a.mp4", "a.avi", "b.mp4")
    assert sorted(_names(tmp_path)) == ["a.avi", "a.mp4", "b"]


def test_the_same_names_in_two_inputs(tmp_path):
    _make(tmp_path, "one/x/001.mp4", "two/x/001.mp4")
    assert sorted(_names(tmp_path / "one", tmp_path / "two")) == ["one/x/001", "two/x/001"]


def test_the_same_file_named_twice_is_one_clip(tmp_path):
    _make(tmp_path, "a.mp4")
    assert len(discover([str(tmp_path), str(tmp_path / "a.mp4"), f"{tmp_path}/./a.mp4"])) == 1


def test_a_clip_beside_a_folder_of_its_name(tmp_path):
    # In layouts of folders the clip "a" would be the folder that holds "a/b".
    _make(tmp_path, "a.mp4", "a/b.mp4")
    assert sorted(_names(tmp_path)) == ["a.mp4", "a/b"]


def test_a_folder_that_is_called_like_a_video(tmp_path):
    _make(tmp_path, "x.mp4/one.mp4", "x.mp4/two.mp4")
    assert sorted(_names(tmp_path)) == ["x.mp4/one", "x.mp4/two"]
    (tmp_path / "y.mp4").mkdir()
    clips = _by_name(tmp_path)
    assert sorted(clips) == ["x.mp4/one", "x.mp4/two", "y"]  # "y" fails when it is opened
    assert clips["y"] == tmp_path / "y.mp4"


def test_a_folder_of_no_videos(tmp_path):
    _make(tmp_path, "notes.txt")
    with pytest.raises(ParameterError, match=r"no videos in .*looked for \.3g2"):
        discover([str(tmp_path)])
    with pytest.raises(ParameterError, match="no videos in no inputs"):
        discover([])


def test_a_folder_that_may_not_be_listed_is_not_passed_over(not_root):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        root = _make(Path(folder), "a.mp4", "closed/b.mp4", "closed.mp4/c.mp4")
        root.chmod(0o755)
        for name in ("closed", "closed.mp4"):
            (root / name).chmod(0)
        with not_root():
            clips = discover([folder])
            alone = discover([str(root / "closed")])
        for name in ("closed", "closed.mp4"):
            (root / name).chmod(0o755)
    assert {(clip.name, clip.path) for clip in clips} == {
        ("a", root / "a.mp4"),
        ("closed.mp4", root / "closed.mp4"),
        ("closed", root / "closed"),
    }
    assert [(clip.name, clip.path) for clip in alone] == [("closed", root / "closed")]


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path):
    videos = _make(tmp_path, "videos/one/a.mp4", "elsewhere/b.mp4") / "videos"
    (videos / "two").symlink_to(tmp_path / "elsewhere")
    (videos / "one/loop").symlink_to(videos)
    (tmp_path / "elsewhere/back").symlink_to(videos / "one")
    assert sorted(_names(videos)) == ["one/a", "two/b"]


# --- single files and globs --------------------------------------------------------------------


def test_files(tmp_path):
    _make(tmp_path, "a.mp4", "b/c.mkv", "noext")
    assert _names(tmp_path / "a.mp4", tmp_path / "b/c.mkv", tmp_path / "noext") == [
        "a",
        "c",
        "noext",
    ]


def test_a_missing_path_is_a_clip_that_fails_when_it_is_opened(tmp_path):
    clips = discover([str(tmp_path / "gone.mp4")])
    assert [(clip.name, clip.path) for clip in clips] == [("gone", tmp_path / "gone.mp4")]
    assert _names(tmp_path / ("x" * 300 + ".mp4")) == ["x" * 300]


def test_globs(tmp_path):
    _make(tmp_path, "s1/a.mp4", "s1/b.avi", "s2/a.mp4", "s2/c.txt", "t/d.mp4")
    assert sorted(_names(tmp_path / "s*/*.mp4")) == ["s1/a", "s2/a"]
    assert sorted(_names(tmp_path / "**/*.mp4")) == ["s1/a", "s2/a", "t/d"]
    assert sorted(_names(tmp_path / "s?")) == ["s1/a", "s1/b", "s2/a"]


def test_a_glob_that_matches_nothing(tmp_path):
    _make(tmp_path, "a.avi")
    with pytest.raises(ParameterError, match=r"no videos in .*\*\.mp4': no file has a name"):
        discover([str(tmp_path / "a.avi"), str(tmp_path / "*.mp4")])


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    _make(tmp_path, "a[1].mp4", "b*.mp4", "a1.mp4")
    assert _names(tmp_path / "a[1].mp4") == ["a[1]"]
    assert _names(tmp_path / "b*.mp4") == ["b*"]


# --- list files --------------------------------------------------------------------------------


def _list(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_a_list_of_paths(tmp_path):
    _make(tmp_path, "v/a.mp4", "v/with space.mp4", "v/b.mp4")
    listing = _list(
        tmp_path / "list.txt", "v/a.mp4", "", str(tmp_path / "v/b.mp4"), "v/with space.mp4"
    )
    assert _names(listing) == ["v/a", "v/b", "v/with space"]
    assert _by_name(listing)["v/a"] == tmp_path / "v/a.mp4"


@pytest.mark.parametrize("line", ["{} 120 3", "{} 3", "{}\t3", "{}  120  3", "{} walking"])
@pytest.mark.parametrize("name", ["a.mp4", "with space 12.mp4", "ends in 7 8"])
def test_a_list_with_labels(tmp_path, line, name):
    _make(tmp_path, f"v/{name}")
    listing = _list(tmp_path / "list.lst", line.format(f"v/{name}"))
    assert [clip.path for clip in discover([str(listing)])] == [tmp_path / "v" / name]


def test_missing_files_of_a_list_are_clips(tmp_path):
    listing = _list(
        tmp_path / "list.txt", "gone.mp4", "gone 2.mp4 120 3", "gone 3.mp4 7", "x" * 300 + ".mp4"
    )
    assert _by_name(listing) == {
        "gone": tmp_path / "gone.mp4",
        "gone 2": tmp_path / "gone 2.mp4",
        "gone 3": tmp_path / "gone 3.mp4",
        "x" * 300: tmp_path / ("x" * 300 + ".mp4"),
    }


def test_a_list_ended_by_nul(tmp_path):
    names = ["a.mp4", "new\nline.mp4", "with space 3.mp4", " leading.mp4"]
    _make(tmp_path, *names)
    listing = tmp_path / "list.txt"
    listing.write_bytes(b"".join(name.encode() + b"\0" for name in names))
    assert [clip.path.name for clip in discover([str(listing)])] == names


def test_a_csv_list(tmp_path):
    _make(tmp_path, "v/a.mp4", "v/b, c.mp4", "v/ends 3")
    listing = _list(
        tmp_path / "list.csv", "label,path", "walk,v/a.mp4", 'run,"v/b, c.mp4"', "run,v/ends 3"
    )
    assert _names(listing) == ["v/a", "v/b, c", "v/ends 3"]


def test_a_csv_from_a_spreadsheet(tmp_path):
    _make(tmp_path, "a.mp4")
    listing = tmp_path / "list.csv"
    listing.write_bytes(b"\xef\xbb\xbfpath,label\r\na.mp4,walk\r\n")
    assert _names(listing) == ["a"]


def test_a_csv_without_paths(tmp_path):
    listing = _list(tmp_path / "list.csv", "file,label", "a.mp4,walk")
    with pytest.raises(FormatError, match=r"list\.csv', line 1: 'file,label' should be.*'path'"):
        discover([str(listing)])


def test_undecodable_bytes_in_a_list(tmp_path):
    name = os.fsdecode(b"latin\xe9.mp4")
    _make(tmp_path, name)
    listing = tmp_path / "list.txt"
    listing.write_bytes(b"latin\xe9.mp4 3\n")
    clips = discover([str(listing)])
    assert [(clip.name, clip.path) for clip in clips] == [("latin%E9", tmp_path / name)]


def test_lists_are_looked_up_from_their_folder_then_from_the_working_folder(tmp_path, monkeypatch):
    _make(tmp_path, "lists/near.mp4", "lists/both.mp4", "work/both.mp4", "work/far.mp4")
    listing = _list(tmp_path / "lists/list.txt", "near.mp4", "both.mp4", "far.mp4")
    monkeypatch.chdir(tmp_path / "work")
    assert [os.path.abspath(clip.path) for clip in discover([str(listing)])] == [
        str(tmp_path / "lists/near.mp4"),
        str(tmp_path / "lists/both.mp4"),
        str(tmp_path / "work/far.mp4"),
    ]


def test_a_list_outside_the_folder_of_its_videos(tmp_path):
    _make(tmp_path, "videos/one/a.mp4", "videos/two/a.mp4")
    (tmp_path / "lists").mkdir()
    listing = _list(tmp_path / "lists/l.txt", "../videos/one/a.mp4", "../videos/two/a.mp4")
    assert sorted(_names(listing)) == ["one/a", "two/a"]


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(FormatError, match=r"list\.txt' cannot be read: No such file"):
        discover([str(tmp_path / "list.txt")])


def test_a_list_that_may_not_be_read(tmp_path, not_root):
    listing = _list(tmp_path / "list.txt", "a.mp4")
    tmp_path.chmod(0o755)
    listing.chmod(0)
    with not_root(), pytest.raises(FormatError, match=r"list\.txt' cannot be read: Permission"):
        discover([str(listing)])


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("with space/quote'\"", "with space/quote'\""),
        ("Грёза-電影", "Грёза-電影"),
        ("-leading", "-leading"),
        ("100%", "100%"),
        ("100%25", "100%2525"),
        ("new\nline\ttab", "new%0Aline%09tab"),
        ("\x1b[31m", "%1B[31m"),
        ("next\x85line", "next%C2%85line"),
        (os.fsdecode(b"latin\xe9"), "latin%E9"),
    ],
)
def test_safe_names(name, safe):
    assert safe_name(name) == safe


_PART = st.one_of(
    st.sampled_from(["a", "b", "a.mp4", "a.avi", "a.mp4.avi", "%41", "\n", "-", "...", "a.", "A"]),
    st.binary(min_size=1, max_size=5)
    .map(lambda data: os.fsdecode(data.replace(b"/", b"_").replace(b"\0", b"_")))
    .filter(lambda name: name not in (".", "..") and not glob.has_magic(name)),
)
_PATH = st.builds(
    lambda parts, suffix: "/".join(parts) + suffix,
    st.lists(_PART, min_size=1, max_size=3),
    st.sampled_from([".mp4", ".avi", ".MKV"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_PATH, min_size=1, max_size=8, unique=True))
def test_names_of_any_files_are_distinct_safe_and_repeatable(paths):
    inputs = [f"/nowhere/{path}" for path in paths]
    clips = discover(inputs)
    names = [clip.name for clip in clips]
    assert len(names) == len({os.path.abspath(path) for path in inputs})
    assert len(set(names)) == len(names)
    assert names == [clip.name for clip in discover(inputs)]
    # The order of the inputs decides the order of the clips, not what they are called.
    backward = {str(clip.path): clip.name for clip in discover(inputs[::-1])}
    assert backward == {str(clip.path): clip.name for clip in clips}
    folders = {str(parent) for name in names for parent in Path(name).parents}
    assert not folders & set(names)
    for name in names:
        assert name.isprintable() or not any(ord(char) < 32 or ord(char) == 127 for char in name)
        assert all(part not in ("", ".", "..") for part in name.split("/"))
        name.encode()
