"""``extract-trajectories``: the stage around the tracker."""

from __future__ import annotations

import filecmp
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowpipe.cli import main
from flowpipe.datasets.base import Clip
from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.extract import ExtractFlow, FlowStage
from flowpipe.flow.parameters import Dis, Farneback
from flowpipe.io.source import NameTakenError
from flowpipe.io.video import frames
from flowpipe.pipelines.flow import extract_flow
from flowpipe.pipelines.trajectories import extract_trajectories
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.trajectories.boxes import box_mask, read_boxes
from flowpipe.trajectories.clip_tables import find_tables
from flowpipe.trajectories.parameters import TrajectoryParameters, TrajectoryStage
from flowpipe.trajectories.table import Table
from flowpipe.trajectories.work import ExtractClip
from tests.helpers import media
from tests.helpers.clips import hashed

DT = TrajectoryParameters(kind="dt", scale_num=1)
STAGE = TrajectoryStage(DT)
N_FRAMES = 20
HEIGHT, WIDTH = 64, 80


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    path = tmp_path / "videos" / "moving.avi"
    path.parent.mkdir()
    # One pixel a frame to the right, so that tracks are neither static nor erratic.
    media.write(path, media.moving(N_FRAMES, HEIGHT, WIDTH))
    return Clip(path, "moving")


def work(out: Path, stage: TrajectoryStage = STAGE, **more) -> ExtractClip:
    return ExtractClip(stage, out, **more)


def test_a_table_a_clip_with_its_source_and_size(clip, tmp_path):
    units = []
    done = work(tmp_path / "out")(clip, units.append)
    assert not done.skipped
    assert sum(units) == N_FRAMES
    with Table(tmp_path / "out" / "moving.h5") as table:
        assert len(table) > 0
        attributes = table.attributes
        assert (attributes["length"], attributes["width"], attributes["height"]) == (
            N_FRAMES,
            WIDTH,
            HEIGHT,
        )
        assert attributes["clip"] == "moving"
        source = json.loads(attributes["source"])
        assert source["bytes"] == clip.path.stat().st_size
        assert (tmp_path / "out" / source["path"]).resolve() == clip.path.resolve()
        info = table.read(fields=["info"])["info"]
    # Tracks of 15 steps end in frames 15 to 19, and t_pos is their middle over 20 frames.
    assert set(info[:, 0]) <= set(range(15, N_FRAMES))
    np.testing.assert_allclose(info[:, 9], (info[:, 0] - 7.5) / N_FRAMES, atol=1e-6)


def test_unchanged_clips_are_skipped_changed_ones_made_anew(clip, tmp_path):
    out = tmp_path / "out"
    work(out)(clip, lambda n: None)
    before = (out / "moving.h5").read_bytes()
    assert work(out)(clip, lambda n: None).skipped
    media.write(clip.path, media.moving(N_FRAMES + 2, HEIGHT, WIDTH))
    assert not work(out)(clip, lambda n: None).skipped
    assert (out / "moving.h5").read_bytes() != before
    clip.path.unlink()
    gone = work(out)(clip, lambda n: None)
    assert gone.skipped
    assert "gone" in (gone.warning or "")


