"""The Slurm script, under what Slurm would set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.clips import REPOSITORY, contents, environment, write_video

pytestmark = pytest.mark.slow

SCRIPT = REPOSITORY / "scripts/slurm_extract.sh"


def task(number, folder: Path, *arguments, first=1, **variables):
    command = folder / "bin/flowpipe"
    if not command.exists():
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowpipe "$@"\n')
        command.chmod(0o755)
    settings = {
        **environment(),
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "VIDEOS": str(folder / "videos"),
        "OUT": str(folder / "out"),
        "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_COUNT": "2",
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_CPUS_PER_TASK": "1",
        **variables,
    }
    return subprocess.run(
        ["bash", SCRIPT, *arguments], env=settings, capture_output=True, text=True, check=False
    )


def test_the_tasks_of_an_array_do_all_clips_once(tmp_path):
    for number in range(3):
        write_video(tmp_path / f"videos/clip {number}.avi", 3 + number)
    ends = [task(number, tmp_path, "--native") for number in (1, 2)]
    assert [end.returncode for end in ends] == [0, 0], ends
    assert "1 done" in ends[0].stderr
    assert "2 done" in ends[1].stderr
    stored = [name for name in contents(tmp_path / "out") if name.endswith(".zip")]
    assert stored == [f"clip {number}.zip" for number in range(3)]


def test_an_array_that_begins_at_0_is_refused(tmp_path):
    end = task(0, tmp_path, first=0)
    assert end.returncode == 2
    assert "the array begins at 0; shards are counted from 1" in end.stderr
