"""Files of strangers, and files that a disk has damaged.

Every reader is given real files with random changes, in a process with little memory to spare. It
may read them or refuse them with an error of flowpipe's own; anything else is a failure.
``FLOWPIPE_MUTATIONS`` sets how many of each kind are tried.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest

from flowpipe.classify.scores import Scores, SplitScores, save_scores
from flowpipe.classify.svm import fit_one_vs_rest
from flowpipe.datasets.base import VIDEO_SUFFIXES
from flowpipe.encoding.files import save_encoders
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors, fit_encoders
from flowpipe.errors import FormatError
from flowpipe.flow.store import FlowReader, StoredClip, codecs
from flowpipe.prediction.trajectories import classifier_of
from flowpipe.runner import run_status
from flowpipe.runner.json_files import to_json
from flowpipe.trajectories.parameters import TrajectoryStage
from tests.helpers import hostile, media
from tests.helpers.clips import (
    contents,
    environment,
    frames,
    smooth_flow,
    store_clip,
    write_video,
)
from tests.runner.test_inspect import state
from tests.trajectories.test_verify import write as write_table

pytestmark = pytest.mark.slow

MUTATIONS = int(os.environ.get("FLOWPIPE_MUTATIONS", "60"))


def flow(name: str, member: str):
    def make(folder: Path) -> Path:
        images = frames(4, (24, 16))
        store_clip(folder, name, smooth_flow(3, (24, 16)), clip="a", images=images)
        return folder / member

    return make


def scores(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    part = SplitScores(
        "1", ("a", "b", "c"), np.array([0, 1, 2]), rng.normal(size=(3, 3)).astype(np.float32)
    )
    save_scores(folder / "scores.npz", Scores(("x", "y", "z"), (part,)), folder)
    return folder / "scores.npz"


def encoders(encoding: Encoding):
    def make(folder: Path) -> Path:
        rows = {"hog": np.random.default_rng(0).random((60, 8)).astype(np.float32)}
        save_encoders(folder / "e.npz", fit_encoders(rows, encoding), encoding, folder)
        return folder / "e.npz"

    return make


def classifier(encoding: Encoding):
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        fitted = fit_encoders({"hog": rng.random((60, 8)).astype(np.float32)}, encoding)
        rows = [{"hog": rng.random((20, 8)).astype(np.float32)} for _ in range(6)]
        vectors = []
        for each in rows:
            clip = ClipVectors(fitted, encoding.pyramid)
            clip.add(each)
            vectors.append(clip.vectors())
        machines = fit_one_vs_rest(np.eye(6), np.array([0, 1, 2, 0, 1, 2]), 3)
        path = folder / "classifier.safetensors"
        made = classifier_of(
            path, ("x", "y", "z"), TrajectoryStage().description(), encoding, fitted, machines,
            np.ones(1), vectors.__getitem__,
        )  # fmt: skip
        made.save(path, folder)
        return path

    return make


def text(name: str, content: str):
    def make(folder: Path) -> Path:
        for each in ("a", "b", "c"):
            write_video(folder / f"{each}.avi", 2)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    return make


def features(name: str):
    def make(folder: Path) -> Path:
        from flowpipe.training.features.layouts import files_of, write_features

        files = files_of("npy", folder, "a", "flow")
        array = np.random.default_rng(0).random((5, 8)).astype(np.float32)
        write_features(files, {files.features: array}, {"clip": "a"}, folder)
        return folder / name

    return make


def model(folder: Path) -> Path:
    from flowpipe.models.weights import save_model
    from tests.helpers.nets import small_network

    save_model(folder / "model.safetensors", small_network(), {}, folder)
    return folder / "model.safetensors"


def weights(name: str):
    def make(folder: Path) -> Path:
        import torch

        save = torch.save
        if name.endswith("safetensors"):
            save = pytest.importorskip("safetensors.torch").save_file
        save({"conv1.weight": torch.ones(4, 3, 3, 3), "fc.bias": torch.zeros(4)}, folder / name)
        return folder / name

    return make


SPLITS = {"splits": [{"name": "1", "train": ["x/a", "y/b"], "test": ["x/c"]}]}
INTERVALS = {
    "database": {
        name: {
            "subset": subset,
            "duration": 9.5,
            "annotations": [{"segment": [1.5, 3], "label": "x"}, {"segment": [4, 9], "label": "y"}],
        }
        for name, subset in (("d", "training"), ("e", "validation"), ("f", "testing"))
    }
}
LEDGER = "".join(
    json.dumps([name, [f"{name}.avi", f"{name}.zip"], [5, 6, 7, 8, 9, 10], None]) + "\n"
    for name in "abc"
)
FISHER = Encoding(descriptors=("hog",), gaussians=2, rows=60)
WORDS = Encoding(descriptors=("hog",), encoding="bow", clusters=4, rows=60)
SAMPLES = {
    "flow zip": ("flow", flow("zip", "a.zip")),
    "flow npy": ("flow", flow("npy", "a.npy")),
    "flow npy json": ("flow", flow("npy", "a.npy.json")),
    "flow h5": ("flow", flow("h5", "a.h5")),
    "flow jpg": ("flow", flow("frames", "a/flow_x_00002.jpg")),
    "flow json": ("flow", flow("frames", "a/meta.json")),
    "flow flo": ("flow", flow("flo", "a/flow_00002.flo")),
    "flow png": ("flow", flow("kitti-png", "a/flow_00002.png")),
    "trajectories": ("trajectories", lambda folder: write_table(folder / "a.h5").path),
    "scores": ("scores", scores),
    "fisher": ("encoders", encoders(FISHER)),
    "words": ("encoders", encoders(WORDS)),
    "classifier of fisher": ("classifier", classifier(FISHER)),
    "classifier of words": ("classifier", classifier(WORDS)),
    "features": ("features", features("a.npy")),
    "record of features": ("features", features("a.npy.json")),
    "model": ("model", model),
    "torch": ("weights", weights("state.pt")),
    "safetensors": ("weights", weights("state.safetensors")),
    "splits": ("splits", text("splits.json", json.dumps(SPLITS))),
    "boxes": ("boxes", text("boxes.txt", "0 1 2 30 40 0.9\n1 2 3 31 41 0.8 5 6 20 30 0.7\n")),
    "csv": ("csv", text("dataset.csv", "path,label,group\na.avi,x,1\nb.avi,y,1\nc.avi,x,2\n")),
    "intervals csv": (
        "intervals",
        text("i.csv", "path,start,end,label,group\na.avi,0,0.04,x,1\nb.avi,0.04,0.08,y,1\n"),
    ),
    "intervals txt": ("intervals", text("Diving_val.txt", "d 0.2 1.1\nd 4.1 5.7\ne 3 9.25\n")),
    "intervals json": ("intervals", text("i.json", json.dumps(INTERVALS))),
    "tsn": ("tsn", text("list.txt", "a 2 0\nb 2 1\nc 2 0\n")),
    "state": ("state", text("1-of-1.json", json.dumps(asdict(state())))),
    "ledger": ("ledger", text(".flowpipe/progress/1-of-1.finished", LEDGER)),
    "used": ("used", text(".flowpipe/used.json", json.dumps({"folders": ["encode-0123abcd"]}))),
    "stage": ("stage", text(".flowpipe/stage.json", json.dumps({"stage": "flow"}))),
    "video avi": ("video", lambda folder: write_video(folder / "v.avi", 6)),
    "video mp4": ("video", lambda folder: media.write(folder / "v.mp4", media.moving(6, 48, 64))),
    "video mkv": ("video", lambda folder: media.write(folder / "v.mkv", media.moving(6, 48, 64))),
}


def read_mutations(reader: str, *paths: Path, count: int) -> dict[str, int]:
    script = hostile.__file__
    command = [sys.executable, script, reader, "1", str(count), *map(str, paths)]
    end = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert end.returncode == 0, f"{end.returncode}: {end.stderr[-3000:]}"
    return json.loads(end.stdout.splitlines()[-1])


@pytest.mark.long
@pytest.mark.parametrize("sample", SAMPLES)
def test_mutated_files_are_read_or_refused(tmp_path, sample):
    reader, make = SAMPLES[sample]
    # A network takes a second or two to build.
    count = max(MUTATIONS // 5, 1) if reader == "model" else MUTATIONS
    told = read_mutations(reader, make(tmp_path), count=count)
    assert sum(told.values()) == count
    # Lines of a ledger that are none are left out.
    assert (told.get("refused", 0) > 0) == (reader != "ledger")


@pytest.mark.long
@pytest.mark.parametrize("folder", ["clips", "ucf101", "kth", "ut-interaction/set1"])
def test_mutated_real_videos_are_read_or_refused(tmp_path, test_data, folder):
    videos = [path for path in (test_data / folder).iterdir() if path.suffix in VIDEO_SUFFIXES]
    assert videos
    count = max(MUTATIONS // 20, 1)
    told = read_mutations("video", *(shutil.copy(path, tmp_path) for path in videos), count=count)
    assert sum(told.values()) == count * len(videos)


HUGE = 100_000


def png_header(width: int, height: int) -> bytes:
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def jpeg_header(width: int, height: int) -> bytes:
    jpeg = bytearray(codecs.encode_jpeg(np.zeros((16, 16), np.uint8)))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(jpeg)


@pytest.mark.parametrize(
    "data",
    [png_header(HUGE, HUGE), png_header(20_000, 20_000), jpeg_header(65_500, 65_500)],
    ids=["png", "smaller png", "jpeg"],
)
def test_a_picture_that_claims_to_be_huge_is_refused_unseen(data):
    for decode in (codecs.decode_grey, codecs.decode_bgr, codecs.decode_kitti):
        with pytest.raises(FormatError, match=r"claims to be \d+x\d+"):
            decode(data, "a.png")


def test_flow_that_claims_to_be_huge_is_refused_unseen(tmp_path):
    head = np.array([202021.25], "<f4").tobytes() + np.array([HUGE, HUGE], "<i4").tobytes()
    with pytest.raises(FormatError, match="claims to be 100000x100000"):
        codecs.decode_flo(head + bytes(100), "a.flo")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("flow_x_00001", "flow_y_00001"):
            file.create_dataset(name, (HUGE, HUGE), "f4", chunks=(100, 100))
    with pytest.raises(FormatError, match="100000"):
        FlowReader(StoredClip(tmp_path, "a", "h5"))


def test_no_file_is_written_outside_the_output_folder(tmp_path):
    """Names in a zip, and in meta.json, name nothing on this disk."""
    import zipfile

    from flowpipe.flow.store import convert

    clip = store_clip(tmp_path / "in", "zip", smooth_flow(2, (24, 16)), clip="a")
    with zipfile.ZipFile(clip.path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    meta = json.loads(members["meta.json"])
    with zipfile.ZipFile(clip.path, "w") as archive:
        for name, data in members.items():
            if name != "meta.json":
                archive.writestr(name, data)
        archive.writestr("meta.json", to_json({**meta, "clip": "../../outside"}))
        archive.writestr("../outside.jpg", b"x")
        archive.writestr("/tmp/outside.jpg", b"x")
    before = set(contents(tmp_path))
    convert(clip, tmp_path / "out", "frames")
    new = set(contents(tmp_path)) - before
    assert new == {f"out/a/{name}" for name in members if name != "meta.json"} | {"out/a/meta.json"}


def test_the_state_of_a_run_is_no_path_to_anywhere(tmp_path):
    (tmp_path / run_status.FOLDER).mkdir(parents=True)
    (tmp_path / run_status.FOLDER / "1-of-1.json").symlink_to("/etc/passwd")
    with pytest.raises(FormatError):
        run_status.states(tmp_path)
