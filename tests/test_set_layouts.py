"""The documented commands run on small copies of every documented layout of a set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowpipe.classify.protocols import protocol
from flowpipe.classify.scores import load_scores
from flowpipe.cli import main
from flowpipe.datasets.load import load_dataset
from flowpipe.pipelines.labelled import labelled_flow, with_usable_clips
from flowpipe.training.parameters import preset
from tests.helpers import media
from tests.helpers.clips import flowpipe, write_video
from tests.helpers.trees import write

N_FRAMES = 8


def _ucf101(root: Path) -> list[str]:
    videos = [f"{c}/v_{c}_g0{g}_c01.avi" for c in ("Archery", "Biking") for g in (1, 2)]
    lists = root / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 Archery", "2 Biking")
    write(lists / "trainlist01.txt", f"{videos[0]} 1", f"{videos[2]} 2")
    write(lists / "testlist01.txt", videos[1], videos[3])
    return [f"UCF-101/{video}" for video in videos]


def _hmdb51(root: Path) -> list[str]:
    names = {c: [f"Film{n}_{c}_u_nm_np1_fr_goo_{n}.avi" for n in (1, 2)] for c in ("hug", "wave")}
    for label, (train, test) in names.items():
        lists = root / "testTrainMulti_7030_splits"
        write(lists / f"{label}_test_split1.txt", f"{train} 1 ", f"{test} 2 ")
    return [f"{label}/{name}" for label, files in names.items() for name in files]


def _kth(root: Path) -> list[str]:
    return [f"person{p}_{c}_d1_uncomp.avi" for c in ("boxing", "running") for p in ("11", "02")]


def _weizmann(root: Path) -> list[str]:
    return [f"{c}/{actor}_{c}.avi" for c in ("run", "walk") for actor in ("eli", "ido")]


def _ut_interaction(root: Path) -> list[str]:
    return [f"set1/{2 * s + c}_{s}_{c}.avi" for s in (1, 2) for c in (0, 1)]


def _kinetics(root: Path) -> list[str]:
    header = "label,youtube_id,time_start,time_end,split"
    clips = [(label, use) for label in ("air guitar", "zumba") for use in ("train", "val")]
    rows = [f"{label},{label}{use}id,1,9,{use}" for label, use in clips]
    write(root / "lists.csv", header, *rows)
    return [f"{label}/{label}{use}id_000001_000009.mp4" for label, use in clips]


LAYOUTS = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "kth": _kth,
    "weizmann": _weizmann,
    "ut-interaction": _ut_interaction,
    "kinetics": _kinetics,
}


@pytest.fixture(params=LAYOUTS)
def published(request, tmp_path):
    root = tmp_path / request.param
    for seed, name in enumerate(LAYOUTS[request.param](root)):
        write_video(root / name, N_FRAMES, seed=seed)
    return root


def _run(*arguments: object) -> str:
    ended = flowpipe(*arguments)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def _here(capsys, *arguments: object) -> str:
    """Run a command in this process, which is faster than one of its own."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert end.value.code == 0, printed.out + printed.err
    return printed.out + printed.err


@pytest.mark.slow
def test_flow_and_trajectories_of_the_documented_folder_are_found(published, tmp_path):
    flow, tracks, vectors = tmp_path / "flow", tmp_path / "tracks", tmp_path / "vectors"
    _run("extract-flow", published, "--out", flow, "--frames", "--frame-size", "48x32", "--jobs", 0)
    labelled = labelled_flow(published, flow)
    assert labelled.dataset.kind == published.name
    splits = [split.name for split in labelled.protocol.splits]
    with_usable_clips(labelled, splits, preset("small", "rgb").clip, test=True)
    _run("extract-trajectories", published, "--out", tracks, "--kind", "dt", "--jobs", 0)
    ended = flowpipe("encode", published, tracks, "--out", vectors, "--jobs", 0)
    # clips of eight frames have no trajectories, but all of them have their table
    assert "not in" not in ended.stdout + ended.stderr
    assert f"{published.name}: 4 clips, " in ended.stdout + ended.stderr


