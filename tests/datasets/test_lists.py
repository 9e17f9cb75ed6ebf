from __future__ import annotations

import csv
import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowpipe.datasets.discover import discover
from flowpipe.datasets.lists import csv_list, tsn_lists
from flowpipe.datasets.names import safe_name
from flowpipe.errors import FormatError, ParameterError
from tests.helpers.clips import shared_data
from tests.helpers.trees import make, write


def test_three_columns_with_spaces_in_paths(tmp_path):
    root = make(tmp_path, "my clips/a b.avi", "c.mp4")
    found = tsn_lists(root, [write(tmp_path / "all.txt", "my clips/a b.avi 120 1", "c.mp4 8 0")])
    assert found.name == "all"
    assert found.classes == ("0", "1")
    assert [(clip.name, clip.label) for clip in found.clips] == [("my clips/a b", "1"), ("c", "0")]
    assert found.splits == ()
    assert found.missing() == ()


def test_two_columns(tmp_path):
    root = make(tmp_path, "a b.avi", "c.mp4")
    found = tsn_lists(root, [write(tmp_path / "l.txt", "a b.avi 1", "c.mp4 0")])
    assert [clip.path.name for clip in found.clips] == ["a b.avi", "c.mp4"]


@pytest.mark.parametrize("file", ["clip 12.avi", "clip.avi"])
def test_a_list_that_reads_both_ways_is_read_the_way_that_finds_files(tmp_path, file):
    root = make(tmp_path, file)
    line = f"{file.removesuffix('.avi')} 0" if "12" in file else "clip 12 0"
    assert line == "clip 12 0"
    found = tsn_lists(root, [write(tmp_path / "l.txt", line)])
    assert [clip.path.name for clip in found.clips] == [file]


def test_a_path_without_suffix_finds_the_video(tmp_path):
    root = make(tmp_path, "v/clip.v2.mkv")
    found = tsn_lists(root, [write(tmp_path / "l.txt", "v/clip.v2 30 0")])
    assert [clip.name for clip in found.clips] == ["v/clip.v2"]


def test_two_lists_are_a_split_and_missing_clips_stay_in_it(tmp_path):
    root = make(tmp_path, "a.avi", "b.avi")
    train = write(tmp_path / "train.txt", "a.avi 5 0", "gone.avi 5 1")
    test = write(tmp_path / "test.txt", "b.avi 5 1")
    found = tsn_lists(root, [train, test])
    (split,) = found.splits
    assert split.train == ("a", "gone")
    assert split.test == ("b",)
    assert found.missing() == ("gone",)
    assert [clip.name for clip in found.clips] == ["a", "b"]


def test_a_clip_missing_from_a_single_list_is_reported(tmp_path):
    found = tsn_lists(make(tmp_path, "a.avi"), [write(tmp_path / "l", "a.avi 9 0", "b.avi 9 0")])
    assert found.missing() == ("b",)


@pytest.mark.parametrize(
    "names", [["run", "high jump"], ["0 run", "1 high jump"], ["1 run", "2 high jump"]]
)
def test_class_names(tmp_path, names):
    root = make(tmp_path, "a.avi", "b.avi")
    labels = write(tmp_path / "classes.txt", *names)
    lines = write(tmp_path / "l.txt", "a.avi 5 1", "b.avi 5 0")
    found = tsn_lists(root, [lines], labels)
    assert found.classes == ("run", "high jump")
    assert [clip.label for clip in found.clips] == ["high jump", "run"]


def test_labels_may_be_names(tmp_path):
    root = make(tmp_path, "a.avi", "b.avi")
    found = tsn_lists(root, [write(tmp_path / "l.txt", "a.avi run", "b.avi jump")])
    assert found.classes == ("jump", "run")


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    root = make(tmp_path, "a.avi", "b.avi")
    path = tmp_path / "l.txt"
    path.write_bytes(b"\xef\xbb\xbfa.avi 5 0\r\n\r\nb.avi 5 1\r\n")
    assert [clip.name for clip in tsn_lists(root, [path]).clips] == ["a", "b"]


@pytest.mark.parametrize(
    "line", ["onlyapath.avi", "a.avi 5 -1", "a.avi 5 0.5", "c.avi run 0 x y z"]
)
def test_a_malformed_line_is_named(tmp_path, line):
    root = make(tmp_path, "a.avi", "b.avi", "d.avi")
    path = write(tmp_path / "bad.txt", "a.avi 7 0", "b.avi 7 0", line, "d.avi 7 0")
    with pytest.raises(FormatError) as caught:
        tsn_lists(root, [path])
    message = str(caught.value)
    assert "bad.txt" in message
    assert "line 3" in message
    assert repr(line) in message
    assert "path n_frames label" in message


def test_a_clip_listed_twice_is_named(tmp_path):
    path = write(tmp_path / "l.txt", "a.avi 7 0", "./a.avi 7 1")
    with pytest.raises(FormatError, match=r"line 2.*line 1"):
        tsn_lists(make(tmp_path, "a.avi"), [path])


