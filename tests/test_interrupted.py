"""Every stage, killed again and again at random moments: in the end the bytes are those of a run
that nobody disturbed.

``FLOWPIPE_KILLS`` sets how many times; docs/reliability.md has the count of a long run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from tests.clips_for_tests import command, contents, environment

KILLS = int(os.environ.get("FLOWPIPE_KILLS", "8"))

_NETWORK = ("--backbone", "shufflenet_v2_x0_5", "--size", 32, "--epochs", 1, "--batch-size", 4)
_TESTING = ("--split", "split1", "--segments", 2, "--crops", 1, "--workers", 0, "--device", "cpu")
_TRAINING = ("--preset", "small", *_NETWORK, "--workers", 0, "--device", "cpu")


def stages(root: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """A command line for each stage, in the order in which they need each other."""
    videos, flow, tables = root / "videos", out / "flow", out / "trajectories"
    jobs = ("--jobs", 2)
    extract = ("extract-flow", videos, "--native", "--tvl1.iterations", 40, *jobs)
    streams = ("--stream", "flow", "--checkpoint-every", 1, "--split", "split1")
    few = ("--gaussians", 4, "--rows", 500, "--descriptors", "hof", "mbhx")
    return {
        "flow": (*extract, "--frames", "--out", flow),
        "flow in folders": (*extract, "--layout", "tsfusion", "--frames", "--out", out / "folders"),
        "trajectories": ("extract-trajectories", videos, "--out", tables, "--text", *jobs),
        "warped flow": ("warp-flow", flow, out / "warped", *jobs),
        "stacks": ("export-stacks", flow, out / "stacks", "--format", "tar", *jobs),
        "another layout": ("export-flow", flow, out / "h5", "--layout", "h5", *jobs),
        "vectors": ("encode", videos, tables, "--out", out / "vectors", *few, "--jobs", 1),
        "scores": ("classify", out / "vectors", "--out", out / "scores", "--jobs", 1),
        "network": ("train-stream", videos, flow, "--out", out / "net", *streams, *_TRAINING),
        "tests": ("test-stream", videos, flow, out / "net", "--out", out / "tests", *_TESTING),
    }


def start(arguments: tuple[object, ...]) -> subprocess.Popen:
    return subprocess.Popen(
        command(*arguments),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(arguments: tuple[object, ...]) -> None:
    process = start(arguments)
    told = process.communicate(timeout=600)[0]
    assert process.returncode == 0, told


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def settled(folder: Path) -> dict[str, bytes]:
    """What is stored, without what says when, where or how long."""
    said = {"times.json", "metrics.json", "report.html", "curves.png", "log.csv"}
    return {
        name: data for name, data in contents(folder).items() if name.rpartition("/")[2] not in said
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[Path, dict[str, float]]:
    """Videos, everything made of them without a disturbance, and the seconds that each took."""
    root = tmp_path_factory.mktemp("interrupted")
    small = Synthetic(n_groups=2, clips_per_group=1, width=80, height=64, n_frames=18)
    write_synthetic(root / "videos", small)
    seconds = {}
    for name, arguments in stages(root, root / "reference").items():
        begin = time.monotonic()
        finish(arguments)
        seconds[name] = time.monotonic() - begin
    return root, seconds


def test_interrupted_at_random_over_all_stages(reference):
    root, seconds = reference
    out = root / "disturbed"
    rng = np.random.default_rng(KILLS)
    every = stages(root, out)
    names = list(every)
    # In the stages' order, each as often as any other, and each finished before the next begins.
    kills = sorted(int(rng.integers(0, len(names))) for _ in range(KILLS))
    survived = 0
    for number, name in enumerate(names):
        for _ in range(kills.count(number)):
            process = start(every[name])
            # Later than the interpreter needs to start, most of the time.
            time.sleep(rng.uniform(0.3, 1) * seconds[name])
            workers = children(process.pid)
            if workers and rng.random() < 0.3:
                # A worker's death costs a clip's first attempt, and the run goes on.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(rng.choice(workers)), signal.SIGKILL)
                time.sleep(rng.uniform(0, 0.5))
            survived += process.poll() is None
            process.kill()
            process.communicate()
            time.sleep(0.3)  # its workers see that it is gone
        finish(every[name])
    assert survived >= KILLS // 3
    expected, found = settled(root / "reference"), settled(out)
    assert set(found) == set(expected)
    assert [name for name in expected if found[name] != expected[name]] == []
    assert not list(out.rglob(".tmp/*"))
    shutil.rmtree(out)
