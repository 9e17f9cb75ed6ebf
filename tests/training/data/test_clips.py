"""Stacks of stored clips: names, order, randomness, workers, and what is read."""

from __future__ import annotations

import os
import pickle
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from flowpipe.errors import FormatError, ParameterError
from flowpipe.flow import quantize
from flowpipe.flow.store import LAYOUTS, FlowReader, convert, stored_clips
from flowpipe.training import FlowClips, FrameClips, train_transform
from flowpipe.training.data.clip_index import UnusableClipsError
from tests.helpers.clips import frames, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(12)
EIGHT_BIT = ["zip", "frames", "denseflow", "tsfusion"]


def numbered(n: int, size=(16, 12)) -> np.ndarray:
    """Flow whose field i has x = i and y = -i everywhere, in levels of 8 bit."""
    width, height = size
    fields = np.arange(n, dtype=np.float32)[:, None] * [1, -1]
    return (fields[:, :, None, None] * np.ones((height, width)) * 40 / 255).astype(np.float32)


@pytest.fixture
def flow(tmp_path) -> Path:
    for number in range(6):
        store_clip(tmp_path / "flow", "zip", smooth_flow(12, seed=number), clip=f"k/{number}")
    return tmp_path / "flow"


CLIPS = [(f"k/{number}", number % 2) for number in range(6)]


def levels_of(tensor: torch.Tensor) -> np.ndarray:
    """(segments, L, 2): the level that each (constant) channel holds."""
    array = tensor.numpy()
    assert (array == array[..., :1, :1]).all()
    return array[..., 0, 0].reshape(len(array), -1, 2).astype(int)


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_channels_are_x_then_y_of_each_field_in_order(tmp_path, name):
    store_clip(tmp_path, name, numbered(20), clip="k/a")
    data = FlowClips(tmp_path, [("k/a", 3)], segments=2, length=4, sampling="test")
    stack, label = data[0]
    assert (stack.shape, stack.dtype, label) == ((2, 8, 12, 16), torch.uint8, 3)
    got = levels_of(stack)
    # step (20 - 4) // 1: fields 0..3 and 16..19; x is i levels above zero, y below
    for segment, first in enumerate((0, 16)):
        fields = np.arange(first, first + 4)
        assert np.abs(got[segment, :, 0] - (127.5 + fields)).max() <= 1
        assert np.abs(got[segment, :, 1] - (127.5 - fields)).max() <= 1
        assert (np.diff(got[segment, :, 0]) > 0).all()  # the first pair comes first


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_what_was_stored(tmp_path, name):
    options = {"dtype": "float32"} if name in ("npy", "h5") else {}
    clip = store_clip(tmp_path, name, FLOWS, clip="k/a", **options)
    data = FlowClips(tmp_path, [("k/a", 0)], segments=3, length=5, sampling="centre")
    stack, _ = data[0]
    starts = data.starts(0)
    for segment, start in enumerate(starts):
        for offset in range(5):
            pair = stack[segment, 2 * offset : 2 * offset + 2].numpy().astype(int)
            if name in EIGHT_BIT:
                with FlowReader(clip) as reader:
                    assert np.array_equal(pair, reader.levels(int(start) + offset))
            else:
                exact = quantize.to_uint8(FLOWS[start + offset]).astype(int)
                # KITTI's PNG rounds to 1/64 px
                assert np.abs(pair - exact).max() <= (name == "kitti-png")


def test_flow_that_was_8_bit_gives_its_levels_again(tmp_path):
    store_clip(tmp_path / "zip", "zip", FLOWS, clip="k/a")
    convert(next(stored_clips(tmp_path / "zip")), tmp_path / "npy", "npy")
    both = [
        FlowClips(tmp_path / name, [("k/a", 0)], sampling="centre")[0][0] for name in ("zip", "npy")
    ]
    assert torch.equal(*both)


def test_the_last_snippet_ends_with_the_last_field(tmp_path):
    store_clip(tmp_path, "frames", numbered(15), clip="a")
    data = FlowClips(tmp_path, [("a", 0)], segments=11, length=5, sampling="test")
    assert data.starts(0).tolist() == list(range(11))
    last = levels_of(data[0][0])[-1]
    with FlowReader(next(stored_clips(tmp_path))) as reader:
        assert last[-1].tolist() == reader.levels(14)[:, 0, 0].tolist()


