"""Comparisons of the size of UCF101 and Kinetics-400, with stubs for networks and solvers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from flowpipe.pipelines.compare.run import compare
from flowpipe.pipelines.compare.systems import SYSTEMS
from flowpipe.runner import atomic
from tests.helpers.clips import environment
from tests.helpers.systems import Stub, made_up

pytestmark = pytest.mark.slow

SIZES = {
    # Tests of a split, classes, splits; the other clips train.
    "UCF101": (3330, 101, 3),
    "Kinetics-400": (20_000, 400, 1),
}
GROUPS = ("control", "classical", "2d", "2d", "2d", "3d", "3d", "3d", "transformers", "frozen")
SYSTEM_COUNT = 20
LIMIT = 1 << 30
"""Bytes of memory."""


def measure(name: str, out: Path) -> dict[str, float]:
    """Run twenty stubs, and again when all have been run."""
    tests, classes, splits = SIZES[name]
    if name == "Kinetics-400":
        dataset, protocol = kinetics(tests, classes)
    else:
        dataset, protocol = made_up(tests, classes, splits)
    stubs = {}
    for number in range(SYSTEM_COUNT):
        group = GROUPS[number % len(GROUPS)]
        streams = ("rgb", "flow") if group == "2d" else ("x",)
        stubs["idt" if number == 1 else f"s{number}"] = Stub(number, 0.3, streams, work=1e9)
    groups = dict(zip(stubs, GROUPS * 2, strict=True))
    table = {name: stub.system(groups[name]) for name, stub in stubs.items()}
    found = {"clips": len(dataset.clips)}
    with patch.dict(SYSTEMS, table, clear=True):
        # The first run writes a page after each system, the second one page.
        for step in ("first", "resumed"):
            begin = time.perf_counter()
            done = compare(dataset, ["all"], out, protocol, workers=0)
            found[step] = time.perf_counter() - begin
            assert len(done.accuracies) == SYSTEM_COUNT
    assert all(len(stub.runs) == 1 for stub in stubs.values())
    found["memory"] = most_memory()
    found["page"] = (out / "index.html").stat().st_size
    return found


def most_memory() -> int:
    """Return the most bytes that this process has held; getrusage's begin with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def kinetics(tests: int, classes: int):
    """One split, with twelve times as many training clips as tests."""
    dataset, protocol = made_up(tests, classes, 12)
    (first, *_) = protocol.splits
    splits = (first,)
    return (
        type(dataset)(dataset.name, dataset.clips, dataset.classes, splits),
        type(protocol)(protocol.name, protocol.classes, splits, protocol.labels),
    )


@pytest.mark.parametrize("name", SIZES)
def test_planning_resuming_and_the_page_take_little_memory(name, tmp_path):
    call = [sys.executable, "-m", "tests.pipelines.compare.test_sizes", name, str(tmp_path)]
    done = subprocess.run(call, env=environment(), capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["memory"] < LIMIT
    assert found["page"] < 8 << 20
    # No test of speed, but of its order: a quadratic step would take minutes.
    assert found["resumed"] < 120


if __name__ == "__main__":
    with patch.object(atomic, "flush", lambda path: None):
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
