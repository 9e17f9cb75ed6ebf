"""``flowpipe status`` and ``flowpipe clean``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from flowpipe.cli import main
from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner import atomic, run_status
from flowpipe.runner.inspect import leftovers, note_used, stage_folders, stage_name, stale, status
from flowpipe.runner.provenance import open_stage
from flowpipe.runner.run_status import RunState, states
from tests.helpers.clips import contents, write_video


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def state(**values) -> RunState:
    host, pid = run_status.here()
    told = {
        "state": "running",
        "clips": 10,
        "done": 4,
        "skipped": 0,
        "failed": 0,
        "units": 100,
        "unit": "pairs",
        "bytes_total": 1000,
        "bytes_left": 600,
        "bytes_worked": 400,
        "seconds": 20.0,
        "host": host,
        "pid": pid,
        "updated": run_status.now(),
    }
    return RunState(**{**told, **values})


def a_dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def flow(tmp_path, capsys):
    """Flow of three videos, one of them none."""
    for name in ("a", "b"):
        write_video(tmp_path / f"videos/{name}.avi")
    (tmp_path / "videos/c.avi").write_bytes(b"no video")
    out = tmp_path / "out/flow"
    assert run("extract-flow", tmp_path / "videos", "--out", out, "--native", "--jobs", 0) == 1
    capsys.readouterr()
    return out


def test_status_of_a_run_that_ended(flow, capsys):
    assert run("status", flow) == 1
    told = capsys.readouterr().out
    assert f"{flow}: optical flow (flow), 2 files" in told
    assert "finished: 3/3 clips, 2 done, 1 failed" in told
    assert "failed, to be tried again: 1 " in told
    found = status(flow)
    assert found.used == sum((flow / f"{name}.zip").stat().st_size for name in "ab")
    assert (found.needed, found.files) == (0, 2)


def test_status_as_json_of_a_folder_of_stages(flow, capsys):
    assert run("status", flow.parent, "--json") == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert found["stage"] == "flow"
    assert sum(found["failures"].values()) == 1
    assert (found["runs"][0]["done"], found["runs"][0]["alive"]) == (2, False)


def test_time_and_disk_that_are_left(flow, capsys):
    path = flow / run_status.FOLDER / "1-of-1.json"
    path.write_text(json.dumps({name: getattr(state(), name) for name in RunState.__slots__}))
    found = status(flow)
    assert found.needed == round(found.used * 600 / 400)
    run("status", flow)
    told = capsys.readouterr().out
    assert "running: 4/10 clips" in told
    assert "5.0 pairs/s, 0:00:20 elapsed, 0:00:30 left" in told
    assert "more needed" in told


def test_who_is_alive():
    assert state().alive()
    assert not state(state="finished").alive()
    assert not state(pid=a_dead_process()).alive()
    assert state(host="elsewhere").alive()
    assert not state(host="elsewhere", updated="2020-01-01T00:00:00Z").alive()
    # A clock that was put back does not make a run that is being written down a dead one.
    assert state(host="elsewhere", updated="2999-01-01T00:00:00Z").alive()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps({"state": "running"}), '{"clips": 1e999}', "\x00" * 50]
)
def test_a_state_that_is_none(tmp_path, text):
    path = tmp_path / run_status.FOLDER / "1-of-1.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(FormatError, match=r"1-of-1\.json"):
        states(tmp_path)


@pytest.mark.parametrize(("name", "value"), [("clips", "3"), ("updated", "today"), ("host", 3)])
def test_a_state_with_a_wrong_value(tmp_path, name, value):
    path = tmp_path / "1-of-1.json"
    values = {each: getattr(state(), each) for each in RunState.__slots__}
    path.write_text(json.dumps({**values, name: value}))
    with pytest.raises(FormatError, match=name if name != "updated" else "today"):
        run_status.read(path)


def test_what_is_no_output_folder(tmp_path, capsys):
    (tmp_path / "x").mkdir()
    assert stage_name(tmp_path) is None
    with pytest.raises(ParameterError, match=r"no stage\.json in it"):
        stage_folders(tmp_path)
    with pytest.raises(ParameterError, match="none' does not exist"):
        stage_folders(tmp_path / "none")
    assert run("status", tmp_path) == 2
    assert "no output folder of flowpipe" in capsys.readouterr().err


def test_status_sees_the_stages_of_recipes_in_a_folder(flow, capsys):
    open_stage(flow.parent / "two-stream/fuse-01234567", {"stage": "fuse"})
    assert stage_folders(flow.parent) == [flow, flow.parent / "two-stream/fuse-01234567"]
    run("status", flow.parent)
    assert "fuse-01234567: fused scores (fuse), 0 files" in capsys.readouterr().out


def test_clean_removes_what_the_dead_left_and_nothing_else(flow, monkeypatch, capsys):
    before = contents(flow)
    dead = flow / atomic.TEMPORARY / f"{atomic.host()}.{a_dead_process()}.1"
    dead.mkdir(parents=True)
    (dead / "half").write_bytes(b"x" * 2000)
    mine = atomic.temporary_file(flow)
    assert leftovers(flow) == [dead]
    monkeypatch.setattr("builtins.input", lambda *_: "n")
    assert run("clean", flow) == 1
    assert dead.exists()
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    assert run("clean", flow) == 0
    assert f"2.0 kB  {dead}" in capsys.readouterr().out
    assert not dead.exists()
    assert mine.exists()
    mine.unlink()
    assert run("clean", flow, "--yes") == 0
    assert "nothing to remove" in capsys.readouterr().out
    (flow / atomic.TEMPORARY).rmdir()
    assert contents(flow) == before


@pytest.fixture
def recipe(flow):
    """A recipe's folder, whose last run used the first of two folders of flow."""
    out = flow.parent
    used, other = out / "flow-01234567", out / "flow-89abcdef"
    shutil.copytree(flow, other)
    flow.rename(used)
    (out / "flow-mine").mkdir()
    (out / "fuse-00000000").symlink_to(used)
    note_used(out, [used])
    return out


def test_clean_removes_what_other_settings_made(recipe, capsys):
    used, other = recipe / "flow-01234567", recipe / "flow-89abcdef"
    dead = other / atomic.TEMPORARY / f"{atomic.host()}.{a_dead_process()}.1"
    dead.mkdir(parents=True)
    before = contents(used)
    assert stale(recipe) == [other]
    assert run("clean", recipe, "--yes") == 0
    told = capsys.readouterr().out
    assert "folders of other settings: 1, " in told
    assert not dead.exists()
    assert other.exists()
    dead.mkdir(parents=True)
    assert run("clean", recipe, "--yes", "--stale") == 0
    assert not other.exists()
    assert contents(used) == before
    assert (recipe / "flow-mine").exists()
    assert stale(recipe) == []


def test_where_no_recipe_has_finished_nothing_is_stale(flow):
    flow.rename(flow.parent / "flow-89abcdef")
    assert stale(flow.parent) == []


@pytest.mark.parametrize("text", ["{}", "[]", "", '{"folders": 3}'])
def test_a_damaged_record_of_what_was_used(recipe, text):
    (recipe / ".flowpipe/used.json").write_text(text)
    with pytest.raises(FormatError, match=r"used\.json"):
        stale(recipe)
