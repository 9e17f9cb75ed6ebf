"""Flow without the camera's motion: what stands still has none, what moves keeps its own."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.flow.warp import without_camera
from flowpipe.flow.warp_stage import WarpStage
from flowpipe.pipelines.warp import warp_flow
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import StageMismatchError, stage_path
from flowpipe.training import FlowClips
from tests.helpers.clips import contents, flowpipe, store_clip
from tests.helpers.media import moving, texture, write

pytestmark = pytest.mark.usefixtures("no_flushing")

HEIGHT, WIDTH = 120, 160
PAN = (3, -2)
OWN = (4, 1)
"""Displacement of the square by itself, beside the camera's, in pixels a frame."""


def pan_with_a_square(n: int) -> tuple[list[np.ndarray], np.ndarray, list[np.ndarray]]:
    """Grey frames of a pan over a scene with a moving square; their flow; where the square is."""
    scene = texture(HEIGHT + 100, WIDTH + 100)
    patch = texture(30, 30, seed=5)
    frames, masks = [], []
    for k in range(n):
        top, left = 50 - PAN[1] * k, 50 - PAN[0] * k
        frame = scene[top : top + HEIGHT, left : left + WIDTH].copy()
        y, x = 40 + (PAN[1] + OWN[1]) * k, 50 + (PAN[0] + OWN[0]) * k
        frame[y : y + 30, x : x + 30] = patch
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[y : y + 30, x : x + 30] = True
        frames.append(frame)
        masks.append(mask)
    flow = np.empty((n - 1, 2, HEIGHT, WIDTH), np.float32)
    flow[:] = np.array(PAN, np.float32)[:, None, None]
    for field, mask in zip(flow, masks, strict=False):
        field += np.array(OWN, np.float32)[:, None, None] * mask
    return frames, flow, masks


def test_what_stands_still_has_no_flow_and_what_moves_keeps_its_own():
    frames, flow, masks = pan_with_a_square(5)
    warped = list(without_camera(iter(frames), iter(flow)))
    assert len(warped) == 4
    for field, mask in zip(warped, masks, strict=False):
        assert np.abs(field[:, ~mask]).max() < 0.1
        assert np.abs(field[:, mask] - np.array(OWN)[:, None]).max() < 0.1