@pytest.mark.slow
def test_networks_are_trained_evaluated_and_fused_on_the_documented_folder(
    published, tmp_path, capsys
):
    flow, network, scores = tmp_path / "flow", tmp_path / "network", tmp_path / "scores"
    cheap = ("--method", "farneback", "--frame-size", "48x32", "--jobs", 0)
    _here(capsys, "extract-flow", published, "--out", flow, *cheap)
    tiny = ("--backbone", "shufflenet_v2_x0_5", "--input-size", 32, "--segments", 1, "--length", 2)
    once = ("--epochs", 1, "--batch-size", 2, "--loader-workers", 0)
    _here(capsys, "train", published, flow, "--preset", "small", *tiny, *once, "--out", network)
    views = ("--test-clips", 1, "--crops", 1, "--loader-workers", 0)
    printed = _here(capsys, "evaluate", network, published, flow, *views, "--out", scores)
    assert "flow " in printed
    _here(
        capsys,
        "fuse",
        scores / "scores.npz",
        f"{scores}/scores.npz:0.5",
        "--out",
        tmp_path / "fused",
    )
    assert (tmp_path / "fused/report.html").is_file()


@pytest.mark.slow
def test_both_streams_run_on_the_documented_folder(published, tmp_path, capsys):
    out = tmp_path / "both"
    streams = [
        option
        for stream, length in (("rgb", 1), ("flow", 2))
        for name, value in (
            ("backbone", "shufflenet_v2_x0_5"), ("input-size", 32), ("segments", 1),
            ("length", length), ("epochs", 1), ("batch-size", 2),
        )
        for option in (f"--{stream}.{name}", value)
    ]  # fmt: skip
    quick = ("--preset", "small", "--frame-size", "48x32", "--tvl1.warps", 1, "--jobs", 0)
    views = ("--test-clips", 1, "--crops", 1, "--loader-workers", 0)
    printed = _here(capsys, "two-stream", published, "--out", out, *quick, *views, *streams)
    assert f"{published.name}: 4 clips, " in printed
    assert "fused" in printed
    splits = load_scores(out / "fused.npz").splits
    assert [set(split.names) for split in splits] == [
        set(split.test) for split in protocol(load_dataset(published)).splits
    ]
    assert (out / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_baseline_of_trajectories_runs_on_the_documented_folder(layout, tmp_path, capsys):
    root = tmp_path / layout
    for seed, name in enumerate(LAYOUTS[layout](root)):
        write_moving_video(root / name, seed)
    out = tmp_path / "idt"
    quick = ("--kind", "dt", "--gaussians", 2, "--descriptors", "mbhx", "--jobs", 0)
    printed = _here(capsys, "idt-baseline", root, *quick, "--out", out)
    assert f"{layout}: 4 clips, " in printed
    assert (out / "report.html").is_file()


def write_moving_video(path: Path, seed: int) -> None:
    """Write 20 frames of a texture that moves by three pixels a frame."""
    texture = media.texture(96, 200, seed=seed)
    frames = [texture[:, 3 * index : 3 * index + 128] for index in range(20)]
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write(path, frames, codec="mpeg4")


@pytest.mark.slow
def test_networks_are_trained_on_flow_folders_of_tsn_without_any_video(tmp_path):
    videos, flow = tmp_path / "videos", tmp_path / "flow"
    lines = []
    for seed, name in enumerate(("left/a", "left/b", "right/c", "right/d")):
        write_video(videos / f"{name}.avi", N_FRAMES, seed=seed)
        lines.append(f"{name} {N_FRAMES} {seed // 2}")
    _run(
        "extract-flow",
        videos,
        "--out",
        flow,
        "--frame-size",
        "48x32",
        "--layout",
        "frames",
        "--jobs",
        0,
    )
    train = write(tmp_path / "train.txt", lines[0], lines[2])
    test = write(tmp_path / "test.txt", lines[1], lines[3])
    for name in videos.rglob("*.avi"):
        name.unlink()
    out = tmp_path / "stream"
    printed = _run(
        "train", flow, flow, "--dataset", "tsn", "--lists", train, test, "--preset", "small",
        "--epochs", 1, "--loader-workers", 0, "--out", out,
    )  # fmt: skip
    assert "2 classes (0, 1)" in printed
    recorded = json.loads((out / ".flowpipe/dataset.json").read_text())
    assert (recorded["kind"], recorded["clips"]) == ("tsn", 4)
    assert load_dataset(flow, "tsn", [train, test]).splits[0].train == ("left/a", "right/c")
