"""Scripts: those for the shell parse, explain themselves and reject bad arguments before doing
anything; the one that measures load runs, in small.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.clips import environment

SCRIPTS = Path(__file__).parents[2] / "scripts"
BUILD_OPENCV_CUDA = SCRIPTS / "build_opencv_cuda.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_build_opencv_cuda_parses():
    result = run("-n", str(BUILD_OPENCV_CUDA))
    assert (result.returncode, result.stderr) == (0, "")


def test_build_opencv_cuda_help_names_every_flag():
    result = run(str(BUILD_OPENCV_CUDA), "--help")
    assert result.returncode == 0
    for flag in ("arch", "jobs", "out", "python", "opencv-version", "work", "keep"):
        assert f"  --{flag} " in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "sm90"], "--arch: 'sm90' is no compute capability"),
        (["--jobs=0"], "--jobs: '0'"),
        (["--opencv-version", "5.0.0.93"], "--opencv-version: '5.0.0.93'"),
        (["--out"], "--out needs a value"),
        (["--fast"], "unknown argument '--fast'"),
    ],
)
def test_build_opencv_cuda_rejects_bad_arguments(arguments, message):
    result = run(str(BUILD_OPENCV_CUDA), *arguments)
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (("many", "--clips", "30"), ["first run", "run over", "status", "verify --quick"]),
        (("long", "--hours", "0"), ["10 clips of 61 frames; exit status 0"]),
        (("long", "--hours", "0", "--stage", "trajectories"), ["exit status 0"]),
    ],
)
def test_bench_load(arguments, rows, tmp_path):
    command = [sys.executable, str(SCRIPTS / "bench_load.py"), *arguments]
    result = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert all(row in result.stdout for row in rows)
    assert not list(tmp_path.iterdir())