def test_the_same_bytes_twice_and_after_damage(clip, tmp_path):
    out = tmp_path / "out"
    work(out)(clip, lambda n: None)
    whole = (out / "moving.h5").read_bytes()
    (out / "moving.h5").write_bytes(whole[: len(whole) // 2])
    assert not work(out)(clip, lambda n: None).skipped
    assert hashed((out / "moving.h5").read_bytes()) == hashed(whole)
    work(out, overwrite=True)(clip, lambda n: None)
    assert hashed((out / "moving.h5").read_bytes()) == hashed(whole)


def test_text_and_film_are_made_when_asked_for_later(clip, tmp_path):
    out = tmp_path / "out"
    work(out)(clip, lambda n: None)
    assert not work(out, text=True, visualize=True)(clip, lambda n: None).skipped
    with Table(out / "moving.h5") as table:
        rows = len(table)
    lines = (out / "moving.txt").read_text().splitlines()
    assert len(lines) == rows
    assert {len(line.split("\t")) for line in lines} == {437}  # 436 columns, each with its tab
    assert sum(1 for _ in frames(out / "moving.mp4")) == N_FRAMES
    assert work(out, text=True, visualize=True)(clip, lambda n: None).skipped


def test_another_video_of_the_same_name_is_refused(clip, tmp_path):
    out = tmp_path / "out"
    work(out)(clip, lambda n: None)
    other = tmp_path / "elsewhere" / "moving.avi"
    other.parent.mkdir()
    media.write(other, media.moving(N_FRAMES + 4, HEIGHT, WIDTH))
    with pytest.raises(NameTakenError, match="moving"):
        work(out)(Clip(other, "moving"), lambda n: None)


@pytest.mark.parametrize("stage", [STAGE, TrajectoryStage(replace(DT, start_frame=4))])
def test_a_clip_too_short_for_a_track_is_done_with_a_warning_each_time(stage, tmp_path):
    path, first = tmp_path / "short.avi", stage.parameters.start_frame
    media.write(path, media.moving(15 + first, HEIGHT, WIDTH))
    clip, warning = Clip(path, "short"), "has no trajectories (15 frames; a track needs 16)"
    done = work(tmp_path / "out", stage)(clip, lambda n: None)
    assert (done.skipped, done.warning) == (False, warning)
    again = work(tmp_path / "out", stage)(clip, lambda n: None)
    assert (again.skipped, again.warning) == (True, warning)
    with Table(tmp_path / "out" / "short.h5") as table:
        assert len(table) == 0
    table = find_tables([clip], tmp_path / "out")[0]["short"]
    assert table.rows == 0
    assert warning == f"has no trajectories ({table.why_empty})"


def test_a_clip_in_which_nothing_moves_is_done_with_a_warning(clip, tmp_path):
    done = work(tmp_path / "moves")(clip, lambda n: None)
    assert done.warning is None
    assert find_tables([clip], tmp_path / "moves")[0][clip.name].rows > 0
    path = tmp_path / "black.avi"
    media.write(path, list(np.zeros((20, HEIGHT, WIDTH, 3), np.uint8)))
    done = work(tmp_path / "out")(Clip(path, "black"), lambda n: None)
    assert done.warning == "has no trajectories (20 frames; nothing moves enough)"


def test_a_frame_smaller_than_the_patch_is_an_error_and_leaves_nothing(tmp_path):
    path = tmp_path / "tiny.avi"
    media.write(path, media.moving(20, 24, 24))
    out = tmp_path / "out"
    with pytest.raises(ParameterError, match="24"):
        work(out)(Clip(path, "tiny"), lambda n: None)
    assert not [path for path in out.rglob("*") if path.name != ".tmp"]


def test_flow_that_was_extracted_takes_the_place_of_farnebacks(clip, tmp_path):
    flow = tmp_path / "flow"
    ExtractFlow(FlowStage(Dis(), size=None, layout="npy"), flow)(clip, lambda n: None)
    stage = TrajectoryStage(DT, flow=flow)
    work(tmp_path / "out", stage)(clip, lambda n: None)
    with Table(tmp_path / "out" / "moving.h5") as table:
        assert len(table) > 0
    with pytest.raises(FormatError, match="other"):
        work(tmp_path / "out", stage)(Clip(clip.path, "other"), lambda n: None)


def test_other_flow_in_the_same_folder_is_refused(clip, tmp_path, monkeypatch):
    folder, flow, out = [str(clip.path.parent)], tmp_path / "fl", tmp_path / "out"
    monkeypatch.chdir(tmp_path)

    def make_flow(stage: FlowStage) -> None:
        shutil.rmtree(flow, ignore_errors=True)
        extract_flow(folder, flow, stage, workers=Workers(0))

    def track(given: Path):
        stage = TrajectoryStage(DT, flow=given)
        return extract_trajectories(folder, out, stage, workers=Workers(0))

    make_flow(FlowStage(Dis(), size=None))
    assert track(Path("fl")).done == 1
    # The same flow, however its folder is named, and made again.
    assert track(flow).skipped == 1
    make_flow(FlowStage(Dis(), size=None))
    assert track(Path("../" + tmp_path.name + "/fl")).skipped == 1
    before = (out / "moving.h5").read_bytes()
    for other, difference in (
        (FlowStage(Farneback(), size=None), r'flow\.method: "dis" recorded, "farneback" requested'),
        (FlowStage(Dis(), bound=2.0, size=None), r"flow\.bound: 20\.0 recorded, 2\.0 requested"),
    ):
        make_flow(other)
        with pytest.raises(StageMismatchError, match=difference):
            track(flow)
    assert (out / "moving.h5").read_bytes() == before
    # Nor does the programs' own flow continue what was begun with a folder of flow.
    with pytest.raises(StageMismatchError, match='"farneback" requested'):
        extract_trajectories(folder, out, STAGE, workers=Workers(0))


def test_other_boxes_in_the_same_place_are_refused(clip, tmp_path, monkeypatch):
    folder, boxes, out = [str(clip.path.parent)], tmp_path / "boxes", tmp_path / "out"
    boxes.mkdir()
    monkeypatch.chdir(tmp_path)
    (boxes / "moving.txt").write_text("3 10 5 20 15 0.9\n")

    def track(given: Path):
        stage = TrajectoryStage(TrajectoryParameters(scale_num=1), boxes=given)
        return extract_trajectories(folder, out, stage, workers=Workers(0))

    assert track(Path("boxes")).done == 1
    assert track(boxes).skipped == 1
    (boxes / "moving.txt").write_text("3 10 5 20 16 0.9\n")
    with pytest.raises(StageMismatchError, match="boxes: "):
        track(boxes)


def test_tvl1_flow_gives_the_tracks_of_the_motion(clip, tmp_path):
    work(tmp_path / "out", TrajectoryStage(DT, flow="tvl1"))(clip, lambda n: None)
    with Table(tmp_path / "out" / "moving.h5") as table:
        shape = table.read(fields=["trajectory"])["trajectory"]
    assert len(shape) > 0


def test_the_command_writes_stage_json_and_refuses_other_parameters(clip, tmp_path):
    out = tmp_path / "out"
    folder = [str(clip.path.parent)]
    assert extract_trajectories(folder, out, STAGE, workers=Workers(0)).done == 1
    described = json.loads((out / ".flowpipe/stage.json").read_text())
    assert described["parameters"]["kind"] == "dt"
    with pytest.raises(Exception, match=r"parameters\.track_length: 15 recorded, 10 requested"):
        extract_trajectories(
            folder,
            out,
            TrajectoryStage(TrajectoryParameters("dt", track_length=10, scale_num=1)),
            workers=Workers(0),
        )


@pytest.mark.slow
def test_results_do_not_depend_on_jobs(clip, tmp_path):
    second = clip.path.with_name("second.avi")
    media.write(second, media.moving(18, HEIGHT, WIDTH))
    for jobs in (0, 2):
        extract_trajectories(
            [str(clip.path.parent)], tmp_path / str(jobs), STAGE, workers=Workers(jobs)
        )
    for name in ("moving.h5", "second.h5"):
        # The source's path is given from the output folder, and both are siblings.
        assert filecmp.cmp(tmp_path / "0" / name, tmp_path / "2" / name, shallow=False)


def test_boxes_are_read_by_frame_number_and_clipped_to_the_image(tmp_path):
    path = tmp_path / "boxes.txt"
    path.write_text("7 10 5 20 15 0.9 -30 -30 2 2 0.5\n\n3\n")
    boxes = read_boxes(path)
    assert set(boxes) == {3, 7}
    assert len(boxes[3]) == 0
    mask = box_mask((32, 40), boxes[7])
    expected = np.ones((32, 40), np.uint8)
    expected[5:16, 10:21] = 0
    expected[:3, :3] = 0
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("line", ["x 1 2 3 4 5", "1 2 3", "1 a b c d e", "1\n1"])
def test_malformed_boxes_name_file_and_line(tmp_path, line):
    path = tmp_path / "boxes.txt"
    path.write_text(line + "\n")
    with pytest.raises(FormatError, match=r"boxes\.txt.*line"):
        read_boxes(path)


def test_boxes_are_for_idt_only(tmp_path):
    with pytest.raises(ParameterError, match="idt"):
        TrajectoryStage(DT, boxes=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tvl1.tau", "0.2"), "options of tvl1 are given, but flow is 'farneback'"),
        (("--backend", "cpu"), "options of tvl1 are given, but flow is 'farneback'"),
        (("--flow", "tvl1", "--poly-n", "5"), "poly_n is 5, but flow is 'tvl1'"),
        (("--flow", "nowhere"), "'nowhere' does not exist"),
        (("--kind", "dt", "--min-camera-free", "2"), "min_camera_free is 2.0, but kind is 'dt'"),
        (
            ("--frame-size", "64x48", "--short-side", "48"),
            "--frame-size and --short-side exclude each other",
        ),
    ],
)
@pytest.mark.parametrize("command", ["extract-trajectories", "idt-baseline"])
def test_options_that_do_not_apply_are_refused(clip, tmp_path, capsys, command, options, message):
    with pytest.raises(SystemExit) as end:
        main([command, str(clip.path.parent), "--out", str(tmp_path / "out"), *options])
    assert end.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_videos_of_tracks_are_not_written_among_the_videos(clip, capsys):
    folder = clip.path.parent
    before = clip.path.read_bytes()
    with pytest.raises(SystemExit) as end:
        main(["extract-trajectories", str(folder), "--out", str(folder), "--visualize"])
    assert end.value.code == 2
    assert "which contains the video" in capsys.readouterr().err
    assert clip.path.read_bytes() == before
    assert sorted(folder.iterdir()) == [clip.path]


def test_videos_of_tracks_are_not_taken_for_input(clip, monkeypatch):
    monkeypatch.chdir(clip.path.parent)
    for _ in range(3):
        summary = extract_trajectories(".", visualize=True, workers=0, scale_num=1, kind="dt")
        assert summary.done + summary.skipped == 1
    assert (clip.path.parent / "trajectories/moving.mp4").is_file()
