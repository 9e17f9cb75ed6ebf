"""Detectors learn what is in the features, and an interrupted training ends like a whole one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowpipe.errors import FormatError
from flowpipe.models.detectors import DETECTORS
from flowpipe.training.checkpoint import CHECKPOINT_NAME
from flowpipe.training.detection.files import load_detector_file
from flowpipe.training.detection.parameters import DetectorTraining
from flowpipe.training.detection.scores import StepScorer, step_scores
from flowpipe.training.detection.steps import Steps
from flowpipe.training.detection.train import train_windows
from flowpipe.training.detection.windows import StepWindows
from flowpipe.training.distributed import torch_threads
from flowpipe.training.faults import DivergedError
from tests.helpers.clips import environment

pytestmark = pytest.mark.usefixtures("no_flushing")

CLASSES, SIZE = ("a", "b"), 6
SMALL = {
    "oadtr": DetectorTraining(
        "oadtr", steps=5, future=2, width=16, depth=1, decoder_depth=1, epochs=2, batch_size=16,
        lr=3e-3, drop_every=1,
    ),
    "lstm": DetectorTraining(
        "lstm", standardise=True, steps=5, width=16, epochs=2, batch_size=16, lr=3e-3
    ),
    "linear": DetectorTraining("linear", epochs=2, batch_size=16, lr=3e-2),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with torch_threads(1):
        yield


def noisy(seed: int, n: int = 40) -> tuple[Steps, np.ndarray]:
    """A video whose features are noise around that of their class, and its targets."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(rng.integers(3, size=-(-n // 5)), 5)[:n]
    features = 2 * np.eye(3, SIZE)[labels] + rng.normal(size=(n, SIZE))
    steps = Steps(f"v{seed}", features.astype(np.float32), np.arange(n), n, 5.0, 1)
    return steps, np.eye(3, dtype=np.float32)[labels]


def windows_of(parameters: DetectorTraining, seeds=range(3), *, shuffled=False) -> StepWindows:
    videos, targets = zip(*map(noisy, seeds), strict=True)
    if shuffled:
        order = np.random.default_rng(0).permutation(sum(map(len, targets)))
        mixed = np.concatenate(targets)[order]
        targets = np.split(mixed, np.cumsum([len(each) for each in targets])[:-1])
    options = parameters.options()
    return StepWindows(videos, targets, options.get("steps", 1), options.get("future", 0))


def trained(out, parameters, **options):
    windows = windows_of(parameters)
    return train_windows(windows, SIZE, CLASSES, parameters, out, {"set": "toy"}, **options)


def assert_same(one, other):
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", DETECTORS)
def test_resuming_equals_no_interruption(tmp_path, name):
    parameters = SMALL[name]
    whole = trained(tmp_path / "whole", parameters)
    taken = []

    def stop_at(count):
        def advance(step):
            taken.append(step)
            if len(taken) == count:
                raise Stopped

        return advance

    for count in (3, 10):  # in the first and in the second epoch of 8 steps
        with pytest.raises(Stopped):
            trained(tmp_path / "parts", parameters, checkpoint_every=1, advance=stop_at(count))
        assert (tmp_path / "parts" / CHECKPOINT_NAME).exists()
    again = trained(tmp_path / "parts", parameters, checkpoint_every=1, advance=taken.append)
    assert_same(again, whole)
    # The interrupted steps were taken twice, no other.
    assert [(each.epoch, each.step) for each in taken[-7:]] == [
        *((1, step) for step in range(2, 9))
    ]
    assert not (tmp_path / "parts" / CHECKPOINT_NAME).exists()
    log = [(tmp_path / each / "log.csv").read_text().split() for each in ("whole", "parts")]
    columns = [[row.split(",")[:4] for row in rows] for rows in log]
    assert columns[0] == columns[1]


KILLED = """
import sys
from pathlib import Path
import torch
from tests.training.detection.test_train import SMALL, trained
torch.set_num_threads(1)
trained(Path(sys.argv[1]), SMALL["oadtr"], checkpoint_every=1)
"""


@pytest.mark.slow
def test_a_killed_process(tmp_path):
    whole, out = trained(tmp_path / "whole", SMALL["oadtr"]), tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], env=environment())
    deadline = time.monotonic() + 300
    while not (out / CHECKPOINT_NAME).exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert_same(trained(out, SMALL["oadtr"]), whole)
    assert not (out / ".tmp").exists()


