"""Frames and flow of the same instants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpipe.models.clip_input import ClipInput
from flowpipe.models.network import Network
from flowpipe.training import FlowClips, FrameClips
from flowpipe.training.data import datasets
from flowpipe.training.data.clip_index import UnusableClipsError
from flowpipe.training.data.datasets import stream_clips, training_transform
from flowpipe.training.data.pairs import PairedClips, joined
from flowpipe.training.data.views import Compose
from flowpipe.training.testing import TestViews
from tests.helpers.clips import frames, smooth_flow, store_clip, write_video

pytestmark = pytest.mark.usefixtures("no_flushing")

SEEN = ClipInput("rgb+flow", 3, 4, 32)
NETWORK = Network("two-stream-fusion", "resnet18")
VIEWS = TestViews(1, 10, 37, 32, "scores")


@pytest.fixture
def flow(tmp_path):
    for number in range(3):
        images = frames(13, seed=number)
        store_clip(tmp_path, "zip", smooth_flow(12, seed=number), clip=f"k/{number}", images=images)
    return tmp_path


CLIPS = [(f"k/{number}", number) for number in range(3)]


@pytest.mark.parametrize("length", [1, 4, 5])
def test_the_frame_is_in_the_middle_of_its_flow(flow, length):
    options = {"segments": 2, "sampling": "random", "seed": 5}
    pairs = PairedClips(flow, CLIPS, length=length, **options)
    stacks = FlowClips(flow, CLIPS, length=length, **options)
    every = FrameClips(flow, CLIPS, segments=1, length=13, sampling="test")
    for epoch in range(3):
        pairs.set_epoch(epoch)
        stacks.set_epoch(epoch)
        for index in range(3):
            snippets, label = pairs[index]
            assert (snippets.shape, label) == ((2, 3 + 2 * length, 32, 48), index)
            assert torch.equal(snippets[:, 3:], stacks[index][0])
            images = every[index][0].unflatten(1, (13, 3))[0]
            middle = stacks.starts(index) + length // 2
            assert torch.equal(snippets[:, :3], images[middle])


def test_slowfast_has_frames_spread_over_its_fields(flow):
    options = {"segments": 1, "length": 8, "sampling": "random", "seed": 5}
    pairs = PairedClips(flow, CLIPS, fields_per_frame=2, **options)
    stacks = FlowClips(flow, CLIPS, **options)
    every = FrameClips(flow, CLIPS, segments=1, length=13, sampling="test")
    for index in range(3):
        snippet = pairs[index][0][0]
        assert torch.equal(snippet[12:], stacks[index][0][0])
        images = every[index][0].unflatten(1, (13, 3))[0]
        seen = stacks.starts(index)[0] + [0, 2, 4, 7]
        assert torch.equal(snippet[:12].unflatten(0, (4, 3)), images[seen])


def test_frames_are_decoded_where_they_are_not_stored(tmp_path):
    video = write_video(tmp_path / "a.avi", 9)
    source = {"path": "../a.avi", "bytes": video.stat().st_size}
    store_clip(tmp_path / "flow", "zip", smooth_flow(8), source=source)
    pairs = PairedClips(tmp_path / "flow", [("a", 0)], segments=2, length=3, sampling="test")
    images = FrameClips(tmp_path / "flow", [("a", 0)], segments=1, length=9)
    middle = images[0][0].unflatten(1, (9, 3))[0][[1, 6]]
    assert torch.equal(pairs[0][0][:, :3], middle)


def test_crops_and_flips_are_shared():
    """Where frames and flow hold the same levels, they do after the transform."""
    position = np.indices((60, 80)).sum(axis=0).astype(np.uint8)
    levels = torch.from_numpy(np.broadcast_to(position, (2, 11, 60, 80)).copy())
    training = Compose((training_transform(SEEN), datasets.input_transform(SEEN, NETWORK)))
    transforms = [training, datasets.testing_transform(SEEN, NETWORK, VIEWS)]
    for transform in transforms:
        for seed in range(12):
            out = transform(levels, torch.Generator().manual_seed(seed))
            assert out.shape[1:] == (11, 32, 32)
            red, y = out[:, 0] * 58.395 + 123.675, out[:, 4] * 128 + 128
            torch.testing.assert_close(red, y, rtol=0, atol=1e-3)
            # The x channels are negated where the picture was flipped.
            x = out[:, 3] * 128 + 128
            flipped = (x - y).flatten(1).abs().amax(dim=1) > 0.5
            torch.testing.assert_close(
                x[flipped], (256 - y[flipped]).clamp(max=255), rtol=0, atol=1e-3
            )
    assert flipped.tolist() == ([False] * 5 + [True] * 5) * 2


def test_options_of_flow_do_not_touch_frames():
    levels = torch.randint(256, (2, 11, 60, 80), dtype=torch.uint8)
    nothing = torch.Generator()
    plain, mean = (
        datasets.input_transform(replace(SEEN, subtract_mean=subtract), NETWORK)(levels, nothing)
        for subtract in (False, True)
    )
    assert torch.equal(plain[:, :3], mean[:, :3])
    assert mean[:, 3:].mean(dim=(2, 3)).abs().max() < 1e-5
    caffe = Network("two-stream-fusion", "bn-inception")
    reversed_ = datasets.input_transform(SEEN, caffe)(levels, nothing)
    assert torch.equal(reversed_[:, 3:], plain[:, 3:])
    assert not torch.equal(reversed_[:, :3], plain[:, :3])


def test_clips_without_flow_and_without_frames_are_all_listed(flow):
    store_clip(flow, "zip", smooth_flow(12), clip="k/no_frames")
    store_clip(flow, "zip", smooth_flow(2), clip="k/short", images=frames(3))
    clips = [*CLIPS, ("k/no_frames", 0), ("k/short", 0), ("k/none", 0)]
    with pytest.raises(UnusableClipsError) as error:
        stream_clips(flow, clips, SEEN, sampling="random", transform=None)
    assert set(error.value.reasons) == {"k/no_frames", "k/short", "k/none"}
    assert "2 flow fields; a snippet takes 4" in error.value.reasons["k/short"]


def test_frames_of_another_size_are_scaled_to_the_flow():
    frame, flow = np.full((3, 64, 96), 7, np.uint8), np.zeros((8, 32, 48), np.uint8)
    both = joined(frame, flow)
    assert both.shape == (11, 32, 48)
    assert (both[:3] == 7).all()
