from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.errors import FormatError
from flowpipe.runner.atomic import (
    discard,
    place,
    remove_stale,
    take_away,
    temporary_file,
    temporary_folder,
    write_atomic,
)
from flowpipe.runner.json_files import read_json, to_json
from flowpipe.runner.provenance import (
    StageMismatchError,
    digest,
    fingerprint,
    open_stage,
    sha256,
    short_hash,
)
from tests.helpers.clips import contents, hashed


def folder_of(root: Path, **files: str) -> Path:
    folder = temporary_folder(root)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("there", ["nothing", "file", "empty folder", "full folder"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_place_puts_files_and_folders_over_whatever_is_there(tmp_path, there, new):
    destination = tmp_path / "deep/er/x"
    if there != "nothing":
        destination.parent.mkdir(parents=True)
    if there == "file":
        destination.write_text("old")
    elif "folder" in there:
        destination.mkdir()
    if there == "full folder":
        (destination / "old").write_text("old")
    if new == "file":
        temporary = temporary_file(tmp_path)
        temporary.write_text("new")
    else:
        temporary = folder_of(tmp_path, a="new")
    place(temporary, destination)
    expected = {"deep/er/x": hashed(b"new")} if new == "file" else {"deep/er/x/a": hashed(b"new")}
    assert contents(tmp_path) == expected
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_everything_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    """A crash of the machine must not leave a whole name on half a file."""
    events = []
    flush, replace = os.fsync, Path.replace

    def listening_flush(descriptor):
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        flush(descriptor)

    def listening_replace(path, target):
        events.append("renamed")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", listening_flush)
    monkeypatch.setattr(Path, "replace", listening_replace)
    temporary = folder_of(tmp_path, a="1", b="2")
    place(temporary, tmp_path / "out/x")
    renamed = events.index("renamed")
    assert sorted(events[:renamed]) == sorted(["a", "b", temporary.name])
    assert events[renamed + 1 :] == ["out"]


def test_two_that_place_the_same_folder_again_and_again(tmp_path, monkeypatch):
    """As two runs with --overwrite over one output do; neither may fail."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    errors = []

    def again_and_again(text):
        try:
            for _ in range(150):
                place(folder_of(tmp_path, a=text, b=text), tmp_path / "x")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=again_and_again, args=(text,)) for text in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    left = contents(tmp_path)
    assert set(left) == {"x/a", "x/b"}
    assert left["x/a"] == left["x/b"]


def test_write_atomic_leaves_the_old_file_where_it_fails(tmp_path, monkeypatch):
    write_atomic(tmp_path / "x.json", b"old", tmp_path)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x.json", b"new", tmp_path)
    assert contents(tmp_path) == {"x.json": hashed(b"old")}


def test_discard_and_take_away(tmp_path):
    target = tmp_path / "kept"
    target.mkdir()
    (target / "a").write_text("1")
    (tmp_path / "link").symlink_to(target)
    discard(tmp_path / "link")
    discard(tmp_path / "none")
    assert contents(tmp_path) == {"kept/a": hashed(b"1")}
    take_away(tmp_path / "none", tmp_path)
    take_away(target, tmp_path)
    assert not target.exists()
    assert contents(tmp_path) == {}


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path):
    mine = temporary_file(tmp_path)
    host, pid, _ = mine.name.split(".")
    assert pid == str(os.getpid())
    folder = tmp_path / ".tmp"
    dead = dead_pid()
    (folder / f"{host}.{dead}.abc").write_text("half a clip")
    (folder / f"{host}.{dead}.abc.old").mkdir()
    (folder / f"{host}.{dead}.def").mkdir()
    (folder / f"{host}.{dead}.def/x").write_text("half a clip")
    kept = {mine.name, f"another.{dead}.abc", f"{host}.1.abc", f"{host}.x.abc", "notes"}
    for name in kept - {mine.name}:
        (folder / name).write_text("")
    assert remove_stale(tmp_path) == 3
    assert {path.name for path in folder.iterdir()} == kept
    for name in kept:
        (folder / name).unlink()
    assert remove_stale(tmp_path) == 0
    assert not folder.exists()
    assert remove_stale(tmp_path / "none") == 0


def test_what_a_process_left_that_nobody_has_waited_for_is_removed(tmp_path):
    """A dead worker stays in the process table where, as in containers, no one collects it."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    host = temporary_folder(tmp_path).name.split(".")[0]
    (tmp_path / f".tmp/{host}.{process.pid}.abc").mkdir()
    assert remove_stale(tmp_path) == 1
    process.wait()


def test_a_temporary_can_be_made_while_another_run_tidies_up(tmp_path, monkeypatch):
    touch = Path.touch
    emptied = []

    def tidied(path, *args, **kwargs):
        if not emptied:
            emptied.append(remove_stale(tmp_path))
        return touch(path, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", tidied)
    assert temporary_file(tmp_path).is_file()
    assert emptied == [0]


def test_fingerprint_sees_length_and_the_sampled_blocks(tmp_path):
    path = tmp_path / "v"
    data = bytearray(os.urandom(1 << 20))
    path.write_bytes(data)
    first = fingerprint(path)
    assert first["bytes"] == 1 << 20
    assert len(first["fingerprint"]) == 32
    assert fingerprint(path) == first
    for position in (0, 65535, (1 << 19) - 32768, (1 << 19) + 32767, (1 << 20) - 65536, -1):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != first, position
        assert sha256(path) != first
    path.write_bytes(bytes(data) + b"\0")
    assert fingerprint(path)["fingerprint"] != first["fingerprint"]
    changed = bytearray(data)
    changed[200_000] ^= 1  # between the blocks: for sha256 to find
    path.write_bytes(changed)
    assert fingerprint(path) == first


@given(data=st.binary(max_size=50))
def test_fingerprint_of_small_files_sees_every_byte(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("f") / "v"
    path.write_bytes(data)
    first = fingerprint(path)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != first


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "v").write_bytes(b"abc")
    assert sha256(tmp_path / "v").startswith("ba7816bf8f01cfea414140de5dae2223")


@given(name=st.text(st.characters(exclude_categories=[]), max_size=20) | st.just("\udcff\n\"'"))
def test_json_holds_any_file_name(name):
    data = to_json({"path": name, name: 1})
    assert data.isascii()
    assert read_json(Path("x.json"), data) == {"path": name, name: 1}
    assert to_json({"b": 1, "a": 2}) == b'{\n "b": 1,\n "a": 2\n}\n'


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"1", b"[" * 200_000])
def test_what_is_no_json_object_is_refused_by_name(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


DESCRIPTION = {
    "stage": "flow",
    "parameters": {"tau": 0.25, "warps": 5},
    "size": (340, 256),
    "frames": False,
}


def test_a_stage_is_opened_and_opened_again(tmp_path):
    out = tmp_path / "new/out"
    for _ in range(2):
        open_stage(out, DESCRIPTION)
    assert json.loads((out / ".flowpipe/stage.json").read_bytes())["size"] == [340, 256]
    assert set(contents(out)) == {".flowpipe/stage.json"}


def test_a_stage_of_other_values_is_refused_listing_exactly_those(tmp_path):
    open_stage(tmp_path, DESCRIPTION)
    before = contents(tmp_path)
    other = {
        **DESCRIPTION,
        "parameters": {"tau": 0.25, "warps": 3},
        "size": None,
        "bound": 20.0,
    }
    with pytest.raises(StageMismatchError) as error:
        open_stage(tmp_path, other)
    told = str(error.value)
    assert str(tmp_path) in told
    inside = told[told.index("(") + 1 : told.rindex(")")]
    assert inside.split("; ") == [
        "parameters.warps: 5 there, 3 asked for",
        "size: [340, 256] there, null asked for",
        "bound: null there, 20.0 asked for",
    ]
    assert contents(tmp_path) == before


def test_a_stage_file_that_is_damaged_is_named(tmp_path):
    (tmp_path / ".flowpipe/stage.json").write_text("{")
    with pytest.raises(FormatError, match=r"stage\.json"):
        open_stage(tmp_path, DESCRIPTION)


def test_digests_tell_descriptions_apart_whatever_the_order_of_keys():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest({"a": "1"}) != digest({"a": 1})
    # Folders that earlier versions made are found again.
    assert short_hash({"stage": "flow", "size": [340, 256]}) == "70910b9e"
