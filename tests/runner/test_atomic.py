from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowpipe.runner.atomic import (
    discard,
    link_or_copy,
    place,
    remove_atomically,
    remove_stale,
    temporary_file,
    temporary_folder,
    write_atomic,
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


def test_discard_and_remove_atomically(tmp_path):
    target = tmp_path / "kept"
    target.mkdir()
    (target / "a").write_text("1")
    (tmp_path / "link").symlink_to(target)
    discard(tmp_path / "link")
    discard(tmp_path / "none")
    assert contents(tmp_path) == {"kept/a": hashed(b"1")}
    remove_atomically(tmp_path / "none", tmp_path)
    remove_atomically(target, tmp_path)
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


def test_a_link_is_copied_as_the_file_that_it_leads_to(tmp_path):
    (tmp_path / "weights").write_text("w")
    (tmp_path / "link").symlink_to("weights")
    (tmp_path / "kept").mkdir()
    link_or_copy(tmp_path / "link", tmp_path / "kept/file")
    (tmp_path / "link").unlink()
    assert (tmp_path / "kept/file").read_text() == "w"
