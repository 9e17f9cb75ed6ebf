"""Bad files, kills, crowds and full disks: nothing is lost but the clips in flight."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.cli import main
from flowpipe.flow import solvers
from flowpipe.flow.store import LAYOUTS, stored_clips, verify
from tests.helpers.clips import command, contents, environment, flowpipe, hashed, write_video

pytestmark = pytest.mark.slow

QUICK = ("--native", "--method", "farneback")


def run(*arguments: object) -> int:
    """The exit status of a command line, in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return end.value.code


def extract(videos: Path, out: Path, *options: object) -> int:
    return run("extract-flow", videos, "--out", out, *QUICK, *options)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("good") / "videos"
    for number in range(8):
        write_video(root / f"{'ab'[number % 2]}/v{number}.avi", 6, (160, 120), number)
    return root


@pytest.fixture
def out(videos) -> Iterator[Path]:
    """Beside the videos, as the reference is: meta.json says the way to them."""
    out = videos.parent / "out"
    yield out
    if out.is_symlink():
        out.unlink()
    shutil.rmtree(out, ignore_errors=True)


@pytest.fixture(scope="module")
def reference(videos):
    """What an uninterrupted run over the good videos leaves, by options."""
    made: dict[tuple[object, ...], dict[str, str]] = {}

    def reference(*options: object) -> dict[str, str]:
        if options not in made:
            out = videos.parent / f"reference{len(made)}"
            assert extract(videos, out, "--jobs", 0, *options) == 0
            made[options] = contents(out)
        return made[options]

    return reference


def whole_clips(out: Path, expected: dict[str, str]) -> int:
    """Number of clips there; each has exactly the bytes of the reference."""
    number = 0
    for clip in stored_clips(out):
        if not clip.done_marker.exists():
            continue
        number += 1
        for path, digest in expected.items():
            if f"{clip.name}/" in path or f"{clip.name}." in path:
                assert hashed((out / path).read_bytes()) == digest, path
    return number


def no_temporaries(out: Path) -> bool:
    return not begun(out)


def begun(out: Path) -> bool:
    """Whether something is being written."""
    return (out / ".tmp").is_dir() and any((out / ".tmp").iterdir())


def unprivileged() -> None:
    """Root may read and write everything; take that from a child."""
    if os.geteuid() == 0:
        drop_from_bounding_set = 24
        for override_permissions in (1, 2):
            ctypes.CDLL(None).prctl(drop_from_bounding_set, override_permissions, 0, 0, 0)


# Bad clips


