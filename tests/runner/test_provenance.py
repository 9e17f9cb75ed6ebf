from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowpipe.errors import FormatError, ParameterError
from flowpipe.runner.json_files import read_json, to_json
from flowpipe.runner.provenance import (
    StageMismatchError,
    differences,
    digest,
    fingerprint,
    is_output,
    open_stage,
    sha256,
    short_hash,
    stage_path,
)
from tests.helpers.clips import contents


def test_fingerprint_sees_length_and_the_sampled_blocks(tmp_path):
    path = tmp_path / "v"
    data = bytearray(os.urandom(1 << 20))
    path.write_bytes(data)
    first = fingerprint(path)
    assert first["bytes"] == 1 << 20
    assert len(first["fingerprint"]) == 32
    assert fingerprint(path) == first
    for position in (0, 65535, (1 << 19) - 32768, (1 << 19) + 32767, (1 << 20) - 65536, -1):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != first, position
        assert sha256(path) != first
    path.write_bytes(bytes(data) + b"\0")
    assert fingerprint(path)["fingerprint"] != first["fingerprint"]
    changed = bytearray(data)
    changed[200_000] ^= 1  # between the blocks: for sha256 to find
    path.write_bytes(changed)
    assert fingerprint(path) == first


@given(data=st.binary(max_size=50))
def test_fingerprint_of_small_files_sees_every_byte(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("f") / "v"
    path.write_bytes(data)
    first = fingerprint(path)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        path.write_bytes(changed)
        assert fingerprint(path) != first


def test_sha256_is_the_standard_one(tmp_path):
    (tmp_path / "v").write_bytes(b"abc")
    assert sha256(tmp_path / "v").startswith("ba7816bf8f01cfea414140de5dae2223")


@given(name=st.text(st.characters(exclude_categories=[]), max_size=20) | st.just("\udcff\n\"'"))
def test_json_holds_any_file_name(name):
    data = to_json({"path": name, name: 1})
    assert data.isascii()
    assert read_json(Path("x.json"), data) == {"path": name, name: 1}
    assert to_json({"b": 1, "a": 2}) == b'{\n "b": 1,\n "a": 2\n}\n'


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"1", b"[" * 200_000])
def test_what_is_no_json_object_is_refused_by_name(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(FormatError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


DESCRIPTION = {
    "stage": "flow",
    "parameters": {"tau": 0.25, "warps": 5},
    "size": (340, 256),
    "frames": False,
}


def test_a_stage_is_opened_and_opened_again(tmp_path):
    out = tmp_path / "new/out"
    for _ in range(2):
        open_stage(out, DESCRIPTION)
    assert json.loads((out / ".flowpipe/stage.json").read_bytes())["size"] == [340, 256]
    assert set(contents(out)) == {".flowpipe/stage.json"}


def test_a_stage_of_other_values_is_refused_listing_exactly_those(tmp_path):
    open_stage(tmp_path, DESCRIPTION)
    before = contents(tmp_path)
    other = {
        **DESCRIPTION,
        "parameters": {"tau": 0.25, "warps": 3},
        "size": None,
        "bound": 20.0,
    }
    with pytest.raises(StageMismatchError) as error:
        open_stage(tmp_path, other)
    told = str(error.value)
    assert str(tmp_path) in told
    inside = told[told.index("(") + 1 : told.rindex(")")]
    assert inside.split("; ") == [
        "parameters.warps: 5 recorded, 3 requested",
        "size: [340, 256] recorded, null requested",
        "bound: null recorded, 20.0 requested",
    ]
    assert contents(tmp_path) == before


def test_of_many_differences_the_first_are_listed(tmp_path):
    open_stage(tmp_path, {f"a{n:02}": n for n in range(20)})
    with pytest.raises(StageMismatchError, match=r"\(a00: .*; a07: .* requested; and 12 more\)"):
        open_stage(tmp_path, {f"a{n:02}": -1 for n in range(20)})


def test_an_output_folder_is_no_file(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ParameterError, match="out', which is a file; it must be a folder"):
        open_stage(tmp_path / "out", DESCRIPTION)


def test_a_stage_file_that_is_damaged_is_named(tmp_path):
    stage_path(tmp_path).parent.mkdir()
    stage_path(tmp_path).write_text("{")
    with pytest.raises(FormatError, match=r"stage\.json"):
        open_stage(tmp_path, DESCRIPTION)


def test_digests_tell_descriptions_apart_whatever_the_order_of_keys():
    assert digest({"a": 1, "b": [2, None]}) == digest({"b": [2, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})
    assert digest({"a": "1"}) != digest({"a": 1})
    # Folders that earlier versions made are found again.
    assert short_hash({"stage": "flow", "size": [340, 256]}) == "70910b9e"


def test_an_output_folder_is_known_by_its_records(tmp_path):
    assert not is_output(tmp_path)
    open_stage(tmp_path, DESCRIPTION)
    assert is_output(tmp_path)


def test_a_difference_has_a_name_and_both_values():
    (found,) = differences({"a": {"b": [1, 2]}, "c": 1}, {"a": {"b": (1, 3)}, "c": 1})
    assert (found.name, found.recorded, found.requested) == ("a.b", [1, 2], [1, 3])
    assert differences({"a": [1]}, {"a": (1,)}) == []


def test_digests_are_told_by_their_first_letters_and_long_values_by_their_beginning():
    digests = [["0123456789abcdef" * 4, 1.0], ["fedcba9876543210" * 4, 1.0]]
    (found,) = differences({"streams": digests[:1]}, {"streams": digests})
    assert str(found) == (
        "streams: [[01234567..., 1.0]] recorded, [[01234567..., 1.0], [fedcba98..., 1.0]] requested"
    )
    (long,) = differences({"names": ["clip"] * 99}, {"names": []})
    assert len(str(long)) < 200