def published_stack(root: Path, clip: str, start: int, length: int, template: str, base: int):
    """A stack as tsn-pytorch and mmaction2 read it: x and y of one field after the other."""
    planes = []
    for index in range(start, start + length):
        for axis in "xy":
            path = root / clip / template.format(axis, index + base)
            planes.append(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    return np.stack(planes)


@pytest.mark.parametrize(
    ("layout", "base"),
    [("frames", 1), ("denseflow", 0)],  # mmaction2's start_index; tsn-pytorch counts from 1
)
def test_other_loaders_read_the_same_stacks(tmp_path, layout, base):
    store_clip(tmp_path, layout, FLOWS, clip="k/a")
    data = FlowClips(tmp_path, [("k/a", 0)], segments=8, length=5, sampling="test")
    for segment, start in enumerate(range(8)):
        theirs = published_stack(tmp_path, "k/a", start, 5, "flow_{}_{:05d}.jpg", base)
        assert np.array_equal(data[0][0][segment].numpy(), theirs)
    # and neither base is off by one: the files before the first and after the last are not there
    names = {path.name for path in (tmp_path / "k/a").iterdir()}
    assert f"flow_x_{base - 1:05d}.jpg" not in names
    assert f"flow_x_{base + 12:05d}.jpg" not in names
    assert f"flow_y_{base + 11:05d}.jpg" in names


@pytest.mark.parametrize("n", [5, 6, 7, 12, 40])
@pytest.mark.parametrize("layout", ["frames", "denseflow"])
def test_what_other_loaders_sample_is_there(tmp_path, layout, n):
    """Every index that their rules can give for the count of the list file, first and last."""
    store_clip(tmp_path, layout, numbered(n), clip="k/a")
    names = {path.name for path in (tmp_path / "k/a").glob("flow_*")}
    total = len([name for name in names if name.startswith("flow_x")])  # what list builders count
    assert total == n
    asked = set()
    if layout == "frames":  # tsn-pytorch: offsets + 1, held at the count
        duration = (total - 5 + 1) // 3
        for segment in range(3):
            for shift in range(max(duration, 1)):
                first = segment * duration + shift + 1
                asked |= {min(first + offset, total) for offset in range(5)}
        step = (total - 5) // 24  # TSN's test, which ends with the last whole stack at most
        asked |= {min(total, 1 + 24 * max(step, 0) + offset) for offset in range(5)}
    else:  # mmaction2: SampleFrames with start_index=0, out of bounds looped
        duration = (total - 5 + 1) // 3
        for segment in range(3):
            for shift in range(max(duration, 1)):
                first = segment * max(duration, 0) + shift
                asked |= {(first + offset) % total for offset in range(5)}
        last = max(total - 5, 0)  # of its test clips
        asked |= {(last + offset) % total for offset in range(5)}
    wanted = {f"flow_{axis}_{index:05d}.jpg" for axis in "xy" for index in asked}
    assert wanted <= names


@pytest.mark.parametrize(("base", "name"), [(0, "v_a_g01_c01"), (1, "k/v_a_g01_c01")])
def test_flow_of_other_tools_is_read(tmp_path, base, name):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    for index in range(7):
        for axis, level in (("x", 100 + index), ("y", 200 - index)):
            plane = np.full((12, 16), level, np.uint8)
            cv2.imwrite(str(folder / f"flow_{axis}_{index + base:05d}.jpg"), plane)
    # the list names it with its class folder, dense_flow wrote none
    data = FlowClips(tmp_path, [("k/v_a_g01_c01", 0)], segments=3, length=5, sampling="test")
    got = levels_of(data[0][0])
    assert got[:, :, 0].tolist() == [[100 + s + i for i in range(5)] for s in range(3)]
    assert got[:, :, 1].tolist() == [[200 - s - i for i in range(5)] for s in range(3)]


def test_numbers_may_have_any_digits(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for index in range(1, 8):
        for axis in "xy":
            cv2.imwrite(str(folder / f"flow_{axis}_{index:04d}.jpg"), np.zeros((12, 16), np.uint8))
    assert FlowClips(tmp_path, [("a", 0)])[0][0].shape == (3, 10, 12, 16)


@pytest.mark.parametrize("stored", ["HandstandPushups", "HandStandPushups"])
@pytest.mark.parametrize("asked", ["v_HandStandPushups_g01_c01", "v_HandstandPushups_g01_c01"])
def test_the_two_spellings_of_ucf101(tmp_path, stored, asked):
    store_clip(tmp_path, "zip", FLOWS, clip=f"{stored}/v_HandStandPushups_g01_c01")
    assert FlowClips(tmp_path, [(f"HandstandPushups/{asked}", 0)])[0][0].shape == (3, 10, 32, 48)


def test_a_clip_is_never_taken_for_another_of_the_same_last_name(tmp_path):
    store_clip(tmp_path, "zip", FLOWS, clip="boxing/1")
    with pytest.raises(UnusableClipsError, match="running/1: not in"):
        FlowClips(tmp_path, [("running/1", 0)])
    flat = tmp_path / "flat"
    store_clip(flat, "zip", FLOWS, clip="1")
    with pytest.raises(UnusableClipsError) as error:
        FlowClips(flat, [("running/1", 0), ("boxing/1", 1)])
    assert "2 of 2 clips" in str(error.value)


def test_a_name_that_fits_two_clips_fits_none(tmp_path):
    store_clip(tmp_path, "zip", FLOWS, clip="k/a")
    store_clip(tmp_path, "zip", FLOWS, clip="K/a")
    assert len(FlowClips(tmp_path, [("k/a", 0), ("K/a", 0)])) == 2
    with pytest.raises(UnusableClipsError, match=r"k/A: .* several outputs.*: 'K/a', 'k/a'"):
        FlowClips(tmp_path, [("k/A", 0)])


def test_missing_short_and_damaged_clips_are_all_listed_before_anything_is_read(flow):
    store_clip(flow, "zip", smooth_flow(4), clip="k/short")
    broken = flow / "k/5.zip"
    broken.write_bytes(broken.read_bytes()[:-40])
    asked = [*CLIPS, ("k/short", 0), ("k/gone", 1)]
    with pytest.raises(UnusableClipsError) as error:
        FlowClips(flow, asked, length=5)
    message = str(error.value)
    assert message.startswith("3 of 8 clips cannot be used:")
    assert "k/short: 4 flow fields; a snippet takes 5" in message
    assert "k/gone: not in" in message
    assert f"k/5: {str(broken)!r} is not a whole zip" in message


def test_a_gap_in_the_files_of_another_tool_is_listed(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    for index in (1, 2, 3, 4, 6, 7):
        for axis in "xy":
            cv2.imwrite(str(folder / f"flow_{axis}_{index:05d}.jpg"), np.zeros((12, 16), np.uint8))
    with pytest.raises(UnusableClipsError, match=r"lacks 'flow_x_00005\.jpg'"):
        FlowClips(tmp_path, [("a", 0)])


@pytest.mark.parametrize("layout", ["frames", "denseflow", "tsfusion", "flo", "kitti-png"])
def test_a_file_that_was_removed_is_noticed_before_training(tmp_path, layout):
    store_clip(tmp_path, layout, FLOWS, clip="k/a", images=frames(13))
    FlowClips(tmp_path, [("k/a", 0)])
    FrameClips(tmp_path, [("k/a", 0)])
    members = [path for path in sorted(tmp_path.rglob("*.*")) if path.suffix != ".json"]
    members = [path for path in members if path.is_file()]
    pictures = [path for path in members if "img" in path.name or "jpegs_256" in path.parts]
    pictures[3].unlink()
    FlowClips(tmp_path, [("k/a", 0)])
    with pytest.raises(UnusableClipsError, match=r"k/a: .* lacks '.*0000[34]\.jpg'"):
        FrameClips(tmp_path, [("k/a", 0)])
    next(path for path in members if path not in pictures).unlink()
    with pytest.raises(UnusableClipsError, match=r"k/a: .* lacks '.*0000[01]"):
        FlowClips(tmp_path, [("k/a", 0)])


def test_a_file_that_is_no_picture_is_named(tmp_path):
    store_clip(tmp_path, "frames", FLOWS, clip="k/a")
    data = FlowClips(tmp_path, [("k/a", 0)], segments=8, sampling="test")
    (tmp_path / "k/a/flow_y_00003.jpg").write_bytes(b"no picture")
    with pytest.raises(FormatError, match=r"k/a/flow_y_00003\.jpg' is not an image"):
        data[0]


def test_a_clip_that_vanishes_while_training_stops_it(flow):
    data = FlowClips(flow, CLIPS)
    shutil.rmtree(flow / "k")
    with pytest.raises(FormatError, match=r"k/0\.zip"):
        data[0]


def test_what_is_drawn_follows_from_seed_epoch_and_index(flow):
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        data = FlowClips(flow, CLIPS, seed=seed)
        data.set_epoch(epoch)
        return [data.starts(index).tolist() for index in range(len(data))]

    assert drawn(0, 0) == drawn(0, 0)
    assert len({str(drawn(seed, epoch)) for seed in range(2) for epoch in range(3)}) == 6
    assert len({str(starts) for starts in drawn(0, 0)}) > 1


def test_the_order_of_reading_changes_nothing(flow):
    data = FlowClips(flow, CLIPS, transform=train_transform("flow", 16))
    data.set_epoch(2)
    forward = [data[index][0] for index in range(6)]
    backward = [data[index][0] for index in reversed(range(6))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def epochs(data: FlowClips, number: int, **options) -> list[torch.Tensor]:
    loader = DataLoader(data, batch_size=3, **options)
    seen = []
    for epoch in range(number):
        data.set_epoch(epoch)
        seen.append(torch.cat([batch for batch, _ in loader]))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_change_nothing(flow, context, workers):
    data = FlowClips(flow, CLIPS, length=2, transform=train_transform("flow", 16))
    alone = epochs(data, 3)
    shared = epochs(
        data, 3, num_workers=workers, persistent_workers=True, multiprocessing_context=context
    )
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_open_files_are_left_behind(flow):
    data = FlowClips(flow, CLIPS, sampling="centre")
    expected = data[1][0]
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[1][0], expected)


def test_few_files_are_open_at_once(tmp_path):
    clips = []
    for number in range(20):
        name = ("zip", "h5")[number % 2]
        store_clip(tmp_path, name, FLOWS[:5], clip=f"k/{number}")
        clips.append((f"k/{number}", 0))
    before = len(list(Path("/proc/self/fd").iterdir()))
    data = FlowClips(tmp_path, clips)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1  # what shares the epoch
    for index in range(20):
        data[index]
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 10


def test_a_stack_costs_its_members(tmp_path, monkeypatch):
    """Of a long clip, the directory is read once, and then the members that are asked for."""
    store_clip(tmp_path, "zip", smooth_flow(300, (24, 16)), clip="a")
    archive = tmp_path / "a.zip"
    reads: list[tuple[int, int]] = []
    pread = os.pread

    def counted(file: int, size: int, offset: int) -> bytes:
        reads.append((offset, size))
        return pread(file, size, offset)

    data = FlowClips(tmp_path, [("a", 0)], segments=1, length=5)
    monkeypatch.setattr(os, "pread", counted)
    data[0]
    reads.clear()
    data.set_epoch(1)
    data[0]
    with FlowReader(next(stored_clips(tmp_path))) as reader:
        start = int(data.starts(0)[0])
        members = [jpeg for index in range(start, start + 5) for jpeg in reader.jpegs(index)]
    reads = reads[:10]
    heads = 10 * (30 + len("flow_x_00001.jpg"))
    assert sum(size for _, size in reads) == sum(map(len, members)) + heads
    # they lie one after the other
    assert all(a + n == b for (a, n), (b, _) in pairwise(reads))
    assert sum(size for _, size in reads) < archive.stat().st_size / 50


def test_a_label_is_the_class_that_was_given(flow):
    assert [data for _, data in FlowClips(flow, CLIPS)] == [0, 1, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "dense"}, "sampling is 'dense'"),
        ({"stacking": "warp"}, "stacking is 'warp'"),
        ({"seed": -1}, "seed is -1"),
        ({"segments": 0}, "segments is 0"),
        ({"length": 0}, "length is 0"),
        ({"frame_stride": 0}, "frame_stride is 0"),
        ({"short_clips": "pad"}, "short_clips is 'pad'; it must be one of refuse, loop, repeat"),
        ({"test_clips": 2}, "test_clips is 2; it applies to the sampling 'centre'"),
    ],
)
def test_bad_parameters(flow, options, message):
    with pytest.raises(ParameterError, match=message):
        FlowClips(flow, CLIPS, **options)