def test_a_zoom_is_taken_out():
    scene = texture(HEIGHT, WIDTH)
    matrix = np.array([[1.05, 0, -4], [0, 1.05, -3]])
    second = cv2.warpAffine(scene, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    y, x = np.indices((HEIGHT, WIDTH), np.float32)
    flow = np.stack([0.05 * x - 4, 0.05 * y - 3]).astype(np.float32)
    (warped,) = without_camera(iter([scene, second]), iter([flow]))
    assert np.abs(flow).max() > 3
    assert np.abs(warped).max() < 0.2


def test_without_texture_the_flow_is_left_as_it_is():
    frames = [np.full((HEIGHT, WIDTH), 90, np.uint8)] * 2
    flow = np.random.default_rng(0).normal(0, 3, (1, 2, HEIGHT, WIDTH)).astype(np.float32)
    (warped,) = without_camera(iter(frames), iter(flow))
    np.testing.assert_allclose(warped, flow[0], atol=1e-4)


def stored(tmp_path: Path, layout: str = "zip", *, images: bool = True, n: int = 6) -> Path:
    frames, flow, _ = pan_with_a_square(n)
    pictures = [cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in frames]
    source = {"path": "../videos/pan.avi", "sha256": "0"}
    if not images:
        video = write(tmp_path / "videos/pan.avi", frames, codec="ffv1", pix_fmt="bgr0")
        source |= {"sha256": provenance.sha256(video), **provenance.fingerprint(video)}
    store_clip(
        tmp_path / "flow",
        layout,
        flow,
        clip="k/a",
        images=pictures if images else None,
        source=source,
    )
    return tmp_path / "flow"


@pytest.mark.parametrize("images", [True, False])
def test_stored_flow_is_warped_into_a_folder_of_flow(tmp_path, images):
    flow = stored(tmp_path, images=images)
    out = tmp_path / "warped"
    assert warp_flow(flow, out, WarpStage(), workers=Workers(0)).exit_status == 0
    masks = pan_with_a_square(6)[2]
    with FlowReader(next(stored_clips(out))) as reader:
        assert (len(reader), reader.meta.method, reader.meta.n_frames) == (5, "warped-unknown", 6)
        assert reader.video.resolve() == (tmp_path / "videos/pan.avi").resolve()
        for index in range(5):
            field = reader.flow(index, zero=127.5)
            still = ~cv2.dilate(masks[index].astype(np.uint8), np.ones((9, 9))).astype(bool)
            assert np.abs(field[:, still]).mean() < 0.12  # one level of 8 bit is 0.157
            core = cv2.erode(masks[index].astype(np.uint8), np.ones((9, 9))).astype(bool)
            assert np.abs(field[:, core] - np.array(OWN)[:, None]).mean() < 0.2
    stack, _ = FlowClips(out, [("k/a", 0)], segments=1)[0]
    assert np.abs(stack.numpy().astype(int)[..., :20, :] - 128).mean() < 1.5


def test_a_second_run_and_another_source(tmp_path):
    flow = stored(tmp_path, images=False)
    stage_path(flow).parent.mkdir()
    stage_path(flow).write_text(json.dumps({"stage": "flow", "method": "tvl1"}))
    out = tmp_path / "warped"
    warp_flow(flow, out, WarpStage(), workers=Workers(0))
    before = contents(out)
    again = warp_flow(flow, out, WarpStage(), workers=Workers(1))
    assert (again.done, again.skipped) == (0, 1)
    warp_flow(flow, out, WarpStage(), workers=Workers(0), overwrite=True)
    assert contents(out) == before
    stage_path(flow).write_text(json.dumps({"stage": "flow", "method": "dis"}))
    with pytest.raises(StageMismatchError, match=r'flow\.method: "tvl1" recorded, "dis" requested'):
        warp_flow(flow, out, WarpStage(), workers=Workers(0))


@pytest.mark.parametrize("layout", ["frames", "npy", "tsfusion"])
def test_other_layouts(tmp_path, layout):
    flow = stored(tmp_path, layout, images=False)
    out = tmp_path / "warped"
    assert warp_flow(flow, out, WarpStage(layout), workers=Workers(0)).done == 1
    assert warp_flow(flow, out, WarpStage(layout), workers=Workers(0)).skipped == 1
    assert next(stored_clips(out)).name == "k/a"


def test_clips_that_cannot_be_warped(tmp_path):
    flow = stored(tmp_path, images=False)
    fields = np.zeros((4, 2, 32, 48), np.float32)
    store_clip(flow, "zip", fields, clip="gone")
    store_clip(flow, "zip", fields, clip="stepped", step=2)
    other = write(tmp_path / "videos/other.avi", moving(5, 32, 48))
    said = {"path": "../videos/other.avi", **provenance.fingerprint(other), "bytes": 1}
    store_clip(flow, "zip", fields, clip="changed", source=said)
    short = {"path": "../videos/other.avi", **provenance.fingerprint(other)}
    store_clip(flow, "zip", np.zeros((9, 2, 32, 48), np.float32), clip="short", source=short)
    out = tmp_path / "warped"
    summary = warp_flow(flow, out, WarpStage(), workers=Workers(0))
    assert (summary.done, summary.failed) == (1, 4)
    lines = map(json.loads, (out / ".flowpipe/failures.jsonl").read_text().splitlines())
    reasons = {line["clip"]: (line["kind"], line["reason"]) for line in lines}
    assert reasons["gone"][0] == "frames-gone"
    assert "step 2" in reasons["stepped"][1]
    assert "is not the video" in reasons["changed"][1]
    assert "has 5 frames; its flow is of 10" in reasons["short"][1]
    assert [clip.name for clip in stored_clips(out)] == ["k/a"]


def test_refusals(tmp_path):
    flow = stored(tmp_path)
    with pytest.raises(ParameterError, match="into its own folder"):
        warp_flow(flow, flow, WarpStage(), workers=Workers(0))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="holds no flow"):
        warp_flow(tmp_path / "empty", tmp_path / "out", WarpStage(), workers=Workers(0))
    with pytest.raises(ParameterError, match="quality is 0"):
        WarpStage(quality=0)


@pytest.mark.slow
def test_the_command(tmp_path):
    flow = stored(tmp_path)
    result = flowpipe("warp-flow", flow, tmp_path / "out", "--layout", "frames", "--jobs", "0")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/k/a/flow_x_00001.jpg").is_file()
