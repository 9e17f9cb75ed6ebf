from __future__ import annotations

import io
from fractions import Fraction

import cv2
import numpy as np
import pytest

from flowpipe.datasets.drawn import write_lossless
from flowpipe.errors import ParameterError
from flowpipe.io.lossless import encode_lossless
from flowpipe.io.video import probe, read_video
from tests.helpers import media


def coloured(count=5):
    return [media.coloured(frame) for frame in media.moving(count, 48, 64)]


def test_grey_levels_are_kept_to_one_and_frames_and_rate_exactly(tmp_path):
    grey = media.moving(5, 48, 64)
    frames = [cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) for frame in grey]
    rate = Fraction(30000, 1001)
    assert write_lossless(tmp_path / "videos/a.avi", iter(frames), rate, tmp_path) == 5
    found = probe(tmp_path / "videos/a.avi")
    assert (found.codec, found.declared_frames, found.width, found.height) == ("ffv1", 5, 64, 48)
    assert found.fps == pytest.approx(float(rate))
    read = read_video(tmp_path / "videos/a.avi").astype(int)
    assert np.abs(read - np.stack(frames)).max() <= 2  # of the conversion to YUV and back


def test_the_same_frames_give_the_same_bytes():
    first, second = io.BytesIO(), io.BytesIO()
    for target in (first, second):
        encode_lossless(target, coloured(), 25)
    assert first.getvalue() == second.getvalue()


@pytest.mark.parametrize("second", [(48, 62), (50, 64)])
def test_frames_of_another_size_are_refused_and_leave_nothing(tmp_path, second):
    frames = [np.zeros((48, 64, 3), np.uint8), np.zeros((*second, 3), np.uint8)]
    with pytest.raises(ParameterError, match="all should be"):
        write_lossless(tmp_path / "a.avi", frames, 25, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_odd_frames_are_refused():
    with pytest.raises(ParameterError, match="of even size"):
        encode_lossless(io.BytesIO(), [np.zeros((47, 64, 3), np.uint8)], 25)
