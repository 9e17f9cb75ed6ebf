"""Trajectories of one clip, as arrays."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.io.video import NotAVideoError, frames, read_video
from flowpipe.pipelines.trajectories import extract_trajectories
from flowpipe.runner.pool import Workers
from flowpipe.trajectories.dense import dense_trajectories
from flowpipe.trajectories.table import Table
from tests.helpers import media

FIELDS = ("info", "trajectory", "hog", "hof", "mbhx", "mbhy")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "moving.avi"
    media.write(path, map(media.coloured, media.moving(20, 64, 80)))
    return path


def test_a_file_its_frames_and_the_stage_give_the_same_rows(path, tmp_path):
    rows = dense_trajectories(str(path), "dt", scale_num=1)
    assert len(rows) > 0
    assert rows.points.shape == (len(rows), 16, 2)
    images = read_video(path)
    again = dense_trajectories(images, "dt", scale_num=1)
    summary = extract_trajectories(
        path, tmp_path / "out", kind="dt", scale_num=1, storage="float32", workers=Workers(0)
    )
    assert summary.done == 1
    with Table(tmp_path / "out" / "moving.h5") as table:
        stored = table.read()
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name))
        np.testing.assert_array_equal(stored[name], getattr(rows, name))


def test_grey_frames_give_the_rows_of_the_same_greys_in_colour(path):
    grey = np.stack([frame.image[..., 1] for frame in frames(path)])
    rows = dense_trajectories(grey, "dt", scale_num=1)
    colour = dense_trajectories(np.repeat(grey[..., None], 3, axis=3), "dt", scale_num=1)
    assert len(rows) > 0
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(rows, name), getattr(colour, name))


def test_a_clip_too_short_for_a_track_has_no_rows(path):
    images = np.stack([frame.image for frame in frames(path)])[:15]
    rows = dense_trajectories(images, "dt")
    assert len(rows) == 0
    assert (rows.trajectory.shape, rows.hog.shape) == ((0, 30), (0, 96))


def test_bad_input_is_refused_with_what_would_be_right(tmp_path):
    with pytest.raises(ParameterError, match=r"float64 \(20, 64, 80\).*uint8"):
        dense_trajectories(np.zeros((20, 64, 80)))
    with pytest.raises(ParameterError, match=r"'track_lenght'.*track_length"):
        dense_trajectories(np.zeros((20, 64, 80), np.uint8), track_lenght=10)
    (tmp_path / "text.avi").write_text("no video")
    with pytest.raises(NotAVideoError):
        dense_trajectories(tmp_path / "text.avi")
    with pytest.raises(ParameterError, match="'track_lenght'"):
        extract_trajectories(tmp_path, tmp_path / "out", track_lenght=10)
    assert not (tmp_path / "out").exists()
