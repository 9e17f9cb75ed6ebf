"""Damaged tables are found, and made anew."""

from __future__ import annotations

import json
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flowpipe.cli import main
from flowpipe.errors import FlowpipeError
from flowpipe.trajectories.table import FIELDS, TableWriter, read_table
from flowpipe.trajectories.verify import StoredTable, stored_tables, verify
from tests.helpers.clips import contents, write_video
from tests.trajectories.test_table import PARAMETERS, made_up


def write(path, count=150):
    rows = made_up(count)
    with TableWriter(path, PARAMETERS) as table:
        table.append(rows)
        source = {"path": "gone.avi", "sha256": "0" * 64}
        table.finish(200, 320, 240, clip=path.stem, source=json.dumps(source), truncated=False)
    return StoredTable(path.parent, path.stem)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    table = write(tmp_path_factory.mktemp("whole") / "a.h5")
    return table.path.read_bytes(), read_table(table.path)


def test_a_whole_table_passes(tmp_path):
    assert verify(write(tmp_path / "a.h5")) is None
    assert verify(write(tmp_path / "none.h5", 0)) is None
    assert [table.name for table in stored_tables(tmp_path)] == ["a", "none"]


def test_no_string_lies_where_a_flipped_bit_would_stop_hdf5(whole, tmp_path):
    """Heaps of strings have no check sum; HDF5 loops for ever where one's sizes are wrong."""
    assert b"GCOL" not in whole[0]
    table = write(tmp_path / "a.h5")
    with h5py.File(table.path, "r+") as file:
        file.attrs["clip"] = "a"
    assert "its attribute 'clip' is a string of variable length" in verify(table)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_found_or_changes_nothing(whole, tmp_path_factory, data):
    """HDF5 has bytes that mean nothing; every other is under a check sum."""
    table, rows = whole
    place = data.draw(st.integers(0, len(table) * 8 - 1))
    damaged = bytearray(table)
    damaged[place // 8] ^= 1 << place % 8
    path = tmp_path_factory.getbasetemp() / "flipped.h5"
    path.write_bytes(damaged)
    if verify(StoredTable(path.parent, "flipped")) is None:
        found = read_table(path)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(found, name), getattr(rows, name))


@settings(max_examples=100, deadline=None)
@given(length=st.floats(0, 1, exclude_max=True), junk=st.binary(max_size=200))
def test_a_table_cut_short_is_found(whole, tmp_path_factory, length, junk):
    path = tmp_path_factory.getbasetemp() / "cut.h5"
    damaged = whole[0][: int(length * len(whole[0]))] + junk
    assume(not damaged.startswith(whole[0]))  # junk may be just what was cut off
    path.write_bytes(damaged)
    assert verify(StoredTable(path.parent, "cut")) is not None


def test_a_table_that_claims_more_than_it_holds(tmp_path):
    """Refused before memory is asked for."""
    table = write(tmp_path / "a.h5")
    with h5py.File(table.path, "r+") as file:
        for name in FIELDS:
            file[name].resize(10**12, axis=0)
    assert "has 1000000000000 rows and holds fewer" in verify(table)
    with pytest.raises(FlowpipeError):
        read_table(table.path)


def test_verify_repairs_and_the_next_run_makes_it_anew(tmp_path, capsys):
    for name in ("a", "b"):
        write_video(tmp_path / f"videos/{name}.avi", 18, (64, 64))
    shutil.copy(tmp_path / "videos/a.avi", tmp_path / "videos/c.avi")
    out = tmp_path / "out"

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments), "--jobs", "0"])
        return end.value.code

    extract = ("extract-trajectories", tmp_path / "videos", "--out", out)
    assert run(*extract) == 0
    before = contents(out)
    assert run("verify", out) == 0
    path = out / "b.h5"
    path.write_bytes(path.read_bytes()[:-100])
    write_video(tmp_path / "videos/c.avi", 18, (64, 64), seed=3)
    assert run("verify", out) == 1
    told = capsys.readouterr().err
    assert "failed: b: " in told
    assert "c.avi' has changed since the table was made from it" in told
    shutil.copy(tmp_path / "videos/a.avi", tmp_path / "videos/c.avi")
    assert run("verify", out, "--repair") == 1
    assert not path.exists()
    assert run(*extract) == 0
    assert contents(out) == before