def add_bad_clips(root: Path) -> dict[str, str]:
    """Ten of them, with the kind of failure that each is."""
    good = write_video(root / "bad/whole.avi", 8, (160, 120)).read_bytes()
    for percent in (1, 30, 60, 99):
        (root / f"bad/cut{percent}.avi").write_bytes(good[: len(good) * percent // 100])
    (root / "bad/whole.avi").unlink()
    (root / "bad/empty.mp4").touch()
    (root / "bad/text.mp4").write_text("<html>404 not found</html>\n")
    (root / "bad/noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    with wave.open(str(root / "bad/sound.avi"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(16000))
    write_video(root / "bad/secret.avi").chmod(0)
    (root / "bad/folder.mp4").mkdir()
    return {
        **{f"bad/cut{percent}": "truncated" for percent in (1, 30, 60, 99)},
        "bad/empty": "not-a-video",
        "bad/text": "not-a-video",
        "bad/noise": "not-a-video",
        "bad/sound": "no-video-stream",
        "bad/secret": "unreadable",
        "bad/folder": "unreadable",
    }


def test_good_and_bad_clips(videos, reference, tmp_path):
    mixed, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, mixed, copy_function=os.link)
    kinds = add_bad_clips(mixed)
    assert len(kinds) == 10
    arguments = ("extract-flow", mixed, "--out", out, *QUICK, "--jobs", 2)
    end = flowpipe(*arguments, preexec_fn=unprivileged)
    assert end.returncode == 1
    assert "18 clips: 8 done, 10 failed (" in end.stderr
    failures = failures_of(out)
    assert {name: line["kind"] for name, line in failures.items()} == kinds
    for name, line in failures.items():
        assert name in line["reason"]
        assert f"failed: {name}: " in end.stderr
    assert Path(failures["bad/text"]["path"]) == mixed / "bad/text.mp4"
    assert no_temporaries(out)
    found = contents(out)
    del found[".flowpipe/failures.jsonl"]
    assert found == reference()

    # The next run tries all of them again; one that was mended is done.
    shutil.copy(mixed / "a/v0.avi", mixed / "bad/text.mp4")
    end = flowpipe(*arguments, preexec_fn=unprivileged)
    assert end.returncode == 1
    assert "18 clips: 1 done, 8 skipped, 9 failed" in end.stderr
    del kinds["bad/text"]
    assert {name: line["kind"] for name, line in failures_of(out).items()} == kinds


def failures_of(out: Path) -> dict[str, dict[str, str]]:
    lines = map(json.loads, (out / ".flowpipe/failures.jsonl").read_text().splitlines())
    return {line["clip"]: line for line in lines}


# Kills


def begins(process: subprocess.Popen, out: Path) -> bool:
    """Wait until a run is at work; False if it has ended before."""
    end = time.monotonic() + 60
    while not begun(out):
        if process.poll() is not None:
            return False
        assert time.monotonic() < end
        time.sleep(0.005)
    return True


@pytest.mark.parametrize(("layout", "frames"), [("zip", False), ("tsfusion", True)])
def test_killed_at_random_moments_and_run_again(videos, reference, out, layout, frames):
    # Many iterations, so that the moments are in the middle of clips.
    options = ("--layout", layout, "--farneback.iterations", 60)
    options += ("--frames",) if frames else ()
    expected = reference(*options)
    rng = np.random.default_rng(len(options))
    arguments = command("extract-flow", videos, "--out", out, *QUICK, *options, "--jobs", 2)
    done = killed = 0
    for _ in range(3):
        process = subprocess.Popen(arguments, env=environment(), stderr=subprocess.DEVNULL)
        if begins(process, out):
            time.sleep(rng.uniform(0, 0.2))
        killed += process.poll() is None
        process.kill()
        process.wait()
        time.sleep(0.2)  # its workers see that it is gone
        now = whole_clips(out, expected)
        assert now >= done
        done = now
    assert killed
    end = flowpipe(*arguments[3:])
    assert end.returncode == 0, end.stderr
    assert contents(out) == expected
    assert no_temporaries(out)


def members(group: int) -> list[int]:
    """Processes of a group, but for dead ones that nobody has collected."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("moment", ["starting", "working"])
def test_ctrl_c(videos, out, moment):
    # Slow: larger, and many iterations.
    slow = ("--short-side", "480", "--method", "farneback", "--farneback.iterations", "60")
    process = subprocess.Popen(
        command("extract-flow", videos, "--out", out, *slow, "--jobs", 2),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that starts the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr.readline().startswith("8 clips, farneback")
    if moment == "working":
        assert begins(process, out)
        time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert told == "flowpipe: interrupted; finished clips are complete, run again to resume\n"
    assert no_temporaries(out)
    for clip in stored_clips(out):
        assert verify(clip) is None
    end = time.monotonic() + 30
    while members(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_clocks_that_jump(videos, reference, out, monkeypatch, capsys):
    """During a run, and between two: nothing is lost, and nothing done twice."""
    hours = random.Random(0)
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: hours.uniform(0, 4e9))
        patched.setattr("time.time_ns", lambda: hours.randrange(4 * 10**18))
        assert extract(videos, out, "--jobs", 0, "--overwrite") == 0
    assert contents(out) == reference()
    for number, path in enumerate(sorted(out.rglob("*.*"))):
        os.utime(path, (0, 0) if number % 2 else (4e9, 4e9))
    capsys.readouterr()
    assert extract(videos, out, "--jobs", 0) == 0
    assert "8 clips: 0 done, 8 skipped" in capsys.readouterr().err
    assert contents(out) == reference()


def test_a_solver_that_raises(videos, reference, out, monkeypatch):
    """The clip fails with the reason, is tried again, and the others are whole."""
    with monkeypatch.context() as patched:
        calls = itertools.count()
        whole = solvers.create

        def create(*args, **kwargs):
            solver = whole(*args, **kwargs)

            def solve(*pair):
                if next(calls) == 7:
                    raise cv2.error("the eighth pair")
                return solver(*pair)

            return solve

        patched.setattr(solvers, "create", create)
        assert extract(videos, out, "--jobs", 0) == 1
    (failure,) = failures_of(out).values()
    assert "the eighth pair" in failure["reason"]
    assert whole_clips(out, reference()) == 7
    assert extract(videos, out, "--jobs", 0) == 0
    assert contents(out) == reference()


# Crowds


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_number_of_workers_changes_nothing(videos, reference, out, jobs):
    assert extract(videos, out, "--jobs", jobs) == 0
    assert contents(out) == reference()


def test_two_runs_at_once(videos, reference, out):
    # The layout with the most parts to a clip.
    options = ("--layout", "tsfusion")
    arguments = command("extract-flow", videos, "--out", out, *QUICK, *options, "--jobs", 1)
    pair = [
        subprocess.Popen(arguments, env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in pair:
        told = process.communicate(timeout=60)[1]
        assert process.returncode == 0, told
    assert contents(out) == reference(*options)
    assert no_temporaries(out)


# Full and read-only disks


@pytest.mark.parametrize(
    ("layout", "jobs"), [("zip", 1), ("npy", 0), ("h5", 0), ("frames", 0), ("flo", 0)]
)
def test_a_full_disk_and_room_again(videos, reference, small_disk, out, capsys, layout, jobs):
    disk, resize = small_disk
    options = ("--layout", layout)
    expected = reference(*options)
    capsys.readouterr()
    out.symlink_to(disk)
    assert extract(videos, out, "--jobs", jobs, *options) == 2
    told = capsys.readouterr().err
    assert "the disk is full" in told
    assert "run the same command again to resume" in told
    assert "Traceback" not in told
    assert no_temporaries(out)
    whole_clips(out, expected)
    resize("64m")
    assert extract(videos, out, "--jobs", jobs, *options) == 0
    assert contents(disk) == expected
    assert sum(path.stat().st_size for path in disk.rglob("*") if path.is_file()) > 64_000


def refuse(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullFile(io.FileIO):
    def write(self, data):
        refuse()


@pytest.mark.parametrize("when", ["writing", "flushing"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_room_in_any_layout(videos, tmp_path, monkeypatch, capsys, layout, when):
    out = tmp_path / "out"
    one = videos / "a/v0.avi"
    assert extract(one, out, "--jobs", 0, "--layout", layout) == 0
    whole = contents(out)
    original = Path.open

    def full(path, mode="r", *args, **kwargs):
        if "w" in mode:
            return FullFile(path, mode.replace("b", ""))
        return original(path, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        if when == "flushing":  # as network file systems do
            patch.setattr(os, "fsync", refuse)
        else:
            patch.setattr("zipfile.ZipFile.writestr", refuse)
            patch.setattr(Path, "open", full)
        capsys.readouterr()
        assert extract(one, out, "--jobs", 0, "--layout", layout, "--overwrite") == 2
        assert "stopped at 'v0': the disk is full" in capsys.readouterr().err
    assert contents(out) == whole


def test_an_output_folder_that_may_not_be_written_to(videos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    arguments = ("extract-flow", videos / "a/v0.avi", "--out", out, *QUICK, "--jobs", 0)
    out.chmod(0o555)
    end = flowpipe(*arguments, preexec_fn=unprivileged)
    assert end.returncode == 2
    assert "flowpipe: cannot write: " in end.stderr
    assert str(out) in end.stderr
    assert "Traceback" not in end.stderr
    out.chmod(0o755)
    assert flowpipe(*arguments).returncode == 0
    out.chmod(0o555)
    end = flowpipe(*arguments, preexec_fn=unprivileged)
    assert (end.returncode, "1 skipped" in end.stderr) == (0, True)
    out.chmod(0o755)
