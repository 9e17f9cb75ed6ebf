from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from flowpipe.datasets import untrimmed
from flowpipe.datasets.intervals import frame_labels, load_intervals
from flowpipe.datasets.scene import MOTIONS, Scene
from flowpipe.datasets.untrimmed import Untrimmed, write_untrimmed
from flowpipe.errors import ParameterError
from flowpipe.io.video import read_video
from tests.helpers.clips import contents

SMALL = Untrimmed(
    n_groups=3, videos_per_group=2, width=64, height=48,
    min_frames=4, max_frames=7, min_gap=2, max_gap=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("untrimmed") / "set"
    return root, write_untrimmed(root, SMALL)


def test_every_video_has_each_class_once_and_gaps_around_it(small):
    root, found = small
    assert found.classes == tuple(MOTIONS)
    assert len(found.clips) == 6
    for clip in found.clips:
        parts = found.intervals[clip.name]
        assert Counter(each.label for each in parts) == dict.fromkeys(MOTIONS, 1)
        frames = [(round(each.start * 25), round(each.end * 25)) for each in parts]
        assert all(4 <= stop - first <= 7 for first, stop in frames)
        ends = [0, *(stop for _, stop in frames)]
        starts = [*(first for first, _ in frames), round(found.durations[clip.name] * 25)]
        assert all(2 <= start - end <= 4 for end, start in zip(ends, starts, strict=True))
    orders = {tuple(each.label for each in part) for part in found.intervals.values()}
    assert len(orders) > 1
    assert load_intervals(root).intervals == found.intervals


def test_groups_are_whole_in_every_split(small):
    _, found = small
    groups = {clip.name: clip.group for clip in found.clips}
    assert set(groups.values()) == {"g01", "g02", "g03"}
    assert [split.name for split in found.splits] == ["split1", "split2", "split3"]
    for split in found.splits:
        assert not {groups[name] for name in split.train} & {groups[name] for name in split.test}
    tested = Counter(name for split in found.splits for name in split.test)
    assert tested == dict.fromkeys(groups, 1)


def test_a_still_camera_sees_change_exactly_within_the_intervals(small):
    _, found = small
    still = [clip for clip in found.clips if clip.name.endswith("_still")]
    assert len(still) == 3
    for clip in still:
        frames = read_video(clip.path).astype(int)
        changes = np.abs(np.diff(frames, axis=0)).max(axis=(1, 2, 3)) > 0
        labels = frame_labels(found.intervals[clip.name], found.classes, len(frames), 25)
        np.testing.assert_array_equal(changes, labels[:-1].any(axis=1))


def test_a_moving_camera_moves_all_the_time(small):
    _, found = small
    clip = next(clip for clip in found.clips if clip.name.endswith("_moving"))
    frames = read_video(clip.path).astype(int)
    assert (np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3)) > 1).all()


def test_motions_continue_from_where_the_last_one_ended():
    """No degree of freedom jumps at a seam by more than its fastest swing moves in a frame."""
    parameters = Untrimmed()
    for video in untrimmed._videos(parameters):
        Scene.draw(video.rng, (48, 64), moving=False)
        poses = untrimmed._poses(video, 1.0)
        assert len(poses) == video.n_frames
        for name, amplitude in untrimmed.AMPLITUDES.items():
            steps = np.abs(np.diff([pose[name] for pose in poses]))
            assert steps.max() < 2.2 * amplitude * 2 * np.pi / 9
            assert np.abs([pose[name] for pose in poses]).max() < 3.5 * amplitude


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(small, tmp_path):
    root, _ = small
    write_untrimmed(tmp_path / "again", SMALL)
    write_untrimmed(tmp_path / "other", replace(SMALL, seed=1))
    first, again, other = map(contents, (root, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert all(first[name] != other[name] for name in first if name.endswith(".avi"))


def test_what_is_there_is_kept_and_what_lacks_is_made(small, tmp_path):
    root, _ = small

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_untrimmed(tmp_path / "part", SMALL, stop)
    assert len(list((tmp_path / "part").glob("*.avi"))) == 1
    write_untrimmed(tmp_path / "part", SMALL)
    assert contents(tmp_path / "part") == contents(root)


def test_wrong_parameters_and_other_folders_are_refused(small, tmp_path):
    root, _ = small
    with pytest.raises(ParameterError, match="max_gap is 1; it must be at least min_gap, 20"):
        Untrimmed(max_gap=1)
    with pytest.raises(ParameterError, match="width is 63; it must be even"):
        Untrimmed(width=63)
    with pytest.raises(ParameterError, match="known are n_groups"):
        write_untrimmed(tmp_path / "new", groups=3)
    with pytest.raises(ParameterError, match=r"of other parameters .*seed 0 not 5"):
        write_untrimmed(root, replace(SMALL, seed=5))
    (tmp_path / "file.txt").touch()
    with pytest.raises(ParameterError, match="holds something else"):
        write_untrimmed(tmp_path, SMALL)
