"""Damage is found, of every kind and in every layout; what is not ours is left alone."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flowpipe.errors import FlowpipeError
from flowpipe.flow.store import LAYOUTS, FlowReader, StoredClip, codecs, layout, remove, verify
from flowpipe.runner import provenance
from flowpipe.runner.provenance import stage_path
from tests.helpers.clips import contents, frames, hashed, smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

FLOWS = smooth_flow(3, (24, 16))
IMAGES = frames(4, (24, 16))


def make(out, name, clip="c/a", **options):
    return store_clip(out, name, FLOWS, clip=clip, images=IMAGES, **options)


def a_member(out, name):
    """A file that holds flow."""
    pattern = {
        "zip": "c/a.zip",
        "npy": "c/a.npy",
        "h5": "c/a.h5",
        "tsfusion": "v/c/a/frame000002.jpg",
    }
    paths = sorted(out.glob(pattern.get(name, "c/a/flow*")))
    return paths[len(paths) // 2]


@pytest.mark.parametrize("name", LAYOUTS)
def test_whole_flow_passes(tmp_path, name):
    assert verify(make(tmp_path, name)) is None
    assert verify(make(tmp_path / "h", name, dtype="float16", quality=50)) is None


@pytest.mark.parametrize("kept", [0, 10, -1])
@pytest.mark.parametrize("name", LAYOUTS)
def test_truncated_files(tmp_path, name, kept):
    clip = make(tmp_path, name)
    path = a_member(tmp_path, name)
    path.write_bytes(path.read_bytes()[:kept])
    assert verify(clip) is not None


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_files(tmp_path, name):
    clip = make(tmp_path, name)
    a_member(tmp_path, name).unlink()
    assert verify(clip) is not None


@pytest.mark.parametrize("name", [name for name in LAYOUTS if not layout(name).is_file])
def test_surplus_and_swapped_files(tmp_path, name):
    clip = make(tmp_path, name)
    with FlowReader(clip) as reader:
        last, beyond = reader.layout.flow_members(2)[0], reader.layout.flow_members(3)[0]
        first = reader.layout.flow_members(0)[0]
    folder = tmp_path / last.replace("frame", "c/a/frame") if name == "tsfusion" else None
    at = (lambda member: tmp_path / "u/c/a" / member[2:]) if folder else (tmp_path / "c/a").joinpath
    shutil.copy(at(last), at(beyond))
    assert "more than its meta.json says" in verify(clip)
    at(beyond).unlink()
    assert verify(clip) is None
    shutil.copy(at(first), at(last))
    assert "check sum" in verify(clip)


def test_a_zip_that_was_packed_again_with_less_or_more(tmp_path):
    clip = make(tmp_path, "zip")
    with zipfile.ZipFile(clip.path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}

    def pack(members):
        with zipfile.ZipFile(clip.path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return verify(clip)

    assert pack(members) is None
    assert "lacks 'flow_y_00002.jpg'" in pack(
        {key: data for key, data in members.items() if key != "flow_y_00002.jpg"}
    )
    more = {**members, "flow_x_00004.jpg": members["flow_x_00003.jpg"]}
    assert "more than its meta.json says: 'flow_x_00004.jpg'" in pack(more)
    meta = json.loads(members["meta.json"])
    fewer = {**members, "meta.json": json.dumps({**meta, "n_flows": 2}).encode()}
    assert "4 frames with step 1 make 3 flow fields; it says 2" in pack(fewer)
    none = {"meta.json": json.dumps({**meta, "n_flows": 0, "n_frames": 0}).encode()}
    assert "no flow" in pack(none)
    smaller = codecs.encode_jpeg(np.zeros((8, 8), np.uint8))
    assert "8x8; meta.json says 24x16" in pack(
        {**members, "flow_x_00001.jpg": smaller, "flow_y_00001.jpg": smaller}
    )
    assert "no meta.json" in pack({"readme.txt": b"another program's"})


def everything(clip):
    with FlowReader(clip) as reader:
        flows = [reader.flow(index).tobytes() for index in range(len(reader))]
        images = [reader.image_jpeg(index) for index in range(reader.meta.n_images)]
        return reader.meta, flows, images


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_flipped_bit_changes_what_is_read_without_being_found(tmp_path, name):
    clip = make(tmp_path, name)
    whole = everything(clip)
    rng = np.random.default_rng(list(LAYOUTS).index(name))
    found = 0
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        data = path.read_bytes()
        for position in rng.choice(len(data) * 8, min(40, len(data)), replace=False):
            damaged = bytearray(data)
            damaged[position // 8] ^= 1 << position % 8
            path.write_bytes(damaged)
            fault = verify(clip)
            assert fault is None or fault
            if fault is None:
                assert everything(clip) == whole, (path, position)
            found += fault is not None
        path.write_bytes(data)
    assert verify(clip) is None
    assert found > 10


def test_a_changed_video_is_found_and_one_that_is_gone_is_no_fault(tmp_path):
    video = tmp_path / "videos/a.avi"
    video.parent.mkdir()
    video.write_bytes(b"0123456789")
    source = {
        "path": "../videos/a.avi",
        **provenance.fingerprint(video),
        "sha256": provenance.sha256(video),
    }
    out = tmp_path / "out"
    for name in LAYOUTS:
        clip = make(out / name, name, source={**source, "path": "../../videos/a.avi"})
        assert verify(clip) is None
        video.write_bytes(b"012345678X")
        assert "is not the one that the flow was made from" in verify(clip)
        assert verify(clip, sources=False) is None
        video.unlink()
        assert verify(clip) is None
        video.write_bytes(b"0123456789")


@pytest.mark.parametrize("name", LAYOUTS)
def test_removal_makes_room_for_the_same_bytes(tmp_path, name):
    clip = make(tmp_path, name)
    other = make(tmp_path, name, clip="c/b")
    before = contents(tmp_path)
    assert remove(clip)
    assert not clip.done_marker.exists()
    assert verify(other) is None
    assert all("c/b" in key for key in contents(tmp_path))
    make(tmp_path, name)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", LAYOUTS)
def test_removal_that_is_killed_can_be_gone_over(tmp_path, name, monkeypatch):
    class Killed(BaseException):
        pass

    def dying(path, target):
        raise Killed

    clip = make(tmp_path, name)
    before = contents(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        with pytest.raises(Killed):
            remove(clip)
    make(tmp_path, name)
    assert contents(tmp_path) == before


def test_what_is_not_ours_is_reported_and_never_removed(tmp_path):
    def write(path, data=b"years of work"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    jpeg = codecs.encode_jpeg(np.full((16, 16), 128, np.uint8))
    write(tmp_path / "denseflow/flow_x_00000.jpg", jpeg)
    write(tmp_path / "denseflow/flow_y_00000.jpg", jpeg)
    write(tmp_path / "torn.zip")
    write(tmp_path / "set/meta.json", b'{"licence": "CC"}')
    np.save(tmp_path / "bare.npy", FLOWS)
    with zipfile.ZipFile(tmp_path / "papers.zip", "w") as archive:
        archive.writestr("paper.pdf", "%PDF")
    before = contents(tmp_path)
    clips = [
        StoredClip(tmp_path, "denseflow", None),
        StoredClip(tmp_path, "torn", "zip"),
        StoredClip(tmp_path, "set", None),
        StoredClip(tmp_path, "bare", "npy"),
        StoredClip(tmp_path, "papers", "zip"),
    ]
    for clip in clips:
        assert verify(clip) is not None
        assert not remove(clip), clip
    stage_path(tmp_path).parent.mkdir()
    stage_path(tmp_path).write_text("{}")
    assert remove(clips[1]), "a torn zip in a folder of ours is ours"
    assert not remove(clips[4]), "a whole zip without meta.json is not"
    del before["torn.zip"]
    assert contents(tmp_path) == {**before, ".flowpipe/stage.json": hashed(b"{}")}


def test_a_clip_that_cannot_be_read_is_a_fault_not_a_crash(tmp_path):
    fault = verify(StoredClip(tmp_path, "none", "zip"))
    assert "none.zip" in fault
    with pytest.raises(FlowpipeError):
        FlowReader(StoredClip(tmp_path, "none", "h5"))
