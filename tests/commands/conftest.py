"""A small set with its flow, for the commands on networks."""

from __future__ import annotations

import pytest

from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("set") / "videos"
    write_synthetic(
        root, Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=10)
    )
    return root


@pytest.fixture(scope="module")
def flow(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("stored") / "flow"
    options = ("--method", "farneback", "--native", "--frames", "--jobs", "0")
    with pytest.raises(SystemExit) as end:
        main(["extract-flow", str(videos), "--out", str(out), *options])
    assert end.value.code == 0
    return out
