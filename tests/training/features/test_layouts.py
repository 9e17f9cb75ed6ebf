"""Names, axes, types and records of stored features, as the programs that read them have them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from flowpipe.errors import FormatError, ParameterError
from flowpipe.training.features import layouts
from flowpipe.training.features.layouts import LAYOUTS, StoredFeatures, files_of

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("npy", ["jump/a.b.npy"]),
        ("actionformer", ["a.b.npy"]),
        ("opentad", ["a.b.npy"]),
        ("ms-tcn", ["a.b.npy"]),
        ("video-features", ["a.b_flow.npy", "a.b_fps.npy", "a.b_timestamps_ms.npy"]),
    ],
)
def test_names_of_files(layout, names):
    files = files_of(layout, Path("out"), "jump/a.b", "flow")
    assert [path.relative_to("out").as_posix() for path in files.arrays] == names
    assert files.all[-1] == Path("out", f"{names[0]}.json")


def test_two_clips_with_one_file_are_refused():
    clips = ["jump/a", "run/b", "run/a"]
    layouts.check_names("npy", clips)
    with pytest.raises(ParameterError, match="'jump/a' and 'run/a' would have the same"):
        layouts.check_names("actionformer", clips)


def test_a_name_that_ms_tcn_would_cut_is_refused():
    layouts.check_names("opentad", ["run/c.x"])
    with pytest.raises(ParameterError, match=r"looks for 'c' in place of 'c\.x'"):
        layouts.check_names("ms-tcn", ["run/c.x"])


def stored(root: Path, layout: str = "video-features") -> StoredFeatures:
    files = files_of(layout, root, "a", "rgb")
    arrays = {path: np.array(25.0) for path in files.arrays}
    arrays[files.features] = np.arange(12, dtype=np.float32).reshape(3, 4)
    layouts.write_features(files, arrays, {"key": "k"}, root)
    (found,) = layouts.stored_features(root)
    return found


def test_a_record_has_what_was_said_and_the_checksums(tmp_path):
    found = stored(tmp_path)
    record = json.loads(found.record.read_bytes())
    assert (record["format"], record["key"]) == ("flowpipe features 1", "k")
    assert set(record["files"]) == {"a_rgb.npy", "a_fps.npy", "a_timestamps_ms.npy"}
    assert layouts.verify(found) is None
    files = files_of("video-features", tmp_path, "a", "rgb")
    assert layouts.is_current(files, "k")
    assert not layouts.is_current(files, "l")
    files.fps.unlink()
    assert not layouts.is_current(files, "k")


@pytest.mark.parametrize("name", ["a_rgb.npy", "a_fps.npy"])
def test_every_flipped_bit_is_found(tmp_path, name):
    found = stored(tmp_path)
    whole = (tmp_path / name).read_bytes()
    for place in range(0, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        (tmp_path / name).write_bytes(damaged)
        assert "is damaged" in layouts.verify(found)
    layouts.remove(found)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{}", b'{"format": "flowpipe features 1", "files": {"../b.npy": {}}}'],
)
def test_a_damaged_record_removes_nothing_but_its_own(tmp_path, record):
    found = stored(tmp_path / "out")
    (tmp_path / "b.npy").write_bytes(b"kept")
    found.record.write_bytes(record)
    assert "record" in layouts.verify(found)
    layouts.remove(found)
    assert not found.path.exists()
    assert (tmp_path / "b.npy").exists()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3)),
        np.zeros(3, np.float32),
        np.full((2, 2), np.nan, np.float32),
        np.array([["a"]]),
    ],
)
def test_arrays_that_are_no_features_are_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(FormatError, match=r"a\.npy"):
        layouts.load_features(tmp_path / "a.npy")


def test_settings_name_what_the_other_programs_take():
    values = {"length": 16, "stride": 4, "half": 8, "features": 1024}
    settings = {name: entry.settings.format(**values) for name, entry in LAYOUTS.items()}
    assert "feat_stride: 4, num_frames: 16, input_dim: 1024" in settings["actionformer"]
    assert "feature_stride=4, sample_stride=1, offset_frames=8" in settings["opentad"]
    assert "features_dim = 1024, sample_rate = 1" in settings["ms-tcn"]


def test_the_centres_of_windows_are_those_that_the_readers_assume():
    """ActionFormer: frame = t * feat_stride + num_frames / 2; OpenTAD: t * stride + offset."""
    from flowpipe.training.features.stage import Windows

    starts = Windows(16, 4).starts(101, 101)
    for t, start in enumerate(starts):
        assert start + 16 / 2 == t * 4 + 0.5 * 16 == t * 4 + 16 // 2
