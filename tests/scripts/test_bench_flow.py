"""The benchmark of TV-L1 runs through on every device, so that its first GPU is not its first run.

Its CUDA path runs under Triton's interpreter, in a process of its own since Triton decides when it
is imported.
"""

import os
import subprocess
import sys

import pytest

from tests.helpers.clips import REPOSITORY, write_video

pytestmark = pytest.mark.slow

TINY = ["--size", "17x16", "--pairs", "2", "--stride", "1", "--rounds", "1"]
BRIEF = ["--tvl1.warps", "1", "--tvl1.iterations", "2"]


def bench(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "scripts" / "bench_flow.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "COLUMNS": "120"} | environment,
    )


def test_every_device_and_batch_has_a_row(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed; torch for CUDA brings it")
    clip = write_video(tmp_path / "clip.avi", 4, (17, 16))
    devices = ["--device", "cpu", "cuda", "torch:cpu", "--batch", "1", "2", "--no-others"]
    result = bench(clip, *TINY, *BRIEF, *devices, TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stderr
    rows = [line.split("│")[1].strip() for line in result.stdout.splitlines() if "│" in line]
    expected = [
        f"flowpipe {device}{kind}"
        for device in ("cpu", "cuda", "torch:cpu")
        for kind in ("", ", batch 2", ", fast, batch 2")
    ]
    assert rows == [*expected, "OpenCV cpu, cuda-like"]
    for device in ("cpu, 17x16, batch 1", "cuda, 17x16, batch 2"):
        assert f"flowpipe {device}: " in result.stdout
    assert result.stdout.count("ns a pixel and iteration") == 2


def test_a_device_that_is_not_here_is_said_and_left_out(tmp_path):
    clip = write_video(tmp_path / "clip.avi", 4, (17, 16))
    devices = ["--device", "torch:abacus", "cpu", "--no-others"]
    result = bench(clip, *TINY, *BRIEF, *devices)
    assert result.returncode == 0, result.stderr
    assert "no flowpipe torch:abacus: torch cannot use device 'abacus' here" in result.stdout
    assert "flowpipe cpu, fast" in result.stdout
