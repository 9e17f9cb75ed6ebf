from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flowpipe.datasets.base import Clip, Dataset
from flowpipe.datasets.load import load_dataset
from flowpipe.datasets.streams import write_streams
from flowpipe.datasets.synthetic import Synthetic, write_synthetic
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.video import read_video
from tests.helpers import media
from tests.helpers.clips import contents

SMALL = Synthetic(n_groups=2, clips_per_group=1, width=64, height=48, n_frames=5)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("streams") / "clips", SMALL)


@pytest.fixture(scope="module")
def written(clips, tmp_path_factory):
    root = tmp_path_factory.mktemp("streams") / "out"
    return root, write_streams(clips, root, gap=3)


def test_every_group_is_a_video_of_its_clips(clips, written):
    _, found = written
    assert [(clip.name, clip.group) for clip in found.clips] == [("g01", "g01"), ("g02", "g02")]
    assert found.classes == clips.classes
    for parts in found.intervals.values():
        assert {each.label for each in parts} == set(clips.classes)
        assert [round(each.start * 25) for each in parts] == [3 + 8 * n for n in range(6)]
        assert [round(each.end * 25) for each in parts] == [8 + 8 * n for n in range(6)]
    orders = [[each.label for each in part] for part in found.intervals.values()]
    assert orders[0] != orders[1]


def test_the_frames_of_an_interval_are_those_of_the_clip(clips, written):
    _, found = written
    videos = {(clip.label, clip.group): read_video(clip.path) for clip in clips.clips}
    for clip in found.clips:
        stream = read_video(clip.path).astype(int)
        now = 0
        for each in found.intervals[clip.name]:
            first, stop = round(each.start * 25), round(each.end * 25)
            original = videos[each.label, clip.group].astype(int)
            # the colours go through YUV once more
            assert np.abs(stream[first:stop] - original).mean(axis=(1, 2, 3)).max() < 2
            assert first - now == 3
            now = stop
        assert len(stream) == now + 3


def test_a_gap_repeats_the_frames_at_the_seam(written):
    _, found = written
    stream = read_video(found.clips[0].path)
    np.testing.assert_array_equal(stream[:3], np.stack([stream[3]] * 3))
    np.testing.assert_array_equal(stream[8], stream[7])
    np.testing.assert_array_equal(stream[9:11], np.stack([stream[11]] * 2))
    np.testing.assert_array_equal(stream[-3:], np.stack([stream[-4]] * 3))


def test_without_a_gap_every_frame_has_a_label(clips, tmp_path):
    found = write_streams(clips, tmp_path / "out")
    parts = found.intervals["g01"]
    assert [each.start for each in parts[1:]] == [each.end for each in parts[:-1]]
    assert (parts[0].start, parts[-1].end) == (0, found.durations["g01"])


def test_the_bytes_do_not_depend_on_interruptions_or_the_order_of_the_clips(
    clips, written, tmp_path
):
    def stop(done, total):
        raise KeyboardInterrupt

    shuffled = replace(clips, clips=clips.clips[::-1])
    with pytest.raises(KeyboardInterrupt):
        write_streams(shuffled, tmp_path / "part", gap=3, progress=stop)
    write_streams(shuffled, tmp_path / "part", gap=3)
    assert contents(tmp_path / "part") == contents(written[0])
    write_streams(clips, tmp_path / "other", gap=3, seed=1)
    assert contents(tmp_path / "other") != contents(written[0])


def test_other_streams_in_the_folder_are_refused(clips, written):
    with pytest.raises(ParameterError, match=r"set of streams of other parameters .gap 3 not 4"):
        write_streams(clips, written[0], gap=4)


def test_streams_of_other_clips_are_refused_in_a_few_words(clips, written):
    fewer = replace(clips, clips=clips.clips[1:])
    with pytest.raises(ParameterError, match=r"clips \{'g01'.*\.\.\. not \{") as caught:
        write_streams(fewer, written[0], gap=3)
    assert len(str(caught.value)) < 400


def test_clips_of_several_sizes_need_one(tmp_path):
    media.write(tmp_path / "a.avi", media.moving(4, 48, 64))
    media.write(tmp_path / "b.avi", media.moving(4, 64, 80))
    paths = [tmp_path / "a.avi", tmp_path / "b.avi"]
    both = tuple(Clip(path, path.stem, path.stem, "x/y") for path in paths)
    dataset = Dataset("made-up", both, ("a", "b"))
    with pytest.raises(ParameterError, match=r"'a' is 64x48 and 'b' 80x64; name the size"):
        write_streams(dataset, tmp_path / "out")
    with pytest.raises(ParameterError, match=r"size is \(63, 48\)"):
        write_streams(dataset, tmp_path / "out", size=(63, 48))
    found = write_streams(dataset, tmp_path / "out", size=(32, 24))
    assert read_video(found.clips[0].path).shape == (8, 24, 32, 3)
    assert (found.clips[0].name, found.clips[0].group) == ("x_y", "x/y")


def test_clips_of_several_frame_rates_are_refused(tmp_path):
    media.write(tmp_path / "a.avi", media.moving(4), rate=25)
    media.write(tmp_path / "b.avi", media.moving(4), rate=30)
    paths = [tmp_path / "a.avi", tmp_path / "b.avi"]
    dataset = Dataset("made-up", tuple(Clip(p, p.stem, p.stem, "g") for p in paths), ("a", "b"))
    with pytest.raises(ParameterError, match="25 frames per second and 'b' 30"):
        write_streams(dataset, tmp_path / "out")


def test_labels_and_groups_are_needed(tmp_path):
    clip = Clip(Path("a.avi"), "a", None, "g")
    with pytest.raises(FormatError, match="'a' of 'made-up' has no label"):
        write_streams(Dataset("made-up", (clip,)), tmp_path / "out")
    clip = Clip(Path("a.avi"), "a", "x")
    with pytest.raises(FormatError, match="'a' of 'made-up' has no group"):
        write_streams(Dataset("made-up", (clip,), ("x",)), tmp_path / "out")
    with pytest.raises(ParameterError, match="has no clip on disk"):
        write_streams(Dataset("made-up", ()), tmp_path / "out")


@pytest.mark.slow
def test_weizmann_becomes_a_stream_per_actor(test_data, tmp_path):
    found = write_streams(load_dataset(test_data / "weizmann"), tmp_path / "out")
    assert len(found.clips) == 9
    assert all(len(found.intervals[clip.name]) == 10 for clip in found.clips)
    assert sum(round(seconds * 25) for seconds in found.durations.values()) == 5855
    assert found.notes == ()
