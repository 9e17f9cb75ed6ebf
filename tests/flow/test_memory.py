"""Memory of extract-flow grows neither with a clip's length nor with the number of clips."""

import functools
import gc
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from flowpipe.datasets.base import Clip
from flowpipe.flow import solvers
from flowpipe.flow.batching import BatchedSolver
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.parameters import Tvl1
from flowpipe.pipelines.flow import extract_flow
from flowpipe.runner.pool import Workers
from tests.helpers.clips import REPOSITORY, write_video

SHORT, LONG = 15, 60
SIZE = (480, 360)
FEW, MANY = 6, 36
STAGE = FlowStage(
    parameters=Tvl1(n_scales=1, warps=1, iterations=2), backend="cpu", size=None, frames=True
)
"""The least work a pair: it is what is held of it that counts."""

MB = 1e6
FLOW = 4 * 2 * SIZE[0] * SIZE[1] / MB
"""Of one pair, in MB."""


def high_water():
    """Of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / MB


def measured(work):
    """MB that Python and numpy held at most, that they hold afterwards, and high water of all."""
    gc.collect()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    work()
    peak = tracemalloc.get_traced_memory()[1] - before
    gc.collect()
    return peak / MB, (tracemalloc.get_traced_memory()[0] - before) / MB, high_water()


def measure(folder):
    """Print what is tested below; runs in a process of its own, whose high water is its own."""
    os.fsync = lambda descriptor: None
    tracemalloc.start()
    folder = Path(folder)
    create = functools.partial(solvers.create, STAGE.parameters, STAGE.backend)
    found = {}
    with BatchedSolver(create, batch=4, clips=1) as gathered:
        for name, engine in (("direct", None), ("gathered", gathered)):
            extract = ExtractFlow(STAGE, folder / name, overwrite=True, engine=engine)
            for clip in ("short", "short", "long"):  # twice, for what is set up once
                one = Clip(folder / f"{clip}.avi", clip)
                found[f"{name} {clip}"] = measured(lambda: extract(one, lambda count: None))  # noqa: B023
    for clips in ("few", "few", "many", "many again"):
        run = functools.partial(
            extract_flow,
            [str(folder / clips.removesuffix(" again"))],
            folder / "flow",
            STAGE,
            workers=Workers(0),
            overwrite=True,
        )
        found[clips] = measured(run)
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell a process's high water in /proc")
    folder = tmp_path_factory.mktemp("memory")
    write_video(folder / "short.avi", SHORT, SIZE)
    write_video(folder / "long.avi", LONG, SIZE)
    for number in range(MANY):  # each of its own size, the largest among the few
        size = (320 - 4 * number, 200)
        path = write_video(folder / f"many/{number}.avi", 4, size)
        if number < FEW:
            (folder / "few").mkdir(exist_ok=True)
            (folder / "few" / path.name).write_bytes(path.read_bytes())
    program = f"from tests.flow.test_memory import measure; measure({str(folder)!r})"
    output = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ).stdout
    return json.loads(output.splitlines()[-1])


@pytest.mark.slow
def test_a_clip_four_times_as_long_takes_no_more(found):
    short, long = found["direct short"], found["direct long"]
    # less than one more frame; the names in the zip's table of contents are a tenth of it
    assert long[0] - short[0] < 0.4 < 3 * SIZE[0] * SIZE[1] / MB
    assert long[2] - short[2] < 4 * FLOW


@pytest.mark.slow
def test_nor_in_batches_which_hold_some_pairs(found):
    """How many of the two batches' worth are on their way is chance."""
    short, long = found["gathered short"], found["gathered long"]
    assert long[0] - short[0] < 8 * FLOW < (LONG - SHORT) * FLOW / 5
    assert long[2] - short[2] < 8 * FLOW


@pytest.mark.slow
def test_eight_times_as_many_clips_take_no_more(found):
    few, many, again = found["few"], found["many"], found["many again"]
    # a solver for each size would be fifty times that
    assert many[0] - few[0] < 1
    assert many[1] < 0.5
    # The heap takes some clips to reach its size; after that, more clips add nothing.
    assert again[2] - many[2] < 5
