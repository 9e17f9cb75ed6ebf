"""Results have the same bytes with freshly compiled code and with code from Numba's cache."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.clips import environment, write_video

FLOW = """
import hashlib, sys
import numpy as np
from flowpipe.flow.estimate import optical_flow
from flowpipe.flow.parameters import Tvl1
from flowpipe.io import video
frames = [frame.image for frame in video.frames(sys.argv[1])]
for parameters in ({}, {"gamma": 0.1}, {"steps": "over-relaxed"}):
    flow = optical_flow(np.stack(frames[:-1]), np.stack(frames[1:]), backend="cpu", **parameters)
    print(hashlib.sha256(flow.tobytes()).hexdigest())
"""
TRAJECTORIES = """
import dataclasses, hashlib, sys
import numpy as np
from flowpipe.trajectories.dense import dense_trajectories
for kind in ("dt", "idt"):
    tracks = dense_trajectories(sys.argv[1], kind=kind)
    if kind == "dt":
        assert len(tracks)
    digest = hashlib.sha256()
    for field in dataclasses.fields(tracks):
        digest.update(np.ascontiguousarray(getattr(tracks, field.name)).tobytes())
    print(digest.hexdigest())
"""
ENCODING = """
import hashlib
import numpy as np
from flowpipe import BagOfWords, FisherVector
bags = [np.random.default_rng(seed).random((700, 30), np.float32) for seed in range(4)]
for encoder in (FisherVector(n_components=8), BagOfWords(20)):
    print(hashlib.sha256(np.ascontiguousarray(encoder.fit_transform(bags)).tobytes()).hexdigest())
"""


def digests(script, clip, cache, **variables):
    """Run a script with a Numba cache and return the digests that it prints."""
    run = subprocess.run(
        [sys.executable, "-c", script, str(clip)],
        env={**environment(), "NUMBA_CACHE_DIR": str(cache), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout
    return run.stdout.splitlines()


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.avi", 20, (96, 72))


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", [FLOW, TRAJECTORIES, ENCODING], ids=["flow", "trajectories", "encoding"]
)
def test_fresh_code_and_cached_code_give_the_same_bytes(script, clip, tmp_path):
    cache = tmp_path / "cache"
    fresh = digests(script, clip, cache)
    assert list(cache.rglob("*.nbc"))
    assert digests(script, clip, cache) == fresh


@pytest.mark.slow
def test_flow_has_the_same_bytes_on_a_processor_without_vector_extensions(clip, tmp_path):
    here = digests(FLOW, clip, tmp_path / "cache")
    assert digests(FLOW, clip, tmp_path / "cache", NUMBA_CPU_NAME="generic") == here
