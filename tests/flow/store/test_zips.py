"""The quick reader of plain zips: what zipfile reads, or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpipe.flow.store import FlowReader, stored_clips
from flowpipe.flow.store.zips import NotPlainError, PlainZip
from tests.helpers.clips import smooth_flow, store_clip

pytestmark = pytest.mark.usefixtures("no_flushing")

MEMBERS = {"flow_x_00001.jpg": b"a" * 300, "flow_y_00001.jpg": bytes(range(256)), "meta.json": b""}


def archive(path: Path, members: dict[str, bytes] = MEMBERS, **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data, compress_type=options.get("compression"))
    return path


def test_it_reads_what_zipfile_reads(tmp_path):
    store_clip(tmp_path, "zip", smooth_flow(7))
    path = tmp_path / "a.zip"
    plain = PlainZip(path)
    with zipfile.ZipFile(path) as expected:
        assert plain.namelist() == expected.namelist()
        for name in expected.namelist():
            assert plain.read(name) == expected.read(name)
    plain.close()
    plain.close()


def test_an_extra_field_in_the_local_header_only(tmp_path):
    """As some zip programs write it; the directory does not tell."""
    path = archive(tmp_path / "a.zip", {"a": b"hello"})
    data = bytearray(path.read_bytes())
    extra = b"\x99\x99\x04\x00abcd"
    data[28:30] = len(extra).to_bytes(2, "little")
    data[31:31] = extra
    start = data.rindex(b"PK\x05\x06") + 16
    data[start : start + 4] = (data.index(b"PK\x01\x02")).to_bytes(4, "little")
    path.write_bytes(data)
    with zipfile.ZipFile(path) as expected:
        assert expected.read("a") == b"hello"
    assert PlainZip(path).read("a") == b"hello"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: archive(path, compression=zipfile.ZIP_DEFLATED),
        lambda path: archive(path, {**MEMBERS, "größe": b"1"}),
        lambda path: path.write_bytes(b"before" + archive(path).read_bytes()),
        lambda path: path.write_bytes(archive(path).read_bytes() + b"after"),
        lambda path: path.write_bytes(archive(path).read_bytes()[:-30]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"PK\x05\x06"),
    ],
)
def test_the_rest_is_left_to_zipfile(tmp_path, make):
    path = tmp_path / "a.zip"
    make(path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotPlainError):
        PlainZip(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.slow
def test_a_comment_and_many_members_are_left_to_zipfile(tmp_path):
    path = archive(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as file:
        file.comment = b"by hand"
    with pytest.raises(NotPlainError):
        PlainZip(path)
    many = archive(tmp_path / "many.zip", {f"{i}": b"" for i in range(65536)})
    with pytest.raises(NotPlainError):
        PlainZip(many)


def test_flow_that_was_zipped_anew_is_read(tmp_path):
    clip = store_clip(tmp_path / "1", "zip", smooth_flow(3))
    with FlowReader(clip) as reader:
        members = {name: reader.read(name) for name in reader.names()}
        levels = reader.levels(2)
    (tmp_path / "2").mkdir()
    archive(tmp_path / "2/a.zip", members, compression=zipfile.ZIP_DEFLATED)
    with FlowReader(next(stored_clips(tmp_path / "2"))) as reader:
        assert np.array_equal(reader.levels(2), levels)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_bit_is_never_taken_for_data(tmp_path_factory, data):
    path = archive(tmp_path_factory.mktemp("flipped") / "a.zip")
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        plain = PlainZip(path)
    except NotPlainError:
        return
    for name, expected in MEMBERS.items():
        try:
            assert plain.read(name) == expected
        except (KeyError, zipfile.BadZipFile):
            continue


def test_processes_that_share_the_file_do_not_disturb_each_other(tmp_path):
    """A fork inherits the position of an open file; reading does not use it."""
    path = archive(tmp_path / "a.zip")
    script = f"""
import os
from pathlib import Path
from flowpipe.flow.store.zips import PlainZip
plain = PlainZip(Path({str(path)!r}))
child = os.fork()
ok = all(plain.read("flow_y_00001.jpg") == bytes(range(256)) for _ in range(2000))
if child == 0:
    os._exit(0 if ok else 1)
assert ok and os.waitpid(child, 0)[1] == 0
"""
    repository = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
