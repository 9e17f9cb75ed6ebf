"""Exported stacks: arrays and shards, whole, resumable, the same bytes, read by others."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from flowpipe.errors import ParameterError
from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.pipelines.stacks import export_stacks
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import StageMismatchError
from flowpipe.training.data.export import StackExport
from flowpipe.training.data.stacks import read_stack
from tests.helpers.clips import contents, flowpipe, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

SIZE = (48, 32)
LENGTHS = {"jump/a": 12, "jump/b": 10, "run/c.x": 23}


@pytest.fixture
def flow(tmp_path) -> Path:
    for seed, (name, n) in enumerate(LENGTHS.items()):
        store_clip(tmp_path / "flow", "zip", smooth_flow(n, SIZE, seed=seed), clip=name)
    return tmp_path / "flow"


def stack_of(flow: Path, name: str, start: int, length: int = 10) -> np.ndarray:
    clip = next(clip for clip in stored_clips(flow) if clip.name == name)
    with FlowReader(clip) as reader:
        return read_stack(reader, range(start, start + length))


def webdataset_samples(shard: Path) -> list[dict]:
    """Samples as WebDataset groups them: neighbours that share their name to the first dot."""
    samples: list[dict] = []
    with tarfile.open(shard) as archive:
        for member in archive:
            folder, _, file = member.name.rpartition("/")
            base, _, extension = file.partition(".")
            key = f"{folder}/{base}"
            if not samples or samples[-1]["__key__"] != key:
                samples.append({"__key__": key})
            samples[-1][extension] = archive.extractfile(member).read()
    return samples


def array_of(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    return np.load(path, allow_pickle=False)


def test_an_array_a_clip(flow, tmp_path):
    out = tmp_path / "out"
    summary = export_stacks(flow, out, StackExport(length=5), workers=Workers(0))
    assert (summary.done, summary.failed) == (3, 0)
    array = np.load(out / "run/c.x.npy", mmap_mode="r")
    assert (array.shape, array.dtype) == ((4, 10, 32, 48), np.uint8)
    for index in range(4):
        assert np.array_equal(array[index], stack_of(flow, "run/c.x", 5 * index, 5))
    index = json.loads((out / "index.json").read_bytes())
    assert index["channels"] == ["x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "x5", "y5"]
    assert index["classes"] == ["jump", "run"]
    listed = {one["clip"]: (one["path"], one["label"], one["stacks"]) for one in index["arrays"]}
    assert listed == {
        "jump/a": ("jump/a.npy", 0, 2),
        "jump/b": ("jump/b.npy", 0, 2),
        "run/c.x": ("run/c.x.npy", 1, 4),
    }


def test_every_stack_that_fits_with_stride_1(flow, tmp_path):
    export_stacks(flow, tmp_path / "out", StackExport(stride=1), workers=Workers(0))
    array = np.load(tmp_path / "out/jump/a.npy")
    assert len(array) == 3
    for start in range(3):
        assert np.array_equal(array[start], stack_of(flow, "jump/a", start))


def test_shards_as_webdataset_reads_them(flow, tmp_path):
    out = tmp_path / "out"
    export_stacks(flow, out, StackExport("tar"), workers=Workers(0))
    samples = webdataset_samples(out / "shard-000000.tar")
    assert [sample["__key__"] for sample in samples] == [
        "jump/a/000000",
        "jump/b/000000",
        "run/c.x/000000",
        "run/c.x/000010",
    ]
    assert [sample["cls"] for sample in samples] == [b"0", b"0", b"1", b"1"]
    last = samples[-1]
    assert json.loads(last["json"]) == {"clip": "run/c.x", "start": 10, "label": 1}
    got = array_of(last["npy"], tmp_path / "one.npy")
    assert np.array_equal(got, stack_of(flow, "run/c.x", 10))
    index = json.loads((out / "index.json").read_bytes())
    size = (out / "shard-000000.tar").stat().st_size
    assert index["wids_version"] == 1
    assert index["shardlist"] == [{"url": "shard-000000.tar", "nsamples": 4, "filesize": size}]


def test_classes_have_the_numbers_of_their_set(flow, tmp_path):
    names = tmp_path / "classInd.txt"
    names.write_text("1 Walk\n2 run\n3 jump\n")
    export = StackExport("tar", class_names=names)
    export_stacks(flow, tmp_path / "out", export, workers=Workers(0))
    samples = webdataset_samples(tmp_path / "out/shard-000000.tar")
    assert {sample["__key__"].split("/")[0]: int(sample["cls"]) for sample in samples} == {
        "jump": 2, "run": 1
    }  # fmt: skip
    assert json.loads((tmp_path / "out/index.json").read_text())["classes"] == [
        "Walk", "run", "jump"
    ]  # fmt: skip
    names.write_text("1 Walk\n2 run\n")
    with pytest.raises(ParameterError, match=r"the class folder 'jump' is not in .*classInd"):
        export_stacks(flow, tmp_path / "other", export, workers=Workers(0))


def test_shards_are_filled_to_their_size(tmp_path):
    for number in range(5):  # a stack is 20 * 128 * 96 bytes = 240 KiB; five of them 1.2 MiB
        flow = smooth_flow(50, (128, 96), seed=number)
        store_clip(tmp_path / "flow", "npy", flow, clip=f"k/{number}", dtype="float16")
    out = tmp_path / "out"
    export_stacks(tmp_path / "flow", out, StackExport("tar", shard_mib=3), workers=Workers(0))
    shards = sorted(out.glob("*.tar"))
    counts = [len(webdataset_samples(shard)) for shard in shards]
    assert counts == [10, 10, 5]
    assert all(shard.stat().st_size <= 3 << 20 for shard in shards)
    export_stacks(
        tmp_path / "flow", tmp_path / "1", StackExport("tar", shard_mib=1), workers=Workers(0)
    )
    assert len(list((tmp_path / "1").glob("*.tar"))) == 5  # a clip is not divided


@pytest.mark.parametrize("name", ["npy", "tar"])
def test_the_same_flow_gives_the_same_bytes(flow, tmp_path, name):
    export_stacks(flow, tmp_path / "1", StackExport(name), workers=Workers(0))
    export_stacks(flow, tmp_path / "2", StackExport(name), workers=Workers(2))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert not (tmp_path / "1/.tmp").exists()


@pytest.mark.parametrize("name", ["npy", "tar"])
def test_a_second_run_does_what_is_left(flow, tmp_path, name):
    out = tmp_path / "out"
    export_stacks(flow, out, StackExport(name), workers=Workers(0))
    whole = contents(out)
    again = export_stacks(flow, out, StackExport(name), workers=Workers(0))
    assert (again.done, again.skipped) == (0, len(list(out.rglob(f"*.{name}"))))
    # killed between the file and what says that it is whole
    for mark in [
        path for path in out.rglob("*.json") if path.name not in ("index.json", "stage.json")
    ]:
        mark.unlink()
    assert export_stacks(flow, out, StackExport(name), workers=Workers(0)).skipped == 0
    assert contents(out) == whole
    # the file is gone
    target = sorted(out.rglob(f"*.{name}"))[0]
    target.unlink()
    assert export_stacks(flow, out, StackExport(name), workers=Workers(0)).done == 1
    assert contents(out) == whole


@pytest.mark.parametrize("name", ["npy", "tar"])
def test_flow_that_changed_is_exported_anew(flow, tmp_path, name):
    out = tmp_path / "out"
    export_stacks(flow, out, StackExport(name), workers=Workers(0))
    store_clip(flow, "zip", smooth_flow(12, SIZE, seed=99), clip="jump/a")
    assert export_stacks(flow, out, StackExport(name), workers=Workers(0)).done == 1
    export_stacks(flow, tmp_path / "fresh", StackExport(name), workers=Workers(0))
    assert contents(out) == contents(tmp_path / "fresh")


def test_shards_of_more_clips_are_taken_away(tmp_path):
    for number in range(3):
        store_clip(tmp_path / "flow", "zip", smooth_flow(50, (128, 96)), clip=f"k/{number}")
    out = tmp_path / "out"
    export = StackExport("tar", shard_mib=1)
    export_stacks(tmp_path / "flow", out, export, workers=Workers(0))
    (tmp_path / "flow/k/2.zip").unlink()
    export_stacks(tmp_path / "flow", out, export, workers=Workers(0))
    assert sorted(path.name for path in out.glob("shard*")) == [
        *["shard-000000.tar", "shard-000000.tar.json"],
        *["shard-000001.tar", "shard-000001.tar.json"],
    ]
    assert len(json.loads((out / "index.json").read_bytes())["shardlist"]) == 2


@pytest.mark.parametrize("name", ["npy", "tar"])
def test_bad_clips_fail_for_themselves(flow, tmp_path, name):
    store_clip(flow, "zip", smooth_flow(4), clip="jump/short")
    broken = store_clip(flow, "zip", smooth_flow(15), clip="jump/broken").path
    broken.write_bytes(broken.read_bytes()[:-100])
    out = tmp_path / "out"
    summary = export_stacks(flow, out, StackExport(name), workers=Workers(0))
    assert summary.reasons == {"too-short": 1, "format": 1}
    lines = [
        json.loads(line) for line in (out / ".flowpipe/failures.jsonl").read_bytes().splitlines()
    ]
    reasons = {line["clip"]: line["reason"] for line in lines}
    assert reasons["jump/short"] == "'jump/short' has 4 flow fields; a stack takes 10"
    assert "broken.zip" in reasons["jump/broken"]
    index = json.loads((out / "index.json").read_bytes())
    if name == "npy":
        assert [one["clip"] for one in index["arrays"]] == sorted(LENGTHS)
        assert not (out / "jump/broken.npy").exists()
    else:
        keys = [sample["__key__"] for sample in webdataset_samples(out / "shard-000000.tar")]
        assert {key.rpartition("/")[0] for key in keys} == set(LENGTHS)
        assert index["shardlist"][0]["nsamples"] == len(keys)


def test_a_damaged_member_leaves_no_shard(flow, tmp_path):
    path = flow / "jump/b.zip"
    data = bytearray(path.read_bytes())
    data[2000] ^= 255  # within the first picture
    path.write_bytes(data)
    summary = export_stacks(flow, tmp_path / "out", StackExport("tar"), workers=Workers(0))
    assert summary.failed == 1
    assert "b.zip" in (tmp_path / "out/.flowpipe/failures.jsonl").read_text()
    assert not list((tmp_path / "out").glob("*.tar"))


def test_clips_without_class_folders_have_no_labels(tmp_path):
    store_clip(tmp_path / "flow", "zip", smooth_flow(12), clip="a")
    store_clip(tmp_path / "flow", "zip", smooth_flow(12), clip="k/b")
    export_stacks(tmp_path / "flow", tmp_path / "out", StackExport("tar"), workers=Workers(0))
    samples = webdataset_samples(tmp_path / "out/shard-000000.tar")
    assert [sorted(sample) for sample in samples] == [["__key__", "json", "npy"]] * 2
    assert json.loads((tmp_path / "out/index.json").read_bytes())["classes"] == []


def test_one_folder_holds_one_kind_of_stacks(flow, tmp_path):
    export_stacks(flow, tmp_path / "out", StackExport(length=5), workers=Workers(0))
    with pytest.raises(StageMismatchError, match="length: 5 recorded, 10 requested"):
        export_stacks(flow, tmp_path / "out", StackExport(), workers=Workers(0))


def test_refusals(flow, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ParameterError, match="holds no flow"):
        export_stacks(tmp_path / "empty", tmp_path / "out", StackExport(), workers=Workers(0))
    with pytest.raises(ParameterError, match="into its own folder"):
        export_stacks(flow, flow, StackExport(), workers=Workers(0))
    for wrong in ({"length": 0}, {"stride": 0}, {"shard_mib": 0}, {"bound": 0}, {"format": "zip"}):
        with pytest.raises(ParameterError, match=f"{next(iter(wrong))} is"):
            StackExport(**wrong)


@pytest.mark.slow
def test_the_command(flow, tmp_path):
    result = flowpipe("export-stacks", flow, tmp_path / "out", "--format", "tar", "--length", "5")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out/shard-000000.tar").is_file()
    store_clip(flow, "zip", smooth_flow(4), clip="jump/short")
    result = flowpipe("export-stacks", flow, tmp_path / "out", "--format", "tar", "--length", "5")
    assert result.returncode == 1
    assert "too-short" in result.stderr
