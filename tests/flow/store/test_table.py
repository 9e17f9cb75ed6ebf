"""A layout is added by one file and one entry of the table."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

import flowpipe
from flowpipe.cli import main
from flowpipe.commands import doctor
from flowpipe.errors import ParameterError
from flowpipe.flow.store import LAYOUTS, layout, stored_clips, verify
from flowpipe.flow.store.writer import FlowWriter
from tests.helpers.clips import contents, smooth_flow, store_clip, write_video
from tests.helpers.toy_layout import TOY

pytestmark = pytest.mark.usefixtures("no_flushing")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "toy", TOY)


def test_a_layout_of_one_entry_is_used_from_the_command_line(tmp_path, toy, capsys):
    write_video(tmp_path / "videos/run/a.avi")
    out = tmp_path / "flow"
    options = ["--out", str(out), "--native", "--jobs", "0", "--method", "farneback"]
    extract = ["extract-flow", str(tmp_path / "videos"), *options, "--layout", "toy"]
    assert run(*extract) == 0
    assert [clip.layout for clip in stored_clips(out)] == ["toy"]
    flow = flowpipe.read_flow(out / "run/a.toy")
    assert flow.shape == (3, 2, 32, 48)
    before = contents(out)
    assert run(*extract) == 0  # it is there
    assert contents(out) == before
    assert run("verify", str(out), "--jobs", "0") == 0
    to = tmp_path / "npy"
    assert run("export-flow", str(out), str(to), "--layout", "npy", "--jobs", "0") == 0
    np.testing.assert_array_equal(np.load(to / "run/a.npy"), flow)
    back = tmp_path / "back"
    assert run("export-flow", str(to), str(back), "--layout", "toy", "--jobs", "0") == 0
    np.testing.assert_array_equal(flowpipe.read_flow(back), flow)
    assert run("view", str(out), "--sheet-only", "--jobs", "0") == 0
    assert run("export-flow", "--help") == 0
    assert "toy" in capsys.readouterr().out


def test_a_layout_of_one_entry_is_verified_and_kept_apart(tmp_path, toy):
    clip = store_clip(tmp_path, "toy", smooth_flow(3))
    assert verify(clip) is None
    data = clip.path.read_bytes()
    clip.path.write_bytes(data[: len(data) // 2])
    assert "not a toy" in verify(clip)
    np.savez(tmp_path / "b", thesis=1)
    (tmp_path / "b.npz").rename(tmp_path / "b.toy")
    with pytest.raises(flowpipe.FlowpipeError, match="is not flowpipe's"):
        FlowWriter(tmp_path, "b", layout("toy")).__enter__()


def test_a_layout_of_one_entry_is_in_doctor_and_in_errors(toy):
    console = Console(file=io.StringIO(), width=100)
    doctor.report(console)
    line = next(line for line in console.file.getvalue().splitlines() if "a toy archive" in line)
    assert line.split()[0] == "toy"
    assert "Toys, 2001" in line
    with pytest.raises(ParameterError, match=r"layout is 'tar'; it must be one of zip, .*, toy$"):
        layout("tar")


def test_without_its_entry_there_is_no_such_layout(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export-flow", str(tmp_path), str(tmp_path / "to"), "--layout", "toy"])
    assert "toy" in capsys.readouterr().err
    with pytest.raises(ParameterError, match="layout is 'toy'"):
        layout("toy")
