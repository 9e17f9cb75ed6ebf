from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowpipe.errors import ParameterError
from flowpipe.runner.pool import (
    ATTEMPTS,
    RunStoppedError,
    Workers,
    as_workers,
    default_jobs,
    over_clips,
)
from tests.helpers import work
from tests.helpers.clips import environment
from tests.helpers.work import ByName, Named


def outcomes(folder, *names, jobs, advance=lambda count: None):
    found = over_clips(
        ByName(folder), [Named(n) for n in names], workers=Workers(jobs), advance=advance
    )
    return {outcome.clip.name: outcome for outcome in found}


def attempts(folder, name):
    return (folder / name).read_bytes().splitlines()


def wait_for(path: Path, within: float = 30.0) -> None:
    end = time.monotonic() + within
    while not (path.exists() and path.read_bytes().endswith(b"\n")):
        assert time.monotonic() < end
        time.sleep(0.02)


def gone(pid: int, within: float = 5.0) -> bool:
    """Whether a process has ended, be it that nobody has collected it."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_how_clips_end(tmp_path, jobs):
    """The same, whatever the number of workers, and no clip stops another."""
    names = ["bug", "done-1", "skip", "special", "warn", "plain", "denied", "done-2"]
    counted = []
    ends = outcomes(tmp_path, *names, jobs=jobs, advance=counted.append)
    told = {name: (end.status, end.kind, end.reason) for name, end in ends.items()}
    assert told == {
        "done-1": ("done", None, None),
        "done-2": ("done", None, None),
        "skip": ("skipped", None, None),
        "warn": ("done", None, "it was odd"),
        "special": ("failed", "special", "special is special"),
        "plain": ("failed", "other", "plainly"),
        "denied": (
            "failed",
            "os",
            "PermissionError: [Errno 13] Permission denied: 'x.mp4'",
        ),
        "bug": ("failed", "internal", "KeyError: 'left'"),
    }
    assert 'raise KeyError("left")' in ends["bug"].detail
    assert {end.detail for name, end in ends.items() if name != "bug"} == {None}
    assert sum(counted) == 6
    pids = {pid for name in names for pid in attempts(tmp_path, name)}
    if jobs == 0:
        assert pids == {str(os.getpid()).encode()}
    else:
        assert len(pids) <= jobs
        assert str(os.getpid()).encode() not in pids


def test_a_worker_that_dies_costs_its_own_clip_only(tmp_path):
    names = ["done-1", "killed", "segfault", "exit", "once", "done-2", "done-3"]
    ends = outcomes(tmp_path, *names, jobs=2)
    assert {name: end.status for name, end in ends.items()} == {
        "killed": "failed",
        "segfault": "failed",
        "exit": "failed",
        **dict.fromkeys(("once", "done-1", "done-2", "done-3"), "done"),
    }
    dead = {name: ends[name] for name in ("killed", "segfault", "exit")}
    assert {end.kind for end in dead.values()} == {"worker-died"}
    assert f"was killed by SIGKILL (out of memory?), {ATTEMPTS} times" in dead["killed"].reason
    assert "was killed by SIGSEGV" in dead["segfault"].reason
    assert "exited with status 3" in dead["exit"].reason
    for name in (*dead, "once"):
        assert len(attempts(tmp_path, name)) == ATTEMPTS
    assert all(len(attempts(tmp_path, f"done-{n}")) == 1 for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("name", "jobs", "told"),
    [
        ("full", 0, "the disk is full"),
        ("full", 1, "the disk is full"),
        ("quota", 0, "the disk is full"),
        ("readonly", 0, "the output folder is read-only"),
    ],
)
def test_a_disk_that_takes_no_more_stops_the_run(tmp_path, name, jobs, told):
    with pytest.raises(RunStoppedError, match=f"stopped at '{name}': {told}"):
        outcomes(tmp_path, "done-1", name, "done-2", "done-3", jobs=jobs)
    assert not (tmp_path / "done-3").exists()


def test_workers_end_with_an_iteration_that_is_left(tmp_path):
    names = [Named(name) for name in ("done", "sleep")]
    running = over_clips(ByName(tmp_path), names, workers=Workers(2))
    assert next(running).status == "done"
    wait_for(tmp_path / "sleep")
    running.close()
    assert gone(int(attempts(tmp_path, "sleep")[0]), within=0.2)


def test_workers_end_when_their_parent_is_killed(tmp_path):
    command = [sys.executable, work.__file__, tmp_path, "2", "sleep-1", "sleep-2"]
    parent = subprocess.Popen(command, env=environment())
    for name in ("sleep-1", "sleep-2"):
        wait_for(tmp_path / name)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for name in ("sleep-1", "sleep-2"):
        assert gone(int(attempts(tmp_path, name)[0]))


def test_workers_have_one_thread(tmp_path):
    before = dict(os.environ)
    assert outcomes(tmp_path, "threads", jobs=1)["threads"].reason == "1 1 1"
    assert dict(os.environ) == before


def test_a_clip_that_takes_too_long_is_given_up(tmp_path):
    """Its worker is replaced, and no other clip is any the worse."""
    clips = [Named(name) for name in ("done-1", "sleep", "done-2", "sleep-2", "done-3")]
    found = over_clips(ByName(tmp_path), clips, workers=Workers(2, timeout=1.5))
    ends = {end.clip.name: end for end in found}
    assert {name for name, end in ends.items() if end.status == "done"} == {
        "done-1",
        "done-2",
        "done-3",
    }
    for name in ("sleep", "sleep-2"):
        assert (ends[name].status, ends[name].kind) == ("failed", "timeout")
        assert ends[name].reason == "took longer than the 1.5 s of --timeout"
        assert len(attempts(tmp_path, name)) == 1
        assert gone(int(attempts(tmp_path, name)[0]))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": -1}, "jobs is -1; it must be 0"),
        ({"executor": "slurm"}, "executor is 'slurm'; it must be one of local, dask, ray"),
        ({"address": "tcp://a:1"}, "address is 'tcp://a:1', but the executor is local"),
        ({"executor": "ray", "jobs": 0}, "jobs is 0; ray needs at least 1"),
        ({"timeout": 0}, "timeout is 0; it must be above 0 seconds"),
        ({"timeout": float("inf")}, "timeout is inf; it must be above 0 seconds"),
        ({"timeout": 5, "jobs": 0}, "timeout is given, but jobs is 0"),
    ],
)
def test_workers_that_cannot_be(options, told):
    with pytest.raises(ParameterError, match=told):
        Workers(**options)


def test_no_clips(tmp_path):
    assert outcomes(tmp_path, jobs=2) == {}
    assert default_jobs() >= 1


def test_no_more_jobs_than_fit_in_memory():
    assert Workers(8).within_memory(1) == Workers(8)
    assert Workers(8, timeout=5).within_memory(1 << 60) == Workers(1, timeout=5)
    assert Workers(0).within_memory(1 << 60) == Workers(0)
    far = Workers(8, "dask", "tcp://head:8786")
    assert far.within_memory(1 << 60) == far


def test_workers_may_be_a_number():
    assert as_workers(3) == Workers(3)
    assert as_workers(None) == Workers()
    assert as_workers(Workers(2, timeout=5)) == Workers(2, timeout=5)
    with pytest.raises(ParameterError, match="jobs is -1"):
        as_workers(-1)


def test_a_script_needs_no_guard_around_its_calls(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from tests.helpers.work import ByName, Named\n"
        "from flowpipe.runner.pool import Workers, over_clips\n"
        "print('the script runs')\n"
        f"work, clips = ByName(Path({str(tmp_path)!r})), [Named('a'), Named('b')]\n"
        "found = over_clips(work, clips, workers=Workers(2))\n"
        "print([each.status for each in found])\n"
        "print(Path(__file__).name)\n"
    )
    run = subprocess.run(
        [sys.executable, script], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert run.stderr == ""
    assert run.stdout.splitlines() == ["the script runs", "['done', 'done']", "script.py"]
