from __future__ import annotations

import os

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.io.source import (
    ChangedVideoError,
    NameTakenError,
    VideoSource,
    check_size,
    resized,
    source_status,
)
from flowpipe.io.video import TruncatedVideoError
from tests.helpers import media


@pytest.fixture
def path(tmp_path):
    return media.write(tmp_path / "videos" / "a.avi", media.moving(6, 48, 64))


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "videos").mkdir()


def test_frames_at_the_size_and_what_is_recorded_of_them(path, tmp_path):
    video_source = VideoSource(path, (32, 24))
    assert [frame.shape for frame in video_source] == [(24, 32, 3)] * 6
    np.testing.assert_allclose(np.diff(video_source.times), 1 / 25, atol=1e-6)
    assert video_source.fps() == pytest.approx(25)
    source = video_source.source(tmp_path / "out")
    assert source["path"] == "../videos/a.avi"
    assert (source["width"], source["height"]) == (64, 48)
    assert source["bytes"] == path.stat().st_size
    assert source_status(source, path, tmp_path / "out", "a") == "same"


def test_a_video_that_changes_while_it_is_read(path, tmp_path):
    video_source = VideoSource(path)
    frames = iter(video_source)
    next(frames)
    with path.open("ab") as file:
        file.write(b"more")
    list(frames)
    with pytest.raises(ChangedVideoError, match=r"a\.avi' changed while it was read"):
        video_source.source(tmp_path)


def test_truncated_videos_fail_before_the_first_frame_or_are_kept_on_request(path):
    os.truncate(path, path.stat().st_size * 2 // 3)
    with pytest.raises(TruncatedVideoError):
        next(iter(VideoSource(path)))
    kept = VideoSource(path, keep_truncated=True)
    n_frames = len(list(kept))
    assert 0 < n_frames < 6
    assert kept.truncated
    # Frames that are all there are enough where no more is asked for.
    assert len(list(VideoSource(path, max_frames=1))) == 1


def test_standing_of_a_moved_a_changed_and_a_vanished_video(path, tmp_path):
    video_source = VideoSource(path)
    list(video_source)
    source = video_source.source(tmp_path)
    moved = path.rename(path.with_name("b.avi"))
    assert source_status(source, moved, tmp_path, "a") == "same"
    media.write(path, media.moving(7, 48, 64))
    assert source_status(source, path, tmp_path, "a") == "changed"
    other_way = tmp_path / "link"
    other_way.symlink_to(path.parent)
    assert source_status(source, other_way / path.name, tmp_path, "a") == "changed"
    moved.unlink()
    assert source_status(source, moved, tmp_path, "a") == "gone"


@pytest.mark.parametrize("moved_away", [False, True])
def test_another_video_does_not_take_the_place_of_one_that_is_recorded(path, tmp_path, moved_away):
    video_source = VideoSource(path)
    list(video_source)
    source = video_source.source(tmp_path)
    other = media.write(tmp_path / "a.avi", media.moving(7, 48, 64))
    if moved_away:
        path.rename(path.with_name("elsewhere.avi"))
    with pytest.raises(NameTakenError, match=r"from 'videos/a\.avi', not from 'a\.avi'"):
        source_status(source, other, tmp_path, "a")


@pytest.mark.parametrize(
    ("size", "shape"),
    [(None, (48, 64)), ((30, 20), (20, 30)), (24, (24, 32)), ((64, 48), (48, 64)), (96, (96, 128))],
)
def test_sizes(size, shape):
    image = np.zeros((48, 64, 3), np.uint8)
    assert resized(image, size).shape == (*shape, 3)


@pytest.mark.parametrize("size", [0, 15, -3, (340, 8), 20000])
def test_sizes_out_of_range_are_named(size):
    with pytest.raises(ParameterError, match="size is"):
        check_size(size)
