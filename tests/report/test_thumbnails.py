from __future__ import annotations

import cv2
import numpy as np

from flowpipe.report.thumbnails import thumbnail_strip
from tests.helpers.clips import write_video


def test_three_frames_side_by_side(tmp_path):
    strip = thumbnail_strip(write_video(tmp_path / "a.avi", 9, size=(64, 48)))
    image = cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (120, 480, 3)
    # The texture wanders, so no two are alike.
    frames = np.split(image.astype(float), 3, axis=1)
    assert np.abs(frames[0] - frames[1]).mean() > 5
    assert np.abs(frames[1] - frames[2]).mean() > 5


def test_fewer_frames_than_asked_for(tmp_path):
    strip = thumbnail_strip(write_video(tmp_path / "a.avi", 2))
    assert cv2.imdecode(np.frombuffer(strip, np.uint8), cv2.IMREAD_COLOR).shape[1] == 320


def test_videos_that_cannot_be_shown(tmp_path):
    assert thumbnail_strip(tmp_path / "none.avi") is None
    (tmp_path / "bad.avi").write_bytes(b"no video")
    assert thumbnail_strip(tmp_path / "bad.avi") is None
