from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from flowpipe.classify.parameters import Svm
from flowpipe.classify.protocols import given, leave_one_group_out, official
from flowpipe.classify.scores import load_scores
from flowpipe.datasets.base import Clip, Split
from flowpipe.errors import FormatError, ParameterError
from flowpipe.pipelines.classify import classify
from flowpipe.pipelines.encode import encode
from flowpipe.runner.pool import Workers
from flowpipe.runner.provenance import StageMismatchError
from tests.helpers.clips import write_video
from tests.helpers.tables import (
    SMALL,
    WORDS,
    contents,
    made_up_set,
    with_split,
    write_table,
    write_tables,
)

pytestmark = pytest.mark.usefixtures("no_flushing")


def encoded(tmp_path, dataset, protocol, encoding=SMALL, rows=None):
    tables = write_tables(dataset, tmp_path / "trajectories", rows)
    encode(dataset.clips, protocol, tables, tmp_path / "vectors", encoding, workers=Workers(0))
    return tmp_path / "vectors"


def run(vectors, out, svm=None, **options):
    return classify(vectors, out, svm or Svm(), title="made up", workers=Workers(0), **options)


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.parametrize("encoding", [SMALL, pytest.param(WORDS, marks=pytest.mark.slow)])
def test_classes_that_lie_apart_are_told_apart(tmp_path, encoding, caplog):
    caplog.set_level("INFO")
    dataset = made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3, "point": 3})
    vectors = encoded(tmp_path, dataset, leave_one_group_out(dataset), encoding)
    assert run(vectors, tmp_path / "s").accuracy.value == 1
    found = metrics_of(tmp_path / "s")
    assert found["accuracy"]["value"] == 1
    assert found["protocol"] == "leave-one-group-out"
    assert set(found["descriptors"]) == {"hof", "mbhx"}
    assert found["descriptors"]["hof"]["accuracy"]["value"] == 1
    assert re.search(r"all descriptors +100.0 % of 9 test clips", caplog.text)
    for name in ("scores.npz", "scores-hof.npz", "scores-mbhx.npz"):
        scores = load_scores(tmp_path / "s" / name)
        assert scores.classes == dataset.classes
        assert [split.split for split in scores.splits] == [
            "without g0",
            "without g1",
            "without g2",
        ]
        assert scores.splits[1].names == ("hug/1", "kick/1", "point/1")
        assert scores.splits[1].labels.tolist() == [0, 1, 2]


def test_a_second_run_trains_nothing_and_gives_the_same(tmp_path, caplog):
    caplog.set_level("INFO")
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    vectors = encoded(tmp_path, dataset, official(dataset))
    run(vectors, tmp_path / "s")
    before = contents(tmp_path / "s")
    caplog.clear()
    run(vectors, tmp_path / "s")
    assert "3 splits: 0 done, 3 skipped" in caplog.text
    assert contents(tmp_path / "s") == before
    with pytest.raises(StageMismatchError, match=r"c: 100.0 recorded, 1.0 requested"):
        run(vectors, tmp_path / "s", Svm(c=1.0))


