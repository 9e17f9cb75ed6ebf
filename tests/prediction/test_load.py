"""What loading and extraction refuse, and what tells the extractions of classifiers apart."""

from __future__ import annotations

import pytest

import flowpipe
from flowpipe.cli import main
from flowpipe.errors import ParameterError
from flowpipe.flow.extract import FlowStage
from flowpipe.pipelines.predict import Predictions
from flowpipe.prediction.fusion import Member, write_fusion
from flowpipe.prediction.record import Record
from flowpipe.runner import atomic
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.testing import Testing
from tests.helpers import media
from tests.helpers.live import images, random_network, random_trajectory_classifier


def test_frames_of_another_number_are_not_taken_from_the_cache(tmp_path):
    video = tmp_path / "clip.mp4"
    media.write(video, media.moving(12, 48, 64))
    first = random_network(
        tmp_path / "first", "rgb", length=1, stage=FlowStage(size=None, max_frames=5)
    )
    whole = random_network(tmp_path / "whole", "rgb", length=1, stage=FlowStage(size=None))
    flowpipe.predict(first, video, cache=tmp_path / "cache", workers=0)
    with pytest.raises(StageMismatchError, match="max_frames"):
        flowpipe.predict(whole, video, cache=tmp_path / "cache", workers=0)


def test_a_device_for_trajectories_is_refused(tmp_path):
    path = tmp_path / "classifier.safetensors"
    random_trajectory_classifier(path, images(20)).save(path, tmp_path)
    with pytest.raises(ParameterError, match=r"is no network; device 'cuda:1' is for those"):
        flowpipe.load_classifier(tmp_path, device="cuda:1")


@pytest.mark.parametrize("frames", [1, 2])
def test_a_video_shorter_than_a_snippet_is_named_with_the_number_of_frames(tmp_path, frames):
    video = tmp_path / "clip.mp4"
    media.write(video, media.moving(frames, 48, 64))
    classifier = random_network(tmp_path / "net", "rgb", length=3)
    (reason,) = flowpipe.predict(classifier, video, workers=0).failed.values()
    assert f"{str(video)!r}: {frames} frames; a snippet takes 3" in reason
    assert "leave" not in reason  # predict has no such option


def test_nothing_but_the_labels_is_left_beside_them(tmp_path):
    path = tmp_path / "net/classifier.safetensors"
    random_trajectory_classifier(path, images(20)).save(path, path.parent)
    video = tmp_path / "clip.mp4"
    media.write(video, media.moving(20, 48, 64))
    with pytest.raises(SystemExit):
        main(["predict", str(path), str(video), "--jobs", "0", "--out", str(tmp_path / "o/l.txt")])
    assert [each.name for each in (tmp_path / "o").iterdir()] == ["l.txt"]


@pytest.mark.parametrize(
    ("options", "views"),
    [
        ([], Testing(3, 1)),
        (["--crops", "10"], Testing(3, 10)),
        (["--test-clips", "2"], Testing(2, 1)),
    ],
)
def test_an_option_changes_only_its_own_part_of_the_views(tmp_path, monkeypatch, options, views):
    random_network(tmp_path, "rgb", length=1)
    Record(testing=Testing(3, 1)).save(tmp_path)
    seen = []
    monkeypatch.setattr(
        "flowpipe.pipelines.predict.predict",
        lambda classifier, *_, **__: seen.append(classifier.record.testing) or Predictions((), {}),
    )
    with pytest.raises(SystemExit):
        main(["predict", str(tmp_path), "clip.mp4", *options])
    assert seen == [views]


def test_what_killed_runs_left_in_the_folders_of_members_is_removed(tmp_path):
    members = []
    for name, frames in (("a", None), ("b", 5)):
        stage = FlowStage(size=None, max_frames=frames)
        random_network(tmp_path / name, "rgb", length=1, stage=stage)
        members.append(Member(name, 1.0, tmp_path / name))
    (tmp_path / "fusion").mkdir()
    write_fusion(tmp_path / "fusion", members, softmax=False)
    classifier = flowpipe.load_classifier(tmp_path / "fusion", device="cpu")
    cache = tmp_path / "cache"
    folders = {classifier.folder(each, cache) for each in classifier.members}
    assert len(folders) == 2
    for folder in folders:  # of a process that is gone
        (folder / ".tmp" / f"{atomic.host()}.{2**22 + 1}.x").mkdir(parents=True)
    media.write(tmp_path / "clip.mp4", media.moving(12, 48, 64))
    flowpipe.predict(classifier, tmp_path / "clip.mp4", cache=cache, workers=0)
    assert not list(cache.rglob(".tmp"))
