"""Videos that are written picture by picture show each at its time."""

from __future__ import annotations

import numpy as np
import pytest

from flowpipe.io import video
from flowpipe.io.video_writer import VideoWriter
from tests.helpers import media


def times_of(path, pictures, fps, times=None):
    with VideoWriter(path, fps) as writer:
        for number, picture in enumerate(pictures):
            writer.add(picture, None if times is None else times[number])
    return [frame.time for frame in video.frames(path)]


PICTURES = [media.coloured(grey) for grey in media.moving(12)]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("fps", [0, 5, 10, 24000 / 1001, 25, 30000 / 1001, 59.94, 120])
def test_pictures_without_times_follow_each_other_at_the_rate(tmp_path, monkeypatch, fps, codec):
    monkeypatch.setattr("av.codecs_available", {codec})
    path = tmp_path / "a.mp4"
    found = times_of(path, PICTURES, fps)
    np.testing.assert_allclose(found, np.arange(12) / (fps or 25), atol=1e-4)
    assert video.probe(path).fps == pytest.approx(fps or 25, rel=1e-3)


def test_pictures_are_shown_at_their_times(tmp_path):
    """Whatever the clock; times that are none, or stand still, are a picture apart."""
    times = [7.0, 7.04, 7.2, 7.2, None, 8.5, 8.501, 8.0, 9.0, 9.04, 9.08, 30.0]
    found = times_of(tmp_path / "a.mp4", PICTURES, 25, times)
    expected = [0, 0.04, 0.2, 0.24, 0.28, 1.5, 1.501, 1.541, 2.0, 2.04, 2.08, 23.0]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_pictures_of_a_variable_rate_are_those_of_its_source(tmp_path):
    times = [0.0, 0.04, 0.08, 0.5, 0.52, 0.54, 1.5, 1.75, 2.0, 2.01, 2.5, 3.0]
    source = media.write(tmp_path / "a.mkv", PICTURES, times=times)
    shown = [frame.time for frame in video.frames(source)]
    found = times_of(tmp_path / "b.mp4", PICTURES, 25, shown)
    np.testing.assert_allclose(found, times, atol=1e-3)
