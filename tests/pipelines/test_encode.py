from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from flowpipe.classify.protocols import leave_one_group_out, official
from flowpipe.classify.work import kernel_path, load_kernel
from flowpipe.datasets.base import Clip
from flowpipe.encoding.files import load_encoders, load_vectors, vectors_path
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors
from flowpipe.errors import ParameterError
from flowpipe.pipelines.encode import FittingError, encode
from flowpipe.runner import provenance
from flowpipe.runner.pool import Workers
from flowpipe.trajectories.table import Table
from tests.helpers.tables import (
    SMALL,
    WORDS,
    contents,
    made_up_set,
    with_split,
    write_source,
    write_table,
    write_tables,
)

pytestmark = pytest.mark.usefixtures("no_flushing")


@pytest.fixture
def dataset(tmp_path):
    return with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))


@pytest.fixture
def tables(tmp_path, dataset):
    return write_tables(dataset, tmp_path / "trajectories")


def run(dataset, tables, out, encoding=SMALL, jobs=0):
    return encode(dataset.clips, official(dataset), tables, out, encoding, workers=Workers(jobs))


def test_vectors_are_what_the_encoders_make_of_the_rows(tmp_path, dataset, tables):
    encoding = replace(SMALL, pyramid=("1", "t2"))
    summary = run(dataset, tables, tmp_path / "v", encoding)
    assert (summary.done, summary.failed) == (6, 0)
    vectors, description = load_vectors(vectors_path(tmp_path / "v", "hug/0"), ("1-hof",))
    assert description == {"clip": "hug/0", "rows": 60}
    encoders, found = load_encoders(tmp_path / "v/encoders/1-hof.npz")
    assert found == replace(encoding, descriptors=("hof",))
    with Table(tables / "hug/0.h5") as table:
        rows = table.read()
    clip = ClipVectors(encoders, encoding.pyramid)
    clip.add(rows, rows["info"][:, 7:10])
    assert np.array_equal(vectors["1-hof"], clip.vectors()["hof"])
    assert vectors["1-hof"].shape == (3 * 2 * 3 * 54,)


def test_kernels_are_products_of_the_vectors(tmp_path, dataset, tables):
    run(dataset, tables, tmp_path / "v")
    clips, kernel = load_kernel(kernel_path(tmp_path / "v", 1, "mbhx"))
    split = dataset.splits[0]
    assert clips == (*split.train, *split.test)
    found = [
        load_vectors(vectors_path(tmp_path / "v", name), ("1-mbhx",))[0]["1-mbhx"] for name in clips
    ]
    assert kernel == pytest.approx(np.array(found) @ np.array(found).T, abs=1e-6)


@pytest.mark.parametrize("encoding", [SMALL, WORDS])
def test_a_second_run_finds_everything_there(tmp_path, dataset, tables, encoding, caplog):
    caplog.set_level("INFO")
    run(dataset, tables, tmp_path / "v", encoding)
    before = contents(tmp_path / "v")
    times = (tmp_path / "v/times.json").read_bytes()
    caplog.clear()
    assert run(dataset, tables, tmp_path / "v", encoding).skipped == 6
    lines = ("2 encoders: 0 done, 2 skipped", "6 clips: 0 done, 6 skipped", "2 kernels: 0 done")
    for line in lines:
        assert line in caplog.text
    assert contents(tmp_path / "v") == before
    assert (tmp_path / "v/times.json").read_bytes() == times
    assert set(json.loads(times)) == {"encoders", "vectors", "kernels"}


