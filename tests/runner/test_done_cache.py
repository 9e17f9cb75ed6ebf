"""What tells a finished clip without looking into it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowpipe.cli import main
from flowpipe.runner import atomic
from flowpipe.runner.done_cache import DoneCache
from flowpipe.runner.pool import Outcome
from flowpipe.runner.run_status import FOLDER
from tests.helpers.clips import contents, write_video


@dataclass(frozen=True)
class Video:
    path: Path

    @property
    def name(self) -> str:
        return self.path.stem


@pytest.fixture
def made(tmp_path):
    """A video, its two outputs, and the cache of a run that made them."""
    video = Video(tmp_path / "a.mp4")
    video.path.write_bytes(b"video")
    (tmp_path / "a.zip").write_bytes(b"flow")
    (tmp_path / "a").mkdir()

    def outputs(clip):
        return [tmp_path / f"{clip.name}.zip", tmp_path / clip.name]

    def opened(name="1-of-1"):
        return DoneCache(tmp_path, name, outputs)

    cache = opened()
    assert cache.lookup(video) is None
    cache.record(Outcome(video, "done", reason="it was odd"))
    cache.write()
    return video, opened


def test_a_clip_that_is_as_it_was(made):
    video, opened = made
    for name in ("1-of-1", "3-of-8"):
        assert opened(name).lookup(video) == Outcome(video, "skipped", reason="it was odd")


@pytest.mark.parametrize("changed", ["a.mp4", "a.zip", "a/x"])
def test_a_change_is_looked_at(made, changed):
    """Even one of the same length whose time was put back."""
    video, opened = made
    path = video.path.parent / changed
    before = path.stat() if path.exists() else None
    path.write_bytes(path.read_bytes()[::-1] if before else b"")
    if before:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert opened().lookup(video) is None


@pytest.mark.parametrize("missing", ["a.mp4", "a.zip", "a"])
def test_what_is_gone_is_looked_at(made, missing):
    video, opened = made
    path = video.path.parent / missing
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    assert opened().lookup(video) is None


def test_a_video_that_changes_during_the_work_is_looked_at_again(made):
    video, opened = made
    video.path.write_bytes(b"another")
    cache = opened()
    assert cache.lookup(video) is None
    video.path.write_bytes(b"a third")
    cache.record(Outcome(video, "done"))
    cache.write()
    assert opened().lookup(video) is None


def test_failures_are_not_known(made):
    video, opened = made
    other = Video(video.path.with_name("b.mp4"))
    other.path.write_bytes(b"no video")
    cache = opened()
    assert cache.lookup(other) is None
    cache.record(Outcome(other, "failed", "video", "it is none"))
    cache.write()
    assert opened().lookup(other) is None


@pytest.mark.parametrize(
    "tail",
    [
        b'["b", [1, 2',
        b"\x00\xff",
        b"[" * 100_000,
        b"{}\n[]\n3\nnull\n",
        b'["a", 7, [1], null]\n["a", ["a", "a"], "no", null]\n["a", ["a", "a"], [1], 5]\n',
        b'[["a"], ["a", "a"], [1], null]\n["a", ["\\u0000", "\\ud800"], [1], null]\n',
    ],
)
def test_lines_that_are_none_say_nothing(made, tail):
    video, opened = made
    path = video.path.parent / FOLDER / "1-of-1.finished"
    whole = path.read_bytes()
    path.write_bytes(tail)
    assert opened().lookup(video) is None
    path.write_bytes(tail + b"\n" + whole)
    assert opened().lookup(video) is not None
    path.write_bytes(whole[:-9])
    cache = opened()
    assert cache.lookup(video) is None
    cache.record(Outcome(video, "skipped"))
    cache.write()
    assert opened().lookup(video) == Outcome(video, "skipped")


def test_what_cannot_be_recorded_is_left(made):
    video, opened = made
    folder = video.path.parent / FOLDER
    (folder / "1-of-1.finished").unlink()
    folder.rmdir()
    folder.write_bytes(b"")
    cache = opened()
    assert cache.lookup(video) is None
    cache.record(Outcome(video, "done"))
    cache.write()


@pytest.mark.parametrize(
    "command",
    [
        ("extract-flow", "--method", "farneback", "--native"),
        ("extract-flow", "--method", "farneback", "--native", "--layout", "frames", "--frames"),
        ("extract-flow", "--method", "farneback", "--native", "--layout", "tsfusion"),
        ("extract-flow", "--method", "farneback", "--native", "--layout", "npy"),
        pytest.param(("extract-trajectories", "--text"), marks=pytest.mark.slow),
    ],
)
def test_runs_that_go_on_use_it(tmp_path, monkeypatch, capsys, command):
    """What is finished is not looked into; what was damaged is made anew."""
    for name in "abc":
        write_video(tmp_path / f"videos/{name}.avi", 20, (48, 48))
    out, videos = tmp_path / "out", str(tmp_path / "videos")

    def run():
        with pytest.raises(SystemExit):
            main([command[0], videos, "--out", str(out), *command[1:], "--jobs=0"])
        return capsys.readouterr().err

    assert "3 clips: 3 done" in run()
    (cache,) = out.rglob("1-of-1.finished")
    lines = cache.read_text().splitlines()
    assert sorted(json.loads(line)[0] for line in lines) == ["a", "b", "c"]
    before = contents(out)
    with monkeypatch.context() as patched:
        patched.delattr("flowpipe.runner.provenance.fingerprint")
        assert "3 clips: 0 done, 3 skipped" in run()
        with pytest.raises(SystemExit):
            main(["verify", str(out), "--quick"])
        assert "3 of 3 clips are unchanged" in capsys.readouterr().err
    assert contents(out) == before
    for path in list(out.rglob("a")) + list(out.rglob("a.*")):
        atomic.discard(path)
    assert "3 clips: 1 done, 2 skipped" in run()
    assert contents(out) == before
