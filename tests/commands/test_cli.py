"""The command line, in this process; what needs processes of its own is in test_faults.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from flowpipe import __version__
from flowpipe.cli import COMMANDS, main
from flowpipe.flow.store import LAYOUTS, FlowReader, stored_clips
from tests.helpers.clips import contents, environment, flowpipe, write_video


@pytest.fixture
def run(capsys, no_flushing):
    """Run a command line; returns its exit status and what it said on standard error."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        return end.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def videos(tmp_path):
    for name, n_frames in (("b/one", 3), ("b/two", 4), ("c/one", 3)):
        write_video(tmp_path / f"videos/{name}.avi", n_frames)
    return tmp_path / "videos"


QUICK = ("--jobs", 0, "--native", "--method", "farneback")


def extract(run, videos, out, *options):
    return run("extract-flow", videos, "--out", out, *QUICK, *options)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    told = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for option in re.findall(r"--[a-z-]+(?= [A-Z{])", told):
        assert option in told
    if command in ("extract-flow", "export-flow", "verify", "view", "demo"):
        assert "Number of clips processed at once" in told
        assert "--progress" not in told
        assert "(default: one per core)" in told
    if command == "extract-flow":
        for said in (
            "Displacement, in either direction, that saturates the 8-bit layouts. (default: 20)",
            "(default: 340x256)",
            "Width and height of frames and flow, in pixels",
            "Length in pixels that the short side of frames is resized to",
            "JPEG quality of flow and frames, 1 to 100. (default: 95)",
            "(default: flow)",
            "--tvl1.tau",
            "(default: 0.25)",
            "negative for backward flow",
            "(default: zip)",
            "exit status is 1",
        ):
            assert said in told, said


def test_help_of_the_program_names_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    told = capsys.readouterr().out
    assert all(command in told for command in COMMANDS)


