"""Drawn labels: videos that hold nothing to draw, and files that must not be overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowpipe
from flowpipe.errors import ParameterError
from tests.helpers import media
from tests.helpers.live import images, random_trajectory_classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    path = folder / "classifier.safetensors"
    random_trajectory_classifier(path, images(20)).save(path, folder)
    return folder


def mp4(path: Path, count: int) -> Path:
    media.write(path, media.moving(count, 48, 64))
    return path


@pytest.mark.parametrize("frames", [1, 5])
def test_a_video_without_trajectories_is_drawn_with_its_labels(classifier, tmp_path, frames):
    video = mp4(tmp_path / "short.mp4", frames)
    found = flowpipe.predict(classifier, video, draw=tmp_path / "drawn", workers=0)
    assert not found.failed
    assert len(flowpipe.read_video(tmp_path / "drawn/short.mp4")) == frames


def test_drawing_over_the_videos_is_refused(classifier, tmp_path):
    video = mp4(tmp_path / "clip.mp4", 5)
    before = video.read_bytes()
    with pytest.raises(ParameterError, match=r"draw is .*clip\.mp4"):
        flowpipe.predict(classifier, video, draw=tmp_path, workers=0)
    assert video.read_bytes() == before


def test_an_overlay_over_its_source_is_refused(classifier, tmp_path):
    video = mp4(tmp_path / "clip.mp4", 30)
    (tmp_path / "link.mp4").symlink_to(video)
    for overlay in (video, tmp_path / "link.mp4"):
        with pytest.raises(ParameterError, match=r"overlay is .* which is the source"):
            flowpipe.predict_live(classifier, video, overlay=overlay)
