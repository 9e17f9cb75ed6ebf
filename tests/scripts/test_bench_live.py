"""The benchmark of live prediction runs, in small."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers import media
from tests.helpers.clips import REPOSITORY, environment

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--fast-forward", "60"), ["60 frames", "used: 60", "dropped: 0", "memory: "]),
        (("--seconds", "2"), ["50 frames", "labels; delay: median", "memory: "]),
        (("--fast-forward", "20", "--detector", "lstm"), ["lstm every 4", "used: 20", "memory: "]),
    ],
)
def test_it_measures(tmp_path, options, expected):
    clip = media.write(tmp_path / "clip.mp4", media.moving(30))
    script = REPOSITORY / "scripts" / "bench_live.py"
    small = ("--backbone", "shufflenet_v2_x0_5", "--every", "0.4", "--live-flow", "dis")
    done = subprocess.run(
        [sys.executable, str(script), str(clip), *small, *options],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [text for text in expected if text not in done.stdout] == []