def counted(n: int) -> np.ndarray:
    """Flow whose field i has the level 128 + i in x, and is not close to another level."""
    return numbered(n) + np.float32(0.25 * 40 / 255)


def fields_of(data: FlowClips | FrameClips) -> list[list[int]]:
    """The number of each field of the snippets of the first clip, which its level tells."""
    return (levels_of(data[0][0])[..., 0] - 128).tolist()


def test_a_snippet_takes_every_second_field(tmp_path):
    store_clip(tmp_path, "npy", counted(12), clip="k/a")
    options = {"segments": 1, "length": 4, "frame_stride": 2, "bound": 20}
    data = FlowClips(tmp_path, [("k/a", 0)], sampling="test", **options)
    first = int(data.starts(0)[0])
    assert fields_of(data) == [[first, first + 2, first + 4, first + 6]]
    with pytest.raises(UnusableClipsError, match="12 flow fields; a snippet takes 13"):
        FlowClips(tmp_path, [("k/a", 0)], segments=1, length=5, frame_stride=3)
    random = FlowClips(tmp_path, [("k/a", 0)], **options)
    drawn = set()
    for epoch in range(60):
        random.set_epoch(epoch)
        drawn.add(int(random.starts(0)[0]))
    assert drawn == set(range(6))


@pytest.mark.parametrize(
    ("short", "expected"), [("loop", [0, 2, 4, 1, 3, 0]), ("repeat", [0, 2, 4, 4, 4, 4])]
)
def test_a_short_clip_is_continued(tmp_path, short, expected):
    store_clip(tmp_path, "npy", counted(5), clip="k/a")
    options = {"segments": 1, "length": 6, "frame_stride": 2, "short_clips": short}
    for sampling in ("random", "centre", "test", "whole"):
        data = FlowClips(tmp_path, [("k/a", 0)], sampling=sampling, **options)
        assert fields_of(data) == [expected]


