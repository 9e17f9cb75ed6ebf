"""Frames of labelled clips: stored with the flow, decoded from its video, or nowhere."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.training import FlowClips, FrameClips
from flowpipe.training.data.clip_index import UnusableClipsError
from tests.helpers.clips import frames, shared_data, smooth_flow, store_clip, write_video

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(12)


def test_frames_stored_with_the_flow(tmp_path):
    images = frames(13)
    clip = store_clip(tmp_path, "zip", FLOWS, clip="k/a", images=images)
    data = FrameClips(tmp_path, [("k/a", 1)], segments=4, sampling="test")
    stack, label = data[0]
    assert (stack.shape, stack.dtype, label) == ((4, 3, 32, 48), torch.uint8, 1)
    with FlowReader(clip) as reader:
        for segment, index in enumerate(data.starts(0)):
            assert np.array_equal(
                stack[segment].numpy(), reader.image(int(index))[..., ::-1].transpose(2, 0, 1)
            )
    # red first: the texture's blue is 20 below its red
    assert (stack[:, 0].float() - stack[:, 2].float()).mean() == pytest.approx(20, abs=3)
    assert data.starts(0).max() == 12  # the last frame, which begins no flow field


def with_video(tmp_path: Path, n_frames: int = 9) -> Path:
    """Flow without frames of a video that lies beside it."""
    video = write_video(tmp_path / "videos/k/a.avi", n_frames)
    source = {"path": "../videos/k/a.avi", "bytes": video.stat().st_size}
    store_clip(tmp_path / "flow", "zip", smooth_flow(n_frames - 1), clip="k/a", source=source)
    return video


def test_frames_decoded_from_the_video(tmp_path):
    video = with_video(tmp_path)
    data = FrameClips(tmp_path / "flow", [("k/a", 0)], segments=3, length=2, sampling="test")
    stack, _ = data[0]
    assert stack.shape == (3, 6, 32, 48)
    capture = cv2.VideoCapture(str(video))
    decoded = [capture.read()[1] for _ in range(9)]
    for segment, start in enumerate(data.starts(0)):
        for offset in range(2):
            expected = decoded[start + offset][..., ::-1].transpose(2, 0, 1)
            got = stack[segment, 3 * offset : 3 * offset + 3].numpy()
            assert np.array_equal(got, expected)


def test_decoded_frames_have_the_size_of_the_flow(tmp_path):
    video = write_video(tmp_path / "a.avi", 6, size=(96, 64))
    store_clip(
        tmp_path / "flow",
        "zip",
        smooth_flow(5),
        source={"path": "../a.avi", "bytes": video.stat().st_size},
    )
    stack, _ = FrameClips(tmp_path / "flow", [("a", 0)], sampling="centre")[0]
    assert stack.shape == (3, 3, 32, 48)


@pytest.mark.parametrize("short", ["loop", "repeat"])
def test_frames_and_differences_of_a_short_clip_at_a_stride(tmp_path, short):
    images = frames(5)
    store_clip(tmp_path, "zip", smooth_flow(4), clip="k/a", images=images)
    options = {"segments": 1, "frame_stride": 2, "short_clips": short, "sampling": "centre"}
    every = FrameClips(tmp_path, [("k/a", 0)], segments=1, length=5)[0][0].reshape(5, 3, 32, 48)
    rgb = FrameClips(tmp_path, [("k/a", 0)], length=4, **options)[0][0].reshape(4, 3, 32, 48)
    taken = [0, 2, 4, 1] if short == "loop" else [0, 2, 4, 4]
    assert torch.equal(rgb, every[taken])
    data = FrameClips(tmp_path, [("k/a", 0)], modality="rgb-diff", length=4, **options)
    between = every[1:].short() - every[:-1].short()
    taken = [0, 2, 0, 2] if short == "loop" else [0, 2, 3, 3]
    assert torch.equal(data[0][0].reshape(4, 3, 32, 48), between[taken])


def test_differences_of_consecutive_frames(tmp_path):
    with_video(tmp_path)
    rgb = FrameClips(tmp_path / "flow", [("k/a", 0)], segments=1, length=9, sampling="test")
    data = FrameClips(
        tmp_path / "flow", [("k/a", 0)], segments=4, sampling="test", modality="rgb-diff"
    )
    all_frames = rgb[0][0].reshape(9, 3, 32, 48).short()
    stack, _ = data[0]
    assert (stack.shape, stack.dtype) == ((4, 15, 32, 48), torch.int16)
    assert data.starts(0).tolist() == [0, 1, 2, 3]  # 8 differences of 9 frames
    for segment in range(4):
        expected = all_frames[segment + 1 : segment + 6] - all_frames[segment : segment + 5]
        assert torch.equal(stack[segment], expected.reshape(15, 32, 48))
    assert stack.min() < 0 < stack.max()


def test_frames_that_are_nowhere_are_listed(tmp_path):
    video = with_video(tmp_path)
    store_clip(tmp_path / "flow", "zip", FLOWS, clip="k/b", source={"path": "../videos/none.avi"})
    store_clip(tmp_path / "flow", "zip", FLOWS, clip="k/c", source={"path": None})
    with video.open("ab") as file:
        file.write(b"more")
    with pytest.raises(UnusableClipsError) as error:
        FrameClips(tmp_path / "flow", [("k/a", 0), ("k/b", 0), ("k/c", 0)])
    message = str(error.value)
    assert message.startswith("3 of 3")
    assert "a.avi' is not the one that the flow was made from" in message
    assert "none.avi' is gone" in message
    assert "k/c: it holds no frames and does not say" in message


@pytest.mark.parametrize("name", ["img_{:05d}.jpg", "{:06d}.png", "frame{:03d}.JPG"])
def test_folders_of_frames_without_flow(tmp_path, name):
    images = frames(6)
    for clip in ("k/a", "k/b"):
        (tmp_path / clip).mkdir(parents=True)
        for number, image in enumerate(images):
            cv2.imwrite(str(tmp_path / clip / name.format(number + 1)), image)
    data = FrameClips(tmp_path, [("k/a", 0), ("b", 1)], segments=6, sampling="centre")
    found, label = data[1]
    assert (found.shape, label) == ((6, 3, *images[0].shape[:2]), 1)
    blue_green_red = found.flip(1).permute(0, 2, 3, 1).numpy().astype(int)
    assert np.abs(blue_green_red - np.stack(images)).mean() < 12  # JPEG
    differences = FrameClips(tmp_path, [("a", 0)], segments=1, modality="rgb-diff")
    assert len(differences[0][0][0]) == 3 * 5
    with pytest.raises(FormatError, match=r"holds no flow: found 'k/a/"):
        FlowClips(tmp_path, [("k/a", 0)], segments=1, length=2)
    assert not list(stored_clips(tmp_path))


def test_too_few_differences(tmp_path):
    with_video(tmp_path, 5)
    with pytest.raises(UnusableClipsError, match="4 differences of 5 frames; a snippet takes 5"):
        FrameClips(tmp_path / "flow", [("k/a", 0)], modality="rgb-diff")
    with pytest.raises(ParameterError, match="modality is 'grey'"):
        FrameClips(tmp_path / "flow", [("k/a", 0)], modality="grey")


def test_flow_and_frames_of_a_real_dense_flow():
    folder = shared_data("denseflow-sample")
    name = folder.name
    stack, _ = FlowClips(folder, [(name, 0)], segments=1, sampling="test")[0]
    planes = [
        cv2.imread(str(folder / f"{axis}_{index:05d}.jpg"), cv2.IMREAD_GRAYSCALE)
        for index in range(1, 6)
        for axis in "xy"
    ]
    assert np.array_equal(stack[0].numpy(), np.stack(planes))
    images, _ = FrameClips(folder, [(name, 0)], segments=10, sampling="test")[0]
    for index in range(10):
        image = cv2.imread(str(folder / f"img_{index + 1:05d}.jpg"))
        assert np.array_equal(images[index].numpy(), image[..., ::-1].transpose(2, 0, 1))
