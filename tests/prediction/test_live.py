"""The command and the function that label live sources."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import ParameterError
from flowpipe.io import video
from flowpipe.pipelines.live import predict_live, window_of
from flowpipe.prediction.live.parameters import Live
from flowpipe.report.labels import enlarged
from tests.helpers import media
from tests.helpers.clips import command, environment
from tests.helpers.live import (
    CLASSES,
    images,
    random_network,
)


def test_options_that_do_not_apply_are_refused(tmp_path):
    rgb = random_network(tmp_path, "rgb", length=1)
    with pytest.raises(ParameterError, match=r"live_flow is 'dis', but .* rgb"):
        window_of(rgb, Live(live_flow="dis"))
    with pytest.raises(ParameterError, match="live and every exclude each other"):
        predict_live(rgb, "-", Live(), every=2)
    with pytest.raises(ParameterError, match="'evry' is not an option; options are every"):
        predict_live(rgb, "-", evry=2)
    with pytest.raises(ParameterError, match="device is 'cuda'"):
        predict_live(rgb, "-", device="cuda")
    for wrong in ({"every": 0}, {"window": -1}, {"stall": 0}, {"snippets": 0}, {"duration": 0}):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            Live(**wrong)
    with pytest.raises(ParameterError, match="live_flow is 'slow'"):
        Live(live_flow="slow")


def run_main(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(each) for each in arguments])
    return int(end.value.code)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--live", "-", "--cache", "c"], "cache is"),
        (["--live", "-", "--shard", "1/2"], "shard is '1/2'"),
        (["--live", "-", "--format", "csv"], "format is 'csv'"),
        (["--live", "-", "--out", "x"], "out is"),
        (["--live", "-", "--crops", "1"], "crops is 1"),
        (["--live", "-", "--jobs", "2"], "jobs is 2"),
        (["--live", "-", "video.mp4"], "videos is"),
        (["video.mp4", "--every", "2"], "every is 2.0; it applies to --live"),
        (["video.mp4", "--overlay", "o.mp4"], "overlay is"),
        (["--live", "ftp://x/y"], "has the scheme ftp"),
        (["--live", "no-such-file.mp4"], "'no-such-file.mp4' cannot be read"),
    ],
)
def test_the_command_refuses_what_does_not_apply(tmp_path, capsys, arguments, reason):
    random_network(tmp_path, "rgb", length=1)
    assert run_main("predict", tmp_path, *arguments) == 2
    assert reason in capsys.readouterr().err


def test_a_file_is_played_and_drawn(tmp_path, capsys):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.mp4", images(30))
    out = tmp_path / "overlay.mp4"
    arguments = ("--live", path, "--every", 0.4, "--overlay", out, "--device", "cpu")
    begin = time.monotonic()
    assert run_main("predict", tmp_path, *arguments) == 0
    assert time.monotonic() - begin > 29 / 25
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert lines[-1]["time"] == pytest.approx(29 / 25, abs=0.01)
    assert {line["label"] for line in lines} <= set(CLASSES)
    assert f"{len(lines)} labels" in printed.err
    shown = list(video.frames(out))
    assert shown[0].image.shape == (5 * 48, 5 * 64, 3)
    assert shown[-1].time == pytest.approx(29 / 25, abs=0.05)
    differences = np.abs(shown[-1].image.astype(int) - enlarged(images(30)[-1]))
    labels, rest = differences[:40, :100].mean(), differences[100:].mean()
    assert labels > 2 * rest
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_standard_input_is_read(tmp_path, suffix):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / f"clip{suffix}", images(40))
    arguments = ("predict", tmp_path, "--live", "-", "--top", 1, "--device", "cpu")
    done = subprocess.run(
        command(*arguments),
        input=path.read_bytes(),
        capture_output=True,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["time"] == pytest.approx(39 / 25, abs=0.05)
    assert last["frames"] == 40
    assert last["used"] + last["dropped"] == 40
    assert last["source"] == "-"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["stall", "interrupt"])
def test_a_pipe_that_stays_open(tmp_path, ending):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.ts", images(60))
    options = ("--stall", 2 if ending == "stall" else 300)
    process = subprocess.Popen(
        command("predict", tmp_path, "--live", "-", "--device", "cpu", *options),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(path.read_bytes())
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["label"] in CLASSES  # it is flushed
    if ending == "interrupt":
        process.send_signal(signal.SIGINT)
    status, told = process.wait(60), process.stderr.read().decode()
    assert status == (1 if ending == "stall" else 0), told
    assert ("'-' gave no frame for 2 s" in told) == (ending == "stall")
    assert "labels in" in told
    assert "Traceback" not in told


def test_a_python_loop(tmp_path):
    random_network(tmp_path, length=2)
    path = media.write(tmp_path / "clip.mp4", images(12))
    labels = list(flowpipe.predict_live(tmp_path, path, every=0.2, device="cpu"))
    assert labels[-1].time == pytest.approx(11 / 25, abs=0.01)
    assert labels[0].top(1)[0][0] == labels[0].label
    assert isinstance(labels[0].path, Path)
