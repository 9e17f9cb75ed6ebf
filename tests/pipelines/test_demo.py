"""``flowpipe demo`` on a set that is smaller than its own, with networks that learn little."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from flowpipe.cli import main
from flowpipe.datasets.synthetic import Synthetic, render
from flowpipe.pipelines import demo
from flowpipe.pipelines.compare.systems import SYSTEMS

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("no_flushing")
def test_it_ends_with_the_page_and_the_label_of_a_new_video(tmp_path, monkeypatch, capsys):
    settings = {"epochs": 1, "input_size": 32, "gaussians": 4, "size": (64, 64)}
    small_set = Synthetic(2, 2, width=64, height=64, n_frames=20)
    monkeypatch.setattr(demo, "SET", small_set)
    monkeypatch.setattr(demo, "NEW", replace(small_set, seed=1))
    monkeypatch.setattr(demo, "SETTINGS", replace(demo.SETTINGS, **settings))
    out = tmp_path / "demo"

    def run():
        with pytest.raises(SystemExit) as end:
            main(["demo", "--out", str(out), "--jobs", "0"])
        told = capsys.readouterr().err
        assert end.value.code == 0, told
        return told

    told = run()
    page = out / "compare/index.html"
    assert f"the page to open: {page}" in told
    found = json.loads((out / "compare/metrics.json").read_text())
    assert found["not_run"] == {}
    assert found["splits"] == ["split1"]
    assert set(found["systems"]) == set(demo.SYSTEMS)
    assert len(found["systems"]) == 7  # a control, and six systems
    for name in demo.SYSTEMS:
        assert SYSTEMS[name].title in page.read_text()
    assert f"the motion is {demo.NEW_MOTION}" in told
    assert "the most accurate here, says: " in told
    assert (out / "predicted/new.mp4").stat().st_size > 1000
    assert len(list((out / "flow-view").rglob("*.mp4"))) == 6
    again = run()
    assert "7 of them run already" in again
    with pytest.raises(SystemExit) as end:
        main(["verify", str(out / "compare"), "--jobs", "0"])
    assert end.value.code == 0


def test_the_new_video_is_none_of_the_set():
    new, same = next(render(demo.NEW, demo.NEW_PATH)), next(render(demo.SET, demo.NEW_PATH))
    assert new.shape == same.shape
    assert not np.array_equal(new, same)