@pytest.mark.parametrize("name", DETECTORS)
def test_the_classes_of_new_videos_are_learnt(tmp_path, name):
    parameters = replace(SMALL[name], epochs=12, drop_every=None)
    windows = windows_of(parameters, range(20, 30))
    detector = train_windows(windows, SIZE, CLASSES, parameters, tmp_path, {})
    right = []
    for seed in (7, 8, 9):
        steps, targets = noisy(seed)
        scores = step_scores(detector, steps.features)
        np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
        right.append(scores.argmax(axis=1) == targets.argmax(axis=1))
    assert np.mean(right) > 0.75


def test_with_shuffled_labels_nothing_is_learnt(tmp_path):
    parameters = replace(SMALL["oadtr"], epochs=8, drop_every=None)
    windows = windows_of(parameters, range(6), shuffled=True)
    detector = train_windows(windows, SIZE, CLASSES, parameters, tmp_path, {})
    right = [
        step_scores(detector, steps.features).argmax(axis=1) == targets.argmax(axis=1)
        for steps, targets in map(noisy, range(10, 16))
    ]
    assert 0.2 < np.mean(right) < 0.48  # chance is a third


@pytest.mark.parametrize("name", DETECTORS)
def test_step_by_step_gives_the_scores_of_the_whole_video(tmp_path, name):
    detector = trained(tmp_path, SMALL[name])
    steps, _ = noisy(5)
    scores = step_scores(detector, steps.features)
    scorer = StepScorer(detector)
    streamed = np.stack([scorer.next(feature) for feature in steps.features])
    np.testing.assert_allclose(streamed, scores, atol=1e-6)
    scorer.restart()
    np.testing.assert_allclose(scorer.next(steps.features[0]), scores[0], atol=1e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_nothing_after_the_present_has_a_part_in_a_score(tmp_path, name):
    detector = trained(tmp_path, SMALL[name])
    features = noisy(5)[0].features
    scores = step_scores(detector, features)
    rng = np.random.default_rng(0)
    for present in (0, 3, 20, 38):
        changed = features.copy()
        changed[present + 1 :] = rng.normal(size=changed[present + 1 :].shape) * 100
        after = step_scores(detector, changed)
        np.testing.assert_array_equal(after[: present + 1], scores[: present + 1])
        assert not np.array_equal(after[present + 1 :], scores[present + 1 :])


def test_a_trained_detector_is_loaded_and_not_trained_again(tmp_path):
    first = trained(tmp_path, SMALL["lstm"])
    steps = []
    assert_same(trained(tmp_path, SMALL["lstm"], advance=steps.append), first)
    assert steps == []
    with pytest.raises(FormatError, match=r"is of another training \(set"):
        train_windows(
            windows_of(SMALL["lstm"]), SIZE, CLASSES, SMALL["lstm"], tmp_path, {"set": "other"}
        )


def test_a_training_that_diverges_stops(tmp_path):
    with pytest.raises(DivergedError, match="the training has diverged"):
        trained(tmp_path, replace(SMALL["linear"], lr=1e30, grad_clip=None, epochs=30))
    assert not (tmp_path / "detector.safetensors").exists()


def test_features_of_another_size_are_refused(tmp_path):
    detector = trained(tmp_path, SMALL["linear"])
    with pytest.raises(FormatError, match=r"a feature has 7 numbers; .* was trained on 6"):
        step_scores(detector, np.zeros((3, 7), np.float32))
    with pytest.raises(FormatError, match="a feature has 5 numbers"):
        StepScorer(detector).next(np.zeros(5, np.float32))


def test_damaged_files_of_detectors_are_refused(tmp_path):
    path = trained(tmp_path, SMALL["oadtr"]).path
    whole = path.read_bytes()
    damages = {
        "cut": whole[:-100],
        "empty": b"",
        "wider": whole.replace(b'\\"width\\": 16', b'\\"width\\": 24'),
        "format": whole.replace(b"flowpipe detector 1", b"flowpipe detector 9"),
        "model": whole.replace(b'\\"oadtr\\"', b'\\"linea\\"'),
    }
    for name, data in damages.items():
        assert data != whole, name
        path.write_bytes(data)
        with pytest.raises(FormatError, match="is not a whole trained detector"):
            load_detector_file(path)
    path.unlink()
    with pytest.raises(FormatError, match="does not exist; a trained detector is expected"):
        load_detector_file(path)
