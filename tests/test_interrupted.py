"""Every stage, killed again and again at random moments: in the end the bytes are those of a run
that nobody disturbed.

``FLOWPIPE_KILLS`` sets how many times; docs/reliability.md has the count of a long run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np

from tests.stages_for_tests import finish, settled, stages, start

KILLS = int(os.environ.get("FLOWPIPE_KILLS", "8"))


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def test_interrupted_at_random_over_all_stages(every_stage):
    root, seconds = every_stage
    out = root / "disturbed"
    rng = np.random.default_rng(KILLS)
    every = stages(root, out, out)
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