def test_a_clip_in_both_lists_is_an_error(tmp_path):
    train, test = (write(tmp_path / name, "a.avi 7 0") for name in ("1.txt", "2.txt"))
    with pytest.raises(ParameterError, match="both halves"):
        tsn_lists(make(tmp_path, "a.avi"), [train, test])


def test_a_label_beyond_the_class_names_is_an_error(tmp_path):
    classes = write(tmp_path / "classes.txt", "run")
    with pytest.raises(FormatError, match=r"line 1.*'1'.*0 to 0"):
        tsn_lists(make(tmp_path, "a.avi"), [write(tmp_path / "l.txt", "a.avi 7 1")], classes)


def test_paths_out_of_the_root_are_named_without_dots(tmp_path):
    make(tmp_path, "videos/x/a.avi", "videos/y/a.avi")
    (tmp_path / "lists").mkdir()
    path = write(tmp_path / "lists" / "l.txt", "../videos/x/a.avi 5 0", "../videos/y/a.avi 5 1")
    found = tsn_lists(tmp_path / "lists", [path])
    assert [clip.name for clip in found.clips] == ["x/a", "y/a"]
    assert found.missing() == ()


def test_a_list_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FormatError, match=r"nothing\.txt' cannot be read: No such file"):
        tsn_lists(tmp_path, [tmp_path / "nothing.txt"])


def test_csv_with_groups_and_splits(tmp_path):
    make(tmp_path, "a.avi", "b.avi", "c.avi", "d.avi")
    path = write(
        tmp_path / "set.csv",
        "split,path,label,group,remark",
        "train,a.avi,run,g1,x",
        "test,b.avi,jump,g2,",
        "val,c.avi,run,,",
        ",d.avi,,g2,",
    )
    found = csv_list(path)
    assert found.classes == ("jump", "run")
    assert [(clip.name, clip.label, clip.group) for clip in found.clips] == [
        ("a", "run", "g1"),
        ("b", "jump", "g2"),
        ("c", "run", None),
        ("d", None, "g2"),
    ]
    assert [(split.name, split.train, split.test) for split in found.splits] == [
        ("split", ("a",), ("b",)),
        ("split-val", ("a",), ("c",)),
    ]


def test_csv_with_several_splits_and_missing_clips(tmp_path):
    make(tmp_path, "a.avi")
    path = write(
        tmp_path / "set.csv", "path,label,split1,split2", "a.avi,x,train,test", "b.avi,x,test,train"
    )
    found = csv_list(path)
    assert [split.name for split in found.splits] == ["split1", "split2"]
    assert found.splits[1].test == ("a",)
    assert found.missing() == ("b",)


def test_csv_without_split_reports_missing_clips(tmp_path):
    found = csv_list(write(tmp_path / "s.csv", "path,label", "a.avi,x"))
    assert found.clips == ()
    assert found.missing() == ("a",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    stem=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=20
    )
)
def test_csv_names_any_file(tmp_path, stem):
    file = f"x{stem}.avi"
    root = make(tmp_path / "odd", f"c/{file}")
    path = tmp_path / "odd.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([["path", "label"], [f"c/{file}", "c"]])
    found = csv_list(path, root)
    assert [clip.name for clip in found.clips] == [safe_name(str(PurePosixPath("c", f"x{stem}")))]


@pytest.mark.parametrize(
    ("lines", "number", "right"),
    [
        (["path;label", "a.avi;x"], 1, "path,label"),
        (["a.avi,x"], 1, "path,label"),
        (["path,label", "a.avi,x,y"], 2, "2 fields"),
        (["path,label", "a.avi,x", "b.avi"], 3, "2 fields"),
        (["path,label,split", "a.avi,x,trian"], 2, "'train', 'test', 'val'"),
        (["path,label", ",x"], 2, "path of a video"),
        (["path,label", "a.avi,x", "a.avi,x"], 3, "listed once"),
        (["path,label", '"a.avi,x'], 2, "unexpected end"),
    ],
)
def test_malformed_csv_is_named(tmp_path, lines, number, right):
    path = write(make(tmp_path, "a.avi") / "bad.csv", *lines)
    with pytest.raises(FormatError) as caught:
        csv_list(path)
    assert "bad.csv" in str(caught.value)
    assert f"line {number}" in str(caught.value)
    assert right in str(caught.value)


def test_line_numbers_count_the_lines_within_quotes(tmp_path):
    path = write(tmp_path / "s.csv", "path,label", '"a\nb.avi",x', "c.avi")
    with pytest.raises(FormatError, match="line 4"):
        csv_list(path)


def test_an_empty_csv_is_an_error(tmp_path):
    with pytest.raises(FormatError, match="empty"):
        csv_list(write(tmp_path / "s.csv"))


