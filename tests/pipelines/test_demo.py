"""``flowpipe demo`` on a set that is smaller than its own, with networks that learn little."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.pipelines import demo

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("no_flushing")
def test_every_stage_leaves_what_the_demo_says(tmp_path, monkeypatch, capsys):
    whole_set, whole_stream = write_synthetic, demo._stream

    def small_set(root):
        return whole_set(root, Synthetic(2, 2, width=64, height=64, n_frames=20))

    def small_stream(name):
        stream = whole_stream(name)
        return replace(
            stream,
            clip=replace(stream.clip, input_size=32),
            network=replace(stream.network, backbone="shufflenet_v2_x0_5"),
            training=replace(stream.training, epochs=1),
        )

    monkeypatch.setattr(demo, "write_synthetic", small_set)
    monkeypatch.setattr(demo, "_stream", small_stream)
    out = tmp_path / "demo"
    with pytest.raises(SystemExit) as end:
        main(["demo", "--out", str(out), "--jobs", "0"])
    told = capsys.readouterr().err
    assert end.value.code == 0, told
    for name in ("idt-baseline", "two-stream"):
        page = (out / name / "report.html").read_text()
        assert str(out / name / "report.html") in told
        assert "synthetic" in page
    for row in ("rgb stream", "warped-flow stream", "trajectories", "fused, scores 1 : 1.5 : 1"):
        assert row in page
    assert len(list((out / "flow-view").rglob("*.mp4"))) == 6
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out / "two-stream"), "--jobs", "0"])
    assert end.value.code == 0