def test_a_whole_clip_is_seen_field_by_field(tmp_path):
    store_clip(tmp_path, "npy", counted(100), clip="k/a")
    data = FlowClips(tmp_path, [("k/a", 0)], segments=1, length=8, sampling="whole", bound=20)
    assert fields_of(data) == [list(range(100))]
    strided = FlowClips(
        tmp_path, [("k/a", 0)], segments=1, length=8, sampling="whole", bound=20, frame_stride=3
    )
    assert fields_of(strided) == [list(range(0, 100, 3))]


def test_a_long_clip_is_seen_in_parts_that_cover_it(tmp_path):
    store_clip(tmp_path, "npy", np.zeros((601, 2, 8, 8), np.float32), clip="k/a")
    data = FlowClips(tmp_path, [("k/a", 0)], segments=1, length=8, sampling="whole")
    assert data[0][0].shape == (3, 500, 8, 8)
    assert data.starts(0).tolist() == [0, 176, 351]


def test_segments_are_sampled_several_times(tmp_path):
    store_clip(tmp_path, "npy", counted(12), clip="k/a")
    data = FlowClips(
        tmp_path, [("k/a", 0)], segments=3, length=1, sampling="centre", test_clips=2, bound=20
    )
    assert fields_of(data) == [[1], [5], [9], [3], [7], [11]]


def test_an_index_outside(flow):
    data = FlowClips(flow, CLIPS)
    for index in (6, -1):
        with pytest.raises(IndexError, match="there are 6 clips"):
            data[index]
