from __future__ import annotations

import colorsys
from pathlib import Path

import av
import numpy as np
import pytest

from flowpipe.flow.store import FlowReader, FlowWriter, StoredClip, layout
from flowpipe.report import flow_view
from tests.helpers import media

HEIGHT, WIDTH, N_FLOWS = 48, 64, 6


def _store(out: Path, *, video: Path | None = None, images: bool = False) -> StoredClip:
    """A clip whose flow turns and speeds up, by field: (4, 0), (0, 4), (-4, 0), (0, -4), ..."""
    with FlowWriter(out, "a/clip", layout("zip")) as writer:
        for index in range(N_FLOWS):
            angle = index * np.pi / 2
            flow = np.empty((2, HEIGHT, WIDTH), np.float32)
            flow[0], flow[1] = 4 * np.cos(angle), 4 * np.sin(angle)
            writer.add_flow(flow)
        if images:
            for grey in media.moving(N_FLOWS + 1, HEIGHT, WIDTH):
                writer.add_image(media.coloured(grey))
        writer.commit(
            width=WIDTH,
            height=HEIGHT,
            n_frames=N_FLOWS + 1,
            source={"path": str(video)} if video else {},
            fps=12.5,
        )
    return StoredClip(out, "a/clip", "zip")


def _uniform(x: float, y: float) -> np.ndarray:
    flow = np.empty((2, 4, 5), np.float32)
    flow[0], flow[1] = x, y
    return flow


def _hue_and_saturation(bgr) -> tuple[float, float]:
    hue, saturation, _ = colorsys.rgb_to_hsv(*(bgr[::-1] / 255))
    return hue * 360, saturation


def test_directions_have_the_hues_of_the_middlebury_wheel():
    hues = {}
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        image = flow_view.colour(_uniform(5 * x, 5 * y), 5)
        assert image.shape == (4, 5, 3)
        assert image.dtype == np.uint8
        assert np.ptp(image.reshape(-1, 3), axis=0).max() == 0
        hues[x, y], saturation = _hue_and_saturation(image[0, 0])
        assert saturation > 0.9
    # Right is red, down yellow, left cyan-blue, up violet.
    assert min(hues[1, 0], 360 - hues[1, 0]) < 15
    assert 40 < hues[0, 1] < 80
    assert 170 < hues[-1, 0] < 230
    assert 230 < hues[0, -1] < 300


def test_saturation_is_the_speed_up_to_the_scale():
    saturations = [
        _hue_and_saturation(flow_view.colour(_uniform(x, 0), 4)[0, 0])[1] for x in (0, 1, 2, 4)
    ]
    assert saturations[0] == 0
    assert saturations == sorted(saturations)
    assert len(set(saturations)) == 4
    faster = flow_view.colour(_uniform(40, 0), 4)
    np.testing.assert_array_equal(faster, flow_view.colour(_uniform(4, 0), 4))


def test_still_and_unknown_pixels_are_white():
    flow = _uniform(np.nan, np.nan)
    flow[:, 0] = 0
    assert np.all(flow_view.colour(flow, 3) == 255)


def test_one_scale_holds_for_a_clip(tmp_path):
    with FlowReader(_store(tmp_path)) as reader:
        assert flow_view.typical_speed(reader) == pytest.approx(4, abs=0.25)


def _sheet_size(columns: int, rows: int, *, frames: bool) -> tuple[int, int, int]:
    height = HEIGHT * (2 if frames else 1) + 4
    return flow_view._BAR + rows * height, columns * (WIDTH + 4), 3


def test_contact_sheet_without_frames(tmp_path):
    sheet = flow_view.contact_sheet(_store(tmp_path), columns=2, rows=2)
    assert sheet.shape == _sheet_size(2, 2, frames=False)
    # The last of the four tiles shows the last field, (0, 4): yellow.
    hue, saturation = _hue_and_saturation(sheet[-HEIGHT // 2, -WIDTH // 2])
    assert 40 < hue < 80
    assert saturation > 0.8


def test_contact_sheet_of_more_tiles_than_fields(tmp_path):
    sheet = flow_view.contact_sheet(_store(tmp_path), columns=4, rows=3)
    assert sheet.shape == _sheet_size(4, 2, frames=False)
    assert np.all(sheet[-HEIGHT:, -WIDTH:] == 255)  # six fields leave two tiles blank


@pytest.mark.parametrize("stored", [True, False])
def test_contact_sheet_with_frames(tmp_path, stored):
    greys = media.moving(N_FLOWS + 1, HEIGHT, WIDTH)
    video = media.write(tmp_path / "clip.mkv", greys, codec="ffv1", pix_fmt="bgra")
    clip = _store(tmp_path, images=stored, video=None if stored else video)
    sheet = flow_view.contact_sheet(clip, columns=2, rows=1)
    assert sheet.shape == _sheet_size(2, 1, frames=True)
    tile = sheet[flow_view._BAR + 2 :, WIDTH + 6 :][:HEIGHT, :WIDTH].astype(int)
    expected = media.coloured(greys[N_FLOWS - 1])
    below_the_label = slice(26, None)
    assert np.abs(tile - expected)[below_the_label].mean() < (12 if stored else 0.01)


@pytest.mark.parametrize("source", ["stored images", "video", "gone"])
def test_video_of_a_clip(tmp_path, source):
    greys = media.moving(N_FLOWS + 1, HEIGHT, WIDTH)
    path = tmp_path / "clip.mp4"
    if source == "video":
        media.write(path, greys)
    clip = _store(tmp_path, images=source == "stored images", video=path)
    out = tmp_path / "views/clip.mp4"
    flow_view.write_video(clip, out, tmp_path)
    with av.open(str(out)) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate) == 12.5
    assert len(images) == N_FLOWS
    assert images[0].shape == (HEIGHT, WIDTH * (1 if source == "gone" else 2), 3)
    hue, _ = _hue_and_saturation(images[1][HEIGHT // 2, -WIDTH // 2])
    assert 35 < hue < 85
    assert not list((tmp_path / ".tmp").glob("*"))


def test_frames_that_the_video_has_lost_are_blank(tmp_path):
    video = media.write(tmp_path / "clip.mp4", media.moving(3, HEIGHT, WIDTH))
    clip = _store(tmp_path, video=video)
    flow_view.write_video(clip, tmp_path / "view.mp4", tmp_path)
    with av.open(str(tmp_path / "view.mp4")) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    assert {image.shape for image in images} == {(HEIGHT, 2 * WIDTH, 3)}
    assert len(images) == N_FLOWS
    assert images[2][:, : WIDTH - 8].mean() < 200
    assert images[5][:, : WIDTH - 8].mean() > 245
    hue, _ = _hue_and_saturation(images[5][HEIGHT // 2, -WIDTH // 2])
    assert 35 < hue < 85
    sheet = flow_view.contact_sheet(clip, columns=2, rows=1)
    assert sheet.shape == _sheet_size(2, 1, frames=True)


def test_odd_sizes(tmp_path):
    with FlowWriter(tmp_path, "odd", layout("zip")) as writer:
        writer.add_flow(np.zeros((2, 47, 63), np.float32))
        writer.commit(width=63, height=47, n_frames=2)
    clip = StoredClip(tmp_path, "odd", "zip")
    flow_view.write_video(clip, tmp_path / "odd.mp4", tmp_path)
    with av.open(str(tmp_path / "odd.mp4")) as container:
        (frame,) = container.decode(video=0)
    assert (frame.height, frame.width) == (46, 62)
    assert frame.to_ndarray(format="bgr24").min() > 245
