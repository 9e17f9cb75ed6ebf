from __future__ import annotations

import dataclasses
import filecmp

import numpy as np
import pytest

from flowpipe.encoding.files import load_encoders, load_vectors, save_encoders, save_vectors
from flowpipe.encoding.parameters import Encoding
from flowpipe.encoding.work import ClipVectors, fit_encoders
from flowpipe.errors import FormatError, ParameterError
from flowpipe.io.npz import load_arrays

from .test_gmm import clusters

SMALL = Encoding(gaussians=3, descriptors=("hof", "mbhx"), rows=300)
BOW = Encoding(encoding="bow", clusters=7, descriptors=("hof", "mbhx"), rows=300)


def rows(seed: int = 0) -> dict[str, np.ndarray]:
    return {
        "hof": clusters(300, 6, seed).astype(np.float32),
        "mbhx": clusters(300, 4, seed).astype(np.float32),
    }


def encode_clip(encoders, table):
    clip = ClipVectors(encoders)
    clip.add(table)
    return clip.vectors()


@pytest.fixture(params=[SMALL, BOW], ids=["fisher", "bow"])
def encoding(request):
    return request.param


def test_loaded_encoders_give_the_same_vectors(tmp_path, encoding):
    encoders = fit_encoders(rows(), encoding)
    save_encoders(tmp_path / "encoders.npz", encoders, encoding, tmp_path)
    loaded, found = load_encoders(tmp_path / "encoders.npz")
    assert found == encoding
    ours, theirs = encode_clip(encoders, rows(1)), encode_clip(loaded, rows(1))
    assert list(ours) == ["hof", "mbhx"]
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["encoders.npz"]


def test_the_file_is_a_function_of_its_content(tmp_path, encoding):
    for name in ("a.npz", "b.npz"):
        save_encoders(tmp_path / name, fit_encoders(rows(), encoding), encoding, tmp_path)
    assert filecmp.cmp(tmp_path / "a.npz", tmp_path / "b.npz", shallow=False)


def damaged_files(path, encoding):
    save_encoders(path, fit_encoders(rows(), encoding), encoding, path.parent)
    data = path.read_bytes()
    yield b""
    yield b"not a zip"
    yield data[: len(data) // 2]
    yield data[:-200] + bytes(200)


def test_damaged_files_are_format_errors(tmp_path, encoding):
    path = tmp_path / "encoders.npz"
    for data in damaged_files(path, encoding):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"encoders\.npz"):
            load_encoders(path)


class Touch:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (open, ("touched", "w"))


def test_a_pickle_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "evil.npz", description=np.array([Touch()], object))
    np.save(tmp_path / "evil.npy", np.array([Touch()], object), allow_pickle=True)
    (tmp_path / "touched").unlink(missing_ok=True)
    for name in ("evil.npz", "evil.npy"):
        with pytest.raises(FormatError, match="evil"):
            load_encoders(tmp_path / name)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hof.gmm.means", None, "has no array 'hof.gmm.means'"),
        ("hof.gmm.means", np.zeros((3, 9)), r"is float64 \(3, 9\); \(3, 3\) of kind 'f'"),
        ("hof.gmm.variances", np.full((3, 3), np.nan), "not finite"),
        ("hof.gmm.variances", np.zeros((3, 3)), "variances"),
        ("hof.pca.mean", np.zeros((2, 2)), r"\(6\) of kind 'f' is expected"),
        ("mbhx.gmm.weights", np.zeros(3, int), "is int64"),
        ("description", np.array("{}"), "has format None"),
        ("description", np.array("[]"), "has format None"),
        ("description", np.array("nonsense"), "is not a file of"),
        ("description", np.array('{"format": "flowpipe encoders 1"}'), "unknown encoders"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, value, message):
    path = tmp_path / "encoders.npz"
    save_encoders(path, fit_encoders(rows(), SMALL), SMALL, tmp_path)
    with np.load(path) as file:
        arrays = dict(file)
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    np.savez(path, **arrays)
    with pytest.raises(FormatError, match=message):
        load_encoders(path)


def test_vectors_round_trip(tmp_path):
    vectors = encode_clip(fit_encoders(rows(), SMALL), rows(1))
    save_vectors(tmp_path / "v.npz", vectors, {"clip": "hug/\u00e9"}, tmp_path)
    loaded, description = load_vectors(tmp_path / "v.npz", ["mbhx"])
    assert list(loaded) == ["mbhx"]
    assert np.array_equal(loaded["mbhx"], vectors["mbhx"])
    assert description == {"clip": "hug/\u00e9"}
    with pytest.raises(FormatError, match="has no array 'hog'"):
        load_vectors(tmp_path / "v.npz", ["hog"])
    with pytest.raises(FormatError, match="has format 'flowpipe vectors 1'"):
        load_encoders(tmp_path / "v.npz")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "none.npz", "any")


def test_a_descriptor_that_fails_is_named():
    with pytest.raises(ParameterError, match=r"descriptor 'hof': .*rows are too few"):
        fit_encoders({"hof": np.zeros((2, 6)), "mbhx": np.zeros((2, 4))}, SMALL)
    with pytest.raises(ParameterError, match="no rows of the descriptor 'mbhx'"):
        fit_encoders({"hof": rows()["hof"]}, SMALL)


def test_the_description_holds_what_matters():
    fisher, words = SMALL.description(), BOW.description()
    assert "gaussians" in fisher
    assert "clusters" not in fisher
    assert "clusters" in words
    assert "gaussians" not in words


@pytest.mark.parametrize(
    ("encoding", "option", "value", "owner"),
    [
        ("bow", "gaussians", 128, "fisher"),
        ("bow", "pca", 0.25, "fisher"),
        ("bow", "whiten", True, "fisher"),
        ("bow", "device", "cuda", "fisher"),
        ("fisher", "clusters", 100, "bow"),
    ],
)
def test_options_of_another_encoder_are_refused(encoding, option, value, owner):
    message = (
        f"{option} is {value!r}, but encoding is '{encoding}'; {option} is an option of {owner}"
    )
    with pytest.raises(ParameterError, match=message):
        Encoding(encoding=encoding, **{option: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encoding", "vlad"),
        ("descriptors", ()),
        ("descriptors", ("hog", "hog")),
        ("descriptors", ("sift",)),
        ("gaussians", 0),
        ("clusters", -1),
        ("rows", 0),
        ("seed", -1),
        ("pca", 0.0),
        ("pca", float("nan")),
        ("pyramid", ()),
        ("pyramid", ("q3",)),
    ],
)
def test_parameters_out_of_range(field, value):
    with pytest.raises(ParameterError, match=field):
        dataclasses.replace(SMALL, **{field: value})