# --- lists as people write them ------------------------------------------------------------------


def labels_of(root, path):
    return {clip.name: clip.label for clip in tsn_lists(root, [path]).clips}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_any_usual_encoding(tmp_path, encoding):
    root = make(tmp_path, "été/á.avi", "b/b.avi")
    path = tmp_path / "l.txt"
    path.write_bytes("été/á.avi 30 saut à la perche\r\nb/b.avi 30 course\r\n".encode(encoding))
    assert labels_of(root, path) == {"été/á": "saut à la perche", "b/b": "course"}
    csv_path = tmp_path / "l.csv"
    csv_path.write_bytes("Path,Label\r\nété/á.avi,été\r\nb/b.avi,x\r\n".encode(encoding))
    assert [clip.label for clip in csv_list(csv_path).clips] == ["été", "x"]


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("listed", ["NFC", "NFD"])
def test_composed_and_decomposed_letters(tmp_path, on_disk, listed):
    root = make(tmp_path, unicodedata.normalize(on_disk, "é.avi"))
    path = write(tmp_path / "l.txt", unicodedata.normalize(listed, "é.avi 5 é"))
    (clip,) = tsn_lists(root, [path]).clips
    assert clip.path.is_file()
    assert clip.label == "é"


def test_comments_quotes_labels_of_several_words_and_backslashes(tmp_path):
    root = make(tmp_path, "r/a b.avi", "r/c.avi", "l/d.avi", "l/#1 take.avi", "l/e.avi")
    path = write(
        tmp_path / "l.txt",
        "# my clips, 2024",
        '"r/a b.avi" moving right',
        "r\\c.avi moving right",
        "// the other side",
        "l/d.avi moving left",
        "l/#1 take.avi moving left",
        "l/e.avi moving left  # the last",
        "#",
    )
    assert labels_of(root, path) == {
        "r/a b": "moving right",
        "r/c": "moving right",
        "l/d": "moving left",
        "l/#1 take": "moving left",
        "l/e": "moving left",
    }


def test_a_video_whose_name_begins_with_a_hash_is_no_comment(tmp_path):
    root = make(tmp_path, "#20_(HQ)_x.avi", "b.avi")
    path = write(tmp_path / "l.txt", "#20_(HQ)_x.avi 5 0", "b.avi 5 1")
    assert len(labels_of(root, path)) == 2


def test_quoted_paths_and_labels_with_frame_counts(tmp_path):
    root = make(tmp_path, "a (1).avi", "b c.avi")
    path = write(tmp_path / "l.txt", '"a (1).avi" 12 0', "'b c.avi' 12 1")
    assert labels_of(root, path) == {"a (1)": "0", "b c": "1"}
    path = write(tmp_path / "m.txt", 'a (1).avi "high jump"', 'b c.avi "run"')
    assert labels_of(root, path) == {"a (1)": "high jump", "b c": "run"}


def test_a_name_for_every_label_beside_the_list_is_used_and_told(tmp_path):
    root = make(tmp_path, "a.avi", "b.avi")
    write(tmp_path / "classInd.txt", "1 run", "2 jump")
    path = write(tmp_path / "l.txt", "a.avi 5 0", "b.avi 5 1")
    found = tsn_lists(root, [path])
    assert found.classes == ("run", "jump")
    assert "classInd.txt" in found.notes[0]
    from_one = tsn_lists(root, [write(tmp_path / "m.txt", "a.avi 5 1", "b.avi 5 2")])
    assert [clip.label for clip in from_one.clips] == ["run", "jump"]
    more = tsn_lists(root, [write(tmp_path / "n.txt", "a.avi 5 0", "b.avi 5 2")])
    assert (more.classes, more.notes) == (("0", "1", "2"), ())


def test_damaged_utf16_names_the_file(tmp_path):
    path = tmp_path / "l.txt"
    path.write_bytes(b"\xff\xfea\x00b")
    with pytest.raises(FormatError, match=r"l\.txt' is damaged UTF-16"):
        tsn_lists(tmp_path, [path])


@pytest.mark.parametrize("name", ["phrase", "comment", "utf16", "quoted"])
def test_the_lists_of_the_field(tmp_path, name):
    source = shared_data("field", "lists", f"{name}.txt")
    sides = [f"{side}{n}" for side in ("right", "left") for n in range(5)]
    spelling = "{}/{} ({}).mp4" if name == "quoted" else "{}/{}{}.mp4"
    make(tmp_path, *(spelling.format(s[:-1], s[:-1], s[-1]) for s in sides))
    path = tmp_path / "list.txt"
    path.write_bytes(source.read_bytes())
    clips = discover([str(path)])
    assert len(clips) >= 9
    assert all(clip.path.is_file() for clip in clips)
    if name != "utf16":  # it has no labels
        assert len({clip.label for clip in tsn_lists(tmp_path, [path]).clips}) == 2
