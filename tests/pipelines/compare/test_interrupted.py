"""A comparison that is killed at random moments ends with the results of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.pipelines.compare.run import compare
from flowpipe.pipelines.compare.systems import SYSTEMS
from tests.helpers.clips import command, environment
from tests.helpers.systems import Stub, made_up

pytestmark = [pytest.mark.slow, pytest.mark.long]

KILLS = int(os.environ.get("FLOWPIPE_KILLS", "8"))
_SYSTEMS = ("clip-size", "shuffled-labels", "idt", "two-stream")
_OPTIONS = (
    *("--weights", "all=none", "--backbone", "shufflenet_v2_x0_5", "--input-size", 32),
    *("--epochs", 1, "--gaussians", 2, "--frame-size", "64x48", "--flow-preset", "fast"),
    *("--checkpoint-every", 1, "--jobs", 0, "--loader-workers", 0, "--device", "cpu"),
)


def stubs(out: Path) -> None:
    """Run six stubs of ten steps each, one of which fails."""
    made = {name: Stub(seed, steps=10, pause=0.03) for seed, name in enumerate(("a", "idt", "b"))}
    made |= {name: Stub(seed, streams=("rgb", "flow"), steps=10, pause=0.03, work=1e9)
             for seed, name in enumerate(("c", "d"), 3)}  # fmt: skip
    made["e"] = Stub(5, error=ValueError("a defect"))
    dataset, protocol = made_up()
    with patch.dict(SYSTEMS, {name: stub.system() for name, stub in made.items()}, clear=True):
        compare(dataset, ["all"], out, protocol, workers=0)


def killed(call: list[str], after: float) -> bool:
    """Start a run and kill it after so many seconds; return whether it still ran."""
    process = subprocess.Popen(
        call, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        told = process.communicate(timeout=after)[0]
        assert process.returncode == 0, told
        return False
    process.kill()
    process.communicate()
    return True


def disturb(call: list[str], out: Path, seconds: float) -> None:
    """Kill a run at random moments, KILLS times, and let it end; one that ends before is undone."""
    rng = np.random.default_rng(KILLS)
    kills = 0
    while kills < KILLS:
        if killed(call, rng.uniform(0.2, 0.8) * seconds):
            kills += 1
        else:
            shutil.rmtree(out)
    assert not killed(call, 600)


def test_stubs_killed_at_random_moments(tmp_path):
    def call(folder):
        module = "tests.pipelines.compare.test_interrupted"
        return [sys.executable, "-m", module, str(tmp_path / folder)]

    begin = time.monotonic()
    assert not killed(call("reference"), 600)
    disturb(call("disturbed"), tmp_path / "disturbed", time.monotonic() - begin)
    for name in ("metrics.json", "settings.json"):
        found, expected = (tmp_path / folder / name for folder in ("disturbed", "reference"))
        assert found.read_bytes() == expected.read_bytes()
    assert not list((tmp_path / "disturbed").rglob(".tmp/*"))


def test_systems_killed_at_random_moments(tmp_path):
    small = Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=20)
    write_synthetic(tmp_path / "videos", small)

    def call(folder):
        out = tmp_path / folder
        return command(
            "compare", tmp_path / "videos", "--systems", *_SYSTEMS, "--out", out, *_OPTIONS
        )

    assert not killed(call("warm"), 900)  # compiled code is in the cache now
    begin = time.monotonic()
    assert not killed(call("reference"), 900)
    disturb(call("disturbed"), tmp_path / "disturbed", time.monotonic() - begin)
    for name in ("metrics.json", "settings.json"):
        found, expected = (tmp_path / folder / name for folder in ("disturbed", "reference"))
        assert found.read_bytes() == expected.read_bytes()
    scores = sorted(path.relative_to(tmp_path / "reference") for path in
                    (tmp_path / "reference").glob("system-*/*.npz"))  # fmt: skip
    assert len(scores) == len(_SYSTEMS) + 1
    for path in scores:
        assert (tmp_path / "disturbed" / path).read_bytes() == (
            tmp_path / "reference" / path
        ).read_bytes()


if __name__ == "__main__":
    stubs(Path(sys.argv[1]))