def test_version(capsys):
    main(["--version"])
    assert capsys.readouterr().out == f"flowpipe {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--version"], pytest.param(["encode", "--help"], marks=pytest.mark.slow)]
)
def test_a_reader_that_has_left(arguments):
    """As in ``flowpipe encode --help | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        end = subprocess.run(
            [sys.executable, "-m", "flowpipe", *arguments],
            env=environment(),
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (end.returncode, end.stderr) == (141, b"")


def test_extraction_and_going_on(run, videos, tmp_path):
    out = tmp_path / "out"
    status, told = extract(run, videos, out)
    assert status == 0
    assert told.splitlines() == [
        f"3 clips, farneback with opencv-cpu, into {out}",
        "3 clips: 3 done",
    ]
    assert set(contents(out)) == {"b/one.zip", "b/two.zip", "c/one.zip", ".flowpipe/stage.json"}
    before = contents(out)
    status, told = extract(run, videos, out)
    assert (status, told.splitlines()[-1]) == (0, "3 clips: 0 done, 3 skipped")
    assert contents(out) == before
    status, told = extract(run, videos, out, "--overwrite")
    assert told.splitlines()[-1] == "3 clips: 3 done"
    assert contents(out) == before


def test_a_clip_that_fails(run, videos, tmp_path):
    (videos / "b/bad.avi").write_text("this is text")
    status, told = extract(run, videos, tmp_path / "out")
    assert status == 1
    failures = tmp_path / "out/.flowpipe/failures.jsonl"
    assert "failed: b/bad: " in told
    assert f"4 clips: 3 done, 1 failed (1 not-a-video), reasons in {failures}" in told
    assert json.loads(failures.read_text())["reason"].endswith("is a text file, not a video")
    (videos / "b/bad.avi").unlink()
    assert extract(run, videos, tmp_path / "out")[0] == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--frame-size", "340"), "--frame-size is '340'; it must be WIDTHxHEIGHT"),
        (("--frame-size", ""), "--frame-size is ''"),
        (("--frame-size", "8x256"), "size is 8"),
        (("--short-side", "0"), "size is 0; it must be at least 16"),
        (("--short-side", "-20"), "size is -20"),
        (("--bound", "0"), "bound is 0.0"),
        (("--bound", "many"), "many"),
        (("--step", "0"), "step is 0"),
        (("--quality", "101"), "quality is 101"),
        (("--max-frames", "1"), "max_frames is 1"),
        (("--shard", "3/2"), "shard is 3/2"),
        (("--shard", ""), "shard is ''"),
        (("--shard", "a"), "shard is 'a'; it must be i/n"),
        (("--jobs", "-1"), "jobs is -1"),
        (("--layout", "tar"), "tar"),
        (("--backend", "matlab"), "matlab"),
        (("--method", "brox", "--backend", "opencv-cpu"), "brox"),
        (("--layout", "h5", "--frames"), "layout h5 holds no RGB frames"),
        (("--tvl1.tau", "0.3"), "tau is 0.3; it must be more than 0 and at most 0.25"),
        (("--method", "dis", "--tvl1.tau", "0.2"), "Unrecognized"),
        (("--farneback.levels", "3"), "--farneback.levels"),
        (("--frame-size", "340x256", "--native"), "exclude each other"),
        (("--short-side", "256", "--native"), "exclude each other"),
        (("--frame-size", "340x256", "--short-side", "256"), "exclude each other"),
        (("--sise", "340x256"), "--sise"),
    ],
)
def test_wrong_values_are_named_and_nothing_is_done(run, videos, tmp_path, options, told):
    status, said = run("extract-flow", videos, "--out", tmp_path / "out", *options)
    assert status == 2
    assert told in " ".join(re.sub(r"[│╭╮╰╯─]", " ", said).split())
    assert "Traceback" not in said
    assert not set(contents(tmp_path / "out")) - {".flowpipe/stage.json"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("extract-flow", "{tmp}/empty", "--jobs", "0"), "no videos in '{tmp}/empty'"),
        (("verify", "{tmp}/empty"), "holds no output of flowpipe to verify"),
        (("verify", "{tmp}/none"), "'{tmp}/none' does not exist"),
        (("view", "{tmp}/empty"), "holds no flow"),
        (("export-flow", "{tmp}/empty", "{tmp}/x", "--layout", "npy"), "holds no flow"),
        (("export-flow", "{tmp}/empty", "{tmp}/x"), "--layout"),
        (("bake",), "bake"),
        ((), "COMMAND"),
    ],
)
def test_nothing_to_do(run, tmp_path, arguments, told):
    (tmp_path / "empty").mkdir()
    status, said = run(*(text.format(tmp=tmp_path) for text in arguments))
    assert status == 2
    if told != "COMMAND":
        assert told.format(tmp=tmp_path) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("layout", ["zip", "frames"])
def test_an_output_that_is_a_file(run, videos, tmp_path, layout):
    (tmp_path / "out").write_text("notes")
    status, said = extract(run, videos, tmp_path / "out", "--layout", layout)
    assert status == 2
    assert "out', which is a file; it must be a folder" in said
    assert str(tmp_path / "out") in said
    assert (tmp_path / "out").read_text() == "notes"


@pytest.mark.parametrize(
    ("options", "differences"),
    [
        (("--bound", "10"), "bound: 20.0 recorded, 10.0 requested"),
        (("--farneback.levels", "3"), "parameters.levels: 5 recorded, 3 requested"),
        (("--step", "2"), "step: 1 recorded, 2 requested"),
        (
            ("--frames", "--quality", "90"),
            "quality: 95 recorded, 90 requested; frames: false recorded, true requested",
        ),
    ],
)
def test_other_settings_are_not_mixed_in(run, videos, tmp_path, options, differences):
    out = tmp_path / "out"
    assert extract(run, videos, out)[0] == 0
    before = contents(out)
    status, said = extract(run, videos, out, *options)
    assert status == 2
    assert f"({differences})" in said
    assert contents(out) == before


def test_shards_are_disjoint_and_complete(run, videos, tmp_path):
    whole = tmp_path / "whole"
    extract(run, videos, whole)
    found = {}
    for index in (1, 2):
        out = tmp_path / f"shard{index}"
        assert extract(run, videos, out, "--shard", f"{index}/2")[0] == 0
        part = contents(out)
        assert part.pop(".flowpipe/stage.json") == contents(whole)[".flowpipe/stage.json"]
        assert not set(part) & set(found)
        found |= part
    assert {**found, ".flowpipe/stage.json": contents(whole)[".flowpipe/stage.json"]} == contents(
        whole
    )


def test_the_options_reach_the_flow(run, videos, tmp_path):
    out = tmp_path / "out"
    options = ("--frame-size", "32x24", "--bound", "8", "--step", "-1", "--layout", "denseflow")
    options += ("--frames", "--quality", "80", "--max-frames", "3", "--dis.preset", "fast")
    status, _ = run("extract-flow", videos, "--out", out, "--jobs", 0, "--method", "dis", *options)
    assert status == 0
    for clip in stored_clips(out):
        with FlowReader(clip) as reader:
            meta = reader.meta
        assert (meta.width, meta.height, meta.bound, meta.step) == (32, 24, 8.0, -1)
        assert (meta.layout, meta.quality, meta.n_frames, meta.n_images) == ("denseflow", 80, 3, 3)
        assert (meta.method, meta.parameters["preset"]) == ("dis", "fast")
    assert (out / ".flowpipe/stage.json").exists()


def test_the_default_size_is_that_of_tsn(run, videos, tmp_path):
    options = ("--jobs", 0, "--method", "farneback", "--max-frames", 2)
    assert run("extract-flow", videos / "b/one.avi", "--out", tmp_path / "o", *options)[0] == 0
    with FlowReader(tmp_path / "o/one.zip") as reader:
        assert (reader.meta.width, reader.meta.height) == (340, 256)


@pytest.mark.parametrize("layout", ["zip", "frames", "npy", "h5", "tsfusion"])
def test_verify_and_repair(run, videos, tmp_path, layout):
    out = tmp_path / "out"
    extract(run, videos, out, "--layout", layout)
    before = contents(out)
    status, said = run("verify", out, "--jobs", 0)
    assert (status, said) == (0, "3 clips: 3 done\n")
    clip = next(clip for clip in stored_clips(out) if clip.name == "b/two")
    path = clip.path if clip.path.is_file() else max(clip.path.glob("f*.jpg"))
    path.write_bytes(path.read_bytes()[:-9])
    for options in ((), ("--repair",)):
        status, said = run("verify", out, "--jobs", 0, *options)
        assert status == 1
        assert "failed: b/two: " in said
        assert ("; removed" in said) == bool(options)
    status, said = run("verify", out, "--jobs", 0)
    assert (status, said) == (0, "2 clips: 2 done\n")
    assert extract(run, videos, out, "--layout", layout)[0] == 0
    assert contents(out) == before


@pytest.mark.parametrize("layout", ["zip", "npy", "frames", "tsfusion"])
def test_quick_verify_reads_what_has_changed(run, videos, tmp_path, layout):
    out = tmp_path / "out"
    extract(run, videos, out, "--layout", layout)
    quick = ("verify", out, "--jobs", 0, "--quick")
    unread = "{} of 3 clips are unchanged since they were finished\n"
    assert run(*quick) == (0, unread.format(3))
    (videos / "c/one.avi").unlink()
    assert run(*quick) == (0, unread.format(3))
    os.utime(videos / "b/one.avi")
    assert run(*quick) == (0, unread.format(2) + "1 clip: 1 done\n")
    clip = next(clip for clip in stored_clips(out) if clip.name == "b/two")
    if clip.path.is_file():
        path, data = clip.path, bytearray(clip.path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        max(clip.path.glob("f*.jpg")).unlink()
    status, said = run(*quick)
    assert status == 1
    assert unread.format(1) in said
    assert "2 clips: 1 done, 1 failed (1 damaged)" in said
    assert "failed: b/two: " in said
    for ledger in out.rglob("*.finished"):
        ledger.unlink()
    assert unread.format(0) in run(*quick)[1]


def test_verify_finds_changed_videos(run, videos, tmp_path):
    extract(run, videos, tmp_path / "out")
    write_video(videos / "c/one.avi", 3, seed=5)
    (videos / "b/one.avi").unlink()
    status, said = run("verify", tmp_path / "out", "--jobs", 0)
    assert status == 1
    assert "3 clips: 2 done, 1 failed (1 damaged)" in said
    assert "c/one.avi' is not the one that the flow was made from" in said
    # The same when the clip is named by its own path.
    assert run("verify", tmp_path / "out/c/one.zip", "--jobs", 0)[0] == 1


def test_export(run, videos, tmp_path):
    out, to = tmp_path / "out", tmp_path / "deeper/tsn"
    extract(run, videos, out, "--frames")
    command = ("export-flow", out, to, "--jobs", 0, "--layout")
    assert run(*command, "frames")[0] == 0
    first = contents(to)
    assert len(list(to.glob("b/two/flow_x_*"))) == 3
    assert len(list(to.glob("b/two/img_*"))) == 4
    assert run("verify", to, "--jobs", 0)[0] == 0
    status, said = run(*command, "frames")
    assert "3 skipped" in said
    status, said = run(*command, "frames", "--bound", "10")
    assert status == 2
    assert "bound: null recorded, 10.0 requested" in said
    (to / "b/two/meta.json").write_text("{")
    status, said = run(*command, "frames")
    assert (status, said.splitlines()[-1]) == (0, "3 clips: 1 done, 2 skipped")
    assert contents(to) == first
    status, said = run("export-flow", out, out, "--layout", "zip", "--jobs", 0)
    assert status == 2
    assert "into its own folder" in said
    write_video(videos / "b/two.avi", 4, seed=7)
    assert extract(run, videos, out, "--frames")[0] == 0
    status, said = run(*command, "frames")
    assert said.splitlines()[-1] == "3 clips: 1 done, 2 skipped"


def test_view(run, videos, tmp_path):
    out = tmp_path / "out"
    extract(run, videos, out)
    assert run("view", out, "--clip", "b/one", "--sheet-only", "--jobs", 0)[0] == 0
    assert set(contents(tmp_path / "out-view")) == {"b/one.png", ".flowpipe/stage.json"}
    status, said = run("view", out, "--clip", "b/none", "--jobs", 0)
    assert (status, "holds no clip 'b/none'" in said) == (2, True)


@pytest.mark.slow
def test_in_a_process_of_its_own(videos, tmp_path):
    """Names that are no text, and a standard error that takes ASCII only."""
    odd = videos / "b/\udcff \n'x'.avi"
    (videos / "b/one.avi").rename(odd)
    (videos / "b/-dash.avi").write_text("text")
    environment_of_c = {**environment(), "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "flowpipe", "extract-flow", videos]
    options = ["--out", tmp_path / "out \udcfe", "--native", "--method", "farneback", "--jobs", "1"]
    end = subprocess.run(
        [*command, *options], env=environment_of_c, capture_output=True, timeout=60, check=False
    )
    assert end.returncode == 1
    assert b"4 clips: 3 done, 1 failed (1 not-a-video)" in end.stderr
    assert b"Traceback" not in end.stderr
    assert flowpipe("verify", tmp_path / "out \udcfe", "--jobs", "0").returncode == 0


def test_names_that_begin_with_a_dash(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "-x.avi", 3)
    status, said = run("extract-flow", "-x.avi", "--out", "flow", *QUICK)
    assert (status, (tmp_path / "flow").exists()) == (2, False)
    assert "'-x.avi' is read as an option; put -- before videos" in said
    assert run("extract-flow", "--out=-flow", *QUICK, "--", "-x.avi")[0] == 0
    assert (tmp_path / "-flow/-x.zip").exists()
    # A negative number is no name.
    assert "put --" not in run("extract-flow", "--bound", "-1", "--no-such-option")[1]


@pytest.mark.parametrize(
    "command",
    [
        ("extract-flow", "--native", "--method", "farneback"),
        pytest.param(("extract-trajectories", "--kind", "dt"), marks=pytest.mark.slow),
    ],
)
def test_a_clip_is_not_replaced_by_one_of_the_same_name(run, tmp_path, command):
    """Even if its own video has been moved away."""
    for name, seed in (("a", 1), ("b", 2)):
        write_video(tmp_path / f"{name}/1.avi", 17, seed=seed)
    out = tmp_path / "out"
    options = ("--out", out, "--jobs", 0)
    assert run(command[0], tmp_path / "a", *command[1:], *options)[0] == 0
    (tmp_path / "a").rename(tmp_path / "moved")
    before = contents(out)
    status, said = run(command[0], tmp_path / "b", *command[1:], *options)
    assert status == 1
    assert "was made from '../a/1.avi', not from '../b/1.avi'" in said
    assert "1 failed (1 name-taken)" in said
    after = contents(out)
    assert {name: after[name] for name in before if ".flowpipe" not in name} == {
        name: before[name] for name in before if ".flowpipe" not in name
    }
    # Its own video, wherever it is now, is known.
    assert run(command[0], tmp_path / "moved", *command[1:], *options)[0] == 0
    assert run(command[0], tmp_path / "b", *command[1:], *options, "--overwrite")[0] == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_name_of_255_bytes_is_stored_or_refused_with_the_reason(run, tmp_path, layout):
    name = "é" * 125 + "x"
    write_video(tmp_path / f"videos/{name}.avi", 3)
    write_video(tmp_path / "videos/b.avi", 3)
    out = tmp_path / "out"
    status, said = extract(run, tmp_path / "videos", out, "--layout", layout)
    if layout in ("npy", "tsfusion"):
        assert status == 1
        assert "1 done, 1 failed (1 name-too-long)" in said
        assert re.search(r"of the output has 2\d\d bytes; the file system allows 255", said)
        assert [clip.name for clip in stored_clips(out)] == ["b"]
    else:
        assert status == 0
        assert run("verify", out, "--jobs", 0)[0] == 0
        assert {clip.name for clip in stored_clips(out)} == {"b", name}
        assert "2 skipped" in extract(run, tmp_path / "videos", out, "--layout", layout)[1]
        assert run("view", out, "--jobs", 0, "--sheet-only")[0] == 0
        status, said = run("export-flow", out, tmp_path / "npy", "--layout", "npy", "--jobs", 0)
        assert (status, "(1 name-too-long)" in said) == (1, True)


@pytest.mark.parametrize("command", [("export-flow", "--layout", "zip"), ("warp-flow",)])
def test_flow_made_from_flow_is_not_replaced_by_that_of_another_video(run, tmp_path, command):
    for name, seed in (("a", 1), ("b", 2)):
        write_video(tmp_path / f"{name}/1.avi", 4, (96, 80), seed)
        assert extract(run, tmp_path / name, tmp_path / f"{name}-flow", "--frames")[0] == 0
    out, options = tmp_path / "out", (*command[1:], "--jobs", 0)
    assert run(command[0], tmp_path / "a-flow", out, *options)[0] == 0
    before = (out / "1.zip").read_bytes()
    status, said = run(command[0], tmp_path / "b-flow", out, *options)
    assert (status, "1 failed (1 name-taken)" in said) == (1, True)
    assert (out / "1.zip").read_bytes() == before
    assert run(command[0], tmp_path / "b-flow", out, *options, "--overwrite")[0] == 0
    assert (out / "1.zip").read_bytes() != before


def test_exported_flow_is_of_the_flow_that_is_recorded(run, videos, tmp_path):
    out, to = tmp_path / "out", tmp_path / "to"
    extract(run, videos, out)
    command = ("export-flow", out, to, "--layout", "npy", "--jobs", 0)
    assert run(*command)[0] == 0
    shutil.rmtree(out)
    extract(run, videos, out, "--bound", "5")
    status, said = run(*command)
    assert (status, "flow.bound: 20.0 recorded, 5.0 requested" in said) == (2, True)