@pytest.mark.slow
def test_as_many_processes_as_one_likes_give_the_same_bytes(tmp_path, dataset, tables):
    run(dataset, tables, tmp_path / "a", jobs=0)
    run(dataset, tables, tmp_path / "b", jobs=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("encoding", [SMALL, WORDS])
def test_what_is_tested_has_no_part_in_fitting(tmp_path, dataset, tables, encoding):
    run(dataset, tables, tmp_path / "v", encoding)
    before = contents(tmp_path / "v")
    clip = next(clip for clip in dataset.clips if clip.name == "kick/0")
    write_source(clip.path, "another video")
    write_table(tables, clip, 400, kind=5)
    summary = run(dataset, tables, tmp_path / "v", encoding)
    assert (summary.done, summary.skipped) == (1, 5)
    changed = {name for name, digest in contents(tmp_path / "v").items() if digest != before[name]}
    assert changed == {"vectors/kick/0.npz", "kernels/1-hof.npz", "kernels/1-mbhx.npz"}


def test_what_trains_changes_everything(tmp_path, dataset, tables):
    run(dataset, tables, tmp_path / "v")
    before = contents(tmp_path / "v")
    clip = next(clip for clip in dataset.clips if clip.name == "kick/1")
    write_source(clip.path, "another video")
    write_table(tables, clip, 60, kind=1)
    run(dataset, tables, tmp_path / "v")
    after = contents(tmp_path / "v")
    assert {name for name in before if before[name] == after[name]} == {
        "protocol.json",
        ".flowpipe/stage.json",
    }


def test_a_folder_of_other_settings_is_refused(tmp_path, dataset, tables):
    run(dataset, tables, tmp_path / "v")
    with pytest.raises(provenance.StageMismatchError, match="gaussians: 3 recorded, 4 requested"):
        run(dataset, tables, tmp_path / "v", replace(SMALL, gaussians=4))


def test_clips_without_a_table_are_left_out_and_reported(tmp_path, dataset, tables, capsys):
    (tables / "hug/1.h5").unlink()
    (tables / "kick/0.h5").write_bytes(b"not HDF5")
    write_source(tmp_path / "videos/kick/1.avi", "changed since")
    dataset = with_split(replace(dataset, clips=(*dataset.clips, Clip(tmp_path / "x.avi", "x"))))
    summary = run(dataset, tables, tmp_path / "v")
    assert (summary.done, summary.failed, summary.exit_status) == (3, 3, 1)
    lines = (tmp_path / "v/.flowpipe/failures.jsonl").read_text().splitlines()
    reasons = {line["clip"]: line["reason"] for line in map(json.loads, lines)}
    assert "not in " in reasons["hug/1"]
    assert "is not an HDF5 file" in reasons["kick/0"]
    assert "has changed since its trajectories were made" in reasons["kick/1"]
    protocol = json.loads((tmp_path / "v/protocol.json").read_text())
    assert protocol["splits"][0]["test"] == ["hug/0"]
    assert "left out, since they failed" in protocol["notes"][-1]
    assert load_kernel(kernel_path(tmp_path / "v", 1, "hof"))[0] == ("hug/2", "kick/2", "hug/0")
    # What is there again is taken in by the next run.
    for clip in dataset.clips[:6]:
        write_table(tables, clip, 60, dataset.classes.index(clip.label))
    assert run(dataset, tables, tmp_path / "v").exit_status == 0
    assert not (tmp_path / "v/.flowpipe/failures.jsonl").exists()


def test_nothing_left_to_test(tmp_path, dataset, tables):
    for name in ("hug/0", "kick/0"):
        (tables / f"{name}.h5").unlink()
    with pytest.raises(ParameterError, match="split 'one' has no test clip left"):
        run(dataset, tables, tmp_path / "v")


def test_a_clip_without_trajectories_has_a_zero_vector(tmp_path, dataset, caplog):
    tables = write_tables(dataset, tmp_path / "t", {"hug/0": 0, "kick/2": 0})
    assert run(dataset, tables, tmp_path / "v").failed == 2
    vectors, _ = load_vectors(vectors_path(tmp_path / "v", "hug/0"), ("1-hof",))
    assert vectors["1-hof"].shape == (2 * 3 * 54,)
    assert not vectors["1-hof"].any()
    protocol = json.loads((tmp_path / "v/protocol.json").read_text())
    assert protocol["without_trajectories"] == ["hug/0", "kick/2"]
    assert "note: hug/0: no trajectories: its vectors are zero" in caplog.messages


def test_unusable_clips_are_named_before_the_work_and_left_out_on_request(
    tmp_path, dataset, caplog
):
    caplog.set_level("INFO")
    rows = {"hug/0": 0, "kick/2": 0}
    tables = write_tables(dataset, tmp_path / "t", rows, length=9)
    encoding = replace(SMALL, leave_out_unusable=True)
    assert run(dataset, tables, tmp_path / "v", encoding).exit_status == 0
    lines = [record.message for record in caplog.records]
    named = (
        "2 clips without trajectories: 'hug/0' (9 frames; a track needs 16), "
        "'kick/2' (9 frames; a track needs 16)"
    )
    assert lines.index(named) < lines.index(next(line for line in lines if "encoders" in line))
    protocol = json.loads((tmp_path / "v/protocol.json").read_text())
    assert protocol["splits"][0] == {
        "name": "one",
        "train": ["hug/1", "hug/2", "kick/1"],
        "test": ["kick/0"],
    }
    note = "2 clips left out, since they have no trajectories: 'hug/0', 'kick/2'"
    assert protocol["notes"] == [note]
    assert protocol["without_trajectories"] == []


@pytest.mark.parametrize("encoding", [SMALL, WORDS, replace(SMALL, leave_out_unusable=True)])
def test_one_error_where_no_clip_is_usable(tmp_path, dataset, encoding):
    rows = {clip.name: 0 for clip in dataset.clips}
    tables = write_tables(dataset, tmp_path / "t", rows, length=9)
    message = r"split 'one': none of its 4 training clips has a trajectory.*9 frames; a track"
    with pytest.raises(ParameterError, match=message):
        run(dataset, tables, tmp_path / "v", encoding)


def test_a_split_whose_test_clips_are_unusable_is_left_out(tmp_path, dataset):
    tables = write_tables(dataset, tmp_path / "t", {"hug/0": 0, "kick/0": 0})
    encoding = replace(SMALL, leave_out_unusable=True)
    protocol = leave_one_group_out(dataset)
    out = tmp_path / "v"
    assert encode(dataset.clips, protocol, tables, out, encoding, workers=0).exit_status == 0
    written = json.loads((out / "protocol.json").read_text())
    assert [split["name"] for split in written["splits"]] == ["without g1", "without g2"]
    assert written["notes"][-1] == "1 split left out without test clips: 'without g0'"


def test_too_few_rows_say_so(tmp_path, dataset):
    tables = write_tables(dataset, tmp_path / "t", dict.fromkeys(["hug/1", "hug/2"], 0))
    with pytest.raises(FittingError, match=r"2 encoders could not be computed; .*failures\.jsonl"):
        run(dataset, tables, tmp_path / "v", replace(SMALL, gaussians=121))
    told = (tmp_path / "v/.flowpipe/failures.jsonl").read_text()
    assert "descriptor 'hof': n_samples=120 rows are too few for a mixture of 121" in told


def test_tables_named_by_the_paths_of_their_videos(tmp_path, dataset, tables):
    renamed = tuple(replace(clip, name=f"new/{clip.name}") for clip in dataset.clips)
    dataset = with_split(replace(dataset, clips=renamed))
    summary = encode(
        dataset.clips,
        official(dataset),
        tables,
        tmp_path / "v",
        SMALL,
        workers=Workers(0),
    )
    assert (summary.done, summary.failed) == (6, 0)


def test_a_folder_that_is_none_of_trajectories(tmp_path, dataset):
    with pytest.raises(ParameterError, match="holds no trajectories"):
        run(dataset, tmp_path, tmp_path / "v")


def test_every_split_has_encoders_of_its_own(tmp_path, dataset, tables):
    protocol = leave_one_group_out(dataset)
    encode(dataset.clips, protocol, tables, tmp_path / "v", SMALL, workers=Workers(0))
    encoders = [(tmp_path / f"v/encoders/{i}-hof.npz").read_bytes() for i in (1, 2, 3)]
    assert len(set(encoders)) == 3
    vectors, _ = load_vectors(vectors_path(tmp_path / "v", "hug/0"), ("1-hof", "2-hof", "3-hof"))
    assert not np.array_equal(vectors["1-hof"], vectors["2-hof"])


def test_long_clips_are_read_in_blocks(tmp_path, dataset, monkeypatch):
    tables = write_tables(dataset, tmp_path / "t", {"hug/0": 500})
    run(dataset, tables, tmp_path / "a", Encoding(descriptors=("hof",), gaussians=3, rows=200))
    monkeypatch.setattr("flowpipe.trajectories.clip_tables._BLOCK", 128)
    run(dataset, tables, tmp_path / "b", Encoding(descriptors=("hof",), gaussians=3, rows=200))
    whole, parts = (
        load_vectors(vectors_path(tmp_path / out, "hug/0"), ("1-hof",))[0]["1-hof"]
        for out in ("a", "b")
    )
    # float32 sums of other blocks, and a square root that makes much of what is near zero.
    assert np.linalg.norm(parts - whole) < 1e-3