def test_scores_follow_the_vectors(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    vectors = encoded(tmp_path, dataset, official(dataset))
    run(vectors, tmp_path / "s")
    before = load_scores(tmp_path / "s/scores.npz").splits[0].scores
    clip = dataset.clips[0]
    clip.path.write_text("another video")
    write_table(tmp_path / "trajectories", clip, 60, kind=1)
    encode(
        dataset.clips,
        official(dataset),
        tmp_path / "trajectories",
        vectors,
        SMALL,
        workers=Workers(0),
    )
    run(vectors, tmp_path / "s")
    after = load_scores(tmp_path / "s/scores.npz").splits[0]
    assert after.names[0] == "hug/0"
    assert after.predictions[0] == 1
    # The other test clip is scored by the same SVMs.
    assert np.array_equal(after.scores[1], before[1])


@pytest.mark.parametrize("encoding", [SMALL, pytest.param(WORDS, marks=pytest.mark.slow)])
def test_a_corrected_test_label_changes_the_metrics_alone(tmp_path, encoding):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    tables = write_tables(dataset, tmp_path / "trajectories")
    vectors, out = tmp_path / "v", tmp_path / "s"

    def compute(dataset):
        protocol = official(dataset)
        encode(dataset.clips, protocol, tables, vectors, encoding, workers=Workers(0))
        run(vectors, out)
        return {
            path.relative_to(tmp_path): path.stat().st_mtime_ns
            for pattern in ("v/encoders/*", "v/vectors/*/*", "v/kernels/*", "s/parts/**/*")
            for path in tmp_path.glob(pattern)
            if path.is_file()
        }

    before = compute(dataset)
    assert len(before) == 2 + 6 + 2 + 3 + 1
    assert metrics_of(out)["accuracy"]["value"] == 1
    corrected = tuple(
        replace(clip, label="kick") if clip.name == "hug/0" else clip for clip in dataset.clips
    )
    assert compute(replace(dataset, clips=corrected)) == before
    assert metrics_of(out)["accuracy"]["value"] == 0.5
    assert load_scores(out / "scores.npz").splits[0].labels.tolist() == [1, 1]


def test_a_corrected_training_label_trains_again_in_another_folder(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    vectors = encoded(tmp_path, dataset, official(dataset))
    run(vectors, tmp_path / "s")
    before = contents(vectors)
    corrected = tuple(
        replace(clip, label="kick") if clip.name == "hug/1" else clip for clip in dataset.clips
    )
    tables = tmp_path / "trajectories"
    protocol = official(replace(dataset, clips=corrected))
    encode(corrected, protocol, tables, vectors, SMALL, workers=Workers(0))
    after = contents(vectors)
    assert {name for name in after if after[name] != before[name]} == {"protocol.json"}
    with pytest.raises(StageMismatchError, match="training_labels"):
        run(vectors, tmp_path / "s")
    run(vectors, tmp_path / "again", other_runs=[tmp_path / "s"])
    assert "another run" not in (tmp_path / "again/report.html").read_text()


def test_one_descriptor_has_no_combination(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    vectors = encoded(tmp_path, dataset, official(dataset), replace(SMALL, descriptors=("hof",)))
    run(vectors, tmp_path / "s")
    assert metrics_of(tmp_path / "s")["descriptors"] == {}
    assert not (tmp_path / "s/scores-hof.npz").exists()


def test_a_class_with_one_clip_and_a_fold_without_a_class(tmp_path):
    dataset = made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3, "rare": 1})
    vectors = encoded(tmp_path, dataset, leave_one_group_out(dataset))
    run(vectors, tmp_path / "s")
    found = metrics_of(tmp_path / "s")
    assert found["accuracy"]["value"] == pytest.approx(6 / 7)
    told = [note for note in found["notes"] if "class 'rare' has no training clip" in note]
    assert len(told) == 1
    assert told[0].startswith("without g0: ")
    rare = found["classes"][2]
    assert (rare["class"], rare["accuracy"]) == ("rare", 0)
    assert "class &#39;rare&#39; has no training clip" in (tmp_path / "s/report.html").read_text()


def test_clips_without_trajectories_and_without_labels_are_reported(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    unlabelled = Clip(dataset.clips[0].path, "new/0")
    dataset = replace(dataset, clips=(*dataset.clips, unlabelled))
    vectors = encoded(tmp_path, dataset, official(dataset), rows={"kick/0": 0})
    run(vectors, tmp_path / "s")
    found = metrics_of(tmp_path / "s")
    assert found["clips_without_trajectories"] == ["kick/0"]
    notes = " ".join(found["notes"])
    assert "1 clip without a label left out: 'new/0'" in notes
    assert "1 clip without trajectories, with vectors of zeros: 'kick/0'" in notes


def test_frames_of_several_sizes_are_noted(tmp_path):
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    tables = write_tables(dataset, tmp_path / "t")
    write_table(tables, dataset.clips[0], 60, 0, size=(90, 80))
    encode(dataset.clips, official(dataset), tables, tmp_path / "v", SMALL, workers=Workers(0))
    run(tmp_path / "v", tmp_path / "s")
    told = " ".join(metrics_of(tmp_path / "s")["notes"])
    assert "the frames have 2 sizes, from 64x48 to 90x80" in told


def test_the_report_shows_wrong_clips_times_and_other_runs(tmp_path):
    dataset = made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3})
    write_video(tmp_path / "videos/kick/0.avi", 6)
    swapped = tuple(
        replace(clip, label="hug") if clip.name == "kick/0" else clip for clip in dataset.clips
    )
    tables = write_tables(dataset, tmp_path / "trajectories")
    dataset = replace(dataset, clips=swapped)
    split = Split("one", ("hug/1", "hug/2", "kick/1", "kick/2"), ("hug/0", "kick/0"))
    protocol = given(dataset, [split])
    for out, encoding in (("v", SMALL), ("w", WORDS)):
        encode(dataset.clips, protocol, tables, tmp_path / out, encoding, workers=Workers(0))
    run(tmp_path / "w", tmp_path / "s-words")
    (tmp_path / "s-empty").mkdir()
    other_runs = [tmp_path / name for name in ("s-words", "s-empty", "s")]
    run(tmp_path / "v", tmp_path / "s", other_runs=other_runs, times={"encode: encoders": 12.5})
    page = (tmp_path / "s/report.html").read_text()
    assert "another run: clusters 8, encoding bow" in page
    assert "12.5 s" in page
    assert "classify: SVMs" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "kick/0" in page


def test_folders_that_cannot_be_classified(tmp_path):
    with pytest.raises(ParameterError, match="holds no encoded clips"):
        run(tmp_path, tmp_path / "s")
    dataset = with_split(made_up_set(tmp_path / "videos", {"hug": 3, "kick": 3}))
    vectors = encoded(tmp_path, dataset, official(dataset))
    (vectors / "kernels/1-mbhx.npz").unlink()
    with pytest.raises(FormatError, match=r"lacks .*1-mbhx.npz'; run encode again"):
        run(vectors, tmp_path / "s")
